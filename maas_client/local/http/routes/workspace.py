"""The workspace, its datastores, and the system registry of base models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from maas_client.catalog import ModelInfo, load_models
from maas_client.local.bases import find_model_facts, known_versions
from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.arm import matches_list_view_type, page_of, system_data
from maas_client.local.http.sas import make_sas
from maas_client.local.resources import artifacts
from maas_client.local.resources.assets import Workspace
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.wire import arm_service as service_ops
from maas_client.wire import azureml as ops
from maas_client.wire.operation import Dialect, Operation

DEFAULT_DATASTORE = "workspaceblobstore"
_DATASTORES: dict[str, Callable[[Workspace], str]] = {
    DEFAULT_DATASTORE: lambda ws: ws.container,
    artifacts.ARTIFACT_DATASTORE: lambda ws: artifacts.artifact_container(ws.guid),
}
"""The container of each datastore in a workspace."""
_CREATED = "2026-01-01T00:00:00Z"


def get_workspace(context: RequestContext) -> dict[str, Any]:
    """GET a workspace: any workspace exists."""
    return workspace_to_json(context, context.workspace)


def workspace_to_json(context: RequestContext, ws: Workspace) -> dict[str, Any]:
    """Return a workspace as ARM represents it."""
    return {
        "id": ws.arm_id,
        "name": ws.name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": context.urls.region,
        "kind": "Project",
        "tags": {},
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "workspaceId": ws.guid,
            "friendlyName": ws.name,
            "description": "A workspace of the maas-client local server.",
            "discoveryUrl": f"{context.urls.data_plane}/discovery",
            "provisioningState": "Succeeded",
            "storageAccount": f"/subscriptions/{ws.subscription}/resourceGroups/{ws.resource_group}"
            f"/providers/Microsoft.Storage/storageAccounts/{STORAGE_ACCOUNT}",
            "mlFlowTrackingUri": f"azureml://{context.urls.data_plane.split('://', 1)[1]}"
            f"/mlflow/v1.0{ws.arm_id}",
            "publicNetworkAccess": "Disabled",
        },
        "systemData": system_data(_CREATED),
    }


def get_discovery(context: RequestContext) -> dict[str, Any]:
    """GET the URLs of the data plane; no credential is required."""
    base = context.urls.data_plane
    names = ("api", "history", "metric", "modelmanagement", "experimentation", "cert")
    required = {name: context.services.required_examples(name) for name in get_args(Dialect)}
    return {**dict.fromkeys(names, base), "requiredExamples": required}


@accepts(query=("isDefault", "count", "orderByAsc"))
def list_datastores(context: RequestContext) -> dict[str, Any]:
    """GET the default datastore and the one that runs write to; ``isDefault`` selects one of them."""
    is_default = context.query_params.get("isDefault", "").casefold()
    if is_default not in ("", "true", "false"):
        raise user_error("isDefault must be true or false.", target="isDefault")
    names = [
        name
        for name in _DATASTORES
        if not is_default or (name == DEFAULT_DATASTORE) == (is_default == "true")
    ]
    if context.query_params.get("orderByAsc", "false").casefold() != "false":
        raise ApiError(
            501, "NotImplemented", "The local server does not implement orderByAsc of datastores.list.",
            target="orderByAsc",
        )  # fmt: skip
    page_size = context.query_params.get("count", "30")
    if not page_size.isascii() or not page_size.isdigit() or int(page_size[:9]) < len(names):
        raise ApiError(
            501, "NotImplemented", f"count must be at least {len(names)}: the local server has one page.",
            target="count",
        )  # fmt: skip
    return {"value": [_datastore_to_json(context, name) for name in names], "nextLink": None}


def get_datastore(context: RequestContext) -> dict[str, Any]:
    """GET one datastore."""
    return _datastore_to_json(context, _require_datastore(context))


def _datastore_to_json(context: RequestContext, name: str) -> dict[str, Any]:
    ws = context.workspace
    return {
        "id": f"{ws.arm_id}/datastores/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/datastores",
        "properties": {
            "datastoreType": "AzureBlob",
            "isDefault": name == DEFAULT_DATASTORE,
            "containerName": _DATASTORES[name](ws),
            **context.urls.storage_account,
            "credentials": {"credentialsType": "Sas"},
            "serviceDataAccessAuthIdentity": "None",
            "subscriptionId": ws.subscription,
            "resourceGroup": ws.resource_group,
            "tags": {},
            "properties": {},
        },
        "systemData": system_data(_CREATED),
    }


@accepts(fields=("expirableSecret", "expireAfterHours"))
def list_secrets(context: RequestContext) -> dict[str, Any]:
    """POST listSecrets: a SAS for the datastore's container, read-only for the one that runs write to."""
    name = _require_datastore(context)
    if context.json.get("expirableSecret") not in (None, True):
        raise ApiError(
            501,
            "NotImplemented",
            "The local server does not implement secrets without an end: expirableSecret must be true.",
            target="expirableSecret",
        )
    hours = context.json.get("expireAfterHours", 24)
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= 168:
        raise user_error("expireAfterHours must be from 1 to 168.", target="expireAfterHours")
    permissions = "racwdl" if name == DEFAULT_DATASTORE else "rl"
    token = make_sas(
        context.services.secret, _DATASTORES[name](context.workspace), hours, permissions
    )
    return {"secretsType": "Sas", "sasToken": token}


def _require_datastore(context: RequestContext) -> str:
    name = context.path_params["datastore"].casefold()
    if name not in _DATASTORES:
        raise not_found(f"Datastore {context.path_params['datastore'][:60]}")
    return name


def get_registry_discovery(context: RequestContext) -> dict[str, Any]:
    """GET the URL of a system registry: this server."""
    name = context.path_params["registry"]
    return {
        "registryName": name,
        "primaryRegion": context.urls.region,
        "primaryRegionResourceProviderUri": f"{context.urls.data_plane}/",
        "subscriptionId": "00000000-0000-0000-0000-000000000000",
        "resourceGroup": "system-registries",
        "regions": [context.urls.region],
    }


def _registry_facts(context: RequestContext) -> ModelInfo:
    """Return what the catalog knows of the model in the path. Raises ``ApiError`` (404) if it is unknown."""
    params = context.path_params
    facts = find_model_facts(params["name"])
    if facts is None or not _is_in_registry(facts, params["registry"]):
        raise not_found(f"Model {params['name'][:60]} in registry {params['registry'][:60]}")
    return facts


def _is_in_registry(facts: ModelInfo, registry: str) -> bool:
    return facts.registry is None or facts.registry.casefold() == registry.casefold()


def get_registry_model(context: RequestContext) -> dict[str, Any]:
    """GET one version of a base model: any up to the newest that the catalog names."""
    facts, version = _registry_facts(context), context.path_params["version"]
    if known := known_versions(facts, version):
        raise not_found(
            f"Version {version[:40]} of {facts.name} (the catalog knows version {known})"
        )
    return _registry_version_to_json(context, facts, version)


def _registry_version_to_json(
    context: RequestContext, facts: ModelInfo, version: str
) -> dict[str, Any]:
    # azure-ai-ml parses this form of a registry model id only (_arm_id_utils.py).
    uri = (
        f"azureml://registries/{context.path_params['registry']}/models/{facts.name}"
        f"/versions/{version}"
    )
    return {
        "id": uri,
        "name": version,
        "type": "Microsoft.MachineLearningServices/registries/models/versions",
        "properties": {
            "modelType": "mlflow_model",
            # azure-ai-ml parses an address of blob storage; then it asks for a SAS, which is refused by name.
            "modelUri": f"{context.urls.storage}/registries/{uri.partition('registries/')[2]}",
            "description": "A base model of the catalog of the local server.",
            "isArchived": False,
            "isAnonymous": False,
            "flavors": {},
            "tags": {},
            "properties": {},
        },
        "systemData": system_data(_CREATED),
    }


@accepts(query=("$skip", "$top", "$orderBy", "listViewType"))
def list_registry_versions(context: RequestContext) -> dict[str, Any]:
    """GET the versions of a base model: the newest that the catalog names."""
    facts = _registry_facts(context)
    document = _registry_version_to_json(context, facts, _newest_version(facts))
    documents = [(1, document)] if matches_list_view_type(context, is_archived=False) else []
    return page_of(context, documents, limit="$top")


def get_registry_container(context: RequestContext) -> dict[str, Any]:
    """GET the container of a base model's versions."""
    return _registry_container_to_json(context, _registry_facts(context))


@accepts(query=("$skip", "listViewType"))
def list_registry_models(context: RequestContext) -> dict[str, Any]:
    """GET the base models of a registry: those of the catalog."""
    registry = context.path_params["registry"]
    models = [facts for facts in load_models().values() if _is_in_registry(facts, registry)]
    documents = [
        (len(models) - i, _registry_container_to_json(context, facts))
        for i, facts in enumerate(models)
        if matches_list_view_type(context, is_archived=False)
    ]
    return page_of(context, documents, limit="$top")


def _registry_container_to_json(context: RequestContext, facts: ModelInfo) -> dict[str, Any]:
    version = _newest_version(facts)
    return {
        "id": f"azureml://registries/{context.path_params['registry']}/models/{facts.name}",
        "name": facts.name,
        "type": "Microsoft.MachineLearningServices/registries/models",
        "properties": {
            "latestVersion": version,
            "nextVersion": str(int(version) + 1) if version.isdigit() else "1",
            "isArchived": False,
            "tags": {},
            "properties": {},
        },
        "systemData": system_data(_CREATED),
    }


def _newest_version(facts: ModelInfo) -> str:
    return facts.version or "1"


HANDLERS: dict[Operation[Any], Handler] = {
    ops.WORKSPACE_GET: get_workspace,
    ops.DISCOVERY_GET: get_discovery,
    ops.DATASTORE_LIST: list_datastores,
    ops.DATASTORE_GET: get_datastore,
    ops.DATASTORE_SECRETS: list_secrets,
    ops.REGISTRY_DISCOVERY: get_registry_discovery,
    ops.REGISTRY_MODEL: get_registry_model,
    service_ops.REGISTRY_MODEL_LIST: list_registry_models,
    service_ops.REGISTRY_MODEL_GET: get_registry_container,
    service_ops.REGISTRY_MODEL_VERSIONS: list_registry_versions,
}
