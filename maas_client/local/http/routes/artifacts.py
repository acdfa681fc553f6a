"""The files of a run, as run history, the blob API and MLflow show them (docs/azure-http.md section 1.6)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.jobs import job_ref
from maas_client.local.http.routes.run_history import METRIC_NAMES
from maas_client.local.resources import artifacts
from maas_client.local.resources.artifacts import Artifact
from maas_client.local.resources.assets import format_time
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.resources.job_spec import JobRef
from maas_client.local.state.store import MetricPoint, Record
from maas_client.wire import artifacts as ops
from maas_client.wire.op import Op

_ORIGIN = "ExperimentRun"


def _all(call: RequestContext) -> tuple[Record, list[Artifact]]:
    job = call.services.jobs.get(job_ref(call))
    return job, artifacts.list_artifacts(call.services.files, job)


def _below(call: RequestContext) -> tuple[Record, list[Artifact]]:
    """Return the files whose name begins with the path asked for, segment by segment."""
    job, found = _all(call)
    lead = call.query_params.get("path", "").strip("/")
    return job, [a for a in found if not lead or a.path == lead or a.path.startswith(f"{lead}/")]


def listing(call: RequestContext) -> dict[str, Any]:
    """GET every file of a run."""
    job, found = _all(call)
    return _list([_shown(job, one) for one in found])


def under(call: RequestContext) -> dict[str, Any]:
    """GET the files below a path."""
    job, found = _below(call)
    return _list([_shown(job, one) for one in found])


def metadata(call: RequestContext) -> dict[str, Any]:
    """GET one file's record."""
    job = call.services.jobs.get(job_ref(call))
    return _shown(job, _asked(call, job))


def content(call: RequestContext) -> dict[str, Any]:
    """GET where one file is read."""
    job = call.services.jobs.get(job_ref(call))
    return _address(call, job, _asked(call, job))


def contents(call: RequestContext) -> dict[str, Any]:
    """GET where each file below a path is read."""
    job, found = _below(call)
    return _list([_address(call, job, one) for one in found])


def _asked(call: RequestContext, job: Record) -> Artifact:
    path = call.query_params.get("path")
    if not path:
        raise user_error("path is required: the artifact's name.", target="path")
    return artifacts.get_artifact(call.services.files, job, path)


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"value": items, "continuationToken": None, "nextLink": None}


def _shown(job: Record, one: Artifact) -> dict[str, Any]:
    container = f"dcid.{job.body['name']}"
    return {
        "artifactId": f"{_ORIGIN}/{container}/{one.path}",
        "origin": _ORIGIN,
        "container": container,
        "path": one.path,
        "etag": one.etag,
        "createdTime": format_time(one.modified),
        "dataPath": None,
        "tags": {},
    }


def _address(call: RequestContext, job: Record, one: Artifact) -> dict[str, Any]:
    home = artifacts.artifact_container(call.workspace.guid)
    return {
        "contentUri": call.urls.blob(home, artifacts.artifact_blob_name(job, one.path)),
        "origin": _ORIGIN,
        "container": f"dcid.{job.body['name']}",
        "path": one.path,
        "tags": {},
    }


def model_paths(call: RequestContext) -> dict[str, Any]:
    """POST batchGetResolvedUris: where the files of registered models lie."""
    asked = call.json.get("values")
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise user_error("values: must be a list of model ids", target="values")
    return {"values": {one: _place(call, one) for one in asked}}


def _place(call: RequestContext, model_id: str) -> dict[str, Any]:
    found = call.services.assets.find_tuned_model(model_id)
    name = found.body.get("job") if found else None
    if found is None or name is None:
        raise not_found(f"Files of model {model_id[:120]}")
    job = call.services.jobs.get(JobRef(call.workspace.guid, str(name).casefold()))
    lead = call.workspace.arm_id.replace("/providers/Microsoft.MachineLearningServices", "").lstrip(
        "/"
    )
    path = artifacts.artifact_blob_name(job, "outputs/")
    return {
        "path": f"azureml://{lead}/datastores/{artifacts.ARTIFACT_DATASTORE}/paths/{path}",
        "type": "folder",
    }


# -- MLflow ---------------------------------------------------------------------------------------

_MLFLOW_STATUS = {
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
    "NotStarted": "SCHEDULED",
    "Queued": "SCHEDULED",
}
"""MLflow's RunStatus; everything else is RUNNING."""


def _run(call: RequestContext) -> Record:
    name = call.query_params.get("run_id") or call.query_params.get("run_uuid")
    if not name:
        raise ApiError(
            400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'run_id'."
        )
    return call.services.jobs.get(JobRef(call.workspace.guid, name.casefold()))


def mlflow_run(call: RequestContext) -> dict[str, Any]:
    """GET a run with the newest value of each metric."""
    job = _run(call)
    body = job.body
    sent = body["request"]["properties"]
    name = body["name"]
    newest: dict[str, MetricPoint] = {}
    for point in call.services.jobs.points(body["id"]):
        if point.name not in newest or newest[point.name].step <= point.step:
            newest[point.name] = point
    tags = {**(sent.get("tags") or {}), "mlflow.runName": sent.get("displayName") or name}
    info = {
        "run_id": name,
        "run_uuid": name,
        "run_name": sent.get("displayName") or name,
        "experiment_id": body["scope"],
        "user_id": "local",
        "status": _MLFLOW_STATUS.get(str(job.state), "RUNNING"),
        "start_time": _ms(body.get("started") or body["created"]),
        "artifact_uri": f"azureml://{call.urls.host}/mlflow/v2.0{call.workspace.arm_id}"
        f"/experiments/{body['scope']}/runs/{name}/artifacts",
        "lifecycle_stage": "active",
    }
    if body.get("ended"):
        info["end_time"] = _ms(body["ended"])
    return {
        "run": {
            "info": info,
            "data": {
                "metrics": [_metric(p) for p in newest.values()],
                "params": _pairs(body["spec"]["hyperparameters"]),
                "tags": _pairs(tags),
            },
            "inputs": {},
        }
    }


def _pairs(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": str(k), "value": str(v)} for k, v in values.items()]


def mlflow_metric(call: RequestContext) -> dict[str, Any]:
    """GET every point of one metric; one that a run does not have has none."""
    job = _run(call)
    key = call.query_params.get("metric_key")
    if not key:
        raise ApiError(
            400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'metric_key'."
        )
    ours = next((own for own, told in METRIC_NAMES.items() if told == key), key)
    points = call.services.jobs.series(job.body["id"], ours, after=-1, since="", limit=-1)
    return {"metrics": [_metric(p) for p in points]}


def _metric(point: MetricPoint) -> dict[str, Any]:
    return {"key": METRIC_NAMES.get(point.name, point.name), "value": point.value, "timestamp": _ms(point.at),
            "step": point.step}  # fmt: skip


def _ms(when: str) -> int:
    return int(datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp() * 1000)


def mlflow_artifacts(call: RequestContext) -> dict[str, Any]:
    """GET the files and folders right below a path."""
    job = _run(call)
    lead = call.query_params.get("path", "").strip("/")
    inside = f"{lead}/" if lead else ""
    rows: dict[str, dict[str, Any]] = {}
    for one in artifacts.list_artifacts(call.services.files, job):
        if not one.path.startswith(inside):
            continue
        head, deeper, _ = one.path[len(inside) :].partition("/")
        path = inside + head
        rows[path] = (
            {"path": path, "is_dir": True} if deeper
            else {"path": path, "is_dir": False, "file_size": one.size}
        )  # fmt: skip
    return {"files": list(rows.values())}


_BY_ID: dict[Op[Any], Handler] = {
    ops.ARTIFACT_LIST: listing,
    ops.ARTIFACT_LIST_UNDER_PATH: under,
    ops.ARTIFACT_METADATA: metadata,
    ops.ARTIFACT_CONTENT: content,
    ops.ARTIFACT_CONTENTS: contents,
}
HANDLERS: dict[Op[Any], Handler] = {
    **_BY_ID,
    **{ops.by_experiment_name(op): handler for op, handler in _BY_ID.items()},
    ops.MODEL_PATHS: model_paths,
    ops.MLFLOW_RUN: mlflow_run,
    ops.MLFLOW_METRIC: mlflow_metric,
    ops.MLFLOW_ARTIFACTS: mlflow_artifacts,
}
