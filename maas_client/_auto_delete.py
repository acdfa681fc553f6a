"""A client's own watch over ``delete_after``, for services that know no expiry.

It lasts as long as the client is open. What it misses stays written on the deployment, as a tag
(``wire/lifetime.py``), for ``deployments.delete_overdue()``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from maas_client.errors import MaasError, NotFoundError

_LOG = logging.getLogger(__name__)
_LONGEST_S = 60.0
"""One sleep: a laptop that was closed meanwhile is late by no more, and a failure is tried again."""


def _left_s(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def _failed(name: str, error: MaasError) -> bool:
    """Return True if it is to be tried again: the deployment may still be there, and cost."""
    if isinstance(error, NotFoundError):
        return False
    _LOG.warning("deployment %s is overdue and could not be deleted: %s", name, error)
    return True


class BlockingWatch:
    """One daemon thread, started with the first deployment. ``expire`` deletes one if it is overdue."""

    def __init__(self, expire: Callable[[str], Any]) -> None:
        self._expire = expire
        self._due: dict[str, datetime] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, name: str, moment: datetime) -> None:
        """Delete the deployment at ``moment``, unless it is gone or somebody has put that off."""
        with self._changed:
            self._due[name] = moment
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="maas-client-lifetimes", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End the watch; what is not yet due stays."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while name := self._next():
            try:
                self._expire(name)
            except MaasError as error:
                if _failed(name, error):
                    self._again(name)

    def _next(self) -> str | None:
        """Wait for the next one that is due and take it; None when the watch has ended."""
        with self._changed:
            while not self._closed:
                first = min(self._due, key=self._due.__getitem__, default=None)
                left_s = _LONGEST_S if first is None else _left_s(self._due[first])
                if first is not None and left_s <= 0:
                    del self._due[first]
                    return first
                self._changed.wait(min(left_s, _LONGEST_S))
        return None

    def _again(self, name: str) -> None:
        with self._changed:
            later = datetime.fromtimestamp(datetime.now(UTC).timestamp() + _LONGEST_S, UTC)
            self._due.setdefault(name, later)


class AsyncWatch:
    """One task per deployment, on the loop that made it."""

    def __init__(self, expire: Callable[[str], Awaitable[Any]]) -> None:
        self._expire = expire
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, name: str, moment: datetime) -> None:
        """Delete the deployment at ``moment``, unless it is gone or somebody has put that off."""
        if old := self._tasks.pop(name, None):
            old.cancel()
        self._tasks[name] = asyncio.get_running_loop().create_task(self._run(name, moment))

    def close(self) -> None:
        """End the watch; what is not yet due stays."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _run(self, name: str, moment: datetime) -> None:
        while True:
            if (left_s := _left_s(moment)) > 0:
                await asyncio.sleep(min(left_s, _LONGEST_S))
                continue
            try:
                await self._expire(name)
            except MaasError as error:
                if _failed(name, error):
                    await asyncio.sleep(_LONGEST_S)
                    continue
            return
