"""Looking up what one may do, and how much is left, before anything is paid for. Reads only."""

from __future__ import annotations

from typing import Any

from maas_client.flows import _pages
from maas_client.flows._io import IO
from maas_client.wire import foundry
from maas_client.wire import permissions as ops
from maas_client.wire.op import Op
from maas_client.wire.permissions import Permission, Usage


async def list_permissions(io: IO) -> list[Permission]:
    """Return what the caller may do with the workspace, or with the account of a Foundry resource."""
    op = ops.ACCOUNT_PERMISSIONS if io.scope.dialect == "foundry" else ops.WORKSPACE_PERMISSIONS
    return [Permission.model_validate(item) async for item in _pages.list_items(io, op)]


async def core_quota(io: IO, location: str) -> list[Usage]:
    """Return the dedicated cores of a region, family by family, as Machine Learning counts them."""
    return await _usages(io, ops.CORE_USAGES, location)


async def account_location(io: IO) -> str:
    """Return the region of the Foundry resource."""
    return str((await io.send(foundry.ACCOUNT_GET)).value.get("location") or "")


async def capacity_quota(io: IO, location: str) -> list[Usage]:
    """Return the quota of a region's models, in the units that deployments are sized in."""
    return await _usages(io, ops.CAPACITY_USAGES, location)


async def quota_names(io: IO, model: str) -> set[str]:
    """Return which of those quotas a deployment of ``model`` takes from, as its account says."""
    found: set[str] = set()
    async for item in _pages.list_items(io, foundry.ACCOUNT_MODELS):
        if str(item.get("name", "")).casefold() == model.casefold():
            skus: list[dict[str, Any]] = item.get("skus") or []
            found |= {str(sku["usageName"]) for sku in skus if sku.get("usageName")}
    return found


async def _usages(io: IO, op: Op[Any], location: str) -> list[Usage]:
    return [
        Usage.model_validate(item) async for item in _pages.list_items(io, op, location=location)
    ]
