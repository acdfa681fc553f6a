"""Data versions, registered models and marketplace subscriptions on ARM (sections 1.7, 2.2, 3.2)."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.arm import location_headers
from maas_client.local.http.routes.paging import list_page, system_data
from maas_client.local.requests import model_import
from maas_client.local.resources.assets import parse_registry_uri
from maas_client.local.resources.errors import not_found, user_error
from maas_client.local.state.store import Record
from maas_client.wire import azureml as ops
from maas_client.wire import azureml_models as m
from maas_client.wire.op import Op

_TYPE = "Microsoft.MachineLearningServices/workspaces"


# -- data -----------------------------------------------------------------------------------------


def put_data(call: RequestContext) -> Response:
    """PUT a version: its uri is for life."""
    m.DataVersion.model_validate(call.json)
    fact, new = call.services.assets.put_data(
        call.workspace,
        call.path_params["name"],
        call.path_params["version"],
        call.json["properties"],
    )
    return JSONResponse(_data(call, fact), 201 if new else 200)


def get_data(call: RequestContext) -> dict[str, Any]:
    """GET one version."""
    at = call.path_params
    return _data(call, call.services.assets.get("data", call.workspace, at["name"], at["version"]))


def _data(call: RequestContext, fact: Record) -> dict[str, Any]:
    body = fact.body
    sent = {"isAnonymous": False, "isArchived": False, "tags": {}, "properties": {}}
    return {
        "id": f"{call.workspace.arm_id}/data/{body['name']}/versions/{body['version']}",
        "name": body["version"],
        "type": f"{_TYPE}/data/versions",
        "properties": {**sent, **body["properties"]},
        "systemData": system_data(body["created"]),
    }


# -- models ---------------------------------------------------------------------------------------


def get_model(call: RequestContext) -> dict[str, Any]:
    """GET one version of a registered model."""
    at = call.path_params
    return _model(
        call, call.services.assets.get("model", call.workspace, at["name"], at["version"])
    )


def _model(call: RequestContext, fact: Record) -> dict[str, Any]:
    body = fact.body
    ws = call.workspace
    uri = call.services.assets.asset_id("models", ws.guid, body["name"], body["version"])
    return {
        "id": f"{ws.arm_id}/models/{body['name']}/versions/{body['version']}",
        "name": body["version"],
        "type": f"{_TYPE}/models/versions",
        "properties": {
            "modelType": "custom_model" if body["job"] is None else "mlflow_model",
            "modelUri": uri,
            "jobName": body["job"],
            "description": "",
            "flavors": {},
            "isAnonymous": False,
            "isArchived": False,
            "provisioningState": "Succeeded",
            "stage": None,
            "tags": {},
            "properties": {"baseModelId": body["base_model"], **body["properties"]},
        },
        "systemData": system_data(body["created"]),
    }


# -- what both have in common ---------------------------------------------------------------------


def _container(call: RequestContext, kind: str, versions: list[Record]) -> dict[str, Any]:
    """Return the container of a name: which version is the newest, and which would be next."""
    newest = versions[0].body
    numbers = [int(v.body["version"]) for v in versions if v.body["version"].isdigit()]
    plural = "data" if kind == "data" else "models"
    return {
        "id": f"{call.workspace.arm_id}/{plural}/{newest['name']}",
        "name": newest["name"],
        "type": f"{_TYPE}/{plural}",
        "properties": {
            "latestVersion": newest["version"],
            "nextVersion": str(max(numbers, default=0) + 1),
            "isArchived": False,
            "tags": {},
            "properties": {},
            **(
                {"dataType": newest["properties"].get("dataType", "uri_file")}
                if kind == "data"
                else {}
            ),
        },
        "systemData": system_data(versions[-1].body["created"]),
    }


def _lister(kind: str) -> Handler:
    def containers(call: RequestContext) -> dict[str, Any]:
        """GET the names."""
        by_name: dict[str, list[Record]] = {}
        for fact in call.services.assets.versions(kind, call.workspace):
            by_name.setdefault(fact.body["name"].casefold(), []).append(fact)
        return {"value": [_container(call, kind, v) for v in by_name.values()], "nextLink": None}

    return containers


def get_container(call: RequestContext) -> dict[str, Any]:
    """GET the container of a data asset."""
    found = call.services.assets.versions("data", call.workspace, call.path_params["name"])
    if not found:
        raise not_found(f"Data {call.path_params['name'][:60]}")
    return _container(call, "data", found)


def _version_lister(kind: str) -> Handler:
    def versions(call: RequestContext) -> dict[str, Any]:
        """GET the versions of a name, newest first; ``$top`` takes the first ones only."""
        found = call.services.assets.versions(kind, call.workspace, call.path_params["name"])
        top = call.query_params.get("$top", "")
        found = found[: int(top)] if top.isascii() and top.isdigit() and len(top) < 9 else found
        show = _data if kind == "data" else _model
        return {"value": [show(call, fact) for fact in found], "nextLink": None}

    return versions


def _deleter(kind: str) -> Handler:
    def delete(call: RequestContext) -> Response:
        """DELETE a version: 204 when there was none."""
        at = call.path_params
        there = call.services.assets.delete(kind, call.workspace, at["name"], at["version"])
        if there is None:
            return Response(None, 204)
        call.services.files.remove(there)
        return Response(None, 200)

    return delete


def put_model(call: RequestContext) -> Response:
    """PUT a model version: files of the workspace's storage, loaded once before they are registered."""
    sent = call.json.get("properties")
    fact, new = model_import.import_model(
        call.services,
        call.workspace,
        call.path_params["name"],
        call.path_params["version"],
        sent if isinstance(sent, dict) else {},
    )
    return JSONResponse(_model(call, fact), 201 if new else 200)


# -- marketplace ----------------------------------------------------------------------------------


def subscribe(call: RequestContext) -> Response:
    """PUT a marketplace subscription: partner models only, as the service has it."""
    sent = call.json.get("properties")
    model_id = sent.get("modelId") if isinstance(sent, dict) else None
    found = parse_registry_uri(model_id) if isinstance(model_id, str) else None
    if found is None or found[2] is not None:
        raise user_error(
            "modelId must be azureml://registries/REGISTRY/models/NAME, without a version.",
            target="modelId",
        )
    if found[0].casefold() in ("azureml", "azure-openai"):
        raise user_error(
            "Models of Microsoft need no marketplace subscription; deploy them directly.",
            target="modelId",
        )
    body = {"name": call.path_params["name"], "modelId": model_id}
    fact, new = call.services.assets.subscribe(call.workspace, call.path_params["name"], body)
    return JSONResponse(_subscription(call, fact), 201 if new else 200)


def get_subscription(call: RequestContext) -> dict[str, Any]:
    """GET one."""
    return _subscription(
        call, call.services.assets.subscription(call.workspace, call.path_params["name"])
    )


def subscriptions(call: RequestContext) -> dict[str, Any]:
    """GET all."""
    return list_page(
        call,
        lambda before, limit: call.services.store.read.newest(
            "subscription", call.workspace.guid, before=before, limit=limit
        ),
        lambda fact: _subscription(call, fact),
    )


def unsubscribe(call: RequestContext) -> Response:
    """DELETE one: 202 with a Location that is done at once, 204 when there was none."""
    if not call.services.assets.unsubscribe(call.workspace, call.path_params["name"]):
        return Response(None, 204)
    return Response(None, 202, location_headers(call, "done"))


def _subscription(call: RequestContext, fact: Record) -> dict[str, Any]:
    return {
        "id": f"{call.workspace.arm_id}/marketplaceSubscriptions/{fact.body['name']}",
        "name": fact.body["name"],
        "type": f"{_TYPE}/marketplaceSubscriptions",
        "properties": {
            "modelId": fact.body["modelId"],
            "marketplaceSubscriptionStatus": "Subscribed",
            "provisioningState": "Succeeded",
            "marketplacePlan": {"publisherId": "local", "offerId": "local", "planId": "local"},
        },
        "systemData": system_data(fact.body["created"]),
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.DATA_LIST: _lister("data"),
    ops.DATA_GET: get_container,
    ops.DATA_VERSION_LIST: _version_lister("data"),
    ops.DATA_VERSION_CREATE: put_data,
    ops.DATA_VERSION_GET: get_data,
    ops.DATA_VERSION_DELETE: _deleter("data"),
    ops.MODEL_LIST: _lister("model"),
    ops.MODEL_VERSION_LIST: _version_lister("model"),
    ops.MODEL_VERSION_GET: get_model,
    ops.MODEL_VERSION_CREATE: put_model,
    ops.MODEL_VERSION_DELETE: _deleter("model"),
    ops.SUBSCRIPTION_CREATE: subscribe,
    ops.SUBSCRIPTION_GET: get_subscription,
    ops.SUBSCRIPTION_LIST: subscriptions,
    ops.SUBSCRIPTION_DELETE: unsubscribe,
}
