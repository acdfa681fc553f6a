"""Send the operations that flows ask for: retries, credentials, deadlines, redaction.

``Transport`` implements the ``IO`` protocol of ``flows/_io.py`` for both clients; ``SyncHttpClient`` and
``AsyncHttpClient`` send its requests.
"""

from __future__ import annotations

import codecs
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from maas_client import _clock
from maas_client._messages import AnyOf, Argument, Text
from maas_client._secret import Secret, SignedUrl, find_invalid_character, without_query
from maas_client._transport import response, retry
from maas_client._transport.async_http import AsyncHttpClient
from maas_client._transport.auth import parse_claims
from maas_client._transport.clouds import check_host, is_loopback
from maas_client._transport.connection import Connection
from maas_client._transport.http import (
    HttpClient,
    HttpRequest,
    HttpResponse,
    WaitNotice,
    run_sync,
    shared_notices,
    wait_notice,
)
from maas_client._transport.json_body import encode_json
from maas_client._transport.sync_http import SyncHttpClient
from maas_client._transport.tracing import operation_span
from maas_client._version import __version__
from maas_client.errors import MaasError, ServiceError, TransportError
from maas_client.wire.blob import BLOB_API_VERSION
from maas_client.wire.operation import (
    Operation,
    Plane,
    Response,
    build_url,
    local_base_urls,
)

__all__ = ["AsyncHttpClient", "SyncHttpClient", "Transport", "run_sync"]

if TYPE_CHECKING:
    from tenacity import RetryCallState

_log = logging.getLogger("maas_client")
T = TypeVar("T")
A = TypeVar("A")
W = TypeVar("W", bound=HttpClient)

MAX_RESPONSE_BYTES = 64 * 2**20
"""The largest response that is read into memory, after decoding: 298 KB of gzip can be 300 MB of text."""
MAX_LINE_CHARS = 16 * 2**20
"""The longest line of a stream."""
_MAX_ERROR_BYTES = 2**20
_LONG_WAIT_S = 10.0
_LOCAL_NOTICE_S = 2.0
"""After this time a program says that it waits for the local server, which answers within milliseconds. Azure,
and requests with a deadline of their own (uploads, chats), may take longer: ``_LONG_WAIT_S``."""
_STREAM_TIMEOUT_S = 600.0
_DOWNLOAD_TIMEOUT_S = 3600.0


def _elapsed() -> float:
    """Return seconds on a clock that runs on while the machine sleeps and cannot be set.

    ``time.monotonic`` is one on Windows; on macOS and Linux it stops during sleep.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None) or getattr(time, "CLOCK_MONOTONIC", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


async def _read_at_most(pieces: AsyncGenerator[HttpResponse | bytes, None], limit: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += cast("bytes", piece)
        if len(body) > limit:
            break
    return bytes(body[:limit])


def _notice(
    op: Operation[Any], target: str, delay_s: float, deadline: float
) -> AbstractContextManager[None]:
    origin = "/".join(without_query(target).split("/")[:3])
    return wait_notice(WaitNotice(f"{origin} ({op.name})", delay_s + op.long_poll_s, deadline))


class Transport(Generic[W]):
    """Sends operations; implements ``IO``.

    Args:
        connection: The options of the client.
        http: The client that sends the requests, synchronous or asynchronous.
    """

    def __init__(self, connection: Connection, http: W) -> None:
        self._connection = connection
        self.scope = connection.scope
        self.http = http
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret

    async def _use_local_server(self) -> None:
        """Direct requests to the local server that runs now; start one if there is none.

        It may have stopped, or have been replaced, since the last request.
        """
        connection = self._connection
        if connection.server is None:
            return
        server = connection.server.find()
        if server is None:
            server = await self.http.call(connection.server.ensure_running)
        key = server.api_key or connection.api_key
        if (server.url, key) == (connection.local_origin, connection.api_key):
            return
        urls = local_base_urls(server.url)
        self.scope = replace(
            connection.scope, base_urls={**connection.scope.base_urls, **urls}, cache={}
        )
        self._connection = replace(
            connection,
            scope=self.scope,
            local_origin=server.url,
            api_key=Secret(key) if key else None,
        )

    @property
    def cloud_name(self) -> str:
        return self._connection.cloud.name

    @property
    def has_api_key(self) -> bool:
        return self._connection.api_key is not None

    async def token(self, plane: Plane) -> str | None:
        if self._connection.tokens is None:
            return None
        scope = self._connection.cloud.scopes[plane]
        deadline = time.monotonic() + self._connection.timeout_s
        return await self._connection.tokens.get(scope, self.http, deadline)

    def elapsed(self) -> float:
        return _elapsed() + self._virtual_s()

    async def sleep(self, seconds: float) -> None:
        clock = _clock.find(self._connection.local_origin)
        if clock is not None:
            clock.wait(seconds)
            seconds = 0.0
        await self.http.sleep(seconds)

    def _virtual_s(self) -> float:
        """Return the seconds by which the clock of a server for tests was advanced."""
        clock = _clock.find(self._connection.local_origin)
        return clock.offset_s if clock else 0.0

    async def call(self, fn: Callable[[], T]) -> T:
        return await self.http.call(fn)

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        givers: dict[str, object] = {}

        async def run(item: A) -> T:
            with shared_notices(givers):
                return await step(item)

        return await self.http.parallel(run, over, limit)

    async def send(
        self,
        op: Operation[T],
        body: Any = None,
        *,
        base_url: str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        key: str | None = None,
        deadline_s: float | None = None,
        **path: str,
    ) -> Response[T]:
        from tenacity import (
            AsyncRetrying,
            retry_if_exception,
        )

        await self._use_local_server()
        key = Secret(key) if key else None
        target = SignedUrl(url or self._build_url(op, base_url, query, path))
        timeout_s = deadline_s or self._connection.timeout_s
        deadline = time.monotonic() + timeout_s
        virtual_start_s = self._virtual_s()

        def is_last(state: RetryCallState) -> bool:
            if state.attempt_number > self._connection.max_retries:
                return True
            waited_s = (state.seconds_since_start or 0.0) + self._virtual_s() - virtual_start_s
            return waited_s + state.upcoming_sleep >= timeout_s

        is_quick = self._connection.local_origin is not None and deadline_s is None
        notice_s = _LOCAL_NOTICE_S if is_quick else _LONG_WAIT_S

        async def attempt() -> Response[T]:
            with _notice(op, target, notice_s, deadline):
                return await self._send_once(op, target, body, headers or {}, key, deadline)

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: self._can_retry(error, op)),
            stop=is_last,
            wait=lambda state: retry.retry_delay(
                state.attempt_number,
                (state.outcome and state.outcome.exception()) or RuntimeError(),
                self._rng,
            ),
            before_sleep=lambda state: self._log_retry(op, state),
            sleep=self.sleep,
            reraise=True,
        )
        with operation_span(op, target) as span:
            try:
                reply: Response[T] = await retrying(attempt)
                span.set_status(reply.status)
                return reply
            except MaasError as error:
                # Without tenacity's frames: a traceback shows the flow and the cause only.
                raise error.with_traceback(None) from error.__cause__
            finally:
                if retries := retrying.statistics.get("attempt_number", 1) - 1:
                    span.set_retries(retries)

    def _log_retry(self, op: Operation[Any], state: RetryCallState) -> None:
        """Log why and when an operation is sent again: as a warning if the wait may look like a hang."""
        delay_s = state.upcoming_sleep
        error = state.outcome.exception() if state.outcome else None
        _log.log(
            logging.WARNING if delay_s >= _LONG_WAIT_S else logging.INFO,
            "%s: %s; sending it again in %.1f s (retry %d of at most %d)",
            op.name,
            error.message if isinstance(error, MaasError) else error,
            delay_s,
            state.attempt_number,
            self._connection.max_retries,
        )

    def _can_retry(self, error: BaseException, op: Operation[Any]) -> bool:
        if self._connection.local_origin is not None and isinstance(error, retry.NotSentError):
            return False  # nothing listens on this machine, so waiting would only delay the error
        return retry.can_retry(error, op.resend)

    async def lines(
        self,
        op: Operation[Any],
        body: Any = None,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        **path: str,
    ) -> AsyncGenerator[str, None]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        unfinished: list[str] = []  # parts of a line whose end has not arrived
        size = 0
        pieces = self._stream(op, body, base_url, headers or {}, key, path, _STREAM_TIMEOUT_S)
        async with aclosing(pieces):
            async for piece in pieces:
                *complete, last = decoder.decode(piece).split("\n")
                for line in complete:
                    yield ("".join(unfinished) + line).removesuffix("\r")
                    unfinished, size = [], 0
                unfinished.append(last)
                size += len(last)
                if size > MAX_LINE_CHARS:
                    raise TransportError(
                        f"{op.name}: the stream has a line of more than {MAX_LINE_CHARS:,} characters"
                    )
        if size:
            yield "".join(unfinished)

    def download(
        self, op: Operation[bytes], *, base_url: str | None = None, **path: str
    ) -> AsyncGenerator[bytes, None]:
        return self._stream(op, None, base_url, {}, None, path, _DOWNLOAD_TIMEOUT_S)

    async def _stream(
        self,
        op: Operation[Any],
        body: Any,
        base_url: str | None,
        headers: Mapping[str, str],
        key: str | None,
        path: Mapping[str, str],
        timeout_s: float,
    ) -> AsyncGenerator[bytes, None]:
        """Send an operation, and yield the body of its response in pieces."""
        await self._use_local_server()
        key = Secret(key) if key else None
        target = SignedUrl(self._build_url(op, base_url, None, path))
        deadline = time.monotonic() + max(self._connection.timeout_s, timeout_s)
        with operation_span(op, target, is_current=False) as span:
            with _notice(op, target, _LONG_WAIT_S, deadline):
                request = await self._build_request(op, target, body, headers, key, deadline, None)
                pieces = self.http.stream(replace(request, max_bytes=None))
                head = cast("HttpResponse", await anext(pieces))
            span.set_status(head.status)
            async with aclosing(pieces):
                if head.status not in op.ok:
                    text = await _read_at_most(pieces, _MAX_ERROR_BYTES)
                    raise response.status_error(op, head.status, head.headers, text)
                async for piece in pieces:
                    yield cast("bytes", piece)

    def _build_url(
        self,
        op: Operation[Any],
        base_url: str | None,
        query: Mapping[str, str] | None,
        path: Mapping[str, str],
    ) -> str:
        scope = self.scope
        base_url = base_url or scope.base_urls[op.plane.value]
        return build_url(op, base_url, {**scope.values, **path}, query)

    async def _send_once(
        self,
        op: Operation[T],
        target: str,
        body: Any,
        headers: Mapping[str, str],
        key: str | None,
        deadline: float,
    ) -> Response[T]:
        tokens = self._connection.tokens
        request = await self._build_request(op, target, body, headers, key, deadline, None)
        reply = await self.http.send(request)
        if reply.status == 401 and tokens and not key and "authorization" in request.headers:
            tokens.discard(self._token_scope(op))
            if op.resend == "never":
                raise response.status_error(op, reply.status, reply.headers, reply.body)
            claims = parse_claims(reply.headers.get("www-authenticate", ""))
            request = await self._build_request(op, target, body, headers, key, deadline, claims)
            reply = await self.http.send(request)
        if reply.status == 401 and self._connection.local_origin is not None and not key:
            error = response.status_error(op, reply.status, reply.headers, reply.body)
            key_names = AnyOf(Argument("api_key"), "MAAS_API_KEY")
            error.hint = Text.format(
                "Pass the server's key as {} (see `serve --api-key`)."
                if self._connection.server is None
                else "Pass the server's key as {}, or start a server of your own: maas-client serve --port 0",
                key_names,
            )
            raise error
        return response.parse(op, reply)

    async def _build_request(
        self,
        op: Operation[Any],
        target: str,
        body: Any,
        headers: Mapping[str, str],
        key: str | None,
        deadline: float,
        claims: str | None,
    ) -> HttpRequest:
        if self._connection.offline and not is_loopback(target):
            raise retry.BlockedRequestError(
                f"{without_query(target)} is not on this machine, and MAAS_OFFLINE is set",
                hint="Unset MAAS_OFFLINE to allow the request.",
            )
        all_headers = {
            "user-agent": f"maas-client/{__version__}",
            "accept": "application/json" if op.returns is not bytes else "*/*",
            "accept-encoding": "identity",
            "x-ms-client-request-id": str(uuid.uuid4()),
            **headers,
            **await self._credential_headers(op, target, key, claims, deadline),
        }
        content, files = None, None
        if op.body == "json":
            content = encode_json(op, body)
            all_headers["content-type"] = "application/json"
        elif op.body == "multipart":
            files = body
        elif body is not None:
            content = body
            all_headers.setdefault(
                "content-type",
                "application/xml" if op.body == "xml" else "application/octet-stream",
            )
        elif op.method in ("PUT", "POST", "PATCH"):
            content = b""
        if op.plane is Plane.BLOB:
            all_headers |= {"x-ms-version": BLOB_API_VERSION, "x-ms-date": formatdate(usegmt=True)}
        return HttpRequest(
            op.method, target, all_headers, content, files, deadline, MAX_RESPONSE_BYTES,
            ends_silent=op.body != "json",
        )  # fmt: skip

    def _token_scope(self, op: Operation[Any]) -> str:
        if op.plane is Plane.FOUNDRY and op.query.get("api-version", "v1") != "v1":
            # The dated API takes tokens of Cognitive Services (docs/azure-http.md 4.1).
            return "https://cognitiveservices.azure.com/.default"
        return self._connection.cloud.scopes[op.plane]

    async def _credential_headers(
        self,
        op: Operation[Any],
        target: str,
        key: str | None,
        claims: str | None,
        deadline: float,
    ) -> dict[str, str]:
        """Check the host, and return the authentication headers; none if the address contains a SAS."""
        connection = self._connection
        check_host(
            connection.cloud,
            op.plane,
            target,
            local_origin=connection.local_origin,
            has_key=key is not None,
        )
        if op.plane is Plane.ANONYMOUS or (op.plane is Plane.BLOB and "sig=" in target):
            return {}
        if key is not None:
            if (reason := find_invalid_character(key)) is not None:
                raise ServiceError(
                    f"the key of the deployment cannot be sent: {reason}", operation=op.name
                )
            return {"authorization": Secret(f"Bearer {key}"), "api-key": key}
        if connection.local_origin is not None:
            return {"authorization": Secret(f"Bearer {connection.api_key or 'local'}")}
        if op.plane in (Plane.FOUNDRY, Plane.PROJECT) and connection.api_key:
            return {"api-key": Secret(connection.api_key)}
        if connection.tokens is None:
            return {}
        token = await connection.tokens.get(self._token_scope(op), self.http, deadline, claims)
        return {"authorization": Secret(f"Bearer {token}")}
