"""The account and its deployments on ARM (docs/azure-http.md section 4.6). Any account name exists."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.catalog import load_models as catalog_models
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.paging import list_page, system_data
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.foundry_deployments import (
    MAX_CAPACITY,
    SKUS,
    check_request,
    provider_format,
    put_deployment,
    quota_name,
)
from maas_client.local.state.store import Record
from maas_client.wire import foundry as ops
from maas_client.wire.op import Op, expand_path

_TYPE = "Microsoft.CognitiveServices/accounts"
_EPOCH = "2026-01-01T00:00:00Z"


def _account_id(call: RequestContext) -> str:
    at = call.path_params
    return (
        f"/subscriptions/{at['subscription']}/resourceGroups/{at['resource_group']}"
        f"/providers/{_TYPE}/{at['account']}"
    )


def account(call: RequestContext) -> dict[str, Any]:
    """GET the account."""
    name = call.path_params["account"]
    base = f"https://{name}.openai.azure.com/" if call.urls.is_tunnel else f"{call.urls.arm}/"
    return {
        "id": _account_id(call),
        "name": name,
        "type": _TYPE,
        "kind": "AIServices",
        "location": call.urls.region,
        "sku": {"name": "S0"},
        "tags": {},
        "properties": {
            "provisioningState": "Succeeded",
            "customSubDomainName": name,
            "endpoint": base,
            "endpoints": {"OpenAI Language Model Instance API": base},
        },
        "systemData": system_data(_EPOCH),
    }


def keys(call: RequestContext) -> dict[str, Any]:
    """POST listKeys: keys that this server takes."""
    given = call.services.config.api_key
    return {f"key{n}": given or _key(call, n) for n in (1, 2)}


def _key(call: RequestContext, number: int) -> str:
    said = f"{call.path_params['account'].casefold()}/key{number}".encode()
    return hmac.new(call.services.secret, said, hashlib.sha256).hexdigest()


def models(call: RequestContext) -> dict[str, Any]:
    """GET the models that the account could deploy."""
    return {"value": [_model(name) for name in catalog_models()], "nextLink": None}


def _model(name: str) -> dict[str, Any]:
    sku = {"name": "GlobalStandard", "usageName": quota_name(name),
           "capacity": {"minimum": 1, "maximum": MAX_CAPACITY, "default": 100}}  # fmt: skip
    return {
        "format": provider_format(name),
        "name": name,
        "version": "1",
        "lifecycleStatus": "GenerallyAvailable",
        "isDefaultVersion": True,
        "skus": [sku],
        "capabilities": {"chatCompletion": "true"},
        "systemData": system_data(_EPOCH),
    }


def put(call: RequestContext) -> Response:
    """PUT: 201 with ``Azure-AsyncOperation``, or 200 for the same deployment again."""
    check_request(call.json)
    fact, operation = put_deployment(
        call.services.deployments, call.path_params["deployment"], call.json
    )
    if operation is None:
        call.services.auto_delete.check_now()
        return JSONResponse(_document(call, fact), 200)
    call.services.provision(FOUNDRY_SCOPE, fact.key)
    shown = _document(call, fact)
    shown["properties"]["provisioningState"] = "Creating"
    return JSONResponse(
        shown, 201, {"Azure-AsyncOperation": _operation(call, operation), "Retry-After": "1"}
    )


def _operation(call: RequestContext, own: str) -> str:
    values = {
        "subscription": call.path_params["subscription"],
        "location": call.services.config.region,
        "operation": own,
    }
    path = expand_path(ops.OPERATION_RESULT.path, values)
    return f"{call.urls.arm}{path}?api-version={call.query_params.get('api-version', ops.ARM_API_VERSION)}"


def _find(call: RequestContext) -> Record:
    return call.services.deployments.get(FOUNDRY_SCOPE, call.path_params["deployment"])


def get(call: RequestContext) -> dict[str, Any]:
    """GET one."""
    return _document(call, _find(call))


def listing(call: RequestContext) -> dict[str, Any]:
    """GET all."""
    return list_page(
        call,
        lambda before, limit: call.services.deployments.list_page(FOUNDRY_SCOPE, before, limit),
        lambda fact: _document(call, fact),
    )


def patch(call: RequestContext) -> dict[str, Any]:
    """PATCH tags and sku."""
    for name in ("tags", "sku"):
        if name in call.json and not isinstance(call.json[name], dict):
            from maas_client.local.resources.errors import user_error

            raise user_error(f"{name}: must be an object", target=name)
    found = call.services.deployments.patch(
        FOUNDRY_SCOPE, call.path_params["deployment"], call.json
    )
    call.services.auto_delete.check_now()
    return _document(call, found)


def delete(call: RequestContext) -> Response:
    """DELETE: 202 with a Location, 204 when there was none."""
    gone = call.services.deployments.delete(FOUNDRY_SCOPE, call.path_params["deployment"])
    if gone is None:
        return Response(None, 204)
    fact, operation = gone
    call.services.unload_unused(fact)
    return Response(None, 202, {"Location": _operation(call, operation), "Retry-After": "1"})


def skus(call: RequestContext) -> dict[str, Any]:
    """GET what a deployment may be scaled to."""
    _find(call)
    room = {"minimum": 1, "maximum": MAX_CAPACITY, "step": 1, "default": 100}
    return {
        "value": [
            {"resourceType": f"{_TYPE}/deployments", "sku": {"name": name}, "capacity": room}
            for name in SKUS
        ],
        "nextLink": None,
    }


def operation(call: RequestContext) -> dict[str, Any]:
    """GET behind ``Azure-AsyncOperation`` and ``Location``.

    ARM calls a deployment made before its model is loaded: chat then says DeploymentNotReady.
    """
    found = call.services.deployments.get_operation(call.path_params["operation"])
    shown = {
        "id": call.request.url.path,
        "name": found.key,
        "status": "Failed" if found.state == "Failed" else "Succeeded",
        "startTime": found.body["started"],
    }
    return shown | ({"error": found.body["error"]} if "error" in found.body else {})


def _document(call: RequestContext, fact: Record) -> dict[str, Any]:
    body = fact.body
    sent = body["request"]
    tags = dict(sent.get("tags") or {})
    if call.services.simulated:
        tags["simulated"] = "true"
    return {
        **{k: v for k, v in sent.items() if k != "properties"},
        "id": f"{_account_id(call)}/deployments/{body['name']}",
        "name": body["name"],
        "type": f"{_TYPE}/deployments",
        "sku": sent.get("sku") or {"name": "GlobalStandard", "capacity": 1},
        "tags": tags,
        "etag": f'"{body["operation"]}"',
        "properties": {
            "raiPolicyName": "Microsoft.DefaultV2",
            "versionUpgradeOption": "OnceNewDefaultVersionAvailable",
            **sent["properties"],
            "capabilities": {"chatCompletion": "true"},
            "provisioningState": "Failed" if fact.state == "Failed" else "Succeeded",
        },
        "systemData": system_data(body["created"]),
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.ACCOUNT_GET: account,
    ops.ACCOUNT_KEYS: keys,
    ops.ACCOUNT_MODELS: models,
    ops.DEPLOYMENT_CREATE: put,
    ops.DEPLOYMENT_PATCH: patch,
    ops.DEPLOYMENT_GET: get,
    ops.DEPLOYMENT_LIST: listing,
    ops.DEPLOYMENT_SKUS: skus,
    ops.DEPLOYMENT_DELETE: delete,
    ops.OPERATION_RESULT: operation,
}
