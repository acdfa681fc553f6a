"""Lists of subscriptions, resource groups and workspaces: those that requests have named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response  # noqa: TID253 - only the server imports this

from maas_client.local.config import TENANT_ID
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.arm import page_of
from maas_client.local.http.routes.workspace import workspace_to_json
from maas_client.local.resources.arm_resources import DEFAULT_SUBSCRIPTION
from maas_client.local.resources.assets import Workspace
from maas_client.wire import arm_service as ops
from maas_client.wire.operation import Operation


def list_named(
    context: RequestContext,
    kind: str,
    to_json: Callable[[str], dict[str, Any]],
    limit: str = "$top",
) -> dict[str, Any]:
    """Return one page of the resources of a kind below the request's subscription, group or account."""
    path = context.request.url.path
    parent = path.rpartition("/providers/")[0] or path.rpartition("/")[0]
    if "account" in context.path_params:
        parent = path.rpartition("/")[0]
    ids = context.services.arm_resources.list_ids(kind, parent)
    documents = [to_json(arm_id) for arm_id in ids]
    count = len(documents)
    return page_of(context, [(count - i, d) for i, d in enumerate(documents)], limit=limit)


def list_tenants(context: RequestContext) -> dict[str, Any]:
    """GET the tenants: one."""
    tenant = {
        "id": f"/tenants/{TENANT_ID}",
        "tenantId": TENANT_ID,
        "displayName": "maas-client local server",
        "tenantCategory": "Home",
    }
    return {"value": [tenant], "nextLink": None}


def list_subscriptions(context: RequestContext) -> dict[str, Any]:
    """GET the subscriptions that requests have named, or the default one."""
    ids = context.services.arm_resources.list_ids("subscription", "")
    names = [arm_id.rpartition("/")[2] for arm_id in ids] or [DEFAULT_SUBSCRIPTION]
    return {"value": [_subscription_to_json(name) for name in names], "nextLink": None}


def get_subscription(context: RequestContext) -> dict[str, Any]:
    """GET a subscription: any exists."""
    return _subscription_to_json(context.path_params["subscription"])


def _subscription_to_json(name: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{name}",
        "authorizationSource": "RoleBased",
        "subscriptionId": name,
        "tenantId": TENANT_ID,
        "displayName": "maas-client local server",
        "state": "Enabled",
        "subscriptionPolicies": {"spendingLimit": "Off"},
        "managedByTenants": [],
    }


def list_locations(context: RequestContext) -> dict[str, Any]:
    """GET the regions: the one that this server reports."""
    region = context.urls.region
    location = {
        "id": f"{context.request.url.path}/{region}",
        "name": region,
        "type": "Region",
        "displayName": region,
        "regionalDisplayName": region,
        "metadata": {"regionType": "Physical"},
    }
    return {"value": [location], "nextLink": None}


@accepts(query=("$top", "$skip"))
def list_groups(context: RequestContext) -> dict[str, Any]:
    """GET the resource groups of a subscription that requests have named."""
    return list_named(context, "resource_group", lambda arm_id: _group_to_json(context, arm_id))


def get_group(context: RequestContext) -> dict[str, Any]:
    """GET a resource group: any exists."""
    return _group_to_json(context, context.request.url.path)


def _group_to_json(context: RequestContext, arm_id: str) -> dict[str, Any]:
    return {
        "id": arm_id,
        "name": arm_id.rpartition("/")[2],
        "type": "Microsoft.Resources/resourceGroups",
        "location": context.urls.region,
        "tags": {},
        "properties": {"provisioningState": "Succeeded"},
    }


def head_group(context: RequestContext) -> Response:
    """HEAD a resource group: any exists."""
    return Response(None, 204)


@accepts(query=("$skip", "kind"))
def list_workspaces(context: RequestContext) -> dict[str, Any]:
    """GET the workspaces of a subscription or resource group that requests have named."""

    def to_json(arm_id: str) -> dict[str, Any]:
        parts = arm_id.split("/")
        return workspace_to_json(context, Workspace(parts[2], parts[4], parts[-1]))

    page = list_named(context, "workspace", to_json)
    kinds = context.query_params.get("kind", "").casefold().split(",")
    if kinds != [""]:
        page["value"] = [w for w in page["value"] if w["kind"].casefold() in kinds]
    return page


HANDLERS: dict[Operation[Any], Handler] = {
    ops.TENANTS: list_tenants,
    ops.SUBSCRIPTIONS: list_subscriptions,
    ops.SUBSCRIPTION: get_subscription,
    ops.LOCATIONS: list_locations,
    ops.GROUPS: list_groups,
    ops.GROUP: get_group,
    ops.GROUP_HEAD: head_group,
    ops.WORKSPACES: list_workspaces,
    ops.GROUP_WORKSPACES: list_workspaces,
}
