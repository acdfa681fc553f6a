"""Data versions, registered models and marketplace subscriptions on ARM (docs/azure-http.md 1.7, 2.2, 3.2)."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.arm import (
    check_newest_first,
    is_in_view,
    list_page,
    location_headers,
    system_data,
)
from maas_client.local.requests import model_import
from maas_client.local.resources.assets import parse_registry_uri
from maas_client.local.resources.errors import not_found, user_error
from maas_client.local.state.store import Record
from maas_client.wire import azureml as ops
from maas_client.wire import azureml_models as m
from maas_client.wire.operation import Operation

_TYPE = "Microsoft.MachineLearningServices/workspaces"


# -- data -----------------------------------------------------------------------------------------


def put_data(context: RequestContext) -> Response:
    """PUT a data version; its URI cannot be changed later."""
    m.DataVersion.model_validate(context.json)
    record, is_new = context.services.assets.put_data(
        context.workspace,
        context.path_params["name"],
        context.path_params["version"],
        context.json["properties"],
    )
    return JSONResponse(_data_to_json(context, record), 201 if is_new else 200)


def get_data(context: RequestContext) -> dict[str, Any]:
    """GET one data version."""
    params = context.path_params
    return _data_to_json(
        context,
        context.services.assets.get("data", context.workspace, params["name"], params["version"]),
    )


def _data_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    body = record.body
    defaults = {"isAnonymous": False, "isArchived": False, "tags": {}, "properties": {}}
    return {
        "id": f"{context.workspace.arm_id}/data/{body['name']}/versions/{body['version']}",
        "name": body["version"],
        "type": f"{_TYPE}/data/versions",
        "properties": {**defaults, **body["properties"]},
        "systemData": system_data(body["created"]),
    }


# -- models ---------------------------------------------------------------------------------------


def get_model(context: RequestContext) -> dict[str, Any]:
    """GET one version of a registered model."""
    params = context.path_params
    return _model_to_json(
        context,
        context.services.assets.get("model", context.workspace, params["name"], params["version"]),
    )


def _model_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    body = record.body
    ws = context.workspace
    uri = context.services.assets.asset_id("models", ws.guid, body["name"], body["version"])
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


# -- shared by data and models ---------------------------------------------------------------------


def _container_to_json(
    context: RequestContext, kind: str, versions: list[Record]
) -> dict[str, Any]:
    """Return the container of a name, with its latest and next version."""
    newest = versions[0].body
    numbers = [int(v.body["version"]) for v in versions if v.body["version"].isdigit()]
    plural = "data" if kind == "data" else "models"
    return {
        "id": f"{context.workspace.arm_id}/{plural}/{newest['name']}",
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


def _make_list_handler(kind: str) -> Handler:
    @accepts(query=("listViewType",))
    def containers(context: RequestContext) -> dict[str, Any]:
        """GET the containers of all names."""
        by_name: dict[str, list[Record]] = {}
        for record in context.services.assets.versions(kind, context.workspace):
            if not is_in_view(context, is_archived=False):
                continue
            by_name.setdefault(record.body["name"].casefold(), []).append(record)
        return {
            "value": [_container_to_json(context, kind, v) for v in by_name.values()],
            "nextLink": None,
        }

    return containers


def get_container(context: RequestContext) -> dict[str, Any]:
    """GET the container of a data asset."""
    versions = context.services.assets.versions(
        "data", context.workspace, context.path_params["name"]
    )
    if not versions:
        raise not_found(f"Data {context.path_params['name'][:60]}")
    return _container_to_json(context, "data", versions)


def _make_version_list_handler(kind: str) -> Handler:
    @accepts(query=("$top", "$orderBy", "listViewType"))
    def versions(context: RequestContext) -> dict[str, Any]:
        """GET the versions of a name, newest first; ``$top`` limits them."""
        records = context.services.assets.versions(
            kind, context.workspace, context.path_params["name"]
        )
        check_newest_first(context)
        records = [
            r for r in records
            if is_in_view(context, is_archived=bool((r.body.get("properties") or {}).get("isArchived")))
        ]  # fmt: skip
        top = context.query_params.get("$top", "")
        records = (
            records[: int(top)] if top.isascii() and top.isdigit() and len(top) < 9 else records
        )
        to_json = _data_to_json if kind == "data" else _model_to_json
        return {"value": [to_json(context, record) for record in records], "nextLink": None}

    return versions


def _make_delete_handler(kind: str) -> Handler:
    def delete(context: RequestContext) -> Response:
        """DELETE a version: 200, or 204 when there is none."""
        params = context.path_params
        unreferenced = context.services.assets.delete(
            kind, context.workspace, params["name"], params["version"]
        )
        if unreferenced is None:
            return Response(None, 204)
        context.services.files.remove(unreferenced)
        return Response(None, 200)

    return delete


def put_model(context: RequestContext) -> Response:
    """PUT a model version: files of the workspace's storage, which are loaded once before registration."""
    properties = context.json.get("properties")
    record, is_new = model_import.import_model(
        context.services,
        context.workspace,
        context.path_params["name"],
        context.path_params["version"],
        properties if isinstance(properties, dict) else {},
    )
    return JSONResponse(_model_to_json(context, record), 201 if is_new else 200)


# -- marketplace ----------------------------------------------------------------------------------


def subscribe(context: RequestContext) -> Response:
    """PUT a marketplace subscription: for partner models only, as in Azure."""
    properties = context.json.get("properties")
    model_id = properties.get("modelId") if isinstance(properties, dict) else None
    registry_model = parse_registry_uri(model_id) if isinstance(model_id, str) else None
    if registry_model is None or registry_model[2] is not None:
        raise user_error(
            "modelId must be azureml://registries/REGISTRY/models/NAME, without a version.",
            target="modelId",
        )
    if registry_model[0].casefold() in ("azureml", "azure-openai"):
        raise user_error(
            "Models of Microsoft need no marketplace subscription. Deploy the model directly.",
            target="modelId",
        )
    body = {"name": context.path_params["name"], "modelId": model_id}
    record, is_new = context.services.assets.subscribe(
        context.workspace, context.path_params["name"], body
    )
    return JSONResponse(_subscription_to_json(context, record), 201 if is_new else 200)


def get_subscription(context: RequestContext) -> dict[str, Any]:
    """GET one subscription."""
    return _subscription_to_json(
        context,
        context.services.assets.subscription(context.workspace, context.path_params["name"]),
    )


@accepts(query=("$skip",))
def list_subscriptions(context: RequestContext) -> dict[str, Any]:
    """GET all subscriptions."""
    return list_page(
        context,
        lambda before, limit: context.services.store.read.newest(
            "subscription", context.workspace.guid, before=before, limit=limit
        ),
        lambda record: _subscription_to_json(context, record),
    )


def unsubscribe(context: RequestContext) -> Response:
    """DELETE a subscription: 202 with a completed operation, 204 when there is none."""
    if not context.services.assets.unsubscribe(context.workspace, context.path_params["name"]):
        return Response(None, 204)
    return Response(None, 202, location_headers(context, "done"))


def _subscription_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    return {
        "id": f"{context.workspace.arm_id}/marketplaceSubscriptions/{record.body['name']}",
        "name": record.body["name"],
        "type": f"{_TYPE}/marketplaceSubscriptions",
        "properties": {
            "modelId": record.body["modelId"],
            "marketplaceSubscriptionStatus": "Subscribed",
            "provisioningState": "Succeeded",
            "marketplacePlan": {"publisherId": "local", "offerId": "local", "planId": "local"},
        },
        "systemData": system_data(record.body["created"]),
    }


HANDLERS: dict[Operation[Any], Handler] = {
    ops.DATA_LIST: _make_list_handler("data"),
    ops.DATA_GET: get_container,
    ops.DATA_VERSION_LIST: _make_version_list_handler("data"),
    ops.DATA_VERSION_CREATE: put_data,
    ops.DATA_VERSION_GET: get_data,
    ops.DATA_VERSION_DELETE: _make_delete_handler("data"),
    ops.MODEL_LIST: _make_list_handler("model"),
    ops.MODEL_VERSION_LIST: _make_version_list_handler("model"),
    ops.MODEL_VERSION_GET: get_model,
    ops.MODEL_VERSION_CREATE: put_model,
    ops.MODEL_VERSION_DELETE: _make_delete_handler("model"),
    ops.SUBSCRIPTION_CREATE: subscribe,
    ops.SUBSCRIPTION_GET: get_subscription,
    ops.SUBSCRIPTION_LIST: list_subscriptions,
    ops.SUBSCRIPTION_DELETE: unsubscribe,
}
