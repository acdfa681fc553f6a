"""Who the client is signed in as: read from the ARM token, which is not kept."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from maas_client.flows.access import Identity, decode_claims, get_identity
from maas_client.wire.operation import Plane


def make_token(claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{body}.signature"


class FakeIO:
    cloud_name = "usgov"

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def token(self, plane: Plane) -> str | None:
        assert plane is Plane.ARM
        return self._token


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"upn": "ann@contoso.com", "appid": "a", "tid": "t"}, Identity("ann@contoso.com", "t", "usgov")),
        ({"appid": "a"}, Identity("a", None, "usgov")),
        ({}, Identity(None, None, "usgov")),
    ],
)  # fmt: skip
async def test_identity_from_the_token(claims: dict[str, str], expected: Identity) -> None:
    assert await get_identity(FakeIO(make_token(claims))) == expected  # type: ignore[arg-type]


async def test_no_identity_without_sign_in() -> None:
    assert await get_identity(FakeIO(None)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["", "opaque", "a.!!!.c", make_token(["no", "object"])])
def test_tokens_without_claims(token: str) -> None:
    assert decode_claims(token) == {}
