"""Permissions and quotas on ARM: every caller may do everything, and the quota is this machine."""

from __future__ import annotations

from collections import Counter
from typing import Any

from maas_client.catalog import load_models as catalog_models
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.foundry_deployments import (
    MAX_CAPACITY,
    quota_name,
)
from maas_client.wire import permissions as ops
from maas_client.wire.operation import Operation

_BATCH_SIZE = 200


def list_permissions(context: RequestContext) -> dict[str, Any]:
    """GET what the caller may do: everything."""
    all_actions = {"actions": ["*"], "notActions": [], "dataActions": ["*"], "notDataActions": []}
    return {"value": [all_actions], "nextLink": None}


def list_core_usage(context: RequestContext) -> dict[str, Any]:
    """GET the cores that this server may use, and how many its running jobs use."""
    services = context.services
    limit = services.config.process_threads
    used = min(limit, services.scheduler.cores_in_use())
    location = context.path_params["location"]
    return {
        "value": [
            {
                "id": f"{context.request.url.path}/localCores",
                "amlWorkspaceLocation": location,
                "type": "Microsoft.MachineLearningServices/usages",
                "unit": "Count",
                "currentValue": used,
                "limit": limit,
                "name": {"value": "localCores", "localizedValue": "Cores of this machine"},
            }
        ],
        "nextLink": None,
    }


def list_capacity_usage(context: RequestContext) -> dict[str, Any]:
    """GET the capacity that deployments of each model use, and its limit."""
    used: Counter[str] = Counter()
    before: int | None = None
    while records := context.services.deployments.list_page(FOUNDRY_SCOPE, before, _BATCH_SIZE):
        before = records[-1].seq
        for record in records:
            request = record.body["request"]
            base = str(request["properties"]["model"]["name"]).partition(".ft-")[0]
            used[base.casefold()] += int((request.get("sku") or {}).get("capacity") or 1)
    return {"value": [_capacity_to_json(name, used[name.casefold()]) for name in catalog_models()],
            "nextLink": None}  # fmt: skip


def _capacity_to_json(model: str, used: int) -> dict[str, Any]:
    name = quota_name(model)
    return {
        "name": {"value": name, "localizedValue": name},
        "currentValue": used,
        "limit": MAX_CAPACITY,
        "unit": "Count",
    }


HANDLERS: dict[Operation[Any], Handler] = {
    ops.WORKSPACE_PERMISSIONS: list_permissions,
    ops.ACCOUNT_PERMISSIONS: list_permissions,
    ops.CORE_USAGES: list_core_usage,
    ops.CAPACITY_USAGES: list_capacity_usage,
}
