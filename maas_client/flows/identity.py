"""Who the client is signed in as, for ``maas-client doctor``."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from maas_client.flows._io import IO
from maas_client.wire.op import Plane

_NAME_CLAIMS = ("upn", "unique_name", "app_displayname", "appid", "oid")


@dataclass(frozen=True, slots=True)
class Identity:
    """The signed-in identity, as its ARM token describes it. The token itself is not kept."""

    name: str | None
    """User or application; None if the token does not say."""
    tenant: str | None
    cloud: str
    """``public``, ``usgov`` or ``china``."""


async def get_identity(io: IO) -> Identity | None:
    """Sign in to ARM and return the identity; None for a client that only has an API key.

    Raises ``AuthError`` if the sign-in fails.
    """
    token = await io.token(Plane.ARM)
    if token is None:
        return None
    claims = decode_claims(token)
    name = next((str(claims[key]) for key in _NAME_CLAIMS if key in claims), None)
    tenant = claims.get("tid")
    return Identity(name, str(tenant) if tenant else None, io.cloud_name)


def decode_claims(token: str) -> dict[str, object]:
    """Return the claims of a JSON web token; an empty dictionary for any other token."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
