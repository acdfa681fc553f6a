"""The synchronous HTTP client, with a total deadline for each request.

httpx's read timeout restarts with every byte: a response that arrives one byte at a time never times out
(measured with httpx 0.28: 14.9 s for 100 bytes with ``timeout=0.5``). asyncio can cancel a read; a blocking
read cannot be cancelled. So every read and write of the socket gets only the time left until the deadline.

httpcore has a hook for this (``network_backend``) that httpx does not expose, hence the private attributes
in ``limit_connections``; ``tests/unit/transport`` fails if they move.
"""

from __future__ import annotations

import ipaddress
import math
import os
import queue
import socket
import ssl
import sys
import threading
import time
import weakref
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import httpcore
import httpx

from maas_client._transport.http import (
    Chunks,
    DeadlineError,
    HttpRequest,
    HttpResponse,
    ResponseReader,
    find_due_notice,
    forget_connections,
    make_client,
    pools,
    run_sync,
    start_thread,
    to_httpx,
    translate_error,
)

A = TypeVar("A")
T = TypeVar("T")
_WRITE_BYTES = 64 * 2**10
_DEADLINE: ContextVar[float | None] = ContextVar("maas_client_deadline", default=None)


@contextmanager
def time_limit(deadline: float) -> Iterator[None]:
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
    def __init__(
        self,
        inner: httpcore.NetworkStream,
        wrap: Callable[[httpcore.NetworkStream], _DeadlineStream] | None = None,
    ) -> None:
        self._inner = inner
        self._wrap = wrap or _DeadlineStream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        time_left = _time_left(timeout)
        due = find_due_notice(math.inf if time_left is None else time_left)
        if due is None:
            return self._inner.read(max_bytes, time_left)
        notice, pause = due
        if pause > 0:
            with suppress(httpcore.ReadTimeout):
                return self._inner.read(max_bytes, pause)
        notice.give()
        return self._inner.read(max_bytes, _time_left(timeout and max(timeout - pause, 0.01)))

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

    def leave(self) -> None:
        """Close this process's descriptor of a socket that a fork has copied."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return self._wrap(self._inner.start_tls(ssl_context, server_hostname, _time_left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    """Makes streams that obey ``time_limit``, and closes all of them with the client.

    httpcore closes the connections of its pool only: not one that another thread is opening at that moment.
    """

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner
        self._streams: weakref.WeakSet[_DeadlineStream] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._is_closed = False
        self._process = os.getpid()
        self._fork_lock = threading.Lock()

    def add(self, stream: httpcore.NetworkStream) -> _DeadlineStream:
        """Return a stream with a deadline; raise ``RuntimeError`` if the client was closed meanwhile."""
        limited = _DeadlineStream(stream, self.add)
        with self._lock:
            is_closed = self._is_closed
            self._streams.add(limited)
        if is_closed:
            limited.close()
            raise RuntimeError("the client has been closed")
        return limited

    def leave_parent(self, pool: httpcore.ConnectionPool) -> None:
        """Forget the connections from before a fork: requests of two processes would mix on one socket.

        Threads of the new process, and clients that share the caller's ``httpx.Client``, may call this at once.
        """
        if self._process == os.getpid():
            return
        with self._fork_lock:
            if self._process == os.getpid():
                return
            self._lock = threading.Lock()
            for stream in list(self._streams):
                stream.leave()
            self._streams.clear()
            forget_connections(pool)
            self._process = os.getpid()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            streams = list(self._streams)
        for stream in streams:
            with suppress(OSError):
                stream.close()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        time_left = _time_left(timeout)
        options = (host, port, time_left, local_address, socket_options)
        if time_left is None or _DEADLINE.get() is None or _is_address(host):
            return self.add(self._inner.connect_tcp(*options))
        # A look-up of a name has no time limit of its own.
        future = start_thread(lambda: self._inner.connect_tcp(*options))
        try:
            return self.add(_result(future, time.monotonic() + time_left))
        except DeadlineError as error:
            future.add_done_callback(_close_late_stream)
            raise httpcore.ConnectTimeout(
                f"no address or no connection within {time_left:.0f} s"
            ) from error

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _result(future: Future[T], deadline: float) -> T:
    try:
        if due := find_due_notice(deadline - time.monotonic()):
            notice, pause = due
            with suppress(TimeoutError):
                return future.result(pause)
            notice.give()
        return future.result(max(deadline - time.monotonic(), 0.0))
    except TimeoutError:
        if future.done():
            raise
        raise DeadlineError("the deadline has passed") from None


def _close_late_stream(future: Future[httpcore.NetworkStream]) -> None:
    if future.exception() is None:
        future.result().close()


def limit_connections(client: httpx.Client) -> bool:
    """Make every connection of ``client`` obey ``time_limit``, also those that are open already.

    Requests outside of ``time_limit`` are not changed, so this may be done to a client that others use too.

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


def iterate_in_thread(
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
            time_left = deadline - time.monotonic()
            due = find_due_notice(time_left)
            try:
                kind, item = items.get(timeout=max(due[1] if due else time_left, 0.0))
            except queue.Empty:
                if due is None:
                    raise httpx.ReadTimeout("the deadline has passed") from None
                due[0].give()
                continue
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        is_abandoned.set()


class _SyncChunks:
    """The pieces for the sync client. httpx would read a body with ``read`` from where the last try ended."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


class SyncHttpClient:
    """Sends requests with an ``httpx.Client``. ``parallel`` uses threads, each running one flow.

    Args:
        http: The ``httpx.Client`` to use, which the caller closes; None to create one.
        ca_file: A file of certificate authorities to trust; None for the default ones.
        loopback_only: All addresses are on this machine, so an unusable proxy does not matter.
    """

    def __init__(
        self, http: Any = None, ca_file: str | None = None, *, loopback_only: bool = False
    ) -> None:
        self._is_owner = http is None
        self._client = make_client(httpx.Client, http, ca_file, loopback_only=loopback_only)
        self._obeys_deadlines = limit_connections(self._client)
        self._backends: list[tuple[_DeadlineBackend, httpcore.ConnectionPool]] = [
            (pool._network_backend, pool)
            for pool in pools(self._client)
            if isinstance(pool._network_backend, _DeadlineBackend)
        ]

    def _leave_parent(self) -> None:
        for backend, pool in self._backends:
            backend.leave_parent(pool)

    def close(self) -> None:
        """Close the connections, unless the caller passed the ``httpx.Client``."""
        if self._is_owner:
            self._leave_parent()
            self._client.close()
            for backend, _ in self._backends:
                backend.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        handled = sys.exc_info()[1]
        body = bytearray()
        pieces = self._receive(request)
        try:
            head = cast("HttpResponse", next(pieces))
            for piece in pieces:
                body += cast("bytes", piece)
        except BaseException as error:
            raise translate_error(error, request, handled)  # noqa: B904 - it sets the cause
        finally:
            pieces.close()
        return HttpResponse(head.status, head.headers, bytes(body))

    async def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        handled = sys.exc_info()[1]
        pieces = self._receive(request)
        try:
            for piece in pieces:
                yield piece
        except BaseException as error:
            raise translate_error(error, request, handled)  # noqa: B904 - it sets the cause
        finally:
            pieces.close()

    def _receive(self, request: HttpRequest) -> Generator[HttpResponse | bytes, None, None]:
        """Yield the response without its body, then the decoded body in pieces."""
        self._leave_parent()
        if self._obeys_deadlines:
            return self._steps(request)
        return iterate_in_thread(lambda: self._steps(request), request.deadline)

    def _steps(self, request: HttpRequest) -> Generator[HttpResponse | bytes, None, None]:
        with time_limit(request.deadline):
            response = self._client.send(
                to_httpx(self._client, request, _SyncChunks), stream=True, follow_redirects=False
            )
        try:
            reader = ResponseReader(request, response)
            yield reader.head
            if response.is_stream_consumed:  # by an event hook or a transport of the caller
                yield response.content
                return
            pieces = response.iter_raw()
            while reader.expects_body:
                # Not around the ``yield``: there the caller's own requests run in this context.
                with time_limit(request.deadline):
                    data = next(pieces, None)
                yield from reader.decode(data)
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs in the synchronous client

    async def call(self, fn: Callable[[], T]) -> T:
        return fn()

    async def wait(self, work: Future[T] | Awaitable[T], deadline: float) -> T:
        return _result(work, deadline) if isinstance(work, Future) else await work

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        if len(over) < 2 or limit < 2:
            return [await step(item) for item in over]
        return _run_in_threads(lambda item: run_sync(step(item)), over, limit)


def _run_in_threads(function: Callable[[A], T], items: Sequence[A], limit: int) -> list[T]:
    """Call a function for all items, in at most ``limit`` threads, and return the results in order.

    An error or Ctrl-C ends this at once. Calls that wait for a server are left behind on their (daemon)
    threads: a pool would wait for them, and so would the end of the program.
    """
    tasks = iter(list(enumerate(items)))
    lock, is_stopped = threading.Lock(), threading.Event()
    finished: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while not is_stopped.is_set():
            with lock:
                index, item = next(tasks, (-1, None))
            if index < 0:
                return
            try:
                finished.put((index, function(cast("A", item)), None))
            except BaseException as error:
                finished.put((index, None, error))
                return

    for _ in range(min(limit, len(items))):
        threading.Thread(target=work, name="maas-client", daemon=True).start()
    results: dict[int, T] = {}
    try:
        while len(results) < len(items):
            index, value, error = finished.get()
            if error is not None:
                raise error
            results[index] = value
    finally:
        is_stopped.set()
    return [results[index] for index in range(len(items))]
