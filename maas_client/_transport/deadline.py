"""A deadline that a dripping server cannot stretch, for the blocking client.

httpx's read timeout starts anew with every byte: a head or a body that drips one byte at a time never
times out (reliability.md R9, measured). asyncio can cancel; a blocking read cannot be. So each read and
write of the socket is given no more time than is left until ``end``.

httpcore offers the hook (``network_backend``), httpx does not pass it on, hence the one private attribute
below; ``tests/unit/transport`` fails should it ever move.
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

_END: ContextVar[float | None] = ContextVar("maas_client_deadline", default=None)


@contextmanager
def until(end: float) -> Iterator[None]:
    """Let no socket operation of this thread outlast ``end``, a moment of ``time.monotonic()``."""
    token = _END.set(end)
    try:
        yield
    finally:
        _END.reset(token)


def _left(timeout: float | None) -> float | None:
    end = _END.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
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
        return _Stream(
            self._inner.connect_tcp(host, port, _left(timeout), local_address, socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def enforce(client: httpx.Client) -> None:
    """Make every connection of ``client`` heed ``until``."""
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend)
