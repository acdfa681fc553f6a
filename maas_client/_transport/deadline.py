"""A total deadline for requests of the synchronous client.

httpx's read timeout restarts with every byte: a response that arrives one byte at a time never times out
(measured with httpx 0.28: 14.9 s for 100 bytes with ``timeout=0.5``). asyncio can cancel a read; a blocking
read cannot be cancelled. So every read and write of the socket gets only the time left until the deadline.

httpcore has a hook for this (``network_backend``) that httpx does not expose, hence the private attributes
in ``enforce``; ``tests/unit/transport`` fails if they move.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

import httpcore
import httpx

T = TypeVar("T")
_WRITE_BYTES = 64 * 2**10
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
        # In pieces: httpcore's own loop gives every ``send`` of the socket the whole timeout again.
        view = memoryview(buffer)
        for start in range(0, len(view), _WRITE_BYTES):
            self._inner.write(bytes(view[start : start + _WRITE_BYTES]), _time_left(timeout))

    def close(self) -> None:
        # Closing alone does not wake up a thread that reads from the socket; it would wait for its timeout.
        sock = self._inner.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
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


def enforce(client: httpx.Client) -> bool:
    """Make every connection of ``client`` obey ``until``, also those that are open already.

    Requests outside of ``until`` are not changed, so this may be done to a client that others use too.

    Returns:
        False if the client has a transport without a connection pool of httpcore, which cannot be limited
        this way.
    """
    is_complete = True
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if isinstance(pool, httpcore.ConnectionPool):
            if not isinstance(pool._network_backend, _DeadlineBackend):
                pool._network_backend = _DeadlineBackend(pool._network_backend)
            for connection in pool.connections:
                _wrap_stream(connection)
        elif transport is not None:
            is_complete = False
    return is_complete


def _wrap_stream(connection: Any) -> None:
    while connection is not None:
        stream = getattr(connection, "_network_stream", None)
        if stream is not None and not isinstance(stream, _DeadlineStream):
            connection._network_stream = _DeadlineStream(stream)
        connection = getattr(connection, "_connection", None)


def in_thread(
    steps: Callable[[], Generator[T, None, None]], deadline: float
) -> Generator[T, None, None]:
    """Run an iterator on a thread of its own and yield its items, until the deadline.

    For a transport that this module cannot limit. A step that does not return is left behind on its
    (daemon) thread, and ends there at its next item or at its read timeout.

    Raises:
        httpx.ReadTimeout: The deadline has passed.
    """
    items: queue.Queue[tuple[str, Any]] = queue.Queue(1)
    is_abandoned = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not is_abandoned.is_set():
            with suppress(queue.Full):
                items.put((kind, item), timeout=0.1)
                return

    def work() -> None:
        iterator = steps()
        try:
            for item in iterator:
                put("item", item)
                if is_abandoned.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            iterator.close()

    threading.Thread(target=work, name="maas-client-request", daemon=True).start()
    try:
        while True:
            try:
                kind, item = items.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                raise httpx.ReadTimeout("the deadline has passed") from None
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        is_abandoned.set()
