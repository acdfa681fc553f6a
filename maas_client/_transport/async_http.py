"""The asynchronous HTTP client, which gives back what a cancelled request leaves in the connection pool.

httpcore 1.0 frees a connection in steps that wait (locks, closing). If a task is cancelled there, the
connection stays in the pool as active for ever: after some hundred cancelled calls every call fails with a
``PoolTimeout``. So whatever a request that has ended still occupies is removed here, without waiting.

httpcore has no public way to do that, hence the private attributes; ``tests/unit/transport`` fails if they
move.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, cast

import httpx

from maas_client._transport.http import (
    Chunks,
    DeadlineError,
    HttpRequest,
    HttpResponse,
    ResponseReader,
    deadline_error,
    find_due_notice,
    forget_connections,
    make_client,
    pools,
    to_httpx,
    translate_error,
)
from maas_client.errors import ConfigError

T = TypeVar("T")
A = TypeVar("A")

MARK = "maas_client.request"
"""The extension of an ``httpx.Request`` whose value identifies the request in the pool."""


async def release_connections(client: httpx.AsyncClient, mark: object) -> None:
    """Remove a request that has ended, and connections that belong to no request, from the pools.

    Args:
        client: The client that sent the request.
        mark: The value of the request's extension ``MARK``.
    """
    for pool in pools(client):
        for entry in list(pool._requests):
            if entry.request.extensions.get(MARK) is mark:
                pool._requests.remove(entry)
        used = [entry.connection for entry in pool._requests]
        for connection in list(pool._connections):
            is_free = connection.is_idle() or connection.is_closed() or connection.has_expired()
            if not is_free and not any(connection is used_connection for used_connection in used):
                pool._connections.remove(connection)
                # This closes the socket before it waits for anything: a second cancellation cannot prevent it.
                await connection.aclose()
        for connection in pool._assign_requests_to_connections():
            await connection.aclose()


class _AsyncChunks:
    """The pieces for the async client, read in another thread."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        pieces = iter(self._chunks)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece


@asynccontextmanager
async def _time_limit(request: HttpRequest) -> AsyncGenerator[None, None]:
    """Limit what happens in this context to the time left before the deadline."""
    try:
        async with asyncio.timeout(max(request.deadline - time.monotonic(), 0.0)):
            yield
    except TimeoutError as error:
        raise deadline_error(request) from error


@asynccontextmanager
async def _timed_notice() -> AsyncGenerator[None, None]:
    """Give the notice of the request if what happens in this context takes longer."""
    due = find_due_notice()
    if due is None:
        yield
        return
    notice, pause = due
    timer = asyncio.get_running_loop().call_later(pause, notice.give)
    try:
        yield
    finally:
        timer.cancel()


class AsyncHttpClient:
    """Sends requests with an ``httpx.AsyncClient``.

    Args:
        http: The ``httpx.AsyncClient`` to use, which the caller closes; None to create one.
        ca_file: A file of certificate authorities to trust; None for the default ones.
        loopback_only: All addresses are on this machine, so an unusable proxy does not matter.
    """

    def __init__(
        self, http: Any = None, ca_file: str | None = None, *, loopback_only: bool = False
    ) -> None:
        self._is_owner = http is None
        self._client = make_client(httpx.AsyncClient, http, ca_file, loopback_only=loopback_only)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()

    def _enter_loop(self) -> None:
        """Forget the connections of an event loop that has ended, and those from before a fork.

        Raises ``ConfigError`` if the client has connections in another event loop that has not ended.
        """
        loop, process = asyncio.get_running_loop(), os.getpid()
        if self._loop is loop and self._process == process:
            return
        if self._loop is not None:
            if self._process == process and not self._loop.is_closed():
                raise ConfigError(
                    "this client is used in another event loop",
                    hint="Create an AsyncClient for each event loop.",
                )
            for pool in pools(self._client):
                forget_connections(pool)
        self._loop, self._process = loop, process

    async def aclose(self) -> None:
        """Close the connections, unless the caller passed the ``httpx.AsyncClient``."""
        if self._is_owner:
            self._enter_loop()
            await self._client.aclose()

    async def send(self, request: HttpRequest) -> HttpResponse:
        handled = sys.exc_info()[1]
        body = bytearray()
        try:
            async with aclosing(self._steps(request)) as pieces:
                head = cast("HttpResponse", await anext(pieces))
                async for piece in pieces:
                    body += cast("bytes", piece)
        except BaseException as error:
            raise translate_error(error, request, handled)  # noqa: B904 - it sets the cause
        return HttpResponse(head.status, head.headers, bytes(body))

    async def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        handled = sys.exc_info()[1]
        try:
            async with aclosing(self._steps(request)) as pieces:
                async for piece in pieces:
                    yield piece
        except BaseException as error:
            raise translate_error(error, request, handled)  # noqa: B904 - it sets the cause

    async def _steps(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        """Yield the response without its body, then the decoded body in pieces."""
        self._enter_loop()
        mark = object()
        try:
            async with _time_limit(request), _timed_notice():
                response = await self._client.send(
                    to_httpx(self._client, request, _AsyncChunks, {MARK: mark}),
                    stream=True,
                    follow_redirects=False,
                )
            try:
                reader = ResponseReader(request, response)
                yield reader.head
                if response.is_stream_consumed:  # by an event hook or a transport of the caller
                    yield response.content
                    return
                pieces = response.aiter_raw()
                while reader.expects_body:
                    async with _time_limit(request), _timed_notice():
                        data = await anext(pieces, None)
                    for piece in reader.decode(data):
                        yield piece
            finally:
                await response.aclose()
        except BaseException:
            await release_connections(self._client, mark)
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        return await asyncio.to_thread(fn)

    async def wait(self, work: Future[T] | Awaitable[T], deadline: float) -> T:
        limit = asyncio.timeout(max(deadline - time.monotonic(), 0.0))
        try:
            async with limit, _timed_notice():
                return await (asyncio.wrap_future(work) if isinstance(work, Future) else work)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineError("the deadline has passed") from error

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        semaphore = asyncio.Semaphore(limit)

        async def run_step(item: A) -> T:
            async with semaphore:
                return await step(item)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_step(item)) for item in over]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        return [task.result() for task in tasks]
