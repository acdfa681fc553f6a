"""Serverless endpoints on ARM (docs/azure-http.md section 3)."""

from __future__ import annotations

from typing import Any, Literal

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.arm import async_operation_headers, location_headers
from maas_client.local.http.routes.paging import list_page, system_data
from maas_client.local.resources.errors import user_error
from maas_client.local.resources.serverless_endpoints import put_endpoint
from maas_client.local.state.store import Record
from maas_client.wire import azureml as ops
from maas_client.wire import azureml_models as m
from maas_client.wire.op import Op

_STATE = {"Creating": "Creating", "Succeeded": "Online", "Failed": "CreationFailed"}
"""``endpointState`` by ``provisioningState``."""


def create(call: RequestContext) -> Response:
    """PUT: 201 with ``Azure-AsyncOperation``, or 200 for the same endpoint again."""
    sent = m.Endpoint.model_validate(call.json)
    if "modelId" not in sent.properties.model_settings:
        raise user_error("modelId: Field required", target="properties.modelSettings.modelId")
    fact, operation = put_endpoint(
        call.services.deployments,
        call.services.assets,
        call.workspace,
        call.path_params["endpoint"],
        call.json,
    )
    if operation is None:
        call.services.auto_delete.check_now()
        return JSONResponse(_document(call, fact), 200)
    call.services.provision(call.workspace.guid, fact.key)
    return JSONResponse(_document(call, fact), 201, async_operation_headers(call, operation))


def _find(call: RequestContext) -> Record:
    return call.services.deployments.get(call.workspace.guid, call.path_params["endpoint"])


def get(call: RequestContext) -> dict[str, Any]:
    """GET one."""
    return _document(call, _find(call))


def listing(call: RequestContext) -> dict[str, Any]:
    """GET all."""
    return list_page(
        call,
        lambda before, limit: call.services.deployments.list_page(
            call.workspace.guid, before, limit
        ),
        lambda fact: _document(call, fact),
    )


def patch(call: RequestContext) -> dict[str, Any]:
    """PATCH tags and sku."""
    for name in ("tags", "sku"):
        if name in call.json and not isinstance(call.json[name], dict):
            raise user_error(f"{name}: must be an object", target=name)
    found = call.services.deployments.patch(
        call.workspace.guid, call.path_params["endpoint"], call.json
    )
    call.services.auto_delete.check_now()
    return _document(call, found)


def delete(call: RequestContext) -> Response:
    """DELETE: 202 with a Location, 204 when there was none."""
    gone = call.services.deployments.delete(call.workspace.guid, call.path_params["endpoint"])
    if gone is None:
        return Response(None, 204)
    fact, operation = gone
    call.services.unload_unused(fact)
    return Response(None, 202, location_headers(call, operation))


def keys(call: RequestContext) -> dict[str, Any]:
    """POST listKeys."""
    return _keys(_find(call))


def regenerate(call: RequestContext) -> dict[str, Any]:
    """POST regenerateKeys: the pair, one of it new."""
    which: dict[str, Literal["Primary", "Secondary"]] = {
        "primary": "Primary",
        "secondary": "Secondary",
    }
    said = which.get(str(call.json.get("keyType", "")).casefold())
    if said is None:
        raise user_error("keyType must be Primary or Secondary.", target="keyType")
    found = call.services.deployments.regenerate_key(
        call.workspace.guid, call.path_params["endpoint"], said
    )
    return _keys(found)


def _keys(fact: Record) -> dict[str, Any]:
    primary, secondary = fact.body["keys"]
    return {"primaryKey": primary, "secondaryKey": secondary}


def _document(call: RequestContext, fact: Record) -> dict[str, Any]:
    body = fact.body
    sent = body["request"]
    state = str(fact.state)
    tags = dict(sent.get("tags") or {})
    if call.services.simulated:
        tags["simulated"] = "true"
    return {
        **{k: v for k, v in sent.items() if k != "properties"},
        "id": f"{call.workspace.arm_id}/serverlessEndpoints/{body['name']}",
        "name": body["name"],
        "type": "Microsoft.MachineLearningServices/workspaces/serverlessEndpoints",
        "sku": sent.get("sku") or {"name": "Consumption"},
        "tags": tags,
        "properties": {
            "authMode": "Key",
            "contentSafety": {"contentSafetyStatus": "Disabled"},
            "marketplaceSubscriptionId": None,
            **sent["properties"],
            "provisioningState": state,
            "endpointState": _STATE.get(state, "Unknown"),
            "inferenceEndpoint": {"uri": call.urls.endpoint(body["label"]), "headers": {}},
        },
        "systemData": system_data(body["created"]),
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.ENDPOINT_CREATE: create,
    ops.ENDPOINT_GET: get,
    ops.ENDPOINT_LIST: listing,
    ops.ENDPOINT_PATCH: patch,
    ops.ENDPOINT_DELETE: delete,
    ops.ENDPOINT_KEYS: keys,
    ops.ENDPOINT_REGENERATE: regenerate,
}
