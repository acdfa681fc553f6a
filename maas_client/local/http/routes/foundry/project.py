"""Deployments, connections and datasets of a Foundry project (docs/azure-http.md section 2.3)."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts, check_tags
from maas_client.local.http.routes.foundry.account import account_key
from maas_client.local.resources.arm_resources import DEFAULT_SUBSCRIPTION
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.errors import not_found, user_error
from maas_client.local.resources.foundry_datasets import FoundryDatasets
from maas_client.local.state.store import Record
from maas_client.wire import foundry_project as ops
from maas_client.wire.operation import Operation

_STORAGE_CONNECTION = STORAGE_ACCOUNT
_STORAGE_ID = (
    f"/subscriptions/{DEFAULT_SUBSCRIPTION}/resourceGroups/local/providers/Microsoft.Storage"
    f"/storageAccounts/{STORAGE_ACCOUNT}"
)


def _account(context: RequestContext) -> str:
    """Return the account's name: the first label of its host."""
    return context.urls.host.partition(".")[0] if context.urls.is_tunnel else "local"


def _list(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return {"value": documents, "nextLink": None}


# -- deployments ------------------------------------------------------------------------------------


@accepts(query=("modelPublisher", "modelName", "deploymentType"))
def list_deployments(context: RequestContext) -> dict[str, Any]:
    """GET the deployments of the account, filtered."""
    documents = [
        _deployment_to_json(record)
        for record in context.services.deployments.list_page(FOUNDRY_SCOPE, None, -1)
    ]
    filters = {
        "modelPublisher": "modelPublisher",
        "modelName": "modelName",
        "deploymentType": "type",
    }
    for parameter, field in filters.items():
        if value := context.query_params.get(parameter):
            documents = [d for d in documents if d[field].casefold() == value.casefold()]
    return _list(documents)


def get_deployment(context: RequestContext) -> dict[str, Any]:
    """GET one deployment."""
    name = context.path_params["name"]
    return _deployment_to_json(context.services.deployments.get(FOUNDRY_SCOPE, name))


def _deployment_to_json(record: Record) -> dict[str, Any]:
    request = record.body["request"]
    model, sku = request["properties"]["model"], request.get("sku") or {}
    return {
        "name": record.body["name"],
        "type": "ModelDeployment",
        "modelName": model["name"],
        "modelVersion": str(model.get("version") or "1"),
        "modelPublisher": str(model.get("format") or ""),
        "capabilities": {"chat_completion": "true"},
        "sku": {
            "name": str(sku.get("name") or "GlobalStandard"),
            "capacity": int(sku.get("capacity") or 1),
            "family": "",
            "size": "",
            "tier": "",
        },
    }


# -- connections ------------------------------------------------------------------------------------


def _connections(context: RequestContext) -> list[dict[str, Any]]:
    """Return the connections of every project: to its own account and to this server's storage."""
    account = _account(context)
    tunnel = context.urls.is_tunnel
    rows = (
        (account, "AzureOpenAI", f"https://{account}.openai.azure.com/" if tunnel else context.urls.arm,
         "ApiKey", {"ApiType": "Azure", "ResourceId": f"{_account_id(account)}"}),
        (_STORAGE_CONNECTION, "AzureStorageAccount", f"{context.urls.storage}/", "AAD",
         {"ApiType": "Azure", "ResourceId": _STORAGE_ID}),
    )  # fmt: skip
    project = context.path_params["project"]
    return [
        {
            "name": name,
            "id": f"{_account_id(account)}/projects/{project}/connections/{name}",
            "type": kind,
            "target": target,
            "isDefault": True,
            "credentials": {"type": credential},
            "metadata": metadata,
        }
        for name, kind, target, credential, metadata in rows
    ]


def _account_id(account: str) -> str:
    return (
        f"/subscriptions/{DEFAULT_SUBSCRIPTION}/resourceGroups/local/providers"
        f"/Microsoft.CognitiveServices/accounts/{account}"
    )


@accepts(query=("connectionType", "defaultConnection"))
def list_connections(context: RequestContext) -> dict[str, Any]:
    """GET the connections, filtered."""
    kind = context.query_params.get("connectionType")
    default = context.query_params.get("defaultConnection", "true").casefold()
    if default not in ("true", "false"):
        raise user_error("defaultConnection must be true or false.", target="defaultConnection")
    return _list(
        [
            connection
            for connection in _connections(context)
            if (not kind or connection["type"].casefold() == kind.casefold()) and default == "true"
        ]
    )


def get_connection(context: RequestContext) -> dict[str, Any]:
    """GET one connection, without its credentials."""
    name = context.path_params["name"]
    for connection in _connections(context):
        if connection["name"].casefold() == name.casefold():
            return connection
    raise not_found(f"Connection {name[:60]}")


def get_connection_with_credentials(context: RequestContext) -> dict[str, Any]:
    """POST: one connection with its key, if it has one."""
    connection = get_connection(context)
    if connection["credentials"]["type"] == "ApiKey":
        connection["credentials"]["key"] = account_key(context, _account(context), 1)
    return connection


# -- datasets ---------------------------------------------------------------------------------------


def _datasets(context: RequestContext) -> FoundryDatasets:
    services = context.services
    return FoundryDatasets(services.store, services.blobs, services.files)


def _dataset_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    body = record.body
    project = f"azureai://accounts/{_account(context)}/projects/{context.path_params['project']}"
    return {
        "id": f"{project}/data/{body['name']}/versions/{body['version']}",
        "name": body["name"],
        "version": body["version"],
        "type": body["type"],
        "dataUri": body["dataUri"],
        "isReference": False,
        "connectionName": _STORAGE_CONNECTION,
        "description": body.get("description"),
        "tags": body.get("tags") or {},
    }


def list_datasets(context: RequestContext) -> dict[str, Any]:
    """GET the latest version of each dataset."""
    return _list([_dataset_to_json(context, r) for r in _datasets(context).latest()])


def list_dataset_versions(context: RequestContext) -> dict[str, Any]:
    """GET the versions of a dataset, newest first."""
    name = context.path_params["name"]
    return _list([_dataset_to_json(context, r) for r in _datasets(context).versions(name)])


def get_dataset(context: RequestContext) -> dict[str, Any]:
    """GET one version."""
    return _dataset_to_json(context, _requested_dataset(context))


def _requested_dataset(context: RequestContext) -> Record:
    return _datasets(context).get(context.path_params["name"], context.path_params["version"])


@accepts(fields=("type", "dataUri", "connectionName", "description", "tags"))
def put_dataset(context: RequestContext) -> Response:
    """PATCH a version: create it from uploaded files, or change its description and tags."""
    body = {k: v for k, v in context.json.items() if v is not None}
    for name, kind in (("type", str), ("dataUri", str), ("description", str), ("tags", dict)):
        if name in body and not isinstance(body[name], kind):
            raise user_error(f"{name} has the wrong type.", target=name)
    check_tags(body.get("tags", {}))
    _check_connection(body)
    record, is_new = _datasets(context).put(
        context.path_params["name"],
        context.path_params["version"],
        _storage_location(context, body.get("dataUri", "")),
        body,
    )
    return JSONResponse(_dataset_to_json(context, record), 201 if is_new else 200)


def _check_connection(body: dict[str, Any]) -> None:
    name = body.get("connectionName")
    if name is not None and str(name).casefold() != _STORAGE_CONNECTION:
        raise not_found(f"Storage connection {str(name)[:60]}")


def _storage_location(context: RequestContext, uri: str) -> tuple[str, str] | None:
    """Return container and path of a URI in this server's storage account; None for other URIs."""
    base = f"{context.urls.storage}/"
    if not uri.startswith(base):
        return None
    container, _, path = unquote(urlsplit(uri.removeprefix(base)).path).partition("/")
    return container, path


def delete_dataset(context: RequestContext) -> Response:
    """DELETE a version: 204, also when there is none."""
    _datasets(context).delete(context.path_params["name"], context.path_params["version"])
    return Response(None, 204)


@accepts(fields=("pendingUploadId", "pendingUploadType", "connectionName"))
def start_upload(context: RequestContext) -> dict[str, Any]:
    """POST: a container to upload to. The same request gets the same container."""
    _check_connection(context.json)
    kind = context.json.get("pendingUploadType")
    if kind not in ("BlobReference", "TemporaryBlobReference"):
        raise user_error(
            "pendingUploadType must be BlobReference or TemporaryBlobReference.",
            target="pendingUploadType",
        )
    name, version = context.path_params["name"], context.path_params["version"]
    upload = context.json.get("pendingUploadId") or str(
        uuid.uuid5(uuid.NAMESPACE_OID, f"{name}/{version}")
    )
    container = _datasets(context).start_upload(name, version, str(upload))
    return {
        "pendingUploadId": upload,
        "pendingUploadType": kind,
        "version": version,
        "blobReference": _blob_reference(context, container, "", "racwl"),
    }


def get_credentials(context: RequestContext) -> dict[str, Any]:
    """POST: a SAS that reads the files of a version."""
    body = _requested_dataset(context).body
    path = body["dataUri"].removeprefix(f"{context.urls.storage}/{body['container']}")
    return {"blobReference": _blob_reference(context, body["container"], path, "rl")}


def _blob_reference(
    context: RequestContext, container: str, path: str, permissions: str
) -> dict[str, Any]:
    return {
        "blobUri": f"{context.urls.storage}/{container}{path}",
        "storageAccountArmId": _STORAGE_ID,
        "credential": {"type": "SAS", "sasUri": context.urls.container(container, permissions)},
    }


HANDLERS: dict[Operation[Any], Handler] = {
    ops.DEPLOYMENT_LIST: list_deployments,
    ops.DEPLOYMENT_GET: get_deployment,
    ops.CONNECTION_LIST: list_connections,
    ops.CONNECTION_GET: get_connection,
    ops.CONNECTION_CREDENTIALS: get_connection_with_credentials,
    ops.DATASET_LIST: list_datasets,
    ops.DATASET_VERSIONS: list_dataset_versions,
    ops.DATASET_GET: get_dataset,
    ops.DATASET_DELETE: delete_dataset,
    ops.DATASET_PATCH: put_dataset,
    ops.DATASET_UPLOAD: start_upload,
    ops.DATASET_CREDENTIALS: get_credentials,
}
