"""The operations of Azure Machine Learning: ARM and run history, one row per operation.

Paths, methods, success codes and headers: docs/azure-http.md sections 1-3, from azure-ai-ml 1.35.2. All
operations send the api-version ``2024-10-01-preview``: fine-tuning jobs exist in previews only, and the newest
official SDK uses this one (docs/azure-http.md section 1.1).
"""

from __future__ import annotations

from typing import Any, TypeVar

from maas_client.wire import azureml_models as m
from maas_client.wire.operation import Body, Operation, Plane

T = TypeVar("T")
JSON = dict[str, Any]
API_VERSION = "2024-10-01-preview"
_ARM = {"api-version": API_VERSION}

WORKSPACE_PATH = (
    "/subscriptions/{subscription}/resourceGroups/{resource_group}"
    "/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
)
_LOCATION_PATH = (
    "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
)
_HISTORY_PATH = "/history/v1.0" + WORKSPACE_PATH
_METRIC_PATH = "/metric/v2.0" + WORKSPACE_PATH


# ARM operations of the workspace; ``path`` follows the workspace's own path.


def _get(name: str, path: str, returns: type[T]) -> Operation[T]:
    return Operation(name, "GET", Plane.ARM, WORKSPACE_PATH + path, returns, query=_ARM)


def _put(name: str, path: str, returns: type[T]) -> Operation[T]:
    """Return a PUT that creates something. The flow looks for the result before it sends it again."""
    url = WORKSPACE_PATH + path
    return Operation(
        name, "PUT", Plane.ARM, url, returns,
        ok=(200, 201), resend="never", body="json", query=_ARM,
    )  # fmt: skip


def _delete(name: str, path: str, ok: tuple[int, ...] = (200, 202, 204)) -> Operation[None]:
    return Operation(
        name, "DELETE", Plane.ARM, WORKSPACE_PATH + path, type(None), ok=ok, query=_ARM
    )


def _post(
    name: str, path: str, returns: type[T], body: Body = "none", ok: tuple[int, ...] = (200,)
) -> Operation[T]:
    return Operation(
        name, "POST", Plane.ARM, WORKSPACE_PATH + path, returns, ok=ok, body=body, query=_ARM
    )


# Run history and metrics, at the data plane of the workspace's region.


def _get_history(name: str, path: str, returns: type[T]) -> Operation[T]:
    query = {"api-version": "v1.0"}
    return Operation(name, "GET", Plane.HISTORY, _HISTORY_PATH + path, returns, query=query)


def _post_metrics(name: str, path: str, returns: type[T]) -> Operation[T]:
    return Operation(name, "POST", Plane.HISTORY, _METRIC_PATH + path, returns, body="json")


# fmt: off
WORKSPACE_GET = _get("workspace.get", "", m.Workspace)
DISCOVERY_GET = Operation("discovery.get", "GET", Plane.ANONYMOUS, "/discovery", m.Discovery)
"""At ``properties.discoveryUrl`` of the workspace; needs no credential."""

DATASTORE_LIST = _get("datastores.list", "/datastores", m.Page)
"""``isDefault=true`` returns the workspace's default datastore only."""
DATASTORE_GET = _get("datastores.get", "/datastores/{datastore}", m.Datastore)
DATASTORE_SECRETS = _post("datastores.secrets", "/datastores/{datastore}/listSecrets",
                          m.DatastoreSecrets, "json")

DATA_LIST = _get("data.list", "/data", m.Page)
DATA_GET = _get("data.get", "/data/{name}", JSON)
"""The container of the versions: ``properties.latestVersion`` and ``nextVersion``."""
DATA_VERSION_LIST = _get("data_versions.list", "/data/{name}/versions", m.Page)
DATA_VERSION_CREATE = _put("data_versions.create", "/data/{name}/versions/{version}", m.DataVersion)
DATA_VERSION_GET = _get("data_versions.get", "/data/{name}/versions/{version}", m.DataVersion)
DATA_VERSION_DELETE = _delete("data_versions.delete", "/data/{name}/versions/{version}", ok=(200, 204))

JOB_CREATE = _put("jobs.create", "/jobs/{job}", m.Job)
"""The client chooses the name, so a second PUT with the same body returns the first job."""
JOB_GET = _get("jobs.get", "/jobs/{job}", m.Job)
JOB_LIST = _get("jobs.list", "/jobs", m.Page)
"""Query: ``$skip``, ``jobType``, ``tag``, ``listViewType``, ``properties``."""
JOB_CANCEL = _post("jobs.cancel", "/jobs/{job}/cancel", type(None), ok=(200, 202))
JOB_DELETE = _delete("jobs.delete", "/jobs/{job}")

RUN_GET = _get_history("runs.get", "/runs/{run}", JSON)
RUN_DETAILS = _get_history("runs.details", "/runs/{run}/details", m.RunDetails)
RUN_CHILDREN = _get_history("runs.children", "/runs/{run}/children", m.Page)
RUN_DATA = Operation("runs.data", "POST", Plane.HISTORY, _HISTORY_PATH + "/rundata", m.RunData,
                     body="json", query={"api-version": "v1.0"})
"""A read with the body ``{"runId", "selectRunMetadata", "selectRunDefinition", "selectJobSpecification"}``."""
RUN_PATCH = Operation("runs.patch", "PATCH", Plane.HISTORY,
                      _HISTORY_PATH + "/experiments/{experiment}/runs/{run}",
                      JSON, body="json", query={"api-version": "v1.0"})
"""The only reliable way to edit a job: displayName, description, tags, properties, hidden
(docs/azure-http.md section 1.2)."""
RUN_CANCEL = Operation("runs.cancel", "POST", Plane.HISTORY,
                       _HISTORY_PATH + "/experiments/{experiment}/runs/{run}/cancel",
                       JSON, query={"api-version": "v1.0"})
METRIC_LIST = _post_metrics("metrics.list", "/runs/{run}/list", m.MetricNames)
METRIC_VALUES = _post_metrics("metrics.values", "/runs/{run}/full", m.MetricValues)
METRIC_SAMPLE = _post_metrics("metrics.sample", "/runs/{run}/sample", m.MetricValues)

MODEL_LIST = _get("models.list", "/models", m.Page)
MODEL_VERSION_LIST = _get("model_versions.list", "/models/{name}/versions", m.Page)
MODEL_VERSION_GET = _get("model_versions.get", "/models/{name}/versions/{version}", m.ModelVersion)
MODEL_VERSION_CREATE = _put("model_versions.create", "/models/{name}/versions/{version}", m.ModelVersion)
MODEL_VERSION_DELETE = _delete("model_versions.delete", "/models/{name}/versions/{version}")

SUBSCRIPTION_CREATE = _put("subscriptions.create", "/marketplaceSubscriptions/{name}", JSON)
"""For models of partners only; the service refuses it for Microsoft's own (docs/azure-http.md section 3.2)."""
SUBSCRIPTION_GET = _get("subscriptions.get", "/marketplaceSubscriptions/{name}", JSON)
SUBSCRIPTION_LIST = _get("subscriptions.list", "/marketplaceSubscriptions", m.Page)
SUBSCRIPTION_DELETE = _delete("subscriptions.delete", "/marketplaceSubscriptions/{name}")

ENDPOINT_CREATE = _put("endpoints.create", "/serverlessEndpoints/{endpoint}", m.Endpoint)
ENDPOINT_PATCH = Operation("endpoints.patch", "PATCH", Plane.ARM,
                           WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}",
                           JSON, ok=(200, 202), body="json", query=_ARM)
ENDPOINT_GET = _get("endpoints.get", "/serverlessEndpoints/{endpoint}", m.Endpoint)
ENDPOINT_LIST = _get("endpoints.list", "/serverlessEndpoints", m.Page)
ENDPOINT_DELETE = _delete("endpoints.delete", "/serverlessEndpoints/{endpoint}")
ENDPOINT_KEYS = _post("endpoints.keys", "/serverlessEndpoints/{endpoint}/listKeys", m.EndpointKeys)
ENDPOINT_REGENERATE = Operation("endpoints.regenerate", "POST", Plane.ARM,
                                WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}/regenerateKeys", JSON,
                                ok=(200, 202), resend="refused", body="json", query=_ARM)

OPERATION_STATUS = Operation("operations.status", "GET", Plane.ARM,
                             _LOCATION_PATH + "/mfeOperationsStatus/{operation}", m.OperationStatus, query=_ARM)
"""The URL in the header ``Azure-AsyncOperation``; the client uses the URL that it receives."""
OPERATION_RESULT = Operation("operations.result", "GET", Plane.ARM,
                             _LOCATION_PATH + "/mfeOperationResults/{operation}", JSON,
                             ok=(200, 201, 202, 204), query=_ARM)
"""The URL in the header ``Location``: 202 means pending, everything else done (docs/azure-http.md
section 7.3)."""

REGISTRY_DISCOVERY = Operation("registries.discovery", "GET", Plane.HISTORY,
                               "/registrymanagement/v1.0/registries/{registry}/discovery", JSON)
REGISTRY_MODEL = Operation(
    "registries.model", "GET", Plane.HISTORY,
    "/mferp/managementfrontend/subscriptions/{subscription}/resourceGroups/{resource_group}/providers"
    "/Microsoft.MachineLearningServices/registries/{registry}/models/{name}/versions/{version}",
    m.ModelVersion, query={"api-version": "2021-10-01-dataplanepreview"},
)

LOG_FILE = Operation("logs.read", "GET", Plane.ANONYMOUS, "", bytes)
"""The SAS URL of a log file, from ``RunDetails.log_files``."""
# fmt: on

OPERATIONS: tuple[Operation[Any], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Operation) and value.path
)
"""Every operation with a fixed path, which the local server serves."""

# Operations of the local server that Azure does not have; the client sends them to a local server only. Azure
# has the job status ``Paused`` (docs/azure-http.md section 1.5), but no operation that pauses a job.
JOB_PAUSE = _post("jobs.pause", "/jobs/{job}/pause", type(None))
JOB_RESUME = _post("jobs.resume", "/jobs/{job}/resume", type(None))
JOB_SAVE_CHECKPOINT = _post("jobs.save", "/jobs/{job}/checkpoints", type(None))
JOB_CHECKPOINTS = _get("jobs.checkpoints", "/jobs/{job}/checkpoints", m.Page)

LOCAL_OPERATIONS: tuple[Operation[Any], ...] = (
    JOB_PAUSE,
    JOB_RESUME,
    JOB_SAVE_CHECKPOINT,
    JOB_CHECKPOINTS,
)
