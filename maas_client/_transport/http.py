"""What the synchronous and the asynchronous HTTP client share. Only this package imports httpx.

Both clients have the same coroutine methods. The methods of ``SyncHttpClient`` never suspend, so ``run_sync``
can run any coroutine that uses them without an event loop or a thread, even inside a running loop.
"""

from __future__ import annotations

import logging
import math
import os
import ssl
import threading
import time
import zlib
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin

import httpcore
import httpx

from maas_client._messages import AnyOf, Argument, PythonOnly, Text
from maas_client._secret import clear_tracebacks, install_log_filter, without_query
from maas_client._transport.clouds import is_loopback
from maas_client._transport.retry import NotSentError, TimedOutError
from maas_client.errors import ConfigError, TransportError

T = TypeVar("T")
A = TypeVar("A")
C = TypeVar("C", httpx.Client, httpx.AsyncClient)

_log = logging.getLogger("maas_client")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""A request ends after this long without a byte, even before its deadline: its connection may be lost. Not one
with a JSON body: a chat is answered by a single response, whose first byte may take minutes on a CPU."""


MAX_COMPRESSED_RESPONSE_BYTES = 16 * 2**20
"""The largest response that is decoded, in bytes of text."""
_PIECE_BYTES = 64 * 2**10


class Chunks(Protocol):
    """A body in pieces, which may be read several times."""

    def __len__(self) -> int:
        """Return the number of bytes."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


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
        ends_silent: Whether the request ends after ``READ_TIMEOUT_S`` without a byte.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | Chunks | None = field(repr=False)
    files: Sequence[tuple[str, Any]] | None = field(repr=False)
    deadline: float
    max_bytes: int | None
    ends_silent: bool = True


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete HTTP response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class WaitNotice:
    """Says once, after some seconds, what a program waits for; requests in parallel say it once together.

    Args:
        subject: What it waits for: an address and an operation.
        delay_s: After how many seconds.
        deadline: When the wait ends at the latest, on the clock of ``time.monotonic()``.
    """

    def __init__(self, subject: str, delay_s: float, deadline: float) -> None:
        self.subject = subject
        self._moment = time.monotonic() + delay_s
        self._deadline = deadline
        shared = _SHARED.get()
        self._givers = {} if shared is None else shared

    def time_left(self) -> float | None:
        """Return the seconds until it is due; None if it has been given, or the wait ends before."""
        is_needed = self.subject not in self._givers and self._moment < self._deadline
        return max(self._moment - time.monotonic(), 0.0) if is_needed else None

    def give(self) -> None:
        """Log it."""
        giver = object()
        if self._givers.setdefault(self.subject, giver) is not giver:
            return
        seconds = self._deadline - time.monotonic()
        text = "waiting for %s; this call ends in at most %.0f s"
        _log.warning(text, self.subject, seconds, extra={"is_notice": True})


_NOTICE: ContextVar[WaitNotice | None] = ContextVar("maas_client_notice", default=None)
_SHARED: ContextVar[dict[str, object] | None] = ContextVar("maas_client_givers", default=None)


def find_due_notice(limit_s: float = math.inf) -> tuple[WaitNotice, float] | None:
    """Return the notice of the request that is being sent, and the seconds until it is due.

    None if there is no notice, or if a wait of ``limit_s`` ends before.
    """
    notice = _NOTICE.get()
    pause_s = None if notice is None else notice.time_left()
    return None if notice is None or pause_s is None or pause_s >= limit_s else (notice, pause_s)


@contextmanager
def shared_notices(givers: dict[str, object]) -> Iterator[None]:
    """Give each notice once in all contexts with the same dictionary."""
    token = _SHARED.set(givers)
    try:
        yield
    finally:
        _SHARED.reset(token)


@contextmanager
def wait_notice(notice: WaitNotice) -> Iterator[None]:
    """Give the notice if what happens in this context takes longer."""
    token = _NOTICE.set(notice)
    try:
        yield
    finally:
        _NOTICE.reset(token)


class HttpClient(Protocol):
    """What ``Transport`` needs from either client."""

    async def send(self, request: HttpRequest) -> HttpResponse: ...
    def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]: ...
    async def sleep(self, seconds: float) -> None: ...
    async def call(self, fn: Callable[[], T]) -> T: ...
    async def wait(self, work: Future[T] | Awaitable[T], deadline: float) -> T:
        """Return the result of ``work``; raise ``DeadlineError`` if it takes longer than until the deadline.

        This is the one limit for what is not a read or a write of a socket: sign-ins and look-ups of names.
        """
        ...

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]: ...


class DeadlineError(TimeoutError):
    """What was waited for has not ended before the deadline."""


def start_thread(function: Callable[[], T]) -> Future[T]:
    """Call a function that cannot be interrupted on a thread of its own, which may outlive the program.

    A thread of an executor may not: Python waits for it at the end.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    context = copy_context()

    def work() -> None:
        try:
            result = context.run(function)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="maas-client-wait", daemon=True).start()
    return future


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("a synchronous flow suspended")  # a bug of this library, never the user's


class _DefaultAuthorities(ssl.SSLContext):
    """Reads the usual certificate authorities when the first connection uses TLS: that takes 20 ms.

    httpx reads them for every client, also where all addresses are http.
    """

    _alpn_protocols: tuple[str, ...] = ()

    @cached_property
    def _loaded(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()
        context.set_alpn_protocols(self._alpn_protocols)
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        self._alpn_protocols = tuple(alpn_protocols)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._loaded.wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._loaded.wrap_bio(*args, **kwargs)


@cache
def _read_authorities(ca_file: str, modified_ns: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def client_options(ca_file: str | None) -> dict[str, Any]:
    """Return the arguments for an httpx client.

    Requests to loopback never go through a proxy. For all other hosts the environment's proxy settings apply.

    Args:
        ca_file: A file of certificate authorities to trust; None for the default ones.

    Raises:
        ConfigError: The file cannot be read.
    """
    install_log_filter()
    verify: ssl.SSLContext = _DefaultAuthorities(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file:
        try:
            verify = _read_authorities(ca_file, os.stat(ca_file).st_mtime_ns)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cannot read certificate authorities from {ca_file}",
                hint=Text.format(
                    "Name a PEM file with certificates: {}.",
                    AnyOf(Argument("ca_file"), "REQUESTS_CA_BUNDLE or SSL_CERT_FILE"),
                ),
            ) from error
    without_proxy = ("all://127.0.0.1", "all://localhost", "all://[::1]")
    return {
        "verify": verify,
        "mounts": dict.fromkeys(without_proxy),
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=64, max_keepalive_connections=16),
    }


def make_client(httpx_class: type[C], http: Any, ca_file: str | None, *, loopback_only: bool) -> C:
    """Return the httpx client that the caller passed as ``http``; a new one if that is None.

    A proxy in the environment that httpx cannot use is a ``ConfigError``; with ``loopback_only`` it is ignored.
    """
    if isinstance(http, httpx_class):
        return http
    if http is not None:
        name = httpx_class.__name__  # this library's clients have the names of httpx's
        other = "Client" if name == "AsyncClient" else "AsyncClient"
        raise ConfigError(
            f"{name} takes an httpx.{name} as http, not a value of type {type(http).__name__}",
            hint=f"Pass an httpx.{name}. {other} takes an httpx.{other}.",
        )
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


def pools(client: Any) -> Iterator[Any]:
    """Yield the connection pools of httpcore of an httpx client."""
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None and hasattr(pool, "_assign_requests_to_connections"):
            yield pool


def forget_connections(pool: Any) -> None:
    """Empty a pool of httpcore, whose connections belong to a parent process or an ended loop."""
    pool._connections.clear()
    pool._requests.clear()
    # Another thread of the parent process may have held it.
    pool._optional_thread_lock = type(pool._optional_thread_lock)()


def translate_error(
    error: BaseException, request: HttpRequest, handled: BaseException | None
) -> BaseException:
    """Return the error of this library for an exception of httpx; any other exception as it is.

    Args:
        error: The exception.
        request: The request that failed.
        handled: The exception that the caller was handling already; its traceback is left alone.
    """
    translated = _find_error(error, request)
    clear_tracebacks(error, handled)
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
                return deadline_error(request)
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
    silence_s = min(READ_TIMEOUT_S, time_left)
    return httpx.Timeout(
        silence_s,
        read=silence_s if request.ends_silent else time_left,
        connect=min(CONNECT_TIMEOUT_S, time_left),
    )


def deadline_error(request: HttpRequest) -> TransportError:
    url = without_query(request.url)
    return TimedOutError(
        f"{url}: no complete response before the deadline",
        url=url,
        hint=Text(
            "Whether the service acted is unknown. ",
            PythonOnly("A longer deadline, in seconds: ", Argument("timeout"), "."),
        ),
    )


def to_httpx(
    client: httpx.Client | httpx.AsyncClient,
    request: HttpRequest,
    wrap_chunks: Callable[[Chunks], Any],
    extensions: dict[str, Any] | None = None,
) -> httpx.Request:
    """Return the request for an httpx client.

    Args:
        client: The client.
        request: The request.
        wrap_chunks: Makes of a body in pieces an iterable that the client accepts.
        extensions: Extensions of the ``httpx.Request``.

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
        content = wrap_chunks(content)
    return client.build_request(
        request.method,
        request.url,
        headers=headers,
        content=content,
        files=request.files,
        timeout=_timeout(request),
        extensions=extensions or {},
    )


_PROXIES = (
    httpcore.HTTPProxy,
    httpcore.SOCKSProxy,
    httpcore.AsyncHTTPProxy,
    httpcore.AsyncSOCKSProxy,
)


class ResponseReader:
    """Reads one response: its head, then its body in small pieces and within limits.

    Requests ask for ``identity``, but a gateway may compress all the same. httpx decodes each piece of the
    network as a whole, and 64 KiB of gzip can be 64 MiB of text; so it is decoded here, and refused when it is
    larger than a response of this kind can be.

    Args:
        request: The request.
        response: The response, of whose body nothing has been read.

    Attributes:
        head: The response without its body.
        expects_body: False once the body is complete, and if there is none or httpx has read it already.

    Raises:
        TransportError: The body is larger than allowed, or in an encoding that was not asked for.
    """

    def __init__(self, request: HttpRequest, response: httpx.Response) -> None:
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.head = HttpResponse(response.status_code, headers, b"")
        self.expects_body = request.method != "HEAD" and not response.is_stream_consumed
        self._request = request
        self._size = 0
        self._is_empty = True
        self._inflate: zlib._Decompress | None = None
        self._max_bytes = request.max_bytes
        if not self.expects_body:
            return
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
            limit = MAX_COMPRESSED_RESPONSE_BYTES
            self._max_bytes = limit if self._max_bytes is None else min(limit, self._max_bytes)
        elif encoding not in ("", "identity"):
            raise self._error(
                f"the response has the Content-Encoding {encoding[:40]!r}, which was not requested",
                hint="A proxy or a gateway may have changed the response.",
            )
        length = headers.get("content-length", "")
        is_number = length.isascii() and length.isdigit()  # int() refuses thousands of digits
        if self._max_bytes is not None and is_number and int(length[:18]) > self._max_bytes:
            raise self._too_large()

    def decode(self, data: bytes | None) -> Iterable[bytes]:
        """Return the decoded text of one piece of the network; None is the end of the body."""
        if time.monotonic() > self._request.deadline:
            raise deadline_error(self._request)
        if data is None:
            self.expects_body = False
            if self._inflate is not None and not self._inflate.eof and not self._is_empty:
                raise self._error("the compressed response is incomplete")
            return ()
        if self._inflate is not None:
            return self._decompress(data, self._inflate)
        self._count(data)
        return (data,)

    def _decompress(self, data: bytes, inflate: zlib._Decompress) -> Iterator[bytes]:
        self._is_empty = self._is_empty and not data
        try:
            while data and not inflate.eof:
                piece = inflate.decompress(data, _PIECE_BYTES)
                data = inflate.unconsumed_tail
                self._count(piece)
                yield piece
        except zlib.error as error:
            raise self._error("the compressed response is damaged") from error

    def _count(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._max_bytes is not None and self._size > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> TransportError:
        return self._error(f"the response is larger than {self._max_bytes:,} bytes")

    def _error(self, message: str, hint: str | None = None) -> TransportError:
        url = without_query(self._request.url)
        return TransportError(f"{url}: {message}", url=url, hint=hint)
