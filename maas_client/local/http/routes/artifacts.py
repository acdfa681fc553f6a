"""Files of a run, through run history, MLflow and the blob API (docs/azure-http.md section 1.6)."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import Any

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.jobs import job_ref
from maas_client.local.resources import artifacts
from maas_client.local.resources.artifacts import Artifact
from maas_client.local.resources.assets import format_time
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.resources.jobs import JobRef
from maas_client.local.state.store import Record
from maas_client.wire import tracking as ops
from maas_client.wire.operation import Operation

_ORIGIN = "ExperimentRun"


def _load_artifacts(context: RequestContext) -> tuple[Record, list[Artifact]]:
    job = context.services.jobs.get(job_ref(context))
    return job, artifacts.list_artifacts(context.services.files, job)


def _artifacts_under_path(context: RequestContext) -> tuple[Record, list[Artifact]]:
    """Return the files at or below the requested path, compared by whole path segments."""
    job, items = _load_artifacts(context)
    folder = context.query_params.get("path", "").strip("/")
    return job, [
        a for a in items if not folder or a.path == folder or a.path.startswith(f"{folder}/")
    ]


def list_all(context: RequestContext) -> dict[str, Any]:
    """GET all files of a run."""
    job, items = _load_artifacts(context)
    return _list_response([_artifact_to_json(job, item) for item in items])


@accepts(query=("path",))
def list_under_path(context: RequestContext) -> dict[str, Any]:
    """GET the files below a path."""
    job, items = _artifacts_under_path(context)
    return _list_response([_artifact_to_json(job, item) for item in items])


@accepts(query=("path",))
def get_metadata(context: RequestContext) -> dict[str, Any]:
    """GET the metadata of one file."""
    job = context.services.jobs.get(job_ref(context))
    return _artifact_to_json(job, _requested_artifact(context, job))


@accepts(query=("path",))
def get_content_uri(context: RequestContext) -> dict[str, Any]:
    """GET the URL of one file."""
    job = context.services.jobs.get(job_ref(context))
    return _content_location(context, job, _requested_artifact(context, job))


@accepts(query=("path",))
def list_content_uris(context: RequestContext) -> dict[str, Any]:
    """GET the URL of every file below a path."""
    job, items = _artifacts_under_path(context)
    return _list_response([_content_location(context, job, item) for item in items])


def _requested_artifact(context: RequestContext, job: Record) -> Artifact:
    path = context.query_params.get("path")
    if not path:
        raise user_error("path is required: the name of the artifact.", target="path")
    return artifacts.get_artifact(context.services.files, job, path)


def _list_response(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"value": items, "continuationToken": None, "nextLink": None}


def _artifact_to_json(job: Record, artifact: Artifact) -> dict[str, Any]:
    container = f"dcid.{job.body['name']}"
    return {
        "artifactId": f"{_ORIGIN}/{container}/{artifact.path}",
        "origin": _ORIGIN,
        "container": container,
        "path": artifact.path,
        "etag": artifact.etag,
        "createdTime": format_time(artifact.modified),
        "dataPath": None,
        "tags": {},
    }


def _content_location(context: RequestContext, job: Record, artifact: Artifact) -> dict[str, Any]:
    storage_container = artifacts.artifact_container(context.workspace.guid)
    return {
        "contentUri": context.urls.blob(
            storage_container, artifacts.artifact_blob_name(job, artifact.path)
        ),
        "origin": _ORIGIN,
        "container": f"dcid.{job.body['name']}",
        "path": artifact.path,
        "tags": {},
    }


@accepts(fields=("values",))
def resolve_model_uris(context: RequestContext) -> dict[str, Any]:
    """POST batchGetResolvedUris: the storage paths of registered models."""
    model_ids = context.json.get("values")
    if not isinstance(model_ids, list) or not all(
        isinstance(model_id, str) for model_id in model_ids
    ):
        raise user_error("values must be a list of model ids.", target="values")
    return {"values": {model_id: _resolve_model_uri(context, model_id) for model_id in model_ids}}


def _resolve_model_uri(context: RequestContext, model_id: str) -> dict[str, Any]:
    model = context.services.assets.find_tuned_model(model_id)
    job_name = model.body.get("job") if model else None
    if model is None or job_name is None:
        raise not_found(f"Files of model {model_id[:120]}")
    return {
        "path": artifacts.outputs_uri(context.workspace.arm_id, str(job_name)),
        "type": "folder",
    }


def list_services(context: RequestContext) -> dict[str, Any]:
    """GET the services on a node of a run: none, because a job has no node to connect to."""
    context.services.jobs.get(job_ref(context))
    return {"instances": {}}


# -- artifacts as blobs -----------------------------------------------------------------------------

_BLOB_NAME = re.compile(r"ExperimentRun/dcid\.([^/]+)/(.*)", re.DOTALL)
_MAX_LISTED_RUNS = 1000
"""How many of the newest runs are listed when no run is named."""


def find_blob(context: RequestContext, container: str, name: str) -> tuple[Record, Path]:
    """Return the record and the local path of a blob. Raises ``ApiError`` 404 for an unknown one."""
    for job in _matching_runs(context, container, name):
        for artifact in artifacts.list_artifacts(context.services.files, job):
            if artifacts.artifact_blob_name(job, artifact.path) == name:
                return _blob_record(job, artifact), artifact.file
    raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")


def list_blobs(context: RequestContext, container: str, prefix: str) -> list[Record]:
    """Return the blobs whose name starts with ``prefix``, sorted by name."""
    records = [
        _blob_record(job, artifact)
        for job in _matching_runs(context, container, prefix)
        for artifact in artifacts.list_artifacts(context.services.files, job)
    ]
    return sorted((b for b in records if b.key.startswith(prefix)), key=lambda b: b.key)


def _matching_runs(context: RequestContext, container: str, name: str) -> list[Record]:
    """Return the run whose folder a blob name names, or the newest runs when it names none."""
    guid = artifacts.parse_artifact_container(container) or ""
    match = _BLOB_NAME.fullmatch(name)
    if match is None:
        return context.services.jobs.list_page(guid, None, _MAX_LISTED_RUNS)
    job = context.services.jobs.find(JobRef(guid, match[1].casefold()))
    return [job] if job else _deleted_job(context, guid, match[1])


def _deleted_job(context: RequestContext, guid: str, name: str) -> list[Record]:
    """Return what is needed of a job that was deleted, while a model of it is registered."""
    for model in context.services.store.read.newest("model", guid):
        if str(model.body["job"]).casefold() == name.casefold():
            body = {"id": model.body["folder"], "name": model.body["job"]}
            return [Record(model.seq, name, "Completed", body)]
    return []


def _blob_record(job: Record, artifact: Artifact) -> Record:
    content_type = mimetypes.guess_type(artifact.path)[0] or "application/octet-stream"
    modified = format_time(artifact.modified)
    body = {
        "size": artifact.size,
        "etag": artifact.etag,
        "created": modified,
        "modified": modified,
        "headers": {"content-type": content_type},
        "metadata": {},
        "blocks": [],
    }
    return Record(job.seq, artifacts.artifact_blob_name(job, artifact.path), None, body)


_BY_ID: dict[Operation[Any], Handler] = {
    ops.ARTIFACT_LIST: list_all,
    ops.ARTIFACT_LIST_UNDER_PATH: list_under_path,
    ops.ARTIFACT_METADATA: get_metadata,
    ops.ARTIFACT_CONTENT: get_content_uri,
    ops.ARTIFACT_CONTENTS: list_content_uris,
}
HANDLERS: dict[Operation[Any], Handler] = {
    **_BY_ID,
    **{ops.by_experiment_name(op): handler for op, handler in _BY_ID.items()},
    ops.MODEL_PATHS: resolve_model_uris,
    ops.RUN_SERVICES: list_services,
}
