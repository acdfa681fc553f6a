"""Read the caller's permissions and a region's quota, before anything costs money. Nothing is changed."""

from __future__ import annotations

from typing import Any

from maas_client.flows import _arm
from maas_client.flows._backend import is_foundry
from maas_client.flows._io import IO
from maas_client.wire import foundry
from maas_client.wire import permissions as ops
from maas_client.wire.op import Op
from maas_client.wire.parsing import checks_values, parse_item
from maas_client.wire.permissions import Permission, Usage


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


@checks_values("accounts.models")
def _usage_names(item: dict[str, Any]) -> set[str]:
    skus: list[dict[str, Any]] = item.get("skus") or []
    return {str(sku["usageName"]) for sku in skus if sku.get("usageName")}


async def _list_usages(io: IO, op: Op[Any], location: str) -> list[Usage]:
    return [
        parse_item(op, Usage, item) async for item in _arm.list_items(io, op, location=location)
    ]
