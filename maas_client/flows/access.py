"""Who the client is signed in as, what it may do, and a region's quota, for ``maas-client doctor``.

Everything is read before anything costs money. Nothing is changed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from maas_client.flows import _arm
from maas_client.flows._io import IO
from maas_client.flows._requests import is_foundry
from maas_client.wire import foundry
from maas_client.wire import permissions as ops
from maas_client.wire.operation import Operation, Plane
from maas_client.wire.parsing import parse_item, translate_parse_errors
from maas_client.wire.permissions import Permission, Usage

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
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


async def list_permissions(io: IO) -> list[Permission]:
    """Return what the caller may do with the workspace, or with the account of a Foundry resource."""
    op = ops.ACCOUNT_PERMISSIONS if is_foundry(io) else ops.WORKSPACE_PERMISSIONS
    return [parse_item(op, Permission, item) async for item in _arm.list_items(io, op)]


async def core_quota(io: IO, location: str) -> list[Usage]:
    """Return a region's dedicated cores by machine family, as Azure Machine Learning counts them."""
    return await _list_usages(io, ops.CORE_USAGES, location)


async def account_location(io: IO) -> str:
    """Return the region of the Foundry resource."""
    return str((await io.send(foundry.ACCOUNT_GET)).value.get("location") or "")


async def capacity_quota(io: IO, location: str) -> list[Usage]:
    """Return a region's quota by model, in the units in which deployments are sized."""
    return await _list_usages(io, ops.CAPACITY_USAGES, location)


async def quota_names(io: IO, model: str) -> set[str]:
    """Return the names of the quotas that a deployment of ``model`` uses, according to its account."""
    names: set[str] = set()
    async for item in _arm.list_items(io, foundry.ACCOUNT_MODELS):
        if str(item.get("name", "")).casefold() == model.casefold():
            names |= _usage_names(item)
    return names


@translate_parse_errors("accounts.models")
def _usage_names(item: dict[str, Any]) -> set[str]:
    skus: list[dict[str, Any]] = item.get("skus") or []
    return {str(sku["usageName"]) for sku in skus if sku.get("usageName")}


async def _list_usages(io: IO, op: Operation[Any], location: str) -> list[Usage]:
    return [
        parse_item(op, Usage, item) async for item in _arm.list_items(io, op, location=location)
    ]
