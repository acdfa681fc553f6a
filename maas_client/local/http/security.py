"""The outermost layer: what every request must show before anything else looks at it.

In order: the host is one of this connection's own (DNS rebinding), the request was not sent by a
foreign web page (CSRF: there are no CORS headers at all), it carries a credential, its body is not
larger than its path takes and does not trickle for ever. Every answer leaves with request ids.
A rule here holds for every route, those written later included.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.types import (  # noqa: TID253 - only the server imports this module
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
)

from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.http import hosts
from maas_client.local.http.error_responses import error_response, is_openai_path
from maas_client.local.http.tokens import is_valid
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_files import MAX_FILE_BYTES, MAX_PART_BYTES

PUBLIC_PATHS = frozenset({"/discovery", "/metadata/endpoints"})
PUBLIC_LOGIN_PATHS = re.compile(
    r"/[^/]+/(oauth2/v2\.0/token|discovery/(instance|v2\.0/keys)|(v2\.0/)?\.well-known/openid-configuration)"
)
"""What Azure itself serves without a credential."""

MAX_JSON_BYTES = 8 << 20
MAX_BLOB_BYTES = 5 << 30
_FORM_BYTES = 1 << 20
"""What a multipart form may add to its file."""
_SILENCE_S = 60.0
"""How long a body may pause."""
_JSON_S = 120.0
"""How long a body that is no file may take in all."""


@dataclass(frozen=True, slots=True)
class SecurityPolicy:
    """What the guard lets in."""

    allowed_hosts: frozenset[str] | None
    """``name:port`` in lower case; None: any host (a wide bind behind a key)."""
    api_key: str | None
    secret: bytes
    """Signs SAS tokens."""
    endpoint_keys: Callable[[str], list[str]] = lambda label: []
    """The keys of the endpoint with a label."""


class SecurityMiddleware:
    """An ASGI app around the app."""

    def __init__(self, app: ASGIApp, rules: SecurityPolicy) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request_id = str(uuid.uuid4())
        scope["maas.request_id"] = request_id
        headers = _headers(scope)
        stamped = _stamped(send, request_id, headers, scope["path"])
        try:
            self._check_host(scope, headers)
            hosts.rewrite_tunnel_path(scope)
            _check_origin(scope, headers)
            self._check_credential(scope, headers)
            cap = _cap(scope["path"])
            _check_length(headers, cap)
        except ApiError as refusal:
            await error_response(refusal, scope["path"], request_id)(scope, receive, stamped)
            return
        await self._app(scope, _capped(receive, cap), stamped)

    def _check_host(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        found = [value.lower() for value in headers.get("host", [])]
        authority = scope.get(hosts.TUNNEL_AUTHORITY)
        if authority is not None:
            allowed = {authority.lower(), authority.lower().removesuffix(":443")}
        elif self._rules.allowed_hosts is None:
            return
        else:
            allowed = set(self._rules.allowed_hosts)
        if len(found) != 1 or found[0] not in allowed:
            raise ApiError(421, "MisdirectedRequest", "This server does not answer for that host.")

    def _check_credential(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        path = scope["path"]
        if path.lower() in PUBLIC_PATHS or PUBLIC_LOGIN_PATHS.fullmatch(path):
            return
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if path.startswith(f"/{STORAGE_ACCOUNT}/") and "sig" in query:
            container = path.split("/")[2]
            ours = self._rules.api_key is not None
            problem = hosts.sas_problem(self._rules.secret, container, query, verify_signature=ours)
            if problem:
                raise ApiError(
                    403, "AuthenticationFailed", f"Server failed to authenticate: {problem}."
                )
            return
        shown = _shown(headers)
        if not shown:
            raise ApiError(
                401, "AuthenticationFailed",
                "The request carries no credential: send Authorization, api-key or a SAS.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if self._rules.api_key is None:
            return
        good = [self._rules.api_key]
        if match := re.match(r"/serverless/([^/]+)", path):
            good += self._rules.endpoint_keys(match[1])
        if any(hmac.compare_digest(s.encode(), g.encode()) for s in shown for g in good):
            return
        if not any(is_valid(self._rules.secret, s) for s in shown):
            raise ApiError(
                401, "InvalidAuthenticationToken", "The credential is not this server's key.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _check_origin(scope: Scope, headers: Mapping[str, list[str]]) -> None:
    site = headers.get("sec-fetch-site", ["none"])
    if any(value.lower() not in ("same-origin", "none") for value in site):
        raise ApiError(403, "CrossOriginRequest", "Requests of other web pages are refused.")
    scheme = "https" if hosts.TUNNEL_AUTHORITY in scope else scope.get("scheme", "http")
    own = f"{scheme}://{headers.get('host', [''])[0]}".lower()
    if any(value.lower() != own for value in headers.get("origin", [])):
        raise ApiError(403, "CrossOriginRequest", "Requests of other web pages are refused.")


def _shown(headers: Mapping[str, list[str]]) -> list[str]:
    """Return the credentials of a request, without the word Bearer."""
    said = [
        re.sub(r"(?i)^(bearer|sharedkey)\s*", "", value).strip()
        for value in headers.get("authorization", [])
    ]
    return [value for value in said + [k.strip() for k in headers.get("api-key", [])] if value]


def _cap(path: str) -> int:
    if path.startswith(f"/{STORAGE_ACCOUNT}/"):
        return MAX_BLOB_BYTES
    if is_openai_path(path):
        if path.endswith("/files"):
            return MAX_FILE_BYTES + _FORM_BYTES
        if path.endswith("/parts"):
            return MAX_PART_BYTES + _FORM_BYTES
    return MAX_JSON_BYTES


def _check_length(headers: Mapping[str, list[str]], cap: int) -> None:
    for value in headers.get("content-length", []):
        if not value.isascii() or not value.isdigit():
            raise ApiError(400, "InvalidHeaderValue", "Content-Length is not a number.")
        if int(value) > cap:
            raise _too_large(cap)


def _too_large(cap: int) -> ApiError:
    return ApiError(413, "RequestBodyTooLarge", f"The request body is larger than {cap} bytes.")


def _capped(receive: Receive, cap: int) -> Receive:
    taken = 0
    over = False
    end = time.monotonic() + (_JSON_S if cap <= MAX_JSON_BYTES else float("inf"))

    async def capped() -> Message:
        nonlocal taken, over
        if over:  # waits for the client to go away, which may take as long as it likes
            return await receive()
        try:
            async with asyncio.timeout(min(_SILENCE_S, end - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise ApiError(408, "OperationTimedOut", "The request's body stopped coming.") from None
        over = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > cap:
            raise _too_large(cap)
        return message

    return capped


def _stamped(send: Send, request_id: str, asked: Mapping[str, list[str]], path: str) -> Send:
    extra = {
        "x-ms-request-id": request_id,
        "x-ms-correlation-request-id": request_id,
        "x-content-type-options": "nosniff",
    }
    if is_openai_path(path):
        extra |= {"apim-request-id": request_id, "x-request-id": request_id}
    for name in asked.get("x-ms-client-request-id", [])[:1]:
        extra["x-ms-client-request-id"] = name[:128]

    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (k.encode(), v.encode("latin-1"))
                    for k, v in extra.items()
                    if k.encode() not in there
                ),
            ]
        await send(message)

    return stamped


def allowed_hosts(port: int, host: str) -> frozenset[str]:
    """Return the Host values of the plain port: loopback names, and the one it listens on."""
    own = f"[{host}]" if ":" in host and not host.startswith("[") else host
    names = hosts.LOOPBACK_HOSTS | {own.lower()}
    bare = names if port in (80, 443) else frozenset()
    return frozenset(f"{name}:{port}" for name in names) | bare
