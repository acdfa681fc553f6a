"""The account and its deployments on ARM (docs/azure-http.md section 4.6). Any account name exists."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.catalog import load_models as catalog_models
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import ENVELOPE, accepts, check_tags, stored_properties
from maas_client.local.http.routes.arm import check_sku, list_page, system_data
from maas_client.local.http.routes.permissions import list_capacity_usage
from maas_client.local.http.routes.subscriptions import list_named
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.foundry_deployments import (
    MAX_CAPACITY,
    base_version,
    check_request,
    offered_skus,
    provider_format,
    put_deployment,
    quota_name,
)
from maas_client.local.state.store import Record
from maas_client.wire import arm_service as service_ops
from maas_client.wire import foundry as ops
from maas_client.wire.operation import Operation, expand_path

_TYPE = "Microsoft.CognitiveServices/accounts"
_CREATED = "2026-01-01T00:00:00Z"


def _account_id(context: RequestContext) -> str:
    params = context.path_params
    return (
        f"/subscriptions/{params['subscription']}/resourceGroups/{params['resource_group']}"
        f"/providers/{_TYPE}/{params['account']}"
    )


def get_account(context: RequestContext) -> dict[str, Any]:
    """GET the account: any account exists."""
    return _account_to_json(context, _account_id(context))


@accepts(query=("$skip",))
def list_accounts(context: RequestContext) -> dict[str, Any]:
    """GET the accounts of a subscription or resource group that requests have named."""
    return list_named(context, "account", lambda arm_id: _account_to_json(context, arm_id))


def list_deleted_accounts(context: RequestContext) -> dict[str, Any]:
    """GET the deleted accounts: none, because accounts cannot be deleted here."""
    return {"value": [], "nextLink": None}


def _account_to_json(context: RequestContext, arm_id: str) -> dict[str, Any]:
    name = arm_id.rpartition("/")[2]
    base = f"https://{name}.openai.azure.com/" if context.urls.is_tunnel else f"{context.urls.arm}/"
    return {
        "id": arm_id,
        "name": name,
        "type": _TYPE,
        "kind": "AIServices",
        "location": context.urls.region,
        "sku": {"name": "S0"},
        "tags": {},
        "properties": {
            "provisioningState": "Succeeded",
            "customSubDomainName": name,
            "endpoint": base,
            "endpoints": {"OpenAI Language Model Instance API": base},
        },
        "systemData": system_data(_CREATED),
    }


def list_account_skus(context: RequestContext) -> dict[str, Any]:
    """GET the SKUs that the account can change to: its own."""
    return {"value": [{"resourceType": "accounts", "sku": {"name": "S0", "tier": "Standard"}}],
            "nextLink": None}  # fmt: skip


def list_skus_of_accounts(context: RequestContext) -> dict[str, Any]:
    """GET the SKUs that accounts can have: one, in this server's region."""
    region = context.urls.region
    sku = {
        "resourceType": "accounts",
        "name": "S0",
        "tier": "Standard",
        "kind": "AIServices",
        "locations": [region],
        "restrictions": [],
    }
    return {"value": [sku], "nextLink": None}


@accepts(query=("$skip",))
def list_projects(context: RequestContext) -> dict[str, Any]:
    """GET the projects of the account that requests have named."""
    return list_named(context, "project", lambda arm_id: _project_to_json(context, arm_id))


def get_project(context: RequestContext) -> dict[str, Any]:
    """GET a project: any project exists."""
    arm_id = f"{_account_id(context)}/projects/{context.path_params['project']}"
    return _project_to_json(context, arm_id)


def _project_to_json(context: RequestContext, arm_id: str) -> dict[str, Any]:
    account, project = arm_id.split("/")[-3], arm_id.split("/")[-1]
    host = (
        f"https://{account}.services.ai.azure.com" if context.urls.is_tunnel else context.urls.arm
    )
    return {
        "id": arm_id,
        "name": f"{account}/{project}",
        "type": f"{_TYPE}/projects",
        "location": context.urls.region,
        "identity": {"type": "SystemAssigned"},
        "tags": {},
        "properties": {
            "displayName": project,
            "provisioningState": "Succeeded",
            "endpoints": {"AI Foundry API": f"{host}/api/projects/{project}"},
        },
        "systemData": system_data(_CREATED),
    }


def list_location_models(context: RequestContext) -> dict[str, Any]:
    """GET the models that accounts in a region can deploy."""
    models = [
        {"kind": "AIServices", "skuName": "S0", "model": _model_to_json(name)}
        for name in catalog_models()
    ]
    return {"value": models, "nextLink": None}


def list_keys(context: RequestContext) -> dict[str, Any]:
    """POST listKeys: keys that this server accepts."""
    return {f"key{n}": account_key(context, context.path_params["account"], n) for n in (1, 2)}


def account_key(context: RequestContext, account: str, number: int) -> str:
    """Return key 1 or 2 of an account."""
    message = f"{account.casefold()}/key{number}".encode()
    derived = hmac.new(context.services.secret, message, hashlib.sha256).hexdigest()
    return context.services.config.api_key or derived


def list_models(context: RequestContext) -> dict[str, Any]:
    """GET the models that the account can deploy."""
    return {"value": [_model_to_json(name) for name in catalog_models()], "nextLink": None}


def _model_to_json(name: str) -> dict[str, Any]:
    sku = {"name": "GlobalStandard", "usageName": quota_name(name),
           "capacity": {"minimum": 1, "maximum": MAX_CAPACITY, "default": 100}}  # fmt: skip
    return {
        "format": provider_format(name),
        "name": name,
        "version": base_version(name),
        "lifecycleStatus": "GenerallyAvailable",
        "isDefaultVersion": True,
        "skus": [sku],
        "capabilities": {"chatCompletion": "true"},
        "systemData": system_data(_CREATED),
    }


_PROPERTIES = ("model", "raiPolicyName", "versionUpgradeOption")
_SKU_MEMBERS = ("name", "capacity")
_READ_ONLY = (
    "provisioningState", "capabilities", "callRateLimit", "rateLimits", "dynamicThrottlingEnabled",
)  # fmt: skip


@accepts(fields=(*ENVELOPE, "sku", "tags", "etag"))
def create_deployment(context: RequestContext) -> Response:
    """PUT a deployment: 201 with ``Azure-AsyncOperation``, or 200 when the same deployment exists."""
    properties = stored_properties(
        context.op,
        context.json.get("properties"),
        "properties",
        stored_names=_PROPERTIES,
        read_only=_READ_ONLY,
    )
    if isinstance(model := properties.get("model"), dict):
        stored_properties(
            context.op, model, "properties.model",
            stored_names=("format", "name", "version", "publisher", "source"),
            read_only=("callRateLimit",),
        )  # fmt: skip
    check_request(context.services.store, context.json)
    check_sku(context, _SKU_MEMBERS)
    check_tags(context.json.get("tags") or {})
    record, operation = put_deployment(
        context.services.deployments, context.path_params["deployment"], context.json
    )
    if operation is None:
        context.services.auto_delete.check_now()
        return JSONResponse(_deployment_to_json(context, record), 200)
    context.services.provision(FOUNDRY_SCOPE, record.key)
    body = _deployment_to_json(context, record)
    body["properties"]["provisioningState"] = "Creating"
    return JSONResponse(
        body, 201, {"Azure-AsyncOperation": _operation_url(context, operation), "Retry-After": "1"}
    )


def _operation_url(context: RequestContext, operation_id: str) -> str:
    values = {
        "subscription": context.path_params["subscription"],
        "location": context.services.config.region,
        "operation": operation_id,
    }
    path = expand_path(ops.OPERATION_RESULT.path, values)
    version = context.query_params.get("api-version", ops.ARM_API_VERSION)
    return f"{context.urls.arm}{path}?api-version={version}"


def _find(context: RequestContext) -> Record:
    return context.services.deployments.get(FOUNDRY_SCOPE, context.path_params["deployment"])


def get_deployment(context: RequestContext) -> dict[str, Any]:
    """GET one deployment."""
    return _deployment_to_json(context, _find(context))


@accepts(query=("$skip",))
def list_deployments(context: RequestContext) -> dict[str, Any]:
    """GET all deployments."""
    return list_page(
        context,
        lambda before, limit: context.services.deployments.list_page(FOUNDRY_SCOPE, before, limit),
        lambda record: _deployment_to_json(context, record),
    )


@accepts(fields=("tags", "sku"))
def patch_deployment(context: RequestContext) -> dict[str, Any]:
    """PATCH tags and sku."""
    check_tags(context.json.get("tags", {}))
    check_sku(context, _SKU_MEMBERS)
    record = context.services.deployments.patch(
        FOUNDRY_SCOPE, context.path_params["deployment"], context.json
    )
    context.services.auto_delete.check_now()
    return _deployment_to_json(context, record)


def delete_deployment(context: RequestContext) -> Response:
    """DELETE: 202 with a Location, 204 when there is none."""
    deleted = context.services.deployments.delete(FOUNDRY_SCOPE, context.path_params["deployment"])
    if deleted is None:
        return Response(None, 204)
    record, operation = deleted
    context.services.unload_unused(record)
    return Response(None, 202, {"Location": _operation_url(context, operation), "Retry-After": "1"})


def list_skus(context: RequestContext) -> dict[str, Any]:
    """GET the SKUs that a deployment can use."""
    model = _find(context).body["request"]["properties"]["model"]["name"]
    capacity = {"minimum": 1, "maximum": MAX_CAPACITY, "step": 1, "default": 100}
    return {
        "value": [
            {"resourceType": f"{_TYPE}/deployments", "sku": {"name": name}, "capacity": capacity}
            for name in offered_skus(model.partition(":ckpt-step-")[0])
        ],
        "nextLink": None,
    }


def get_operation(context: RequestContext) -> dict[str, Any]:
    """GET the URL in ``Azure-AsyncOperation`` or ``Location``.

    ARM reports a deployment as created before its model is loaded; until then chat fails with
    DeploymentNotReady.
    """
    operation_record = context.services.deployments.get_operation(context.path_params["operation"])
    body = {
        "id": context.request.url.path,
        "name": operation_record.key,
        "status": "Failed" if operation_record.state == "Failed" else "Succeeded",
        "startTime": operation_record.body["started"],
    }
    return body | (
        {"error": operation_record.body["error"]} if "error" in operation_record.body else {}
    )


def _etag(*parts: Any) -> str:
    """Return an etag that changes with the deployment."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f'"{digest[:32]}"'


def _deployment_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    body = record.body
    request, tags = body["request"], context.services.tags_of(record)
    return {
        **{k: v for k, v in request.items() if k != "properties"},
        "id": f"{_account_id(context)}/deployments/{body['name']}",
        "name": body["name"],
        "type": f"{_TYPE}/deployments",
        "sku": request.get("sku") or {"name": "GlobalStandard", "capacity": 1},
        "tags": tags,
        "etag": _etag(body["operation"], request, tags),
        "properties": {
            "raiPolicyName": "Microsoft.DefaultV2",
            "versionUpgradeOption": "OnceNewDefaultVersionAvailable",
            **request["properties"],
            "capabilities": {"chatCompletion": "true"},
            "provisioningState": "Failed" if record.state == "Failed" else "Succeeded",
        },
        "systemData": system_data(body["created"]),
    }


HANDLERS: dict[Operation[Any], Handler] = {
    ops.ACCOUNT_GET: get_account,
    ops.ACCOUNT_KEYS: list_keys,
    ops.ACCOUNT_MODELS: list_models,
    ops.DEPLOYMENT_CREATE: create_deployment,
    ops.DEPLOYMENT_PATCH: patch_deployment,
    ops.DEPLOYMENT_GET: get_deployment,
    ops.DEPLOYMENT_LIST: list_deployments,
    ops.DEPLOYMENT_SKUS: list_skus,
    ops.DEPLOYMENT_DELETE: delete_deployment,
    ops.OPERATION_RESULT: get_operation,
    service_ops.ACCOUNTS: list_accounts,
    service_ops.GROUP_ACCOUNTS: list_accounts,
    service_ops.DELETED_ACCOUNTS: list_deleted_accounts,
    service_ops.ACCOUNT_SKUS: list_account_skus,
    service_ops.ACCOUNT_USAGES: list_capacity_usage,
    service_ops.SKUS: list_skus_of_accounts,
    service_ops.LOCATION_MODELS: list_location_models,
    service_ops.PROJECTS: list_projects,
    service_ops.PROJECT: get_project,
}
