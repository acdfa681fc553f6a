"""The files of runs as blobs that nobody writes: so azure-ai-ml's ``jobs.download`` reads them."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from maas_client.local.http.app import RequestContext
from maas_client.local.resources import artifacts
from maas_client.local.resources.artifacts import Artifact
from maas_client.local.resources.assets import format_time
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.job_spec import JobRef
from maas_client.local.state.store import Record

_BLOB_NAME = re.compile(r"ExperimentRun/dcid\.([^/]+)/(.*)", re.DOTALL)
_MAX_LISTED_RUNS = 1000
"""How many of the newest runs are listed when no run is named."""


def find_blob(context: RequestContext, container: str, name: str) -> tuple[Record, Path]:
    """Return one blob and where it lies, or refuse."""
    for job in _matching_runs(context, container, name):
        for artifact in artifacts.list_artifacts(context.services.files, job):
            if artifacts.artifact_blob_name(job, artifact.path) == name:
                return _blob_record(job, artifact), artifact.file
    raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")


def list_blobs(context: RequestContext, container: str, prefix: str) -> list[Record]:
    """Return the blobs whose name begins with ``prefix``, by name."""
    records = [
        _blob_record(job, artifact)
        for job in _matching_runs(context, container, prefix)
        for artifact in artifacts.list_artifacts(context.services.files, job)
    ]
    return sorted((b for b in records if b.key.startswith(prefix)), key=lambda b: b.key)


def _matching_runs(context: RequestContext, container: str, name: str) -> list[Record]:
    """Return the runs that a name may mean: the one whose folder it names, else the newest."""
    guid = artifacts.parse_artifact_container(container) or ""
    match = _BLOB_NAME.fullmatch(name)
    if match is None:
        return context.services.jobs.list_page(guid, None, _MAX_LISTED_RUNS)
    try:
        return [context.services.jobs.get(JobRef(guid, match[1].casefold()))]
    except ApiError:
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
