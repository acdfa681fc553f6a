"""The account and its deployments on ARM (azure-api.md section 4.6). Any account name exists."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.catalog import models as catalog_models
from maas_client.local.http.app import Call, Handler
from maas_client.local.http.routes.foundry.chat import deployments
from maas_client.local.http.routes.paging import page, system_data
from maas_client.local.rules.foundry import SCOPE
from maas_client.local.rules.foundry.deployments import (
    MOST_CAPACITY,
    SKUS,
    check_request,
    format_of,
    usage_name,
)
from maas_client.local.state.store import Fact
from maas_client.wire import foundry as ops
from maas_client.wire.op import Op, expand

_TYPE = "Microsoft.CognitiveServices/accounts"
_EPOCH = "2026-01-01T00:00:00Z"


def _account_id(call: Call) -> str:
    at = call.path
    return (
        f"/subscriptions/{at['subscription']}/resourceGroups/{at['resource_group']}"
        f"/providers/{_TYPE}/{at['account']}"
    )


def account(call: Call) -> dict[str, Any]:
    """GET the account."""
    name = call.path["account"]
    base = f"https://{name}.openai.azure.com/" if call.at.tunnel else f"{call.at.arm}/"
    return {
        "id": _account_id(call),
        "name": name,
        "type": _TYPE,
        "kind": "AIServices",
        "location": call.at.region,
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


def keys(call: Call) -> dict[str, Any]:
    """POST listKeys: keys that this server takes."""
    given = call.services.config.api_key
    return {f"key{n}": given or _key(call, n) for n in (1, 2)}


def _key(call: Call, number: int) -> str:
    said = f"{call.path['account'].casefold()}/key{number}".encode()
    return hmac.new(call.services.secret, said, hashlib.sha256).hexdigest()


def models(call: Call) -> dict[str, Any]:
    """GET the models that the account could deploy."""
    return {"value": [_model(name) for name in catalog_models()], "nextLink": None}


def _model(name: str) -> dict[str, Any]:
    sku = {"name": "GlobalStandard", "usageName": usage_name(name),
           "capacity": {"minimum": 1, "maximum": MOST_CAPACITY, "default": 100}}  # fmt: skip
    return {
        "format": format_of(name),
        "name": name,
        "version": "1",
        "lifecycleStatus": "GenerallyAvailable",
        "isDefaultVersion": True,
        "skus": [sku],
        "capabilities": {"chatCompletion": "true"},
        "systemData": system_data(_EPOCH),
    }


def put(call: Call) -> Response:
    """PUT: 201 with ``Azure-AsyncOperation``, or 200 for the same deployment again."""
    check_request(call.json)
    fact, operation = deployments(call).put(call.path["deployment"], call.json)
    if operation is None:
        call.services.lifetimes.look()
        return JSONResponse(_document(call, fact), 200)
    call.services.provision(SCOPE, fact.key)
    shown = _document(call, fact)
    shown["properties"]["provisioningState"] = "Creating"
    return JSONResponse(
        shown, 201, {"Azure-AsyncOperation": _operation(call, operation), "Retry-After": "1"}
    )


def _operation(call: Call, own: str) -> str:
    values = {
        "subscription": call.path["subscription"],
        "location": call.services.config.region,
        "operation": own,
    }
    path = expand(ops.OPERATION_RESULT.path, values)
    return f"{call.at.arm}{path}?api-version={call.query.get('api-version', ops.ARM_VERSION)}"


def get(call: Call) -> dict[str, Any]:
    """GET one."""
    return _document(call, deployments(call).get(call.path["deployment"]))


def listing(call: Call) -> dict[str, Any]:
    """GET all."""
    return page(call, deployments(call).page, lambda fact: _document(call, fact))


def patch(call: Call) -> dict[str, Any]:
    """PATCH tags and sku."""
    for name in ("tags", "sku"):
        if name in call.json and not isinstance(call.json[name], dict):
            from maas_client.local.rules.refusal import user_error

            raise user_error(f"{name}: must be an object", target=name)
    found = deployments(call).patch(call.path["deployment"], call.json)
    call.services.lifetimes.look()
    return _document(call, found)


def delete(call: Call) -> Response:
    """DELETE: 202 with a Location, 204 when there was none."""
    gone = deployments(call).delete(call.path["deployment"])
    if gone is None:
        return Response(None, 204)
    fact, operation = gone
    call.services.release(fact)
    return Response(None, 202, {"Location": _operation(call, operation), "Retry-After": "1"})


def skus(call: Call) -> dict[str, Any]:
    """GET what a deployment may be scaled to."""
    deployments(call).get(call.path["deployment"])
    room = {"minimum": 1, "maximum": MOST_CAPACITY, "step": 1, "default": 100}
    return {
        "value": [
            {"resourceType": f"{_TYPE}/deployments", "sku": {"name": name}, "capacity": room}
            for name in SKUS
        ],
        "nextLink": None,
    }


def operation(call: Call) -> dict[str, Any]:
    """GET behind ``Azure-AsyncOperation`` and ``Location``.

    ARM calls a deployment made before its model is loaded: chat then says DeploymentNotReady.
    """
    found = call.services.endpoints.operation(call.path["operation"])
    shown = {
        "id": call.request.url.path,
        "name": found.key,
        "status": "Failed" if found.state == "Failed" else "Succeeded",
        "startTime": found.body["started"],
    }
    return shown | ({"error": found.body["error"]} if "error" in found.body else {})


def _document(call: Call, fact: Fact) -> dict[str, Any]:
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
