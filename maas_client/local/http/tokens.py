"""Credentials that this server signs: access tokens (JWT, HS256) and shared access signatures (SAS)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

TOKEN_LIFETIME_S = 3599
_OBJECT_ID_NAMESPACE = uuid.UUID("0f4a6c9e-1d7b-4a3f-8f43-5a0c3c2f9b11")


def issue(secret: bytes, tenant: str, client_id: str, audience: str) -> str:
    """Return a token for ``audience`` that expires after ``TOKEN_LIFETIME_S``."""
    now = int(time.time())
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


def is_valid(secret: bytes, token: str) -> bool:
    """Return whether this server signed the token and it has not expired."""
    body, _, signature = token.rpartition(".")
    if not body or not hmac.compare_digest(signature.encode(), _signature(secret, body).encode()):
        return False
    payload = body.partition(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return bool(claims["exp"] > time.time())


def _encode_json(value: dict[str, Any]) -> str:
    return _encode_base64url(json.dumps(value, separators=(",", ":")).encode())


def _signature(secret: bytes, body: str) -> str:
    return _encode_base64url(hmac.new(b"token:" + secret, body.encode(), hashlib.sha256).digest())


def _encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def make_sas(secret: bytes, container: str, hours: float, permissions: str = "racwdl") -> str:
    """Return a SAS for a container, signed by this server and valid for ``hours``."""
    expires = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"sv": "2024-11-04", "sr": "c", "sp": permissions, "se": expires}
    return urlencode({**fields, "sig": _sas_signature(secret, container, fields)})


def sas_problem(
    secret: bytes, container: str, query: Mapping[str, str], *, verify_signature: bool
) -> str | None:
    """Return what is wrong with a SAS, or None; ``verify_signature`` accepts this server's SAS only."""
    if not query.get("sig"):
        return "no signature"
    expires = query.get("se")
    if (
        expires
        and (expires_at := _parse_time(expires)) is not None
        and expires_at < datetime.now(UTC)
    ):
        return "Signature not valid in the specified time frame"
    fields = {k: query.get(k, "") for k in ("sv", "sr", "sp", "se")}
    if verify_signature and not hmac.compare_digest(
        query["sig"], _sas_signature(secret, container, fields)
    ):
        return "Signature did not match"
    return None


def _sas_signature(secret: bytes, container: str, fields: Mapping[str, str]) -> str:
    text = "\n".join([container, *(fields[k] for k in sorted(fields))])
    return base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()


def _parse_time(text: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
