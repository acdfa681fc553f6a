"""What others read of a run: its files, and its metrics as MLflow asks for them. Our own client reads neither.

Artifacts of run history: docs/azure-http.md section 1.6, with bodies as azure-ai-ml 1.35.2 has them
(``_restclient/runhistory``: ``RunArtifacts``, ``Artifact``, ``ArtifactContentInformation``); each hangs on the
experiment's id and on its name. Paths of a model's files: ``_restclient/model_dataplane``.
MLflow's REST: section 1.6 for the address, mlflow.org ``rest-api`` for the bodies; ``v1.0`` for MLflow 1 and
``v2.0`` for MLflow 2 and 3 (mlflow-skinny 3.17 reads runs and metrics here).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maas_client.wire.azureml import WORKSPACE_PATH
from maas_client.wire.op import Op, Plane

_ARTIFACTS = f"/history/v1.0{WORKSPACE_PATH}/experimentids/{{experiment}}/runs/{{run}}/artifacts"
_MLFLOW = f"/mlflow/{{version}}{WORKSPACE_PATH}/api/2.0/mlflow"


def _get(name: str, path: str) -> Op[dict[str, Any]]:
    return Op(name, "GET", Plane.HISTORY, path, dict[str, Any])


ARTIFACT_LIST = _get("artifacts.list", _ARTIFACTS)
ARTIFACT_LIST_UNDER_PATH = _get("artifacts.under", _ARTIFACTS + "/path")
"""Query ``path``: what begins with it."""
ARTIFACT_METADATA = _get("artifacts.metadata", _ARTIFACTS + "/metadata")
ARTIFACT_CONTENT = _get("artifacts.content", _ARTIFACTS + "/contentinfo")
"""An address with a SAS for the one file at ``path``."""
ARTIFACT_CONTENTS = _get("artifacts.contents", _ARTIFACTS + "/prefix/contentinfo")
"""The same for every file that begins with ``path``."""

_BY_ID = (
    ARTIFACT_LIST,
    ARTIFACT_LIST_UNDER_PATH,
    ARTIFACT_METADATA,
    ARTIFACT_CONTENT,
    ARTIFACT_CONTENTS,
)


def by_experiment_name(op: Op[Any]) -> Op[Any]:
    """Return the form of an artifact operation that takes the experiment's name."""
    return replace(op, path=op.path.replace("/experimentids/", "/experiments/"))


MODEL_PATHS: Op[dict[str, Any]] = Op(
    "models.paths",
    "POST",
    Plane.HISTORY,
    f"/modelregistry/v1.0{WORKSPACE_PATH}/models/batchGetResolvedUris",
    dict[str, Any],
    body="json",
)
"""Body ``{"values": [model id, ...]}``: where the files of each lie."""

MLFLOW_RUN = _get("mlflow.run", _MLFLOW + "/runs/get")
MLFLOW_METRIC = _get("mlflow.metric", _MLFLOW + "/metrics/get-history")
MLFLOW_ARTIFACTS = _get("mlflow.artifacts", _MLFLOW + "/artifacts/list")

OPERATIONS: tuple[Op[Any], ...] = (
    *_BY_ID, *(by_experiment_name(op) for op in _BY_ID),
    MODEL_PATHS, MLFLOW_RUN, MLFLOW_METRIC, MLFLOW_ARTIFACTS,
)  # fmt: skip
