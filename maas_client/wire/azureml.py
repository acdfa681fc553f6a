"""The azureml dialect: Azure Machine Learning over ARM and its run history.

Paths, methods, success codes and headers: docs/azure-http.md sections 1-3, which cites
``specs/azureml-arm-operations.extract.json`` (azure-ai-ml 1.35.2). One api-version is sent,
``2024-10-01-preview``: FineTuning jobs exist in previews only, and it is the one the newest official
SDK pins (section 1.1).
"""

from __future__ import annotations

from typing import Any

from maas_client.wire import azureml_models as m
from maas_client.wire.op import Op, Plane

API_VERSION = "2024-10-01-preview"
_ARM = {"api-version": API_VERSION}
_RUN = {"api-version": "v1.0"}

WORKSPACE_PATH = (
    "/subscriptions/{subscription}/resourceGroups/{resource_group}"
    "/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
)
_AT_LOCATION = (
    "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
)
_HISTORY = "/history/v1.0" + WORKSPACE_PATH
_METRIC = "/metric/v2.0" + WORKSPACE_PATH

WORKSPACE_GET = Op("workspace.get", "GET", Plane.ARM, WORKSPACE_PATH, m.Workspace, query=_ARM)
DISCOVERY_GET = Op("discovery.get", "GET", Plane.ANONYMOUS, "/discovery", m.Discovery)
"""The client follows ``properties.discoveryUrl``; no credential is needed."""

DATASTORE_LIST = Op(
    "datastores.list", "GET", Plane.ARM, WORKSPACE_PATH + "/datastores", m.Page, query=_ARM
)
"""``isDefault=true`` narrows it to the workspace's own."""
DATASTORE_GET = Op(
    "datastores.get",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/datastores/{datastore}",
    m.Datastore,
    query=_ARM,
)
DATASTORE_SECRETS = Op(
    "datastores.secrets",
    "POST",
    Plane.ARM,
    WORKSPACE_PATH + "/datastores/{datastore}/listSecrets",
    m.DatastoreSecrets,
    body="json",
    query=_ARM,
)

DATA_LIST = Op("data.list", "GET", Plane.ARM, WORKSPACE_PATH + "/data", m.Page, query=_ARM)
DATA_GET = Op(
    "data.get", "GET", Plane.ARM, WORKSPACE_PATH + "/data/{name}", dict[str, Any], query=_ARM
)
"""The container: ``properties.latestVersion`` and ``nextVersion``."""
DATA_VERSION_LIST = Op(
    "data_versions.list",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/data/{name}/versions",
    m.Page,
    query=_ARM,
)
DATA_VERSION_CREATE = Op(
    "data_versions.create",
    "PUT",
    Plane.ARM,
    WORKSPACE_PATH + "/data/{name}/versions/{version}",
    m.DataVersion,
    ok=(200, 201),
    body="json",
    query=_ARM,
)
DATA_VERSION_GET = Op(
    "data_versions.get",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/data/{name}/versions/{version}",
    m.DataVersion,
    query=_ARM,
)
DATA_VERSION_DELETE = Op(
    "data_versions.delete",
    "DELETE",
    Plane.ARM,
    WORKSPACE_PATH + "/data/{name}/versions/{version}",
    type(None),
    ok=(200, 204),
    query=_ARM,
)

JOB_CREATE = Op(
    "jobs.create",
    "PUT",
    Plane.ARM,
    WORKSPACE_PATH + "/jobs/{job}",
    m.Job,
    ok=(200, 201),
    body="json",
    query=_ARM,
)
"""The name is the client's, so a second PUT of the same body finds the first job."""
JOB_GET = Op("jobs.get", "GET", Plane.ARM, WORKSPACE_PATH + "/jobs/{job}", m.Job, query=_ARM)
JOB_LIST = Op("jobs.list", "GET", Plane.ARM, WORKSPACE_PATH + "/jobs", m.Page, query=_ARM)
"""Query: ``$skip``, ``jobType``, ``tag``, ``listViewType``, ``properties``."""
JOB_CANCEL = Op(
    "jobs.cancel",
    "POST",
    Plane.ARM,
    WORKSPACE_PATH + "/jobs/{job}/cancel",
    type(None),
    ok=(200, 202),
    query=_ARM,
)
JOB_DELETE = Op(
    "jobs.delete",
    "DELETE",
    Plane.ARM,
    WORKSPACE_PATH + "/jobs/{job}",
    type(None),
    ok=(200, 202, 204),
    query=_ARM,
)

RUN_GET = Op("runs.get", "GET", Plane.HISTORY, _HISTORY + "/runs/{run}", dict[str, Any], query=_RUN)
RUN_DETAILS = Op(
    "runs.details",
    "GET",
    Plane.HISTORY,
    _HISTORY + "/runs/{run}/details",
    m.RunDetails,
    query=_RUN,
)
RUN_CHILDREN = Op(
    "runs.children",
    "GET",
    Plane.HISTORY,
    _HISTORY + "/runs/{run}/children",
    m.Page,
    query=_RUN,
)
RUN_DATA = Op(
    "runs.data",
    "POST",
    Plane.HISTORY,
    _HISTORY + "/rundata",
    m.RunData,
    body="json",
    query=_RUN,
)
"""Body ``{"runId", "selectRunMetadata", "selectRunDefinition", "selectJobSpecification"}``: a read."""
RUN_PATCH = Op(
    "runs.patch",
    "PATCH",
    Plane.HISTORY,
    _HISTORY + "/experiments/{experiment}/runs/{run}",
    dict[str, Any],
    body="json",
    query=_RUN,
)
"""displayName, description, tags, properties, hidden: the only sure way to edit a job (section 1.2)."""
RUN_CANCEL = Op(
    "runs.cancel",
    "POST",
    Plane.HISTORY,
    _HISTORY + "/experiments/{experiment}/runs/{run}/cancel",
    dict[str, Any],
    query=_RUN,
)
METRIC_LIST = Op(
    "metrics.list", "POST", Plane.HISTORY, _METRIC + "/runs/{run}/list", m.MetricNames, body="json"
)
METRIC_VALUES = Op(
    "metrics.values",
    "POST",
    Plane.HISTORY,
    _METRIC + "/runs/{run}/full",
    m.MetricValues,
    body="json",
)
METRIC_SAMPLE = Op(
    "metrics.sample",
    "POST",
    Plane.HISTORY,
    _METRIC + "/runs/{run}/sample",
    m.MetricValues,
    body="json",
)

MODEL_LIST = Op("models.list", "GET", Plane.ARM, WORKSPACE_PATH + "/models", m.Page, query=_ARM)
MODEL_VERSION_LIST = Op(
    "model_versions.list",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/models/{name}/versions",
    m.Page,
    query=_ARM,
)
MODEL_VERSION_GET = Op(
    "model_versions.get",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/models/{name}/versions/{version}",
    m.ModelVersion,
    query=_ARM,
)
MODEL_VERSION_CREATE = Op(
    "model_versions.create",
    "PUT",
    Plane.ARM,
    WORKSPACE_PATH + "/models/{name}/versions/{version}",
    m.ModelVersion,
    ok=(200, 201),
    body="json",
    query=_ARM,
)
MODEL_VERSION_DELETE = Op(
    "model_versions.delete",
    "DELETE",
    Plane.ARM,
    WORKSPACE_PATH + "/models/{name}/versions/{version}",
    type(None),
    ok=(200, 202, 204),
    query=_ARM,
)

SUBSCRIPTION_CREATE = Op(
    "subscriptions.create",
    "PUT",
    Plane.ARM,
    WORKSPACE_PATH + "/marketplaceSubscriptions/{name}",
    dict[str, Any],
    ok=(200, 201),
    body="json",
    query=_ARM,
)
"""Partner models only; for Microsoft's own the service refuses (section 3.2)."""
SUBSCRIPTION_GET = Op(
    "subscriptions.get",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/marketplaceSubscriptions/{name}",
    dict[str, Any],
    query=_ARM,
)
SUBSCRIPTION_LIST = Op(
    "subscriptions.list",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/marketplaceSubscriptions",
    m.Page,
    query=_ARM,
)
SUBSCRIPTION_DELETE = Op(
    "subscriptions.delete",
    "DELETE",
    Plane.ARM,
    WORKSPACE_PATH + "/marketplaceSubscriptions/{name}",
    type(None),
    ok=(200, 202, 204),
    query=_ARM,
)

ENDPOINT_CREATE = Op(
    "endpoints.create",
    "PUT",
    Plane.ARM,
    WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}",
    m.Endpoint,
    ok=(200, 201),
    body="json",
    query=_ARM,
)
ENDPOINT_PATCH = Op(
    "endpoints.patch",
    "PATCH",
    Plane.ARM,
    WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}",
    dict[str, Any],
    ok=(200, 202),
    body="json",
    query=_ARM,
)
ENDPOINT_GET = Op(
    "endpoints.get",
    "GET",
    Plane.ARM,
    WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}",
    m.Endpoint,
    query=_ARM,
)
ENDPOINT_LIST = Op(
    "endpoints.list", "GET", Plane.ARM, WORKSPACE_PATH + "/serverlessEndpoints", m.Page, query=_ARM
)
ENDPOINT_DELETE = Op(
    "endpoints.delete",
    "DELETE",
    Plane.ARM,
    WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}",
    type(None),
    ok=(200, 202, 204),
    query=_ARM,
)
ENDPOINT_KEYS = Op(
    "endpoints.keys",
    "POST",
    Plane.ARM,
    WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}/listKeys",
    m.EndpointKeys,
    query=_ARM,
)
ENDPOINT_REGENERATE = Op(
    "endpoints.regenerate",
    "POST",
    Plane.ARM,
    WORKSPACE_PATH + "/serverlessEndpoints/{endpoint}/regenerateKeys",
    dict[str, Any],
    ok=(200, 202),
    resend="refused",
    body="json",
    query=_ARM,
)

OPERATION_STATUS = Op(
    "operations.status",
    "GET",
    Plane.ARM,
    _AT_LOCATION + "/mfeOperationsStatus/{operation}",
    m.OperationStatus,
    query=_ARM,
)
"""Behind ``Azure-AsyncOperation``; the client follows the address it was given."""
OPERATION_RESULT = Op(
    "operations.result",
    "GET",
    Plane.ARM,
    _AT_LOCATION + "/mfeOperationResults/{operation}",
    dict[str, Any],
    ok=(200, 201, 202, 204),
    query=_ARM,
)
"""Behind ``Location``: 202 is pending, everything else done (section 7.3)."""

REGISTRY_DISCOVERY = Op(
    "registries.discovery",
    "GET",
    Plane.HISTORY,
    "/registrymanagement/v1.0/registries/{registry}/discovery",
    dict[str, Any],
)
REGISTRY_MODEL = Op(
    "registries.model",
    "GET",
    Plane.HISTORY,
    "/mferp/managementfrontend/subscriptions/{subscription}/resourceGroups/{resource_group}"
    "/providers/Microsoft.MachineLearningServices/registries/{registry}/models/{name}"
    "/versions/{version}",
    m.ModelVersion,
    query={"api-version": "2021-10-01-dataplanepreview"},
)

LOG_FILE = Op("logs.read", "GET", Plane.ANONYMOUS, "", bytes)
"""A log file's own SAS address, from ``RunDetails.log_files``."""

TERMINAL_STATUSES = frozenset({"completed", "failed", "canceled"})
"""Only these end a job. NotResponding and Paused may recover (section 1.5); unknown words too."""

OPERATIONS: tuple[Op[Any], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Op) and value.path
)
