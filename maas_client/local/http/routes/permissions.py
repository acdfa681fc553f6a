"""Rights and quota as ARM tells them: everybody may do everything here, and the machine is the quota."""

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
from maas_client.wire.op import Op

_READ = 200


def permissions(call: RequestContext) -> dict[str, Any]:
    """GET what the caller may do: whoever is let in may do all."""
    everything = {"actions": ["*"], "notActions": [], "dataActions": ["*"], "notDataActions": []}
    return {"value": [everything], "nextLink": None}


def cores(call: RequestContext) -> dict[str, Any]:
    """GET the cores: those that this server may use, and how many its running job uses."""
    services = call.services
    mine = services.config.threads
    used = min(mine, services.scheduler.cores_in_use())
    where = call.path_params["location"]
    return {
        "value": [
            {
                "id": f"{call.request.url.path}/localCores",
                "amlWorkspaceLocation": where,
                "type": "Microsoft.MachineLearningServices/usages",
                "unit": "Count",
                "currentValue": used,
                "limit": mine,
                "name": {"value": "localCores", "localizedValue": "Cores of this machine"},
            }
        ],
        "nextLink": None,
    }


def capacity(call: RequestContext) -> dict[str, Any]:
    """GET what deployments of each model take, of what they may."""
    taken: Counter[str] = Counter()
    before: int | None = None
    while facts := call.services.deployments.list_page(FOUNDRY_SCOPE, before, _READ):
        before = facts[-1].seq
        for fact in facts:
            request = fact.body["request"]
            base = str(request["properties"]["model"]["name"]).partition(".ft-")[0]
            taken[base.casefold()] += int((request.get("sku") or {}).get("capacity") or 1)
    return {"value": [_usage(name, taken[name.casefold()]) for name in catalog_models()],
            "nextLink": None}  # fmt: skip


def _usage(model: str, used: int) -> dict[str, Any]:
    name = quota_name(model)
    return {
        "name": {"value": name, "localizedValue": name},
        "currentValue": used,
        "limit": MAX_CAPACITY,
        "unit": "Count",
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.WORKSPACE_PERMISSIONS: permissions,
    ops.ACCOUNT_PERMISSIONS: permissions,
    ops.CORE_USAGES: cores,
    ops.CAPACITY_USAGES: capacity,
}
