"""Checks that every request must pass before a handler sees it, and headers of every response.

In order: the Host header names a host of this connection (prevents DNS rebinding); the request was not sent
by another web page (prevents CSRF; no CORS headers are ever sent); it carries a credential; its body is no
larger than the path permits and does not arrive too slowly. Every response carries request ids. As
middleware, this applies to every route, including those added later. The access tokens of the simulated login
are signed and checked here as well (JWT, HS256).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response  # noqa: TID253 - only the server imports this module
from starlette.types import (  # noqa: TID253 - as above
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
)

from maas_client._clock import unix_time
from maas_client.local.config import TENANT_ID
from maas_client.local.http import hosts, sas
from maas_client.local.http.error_responses import (
    error_response,
    is_blob_path,
    is_login_path,
    is_openai_path,
)
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_files import MAX_FILE_BYTES, MAX_PART_BYTES

TOKEN_LIFETIME_S = 3599
_OBJECT_ID_NAMESPACE = uuid.UUID("0f4a6c9e-1d7b-4a3f-8f43-5a0c3c2f9b11")


def issue_token(secret: bytes, tenant: str, client_id: str, audience: str) -> str:
    """Return a token for ``audience`` that expires after ``TOKEN_LIFETIME_S``."""
    now = int(unix_time())
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant}/",
        "iat": now,
        "nbf": now,
        "exp": now + TOKEN_LIFETIME_S,
        "appid": client_id,
        "tid": tenant,
        "oid": str(uuid.uuid5(_OBJECT_ID_NAMESPACE, client_id)),
        "sub": str(uuid.uuid5(_OBJECT_ID_NAMESPACE, client_id)),
        "ver": "1.0",
    }
    header = _encode_json({"typ": "JWT", "alg": "HS256"})
    body = f"{header}.{_encode_json(claims)}"
    return f"{body}.{_signature(secret, body)}"


def is_valid_token(secret: bytes, token: str) -> bool:
    """Return whether this server signed the token and it has not expired."""
    body, _, signature = token.rpartition(".")
    if not body or not hmac.compare_digest(signature.encode(), _signature(secret, body).encode()):
        return False
    payload = body.partition(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return bool(claims["exp"] > unix_time())


def _encode_json(value: dict[str, Any]) -> str:
    return _encode_base64url(json.dumps(value, separators=(",", ":")).encode())


def _signature(secret: bytes, body: str) -> str:
    return _encode_base64url(hmac.new(b"token:" + secret, body.encode(), hashlib.sha256).digest())


def _encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


PUBLIC_PATHS = frozenset({"/discovery", "/metadata/endpoints"})
"""Paths that Azure, too, serves without a credential, as it does those of the login."""

MAX_JSON_BYTES = 8 << 20
MAX_BLOB_BYTES = 5 << 30
_FORM_OVERHEAD_BYTES = 1 << 20
"""What a multipart form may add to its file."""
_BODY_IDLE_TIMEOUT_S = 60.0
"""How long the next part of a body may take to arrive."""
_JSON_BODY_TIMEOUT_S = 120.0
"""How long a body other than a file may take in total."""


@dataclass(frozen=True, slots=True)
class SecurityPolicy:
    """Which hosts and credentials are accepted."""

    allowed_hosts: frozenset[str] | None
    """``name:port`` in lower case; None accepts any host (a server with a key, beyond loopback)."""
    api_key: str | None
    secret: bytes
    """Signs SAS tokens."""
    endpoint_keys: Callable[[str], list[str]] = lambda label: []
    """Returns the keys of the endpoint with a label."""


class SecurityMiddleware:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, policy: SecurityPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request_id = str(uuid.uuid4())
        scope["maas.request_id"] = request_id
        headers = read_headers(scope)
        added = _response_headers(request_id, headers, scope["path"])
        send_with_headers = add_headers(send, added)
        try:
            self._check_host(scope, headers)
            hosts.rewrite_tunnel_path(scope)
            self.check_origin(scope, headers)
            self.check_credential(scope, headers)
            max_bytes = _max_body_bytes(scope["path"])
            _check_length(headers, max_bytes)
        except ApiError as error:
            await self.refuse(error, scope)(scope, receive, send_with_headers)
            return
        await self._app(scope, _limit_body(receive, max_bytes), send_with_headers)

    def _check_host(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        host_values = [value.lower() for value in headers.get("host", [])]
        authority = scope.get(hosts.TUNNEL_AUTHORITY)
        if authority is not None:
            allowed = {authority.lower(), authority.lower().removesuffix(":443")}
        elif self._policy.allowed_hosts is None:
            return
        else:
            allowed = set(self._policy.allowed_hosts)
        if len(host_values) != 1 or host_values[0] not in allowed:
            raise ApiError(421, "MisdirectedRequest", "This server does not answer for that host.")

    def check_origin(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        """Raise ``ApiError`` (403) for a request that another web page sent."""
        fetch_sites = headers.get("sec-fetch-site", ["none"])
        scheme = "https" if hosts.TUNNEL_AUTHORITY in scope else scope.get("scheme", "http")
        server_origin = f"{scheme}://{headers.get('host', [''])[0]}".lower()
        if any(value.lower() not in ("same-origin", "none") for value in fetch_sites) or any(
            value.lower() != server_origin for value in headers.get("origin", [])
        ):
            raise ApiError(
                403, "CrossOriginRequest", "Requests from other web pages are not allowed."
            )

    @staticmethod
    def is_public(path: str) -> bool:
        """Return whether Azure, too, serves a path without a credential."""
        return path.lower() in PUBLIC_PATHS or is_login_path(path)

    def refuse(self, error: ApiError, scope: Scope) -> Response:
        """Return the response to a request that does not pass the checks."""
        return error_response(error, scope["path"], scope["maas.request_id"])

    def check_credential(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        """Raise ``ApiError`` (401 or 403) unless the request carries a credential that its path accepts."""
        path = scope["path"]
        if self.is_public(path):
            return
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if "sig" in query and is_blob_path(path):
            scope[sas.SCOPE_KEY] = sas.check_sas(
                self._policy.secret,
                [*path.split("/"), ""][2],
                query,
                scheme="https" if hosts.TUNNEL_AUTHORITY in scope else scope.get("scheme", "http"),
                client_host=(scope.get("client") or ("",))[0],
                accepts_account_keys=self._policy.api_key is None,
            )
            return
        credentials = _credentials(headers)
        if not credentials:
            raise ApiError(
                401, "AuthenticationFailed",
                "The request has no credential. Send Authorization, api-key or a SAS.",
                headers={"WWW-Authenticate": _challenge(path, "missing credential")},
            )  # fmt: skip
        endpoint = re.match(r"/serverless/([^/]+)", path, re.IGNORECASE)
        accepted_keys = self._policy.endpoint_keys(endpoint[1]) if endpoint else []
        if self._policy.api_key is not None:
            accepted_keys = [*accepted_keys, self._policy.api_key]
        if not accepted_keys:  # any credential will do; an endpoint that does not exist is a 404
            return
        if any(
            hmac.compare_digest(s.encode(), key.encode())
            for s in credentials
            for key in accepted_keys
        ):
            return
        if not any(is_valid_token(self._policy.secret, s) for s in credentials):
            if endpoint:
                of = f"endpoint {endpoint[1]}"
                advice = f"Its keys: maas-client deployments keys {endpoint[1]} --show"
            else:
                of, advice = "this server", "Its key is in server.json, in its state directory."
            raise ApiError(
                401, "InvalidAuthenticationToken",
                f"The credential is not a key of {of}, and no token that this server issued. {advice}",
                headers={"WWW-Authenticate": _challenge(path, "invalid_token")},
            )  # fmt: skip


def _challenge(path: str, error: str) -> str:
    """Return the header of a 401. ARM names the authority that issues tokens."""
    if not re.match(r"/(subscriptions|providers|tenants)(/|$)", path, re.IGNORECASE):
        return "Bearer"
    return (
        f'Bearer authorization_uri="https://login.microsoftonline.com/{TENANT_ID}", error="{error}"'
    )


def read_headers(scope: Scope) -> dict[str, list[str]]:
    """Return the values of each header, by its name in lower case."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _credentials(headers: Mapping[str, list[str]]) -> list[str]:
    """Return the credentials of a request, without the scheme."""
    tokens = [
        re.sub(r"(?i)^(bearer|sharedkey)\s*", "", value).strip()
        for value in headers.get("authorization", [])
    ]
    return [value for value in tokens + [k.strip() for k in headers.get("api-key", [])] if value]


def _max_body_bytes(path: str) -> int:
    if is_blob_path(path):
        return MAX_BLOB_BYTES
    if is_openai_path(path):
        if path.lower().endswith("/files"):
            return MAX_FILE_BYTES + _FORM_OVERHEAD_BYTES
        if path.lower().endswith("/parts"):
            return MAX_PART_BYTES + _FORM_OVERHEAD_BYTES
    return MAX_JSON_BYTES


def _check_length(headers: Mapping[str, list[str]], max_bytes: int) -> None:
    for value in headers.get("content-length", []):
        if not value.isascii() or not value.isdigit():
            raise ApiError(400, "InvalidHeaderValue", "Content-Length is not a number.")
        if int(value) > max_bytes:
            raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(
        413, "RequestBodyTooLarge", f"The request body is larger than {max_bytes} bytes."
    )


def _limit_body(receive: Receive, max_bytes: int) -> Receive:
    received = 0
    is_complete = False
    deadline = time.monotonic() + (
        _JSON_BODY_TIMEOUT_S if max_bytes <= MAX_JSON_BYTES else float("inf")
    )

    async def limited_receive() -> Message:
        nonlocal received, is_complete
        if is_complete:  # waits for the client to disconnect, without a time limit
            return await receive()
        try:
            async with asyncio.timeout(min(_BODY_IDLE_TIMEOUT_S, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise ApiError(
                408, "OperationTimedOut", "The request body did not arrive in time."
            ) from None
        is_complete = not message.get("more_body", False)
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return limited_receive


def _response_headers(
    request_id: str, request_headers: Mapping[str, list[str]], path: str
) -> dict[str, str]:
    headers = {
        "x-ms-request-id": request_id,
        "x-ms-correlation-request-id": request_id,
        "x-content-type-options": "nosniff",
    }
    if is_openai_path(path):
        headers |= {"apim-request-id": request_id, "x-request-id": request_id}
    for client_request_id in request_headers.get("x-ms-client-request-id", [])[:1]:
        headers["x-ms-client-request-id"] = client_request_id[:128]
    return headers


def add_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """Return a ``send`` that adds headers to the response, except those that it has."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (k.encode(), v.encode("latin-1"))
                    for k, v in headers.items()
                    if k.encode() not in present
                ),
            ]
        await send(message)

    return send_with_headers


def allowed_hosts(port: int, host: str) -> frozenset[str]:
    """Return the accepted values of Host without the proxy: loopback names and the bound host."""
    bind_host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    names = hosts.LOOPBACK_HOSTS | {bind_host.lower()}
    without_port = names if port in (80, 443) else frozenset()
    return frozenset(f"{name}:{port}" for name in names) | without_port
