"""The port of ``flows/_io.py``, implemented: retries, auth per plane, deadlines, redaction.

``Transport`` thinks once for both clients; ``http.BlockingWire`` and ``http.AsyncWire`` only do.
"""

from __future__ import annotations

import codecs
import json
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Generic, TypeVar

from maas_client._transport import response, retry
from maas_client._transport.auth import TokenCache, parse_claims
from maas_client._transport.clouds import Cloud, check_host, is_loopback
from maas_client._transport.http import (
    AsyncHttpClient,
    HttpClient,
    HttpRequest,
    SyncHttpClient,
    run_sync,
)
from maas_client._transport.redact import without_query
from maas_client._version import __version__
from maas_client.errors import MaasError, TransportError
from maas_client.wire.blob import BLOB_API_VERSION
from maas_client.wire.op import Op, Plane, Response, build_url
from maas_client.wire.scope import Scope

__all__ = ["AsyncHttpClient", "Connection", "SyncHttpClient", "Transport", "run_sync"]

T = TypeVar("T")
A = TypeVar("A")
W = TypeVar("W", bound=HttpClient)

MAX_RESPONSE_BYTES = 64 * 2**20
"""The largest answer read into memory, in bytes, after decoding (reliability.md R16)."""


@dataclass(slots=True)
class Connection:
    """Everything that is settled when a client is made."""

    scope: Scope
    cloud: Cloud
    tokens: TokenCache | None
    """None on the local server, and on foundry with a key."""
    api_key: str | None = field(default=None, repr=False)
    local_origin: str | None = None
    """The local server's origin; nothing ever goes elsewhere then."""
    timeout_s: float = 60.0
    """Deadline of one operation: connecting, sending, waiting for a retry and reading together."""
    max_retries: int = 4
    offline: bool = False


class Transport(Generic[W]):
    """Implements ``IO``. ``wire`` is the blocking or the async half."""

    def __init__(self, connection: Connection, http: W) -> None:
        self._connection = connection
        self.http = http
        self._born = (time.monotonic(), time.time())
        self._draw = random.Random()  # noqa: S311 - jitter, not a secret

    @property
    def scope(self) -> Scope:
        return self._connection.scope

    def elapsed(self) -> float:
        return max(time.monotonic() - self._born[0], time.time() - self._born[1])

    async def sleep(self, seconds: float) -> None:
        await self.http.sleep(seconds)

    async def call(self, fn: Callable[[], T]) -> T:
        return await self.http.call(fn)

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        return await self.http.parallel(step, over, limit)

    async def send(
        self,
        op: Op[T],
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
            stop_after_attempt,
            stop_before_delay,
        )

        target = url or self._address(op, base_url, query, path)
        allowed_s = deadline_s or self._connection.timeout_s
        end = time.monotonic() + allowed_s
        again = AsyncRetrying(
            retry=retry_if_exception(lambda e: self._again(e, op)),
            stop=stop_after_attempt(self._connection.max_retries + 1)
            | stop_before_delay(allowed_s),
            wait=lambda state: retry.retry_delay(
                state.attempt_number,
                (state.outcome and state.outcome.exception()) or RuntimeError(),
                self._draw,
            ),
            sleep=self.http.sleep,
            reraise=True,
        )
        try:
            return await again(self._once, op, target, body, headers or {}, key, end)
        except MaasError as error:
            # Without tenacity's frames: what a user reads is the flow and the reason.
            raise error.with_traceback(None) from error.__cause__

    def _again(self, error: BaseException, op: Op[Any]) -> bool:
        if self._connection.local_origin is not None and isinstance(error, retry.NotSentError):
            return False  # nothing listens on this machine: saying so at once is kinder
        return retry.can_retry(error, op.resend)

    async def lines(
        self,
        op: Op[Any],
        body: Any = None,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        **path: str,
    ) -> AsyncGenerator[str, None]:
        target = self._address(op, base_url, None, path)
        end = time.monotonic() + max(self._connection.timeout_s, 600.0)
        ask = await self._ask(op, target, body, headers or {}, key, end, None)
        decode = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = self.http.stream(ask)
        held = ""
        try:
            first = await anext(pieces)
            if isinstance(first, bytes):
                raise TransportError(f"{without_query(target)}: the stream has no head")
            if first.status not in op.ok:
                text = b"".join([p async for p in pieces if isinstance(p, bytes)])
                raise response.status_error(
                    op, first.status, first.headers, text[:MAX_RESPONSE_BYTES]
                )
            async for piece in pieces:
                *whole, held = (held + decode.decode(bytes(piece))).split("\n")  # type: ignore[arg-type]  # only bytes follow the head
                for line in whole:
                    yield line.removesuffix("\r")
            if held:
                yield held
        finally:
            await pieces.aclose()

    def _address(
        self,
        op: Op[Any],
        at: str | None,
        query: Mapping[str, str] | None,
        path: Mapping[str, str],
    ) -> str:
        base = at or self._connection.scope.base_urls[op.plane.value]
        return build_url(op, base, {**self._connection.scope.values, **path}, query)

    async def _once(
        self,
        op: Op[T],
        target: str,
        body: Any,
        headers: Mapping[str, str],
        key: str | None,
        end: float,
    ) -> Response[T]:
        ask = await self._ask(op, target, body, headers, key, end, None)
        reply = await self.http.send(ask)
        if (
            reply.status == 401
            and self._connection.tokens
            and not key
            and "authorization" in ask.headers
        ):
            self._connection.tokens.discard(self._scope_of(op))
            claims = parse_claims(reply.headers.get("www-authenticate", ""))
            ask = await self._ask(op, target, body, headers, key, end, claims)
            reply = await self.http.send(ask)
        if reply.status == 401 and self._connection.local_origin is not None and not key:
            error = response.status_error(op, reply.status, reply.headers, reply.body)
            error.hint = "Pass the server's key as api_key= or MAAS_API_KEY (serve --api-key)."
            raise error
        return response.parse(op, reply.status, reply.headers, reply.body)

    async def _ask(
        self,
        op: Op[Any],
        target: str,
        body: Any,
        headers: Mapping[str, str],
        key: str | None,
        end: float,
        claims: str | None,
    ) -> HttpRequest:
        if self._connection.offline and not is_loopback(target):
            raise retry.BlockedRequestError(
                f"{without_query(target)} is not on this machine, and MAAS_OFFLINE is set",
                hint="Unset MAAS_OFFLINE to reach it.",
            )
        said = {
            "user-agent": f"maas-client/{__version__}",
            "accept": "application/json" if op.returns is not bytes else "*/*",
            "accept-encoding": "identity",
            "x-ms-client-request-id": str(uuid.uuid4()),
            **headers,
            **await self._credential(op, target, key, claims),
        }
        content, files = None, None
        if op.body == "json":
            content = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
            said["content-type"] = "application/json"
        elif op.body == "multipart":
            files = body
        elif body is not None:
            content = body
            said.setdefault(
                "content-type",
                "application/xml" if op.body == "xml" else "application/octet-stream",
            )
        elif op.method in ("PUT", "POST", "PATCH"):
            content = b""
        if op.plane is Plane.BLOB:
            said |= {"x-ms-version": BLOB_API_VERSION, "x-ms-date": formatdate(usegmt=True)}
        return HttpRequest(op.method, target, said, content, files, end, MAX_RESPONSE_BYTES)

    def _scope_of(self, op: Op[Any]) -> str:
        if op.plane is Plane.FOUNDRY and op.query.get("api-version", "v1") != "v1":
            return "https://cognitiveservices.azure.com/.default"  # the dated base (docs/azure-http.md 4.1)
        return self._connection.cloud.scopes[op.plane]

    async def _credential(
        self, op: Op[Any], target: str, key: str | None, claims: str | None
    ) -> dict[str, str]:
        """Return the headers that say who we are; none where the address itself does (a SAS)."""
        if op.plane is Plane.ANONYMOUS or (op.plane is Plane.BLOB and "sig=" in target):
            return {}
        check_host(
            self._connection.cloud,
            op.plane,
            target,
            local_origin=self._connection.local_origin,
            has_key=key is not None,
        )
        if key is not None:
            return {"authorization": f"Bearer {key}", "api-key": key}
        if self._connection.local_origin is not None:
            return {"authorization": f"Bearer {self._connection.api_key or 'local'}"}
        if op.plane is Plane.FOUNDRY and self._connection.api_key:
            return {"api-key": self._connection.api_key}
        if self._connection.tokens is None:
            return {}
        token = await self._connection.tokens.get(self._scope_of(op), self.http.call, claims)
        return {"authorization": f"Bearer {token}"}
