"""The operations that other clients use to read a run: its files, and its metrics in MLflow's REST API.

Artifacts of run history: docs/azure-http.md section 1.6, with the bodies of azure-ai-ml 1.35.2
(``_restclient/runhistory``: ``RunArtifacts``, ``Artifact``, ``ArtifactContentInformation``). Each path exists
with the experiment's id and with its name. Paths of a model's files: ``_restclient/model_dataplane``.
MLflow: docs/azure-http.md section 1.6 for the URL, mlflow.org ``rest-api`` for the bodies; ``v1.0`` for
MLflow 1 and ``v2.0`` for MLflow 2 and 3 (mlflow-skinny 3.17 reads runs and metrics here).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from maas_client.wire.azureml import WORKSPACE_PATH
from maas_client.wire.operation import Operation, Plane

_ARTIFACTS = f"/history/v1.0{WORKSPACE_PATH}/experimentids/{{experiment}}/runs/{{run}}/artifacts"
_MLFLOW = f"/mlflow/{{version}}{WORKSPACE_PATH}/api/2.0/mlflow"


def _get(name: str, path: str) -> Operation[dict[str, Any]]:
    return Operation(name, "GET", Plane.HISTORY, path, dict[str, Any])


ARTIFACT_LIST = _get("artifacts.list", _ARTIFACTS)
ARTIFACT_LIST_UNDER_PATH = _get("artifacts.under", _ARTIFACTS + "/path")
"""The artifacts whose path starts with the query ``path``."""
ARTIFACT_METADATA = _get("artifacts.metadata", _ARTIFACTS + "/metadata")
ARTIFACT_CONTENT = _get("artifacts.content", _ARTIFACTS + "/contentinfo")
"""A SAS URL for the file at ``path``."""
ARTIFACT_CONTENTS = _get("artifacts.contents", _ARTIFACTS + "/prefix/contentinfo")
"""SAS URLs for all files whose path starts with ``path``."""

_BY_ID = (
    ARTIFACT_LIST,
    ARTIFACT_LIST_UNDER_PATH,
    ARTIFACT_METADATA,
    ARTIFACT_CONTENT,
    ARTIFACT_CONTENTS,
)


def by_experiment_name(op: Operation[Any]) -> Operation[Any]:
    """Return an artifact operation with the experiment's name in its path instead of the id."""
    return replace(op, path=op.path.replace("/experimentids/", "/experiments/"))


MODEL_PATHS: Operation[dict[str, Any]] = Operation(
    "models.paths",
    "POST",
    Plane.HISTORY,
    f"/modelregistry/v1.0{WORKSPACE_PATH}/models/batchGetResolvedUris",
    dict[str, Any],
    body="json",
)
"""The locations of the files of models. Body: ``{"values": [model id, ...]}``."""

RUN_SERVICES = _get(
    "runs.services", f"/history/v1.0{WORKSPACE_PATH}/runs/{{run}}/serviceinstances/{{node}}"
)

MLFLOW_RUN = _get("mlflow.run", _MLFLOW + "/runs/get")
MLFLOW_METRIC = _get("mlflow.metric", _MLFLOW + "/metrics/get-history")
MLFLOW_ARTIFACTS = _get("mlflow.artifacts", _MLFLOW + "/artifacts/list")
MLFLOW_EXPERIMENT = _get("mlflow.experiment", _MLFLOW + "/experiments/get")
MLFLOW_EXPERIMENT_BY_NAME = _get("mlflow.experiment_by_name", _MLFLOW + "/experiments/get-by-name")
MLFLOW_MODELS = _get("mlflow.models", _MLFLOW + "/registered-models/search")
MLFLOW_MODEL = _get("mlflow.model", _MLFLOW + "/registered-models/get")
MLFLOW_VERSIONS = _get("mlflow.model_versions", _MLFLOW + "/model-versions/search")
MLFLOW_VERSION = _get("mlflow.model_version", _MLFLOW + "/model-versions/get")
MLFLOW_VERSION_URI = _get("mlflow.model_uri", _MLFLOW + "/model-versions/get-download-uri")


def _post(name: str, path: str) -> Operation[dict[str, Any]]:
    return Operation(name, "POST", Plane.HISTORY, _MLFLOW + path, dict[str, Any], body="json")


MLFLOW_EXPERIMENTS = _post("mlflow.experiments", "/experiments/search")
MLFLOW_RUNS = _post("mlflow.runs", "/runs/search")
MLFLOW_SET_TAG = _post("mlflow.set_tag", "/runs/set-tag")
MLFLOW_DELETE_TAG = _post("mlflow.delete_tag", "/runs/delete-tag")

MLFLOW_OPERATIONS: tuple[Operation[Any], ...] = (
    MLFLOW_RUN, MLFLOW_METRIC, MLFLOW_ARTIFACTS, MLFLOW_EXPERIMENT, MLFLOW_EXPERIMENT_BY_NAME, MLFLOW_MODELS,
    MLFLOW_MODEL, MLFLOW_VERSIONS, MLFLOW_VERSION, MLFLOW_VERSION_URI, MLFLOW_EXPERIMENTS, MLFLOW_RUNS,
    MLFLOW_SET_TAG, MLFLOW_DELETE_TAG,
)  # fmt: skip
_METHODS: tuple[Literal["GET", "POST", "PATCH", "DELETE"], ...] = ("GET", "POST", "PATCH", "DELETE")
MLFLOW_ABSENT_OPERATIONS: tuple[Operation[Any], ...] = tuple(
    Operation("MLflow", method, Plane.HISTORY, _MLFLOW + "/{subpath:path}", type(None))
    for method in _METHODS
)
"""Everything else of MLflow's REST API: runs, metrics and models are written by jobs."""

OPERATIONS: tuple[Operation[Any], ...] = (
    *_BY_ID, *(by_experiment_name(op) for op in _BY_ID),
    MODEL_PATHS, RUN_SERVICES,
)  # fmt: skip
