"""Access tokens that this server signs (JWT, HS256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from typing import Any

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
