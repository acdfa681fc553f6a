"""A total deadline for requests of the synchronous client.

httpx's read timeout restarts with every byte: a response that arrives one byte at a time never times out
(measured with httpx 0.28: 14.9 s for 100 bytes with ``timeout=0.5``). asyncio can cancel a read; a blocking
read cannot be cancelled. So every read and write of the socket gets only the time left until the deadline.

httpcore has a hook for this (``network_backend``) that httpx does not expose, hence the private attributes
in ``enforce``; ``tests/unit/transport`` fails if they move.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_DEADLINE: ContextVar[float | None] = ContextVar("maas_client_deadline", default=None)


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Limit every socket operation in this context to the time left.

    Args:
        deadline: The moment, on the clock of ``time.monotonic()``.
    """
    token = _DEADLINE.set(deadline)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def _time_left(timeout: float | None) -> float | None:
    deadline = _DEADLINE.get()
    if deadline is None:
        return timeout
    time_left = deadline - time.monotonic()
    if time_left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return time_left if timeout is None else min(timeout, time_left)


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _time_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _time_left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(
            self._inner.start_tls(ssl_context, server_hostname, _time_left(timeout))
        )

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(
            self._inner.connect_tcp(host, port, _time_left(timeout), local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def enforce(client: httpx.Client) -> None:
    """Make every connection of ``client`` obey ``until``."""
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _DeadlineBackend(pool._network_backend)
