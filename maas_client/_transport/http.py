"""The wire itself, twice: httpx blocking and httpx async. httpx is named in this room alone.

Both have the same five coroutine methods. The blocking one's never suspend, so ``run`` can drive any
coroutine over it to its end without a loop and without a thread; it also works inside a running loop.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin

import httpx

from maas_client._transport import deadline
from maas_client._transport.clouds import is_loopback
from maas_client._transport.redact import install_log_filter, without_query
from maas_client._transport.retry import NotSentError
from maas_client.errors import ConfigError, MaasError, TransportError

T = TypeVar("T")
A = TypeVar("A")
C = TypeVar("C")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
"""No byte for this long ends a request, whatever its deadline."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request, ready to send. ``end`` is a moment of ``time.monotonic()``."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    files: Sequence[tuple[str, Any]] | None
    deadline: float
    max_bytes: int
    """The most bytes of answer that are read into memory."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back, whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HttpClient(Protocol):
    """What ``Transport`` needs of either client."""

    async def send(self, request: HttpRequest) -> HttpResponse: ...
    def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]: ...
    async def sleep(self, seconds: float) -> None: ...
    async def call(self, fn: Callable[[], T]) -> T: ...
    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]: ...


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise RuntimeError("a blocking flow suspended")  # a bug of ours, never a user's


def client_options(ca_file: str | None) -> dict[str, Any]:
    """Loopback never goes through a proxy; everything else as the environment says."""
    install_log_filter()
    verify: Any = True
    if ca_file:
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as bad:
            raise ConfigError(f"{ca_file}: no certificate authorities can be read there") from bad
    direct = ("all://127.0.0.1", "all://localhost", "all://[::1]")
    return {
        "verify": verify,
        "mounts": dict.fromkeys(direct),
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=64, max_keepalive_connections=16),
    }


def _opened(kind: Callable[..., C], ca_file: str | None, *, direct: bool) -> C:
    """Return an httpx client. A proxy of the environment that httpx cannot use is told as ``ConfigError``, or
    passed over where every address is on this machine (``direct``)."""
    held = client_options(ca_file)
    try:
        return kind(**held)
    except (ImportError, ValueError, httpx.InvalidURL) as bad:
        if direct:
            return kind(**held, trust_env=False)
        socks = isinstance(bad, ImportError)
        raise ConfigError(
            "the environment names a proxy that cannot be used: "
            + ("SOCKS needs the package socksio" if socks else str(bad)),
            hint=("Install it: pip install 'httpx[socks]'. Or unset" if socks else "Mend or unset")
            + " ALL_PROXY, HTTPS_PROXY and HTTP_PROXY.",
        ) from bad


@contextmanager
def _translated(ask: HttpRequest) -> Iterator[None]:
    """Turn httpx's exceptions into ours, with what to do next."""
    place = without_query(ask.url)
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as bad:
        origin = without_query(urljoin(ask.url, "/")).rstrip("/")
        raise NotSentError(
            f"no connection to {origin}: {bad}", url=place, hint=_advice(ask, bad)
        ) from bad
    except httpx.TimeoutException as bad:
        if time.monotonic() >= ask.deadline:
            raise _late(ask) from bad
        raise TransportError(
            f"{place} did not answer in time", url=place, hint="Whether it acted is unknown."
        ) from bad
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as bad:
        raise ConfigError(f"{place!r} is not an address that can be used: {bad}") from bad
    except httpx.HTTPError as bad:
        raise TransportError(
            f"{place}: the answer broke off ({type(bad).__name__})",
            url=place,
            hint="Is a maas-client server there? Check url= or MAAS_URL."
            if is_loopback(ask.url)
            else "Whether the service acted is unknown.",
        ) from bad
    except RuntimeError as bad:
        if "closed" not in str(bad):
            raise
        raise ConfigError(
            "this client is closed", hint="Make a new one, or use it in its `with`."
        ) from bad


def _advice(ask: HttpRequest, bad: Exception) -> str:
    if is_loopback(ask.url):
        return "No server is there. Start one: maas-client serve"
    if "CERTIFICATE" in str(bad).upper():
        return "Give the authority's certificate with ca_file= or REQUESTS_CA_BUNDLE."
    return "Check the name, the network and HTTPS_PROXY."


def _timeout(ask: HttpRequest) -> httpx.Timeout:
    left = max(ask.deadline - time.monotonic(), 0.01)
    return httpx.Timeout(min(READ_TIMEOUT_S, left), connect=min(CONNECT_TIMEOUT_S, left))


def _late(ask: HttpRequest) -> TransportError:
    return TransportError(
        f"{without_query(ask.url)}: no whole answer before the deadline",
        url=without_query(ask.url),
        hint="Whether the service acted is unknown. A longer deadline, in seconds: timeout=.",
    )


def _take(body: bytearray, piece: bytes, ask: HttpRequest) -> None:
    body += piece
    if len(body) > ask.max_bytes:
        raise TransportError(
            f"{without_query(ask.url)}: the answer is larger than {ask.max_bytes:,} bytes"
        )
    if time.monotonic() > ask.deadline:
        raise _late(ask)


def _request(client: httpx.Client | httpx.AsyncClient, ask: HttpRequest) -> httpx.Request:
    return client.build_request(
        ask.method,
        ask.url,
        headers=dict(ask.headers),
        content=ask.content,
        files=ask.files,
        timeout=_timeout(ask),
    )


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


class SyncHttpClient:
    """Over ``httpx.Client``. ``parallel`` is a few threads, each driving one flow."""

    def __init__(
        self, http: Any = None, ca_file: str | None = None, *, loopback_only: bool = False
    ) -> None:
        if http is not None and not isinstance(http, httpx.Client):
            raise ConfigError(
                "http= takes an httpx.Client here; AsyncClient takes an httpx.AsyncClient"
            )
        self._own = http is None
        self._client: httpx.Client = http or _opened(httpx.Client, ca_file, direct=loopback_only)
        if self._own:
            deadline.enforce(self._client)

    def close(self) -> None:
        if self._own:
            self._client.close()

    async def send(self, request: HttpRequest) -> HttpResponse:
        with _translated(request), deadline.until(request.deadline):
            response = self._client.send(_request(self._client, request), stream=True)
            try:
                body = bytearray()
                for piece in response.iter_bytes():
                    _take(body, piece, request)
            finally:
                response.close()
        return HttpResponse(response.status_code, _headers(response), bytes(body))

    async def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        with _translated(request):
            response = self._client.send(_request(self._client, request), stream=True)
            try:
                yield HttpResponse(response.status_code, _headers(response), b"")
                for piece in response.iter_bytes():
                    yield piece
                    if time.monotonic() > request.deadline:
                        raise _late(request)
            finally:
                response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - the blocking half: no loop is stopped

    async def call(self, fn: Callable[[], T]) -> T:
        return fn()

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        if len(over) < 2 or limit < 2:
            return [await step(item) for item in over]
        with ThreadPoolExecutor(min(limit, len(over)), "maas-client") as pool:
            waiting = [pool.submit(lambda item=item: run_sync(step(item))) for item in over]  # type: ignore[misc]  # bound early
            try:
                return [one.result() for one in waiting]
            except BaseException:
                for one in waiting:
                    one.cancel()
                raise


class AsyncHttpClient:
    """Over ``httpx.AsyncClient`` and asyncio."""

    def __init__(
        self, http: Any = None, ca_file: str | None = None, *, loopback_only: bool = False
    ) -> None:
        if http is not None and not isinstance(http, httpx.AsyncClient):
            raise ConfigError("http= takes an httpx.AsyncClient here; Client takes an httpx.Client")
        self._own = http is None
        self._client: httpx.AsyncClient = http or _opened(
            httpx.AsyncClient, ca_file, direct=loopback_only
        )

    async def aclose(self) -> None:
        if self._own:
            await self._client.aclose()

    async def send(self, request: HttpRequest) -> HttpResponse:
        try:
            with _translated(request):
                async with asyncio.timeout(max(request.deadline - time.monotonic(), 0.01)):
                    response = await self._client.send(_request(self._client, request), stream=True)
                    try:
                        body = bytearray()
                        async for piece in response.aiter_bytes():
                            _take(body, piece, request)
                    finally:
                        await response.aclose()
        except TimeoutError as bad:
            if isinstance(bad, MaasError):
                raise
            raise _late(request) from bad
        return HttpResponse(response.status_code, _headers(response), bytes(body))

    async def stream(self, request: HttpRequest) -> AsyncGenerator[HttpResponse | bytes, None]:
        with _translated(request):
            response = await self._client.send(_request(self._client, request), stream=True)
            try:
                yield HttpResponse(response.status_code, _headers(response), b"")
                async for piece in response.aiter_bytes():
                    yield piece
                    if time.monotonic() > request.deadline:
                        raise _late(request)
            finally:
                await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        return await asyncio.to_thread(fn)

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        gate = asyncio.Semaphore(limit)

        async def one(item: A) -> T:
            async with gate:
                return await step(item)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in over]
        except* MaasError as many:
            raise many.exceptions[0] from None
        return [task.result() for task in tasks]
