"""Send HTTP requests with httpx, synchronously and asynchronously. Only this package imports httpx.

Both clients have the same coroutine methods. The methods of ``SyncHttpClient`` never suspend, so ``run_sync``
can run any coroutine that uses them without an event loop or a thread, even inside a running loop.
"""

from __future__ import annotations

import asyncio
import queue
import ssl
import sys
import threading
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urljoin

import httpcore
import httpx

from maas_client._messages import AnyOf, Argument, PythonOnly, Text
from maas_client._transport import connection_pool, deadline
from maas_client._transport.body import BodyDecoder
from maas_client._transport.clouds import is_loopback
from maas_client._transport.redact import install_log_filter, remove_frames, without_query
from maas_client._transport.retry import NotSentError, TimedOutError
from maas_client.errors import ConfigError, TransportError

T = TypeVar("T")
A = TypeVar("A")
C = TypeVar("C")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""A request ends after this long without a byte, whatever its deadline."""


class Chunks(Protocol):
    """A body in pieces, which may be read several times."""

    def __len__(self) -> int:
        """Return the number of bytes."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


class _SyncChunks:
    """The pieces for the sync client. httpx would read a body with ``read`` from where the last try ended."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


class _AsyncChunks:
    """The pieces for the async client, read in another thread."""

    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        pieces = iter(self._chunks)
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request, ready to send.

    Attributes:
        method: The HTTP method.
        url: The full address.
        headers: The headers.
        content: The body, or its pieces; None if there is none, or if ``files`` is set.
        files: The parts of a multipart body, as httpx takes them; None if there are none.
        deadline: When the request must have ended, on the clock of ``time.monotonic()``.
        max_bytes: The largest response body to accept; None for a stream, which is not kept.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | Chunks | None = field(repr=False)
    files: Sequence[tuple[str, Any]] | None = field(repr=False)
    deadline: float
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete HTTP response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HttpClient(Protocol):
    """What ``Transport`` needs from either client."""

    async def send(self, request: HttpRequest) -> HttpResponse: ...
    def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]: ...
    async def sleep(self, seconds: float) -> None: ...
    async def call(self, fn: Callable[[], T]) -> T: ...
    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]: ...


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("a synchronous flow suspended")  # a bug of this library, never the user's


def client_options(ca_file: str | None) -> dict[str, Any]:
    """Return the arguments for an httpx client.

    Requests to loopback never go through a proxy. For all other hosts the environment's proxy settings apply.

    Args:
        ca_file: A file of certificate authorities to trust; None for the default ones.

    Raises:
        ConfigError: The file cannot be read.
    """
    install_log_filter()
    verify: Any = True
    if ca_file:
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot read certificate authorities from {ca_file}") from error
    without_proxy = ("all://127.0.0.1", "all://localhost", "all://[::1]")
    return {
        "verify": verify,
        "mounts": dict.fromkeys(without_proxy),
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=64, max_keepalive_connections=16),
    }


def _make_client(httpx_class: Callable[..., C], ca_file: str | None, *, loopback_only: bool) -> C:
    """Return an httpx client.

    A proxy in the environment that httpx cannot use is a ``ConfigError``; with ``loopback_only`` it is ignored.
    """
    options = client_options(ca_file)
    try:
        return httpx_class(**options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        if loopback_only:
            return httpx_class(**options, trust_env=False)
        is_socks = isinstance(error, ImportError)
        raise ConfigError(
            "cannot use the proxy that the environment names: "
            + ("SOCKS needs the package socksio" if is_socks else str(error)),
            hint=(
                "Install it: pip install 'httpx[socks]'. Or unset" if is_socks else "Fix or unset"
            )
            + " ALL_PROXY, HTTPS_PROXY and HTTP_PROXY.",
        ) from error


def _translate(
    error: BaseException, request: HttpRequest, handled: BaseException | None
) -> BaseException:
    """Return the error of this library for an exception of httpx; any other exception as it is.

    Args:
        error: The exception.
        request: The request that failed.
        handled: The exception that the caller was handling already; its traceback is left alone.
    """
    translated = _find_error(error, request)
    remove_frames(error, handled)
    if translated is not error:
        translated.__cause__ = error
    return translated


def _find_error(error: BaseException, request: HttpRequest) -> BaseException:
    url = without_query(request.url)
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            origin = without_query(urljoin(request.url, "/")).rstrip("/")
            hint = _connect_hint(request, error)
            return NotSentError(f"cannot connect to {origin} ({error})", url=url, hint=hint)
        case httpx.TimeoutException():
            if time.monotonic() >= request.deadline:
                return _deadline_error(request)
            hint = "Whether the service acted is unknown."
            return TimedOutError(f"{url} did not answer in time", url=url, hint=hint)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol() | UnicodeError():
            return ConfigError(f"{url!r} is not a valid address: {error}")
        case httpx.HTTPError() | httpx.StreamError():
            return TransportError(
                f"{url}: the connection broke during the response ({type(error).__name__})",
                url=url,
                hint=Text.format(
                    "Check {}: is a maas-client server running there?",
                    AnyOf(Argument("url"), "MAAS_URL"),
                )
                if is_loopback(request.url)
                else "Whether the service acted is unknown.",
            )
        case RuntimeError() if "closed" in str(error):
            hint = "Create a new one, or use it inside its `with` block."
            return ConfigError("this client is closed", hint=hint)
    return error


def _connect_hint(request: HttpRequest, error: Exception) -> str:
    if is_loopback(request.url):
        return "Start the local server with: maas-client serve"
    if "CERTIFICATE" in str(error).upper():
        return Text.format(
            "Pass the certificate of the authority as {}.",
            AnyOf(Argument("ca_file"), "REQUESTS_CA_BUNDLE"),
        )
    return "Check the host name, the network and HTTPS_PROXY."


def _timeout(request: HttpRequest) -> httpx.Timeout:
    time_left = max(request.deadline - time.monotonic(), 0.01)
    return httpx.Timeout(min(READ_TIMEOUT_S, time_left), connect=min(CONNECT_TIMEOUT_S, time_left))


def _deadline_error(request: HttpRequest) -> TransportError:
    url = without_query(request.url)
    return TimedOutError(
        f"{url}: no complete response before the deadline",
        url=url,
        hint=Text(
            "Whether the service acted is unknown. ",
            PythonOnly("A longer deadline, in seconds: ", Argument("timeout"), "."),
        ),
    )


def _to_httpx(
    client: httpx.Client | httpx.AsyncClient, request: HttpRequest, mark: object = None
) -> httpx.Request:
    """Return the request for an httpx client.

    Raises:
        ConfigError: The client, which the caller passed, would send a request for this machine to a proxy.
    """
    if is_loopback(request.url):
        transport = client._transport_for_url(httpx.URL(request.url))
        if isinstance(getattr(transport, "_pool", None), _PROXIES):
            raise ConfigError(
                f"the httpx client sends requests for {without_query(request.url)} through a proxy",
                hint="Create that client without a proxy, and without reading the environment's proxies.",
            )
    headers = dict(request.headers)
    content: Any = request.content
    if content is not None and not isinstance(content, bytes):
        headers["content-length"] = str(len(content))
        is_async = isinstance(client, httpx.AsyncClient)
        content = _AsyncChunks(content) if is_async else _SyncChunks(content)
    return client.build_request(
        request.method,
        request.url,
        headers=headers,
        content=content,
        files=request.files,
        timeout=_timeout(request),
        extensions={connection_pool.MARK: mark},
    )


_PROXIES = (
    httpcore.HTTPProxy,
    httpcore.SOCKSProxy,
    httpcore.AsyncHTTPProxy,
    httpcore.AsyncSOCKSProxy,
)


def _check_piece(piece: HttpResponse | bytes, request: HttpRequest) -> bytes:
    """Return a piece of the body, which is every item but the first."""
    if time.monotonic() > request.deadline:
        raise _deadline_error(request)
    return cast("bytes", piece)


def _decoder(
    request: HttpRequest, head: HttpResponse, response: httpx.Response
) -> BodyDecoder | None:
    """Return the decoder for a body; None if the response has none, or one that is decoded already."""
    if request.method == "HEAD" or response.is_stream_consumed:
        return None
    return BodyDecoder(without_query(request.url), head.headers, request.max_bytes)


@asynccontextmanager
async def _until(request: HttpRequest) -> AsyncGenerator[None, None]:
    """Limit what happens in this context to the time left before the deadline."""
    try:
        async with asyncio.timeout(max(request.deadline - time.monotonic(), 0.0)):
            yield
    except TimeoutError as error:
        raise _deadline_error(request) from error


def _head(response: httpx.Response) -> HttpResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(response.status_code, headers, b"")


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
        if http is not None and not isinstance(http, httpx.Client):
            raise ConfigError(
                "http= takes an httpx.Client here; AsyncClient takes an httpx.AsyncClient"
            )
        self._is_owner = http is None
        self._client: httpx.Client = http or _make_client(
            httpx.Client, ca_file, loopback_only=loopback_only
        )
        self._obeys_deadlines = deadline.enforce(self._client)

    def close(self) -> None:
        """Close the connections, unless the caller passed the ``httpx.Client``."""
        if self._is_owner:
            self._client.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        handled = sys.exc_info()[1]
        body = bytearray()
        pieces = self._receive(request)
        try:
            head = cast("HttpResponse", next(pieces))
            for piece in pieces:
                body += _check_piece(piece, request)
        except BaseException as error:
            raise _translate(error, request, handled)  # noqa: B904 - it sets the cause
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
            raise _translate(error, request, handled)  # noqa: B904 - it sets the cause
        finally:
            pieces.close()

    def _receive(self, request: HttpRequest) -> Generator[HttpResponse | bytes, None, None]:
        """Yield the response without its body, then the decoded body in pieces."""
        if self._obeys_deadlines:
            return self._steps(request)
        return deadline.in_thread(lambda: self._steps(request), request.deadline)

    def _steps(self, request: HttpRequest) -> Generator[HttpResponse | bytes, None, None]:
        with deadline.until(request.deadline):
            response = self._client.send(
                _to_httpx(self._client, request), stream=True, follow_redirects=False
            )
        try:
            head = _head(response)
            decoder = _decoder(request, head, response)
            yield head
            if response.is_stream_consumed:  # by an event hook or a transport of the caller
                yield response.content
                return
            pieces = response.iter_raw()
            while decoder is not None:
                # Not around the ``yield``: there the caller's own requests run in this context.
                with deadline.until(request.deadline):
                    data = next(pieces, None)
                if data is None:
                    decoder.finish()
                    return
                yield from decoder.decode(data)
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs in the synchronous client

    async def call(self, fn: Callable[[], T]) -> T:
        return fn()

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
        if http is not None and not isinstance(http, httpx.AsyncClient):
            raise ConfigError("http= takes an httpx.AsyncClient here; Client takes an httpx.Client")
        self._is_owner = http is None
        self._client: httpx.AsyncClient = http or _make_client(
            httpx.AsyncClient, ca_file, loopback_only=loopback_only
        )

    async def aclose(self) -> None:
        """Close the connections, unless the caller passed the ``httpx.AsyncClient``."""
        if self._is_owner:
            await self._client.aclose()

    async def send(self, request: HttpRequest) -> HttpResponse:
        handled = sys.exc_info()[1]
        body = bytearray()
        try:
            async with aclosing(self._steps(request)) as pieces:
                head = cast("HttpResponse", await anext(pieces))
                async for piece in pieces:
                    body += _check_piece(piece, request)
        except BaseException as error:
            raise _translate(error, request, handled)  # noqa: B904 - it sets the cause
        return HttpResponse(head.status, head.headers, bytes(body))

    async def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        handled = sys.exc_info()[1]
        try:
            async with aclosing(self._steps(request)) as pieces:
                async for piece in pieces:
                    yield piece
        except BaseException as error:
            raise _translate(error, request, handled)  # noqa: B904 - it sets the cause

    async def _steps(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        """Yield the response without its body, then the decoded body in pieces."""
        mark = object()
        try:
            async with _until(request):
                response = await self._client.send(
                    _to_httpx(self._client, request, mark), stream=True, follow_redirects=False
                )
            try:
                head = _head(response)
                decoder = _decoder(request, head, response)
                yield head
                if response.is_stream_consumed:  # by an event hook or a transport of the caller
                    yield response.content
                    return
                pieces = response.aiter_raw()
                while decoder is not None:
                    async with _until(request):
                        data = await anext(pieces, None)
                    if data is None:
                        decoder.finish()
                        return
                    for piece in decoder.decode(data):
                        yield piece
            finally:
                await response.aclose()
        except BaseException:
            await connection_pool.release(self._client, mark)
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        return await asyncio.to_thread(fn)

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
