"""The clock of a local server. For tests it can be moved forward: a job of three hours ends in milliseconds.

A server with such a clock registers it under its addresses. Clients of that server in the same program advance
the clock where they would wait. Nothing else in the program is changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Protocol

_MAX_EXACT_S = 60.0
"""The longest wait that is never cut short: no wait that a service asks for is longer."""


class TimeSource(Protocol):
    """Something that knows the time."""

    def time(self) -> float: ...


class VirtualClock:
    """The system's clock plus the seconds by which it was advanced. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.offset_s = 0.0
        """The seconds by which it was advanced."""
        self.next_change: Callable[[], float | None] = lambda: None
        """Returns when something happens next on the server, in seconds since 1970; None: nothing will."""

    def time(self) -> float:
        """Return the seconds since 1970."""
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        with self._lock:
            self.offset_s += seconds

    def jump(self, seconds: float) -> None:
        """Move the clock forward by this time, or to the next change, if that is later."""
        change = self.next_change()
        self.advance(seconds if change is None else max(seconds, change - self.time()))

    def wait(self, seconds: float) -> None:
        """Move the clock forward instead of waiting. A wait between two polls ends at the next change."""
        change = self.next_change() if seconds > _MAX_EXACT_S else None
        self.advance(seconds if change is None else min(seconds, max(change - self.time(), 0.0)))


class Moment:
    """A clock that stands still."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        """Return the seconds since 1970."""
        return self._seconds


_current: ContextVar[TimeSource | None] = ContextVar("maas_client_clock", default=None)
_virtual_clocks: dict[str, VirtualClock] = {}


def unix_time() -> float:
    """Return the seconds since 1970, on the clock of the server whose work this is."""
    clock = _current.get()
    return time.time() if clock is None else clock.time()


def utc_time() -> datetime:
    """Return the time in UTC, on the clock of the server whose work this is."""
    return datetime.fromtimestamp(unix_time(), UTC)


@contextmanager
def use(clock: TimeSource | None) -> Iterator[None]:
    """Use a clock in this thread or task, and in the tasks that it starts."""
    token = _current.set(clock)
    try:
        yield
    finally:
        _current.reset(token)


def set_current(clock: TimeSource) -> None:
    """Use a clock in this task and in the tasks that it starts."""
    _current.set(clock)


def register(address: str, clock: VirtualClock) -> None:
    """Make the clients of a server in this program use its clock."""
    _virtual_clocks[address] = clock


def unregister(address: str) -> None:
    """Forget a server that has stopped."""
    _virtual_clocks.pop(address, None)


def find(origin: str | None) -> VirtualClock | None:
    """Return the clock of the server with an address. None: a client of Azure, which may use its proxy."""
    if not _virtual_clocks:
        return None
    if origin is None:
        from urllib.request import getproxies

        origin = getproxies().get("https", "")
    return _virtual_clocks.get(origin)
