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

_NAME = re.compile(r"ExperimentRun/dcid\.([^/]+)/(.*)", re.DOTALL)
_RUNS = 1000
"""How many of the newest runs are listed when no run is named."""


def find_blob(call: RequestContext, container: str, name: str) -> tuple[Record, Path]:
    """Return one blob and where it lies, or refuse."""
    for job in _runs(call, container, name):
        for one in artifacts.list_artifacts(call.services.files, job):
            if artifacts.artifact_blob_name(job, one.path) == name:
                return _blob(job, one), one.file
    raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")


def list_blobs(call: RequestContext, container: str, prefix: str) -> list[Record]:
    """Return the blobs whose name begins with ``prefix``, by name."""
    found = [
        _blob(job, one)
        for job in _runs(call, container, prefix)
        for one in artifacts.list_artifacts(call.services.files, job)
    ]
    return sorted((b for b in found if b.key.startswith(prefix)), key=lambda b: b.key)


def _runs(call: RequestContext, container: str, name: str) -> list[Record]:
    """Return the runs that a name may mean: the one whose folder it names, else the newest."""
    guid = artifacts.parse_artifact_container(container) or ""
    match = _NAME.fullmatch(name)
    if match is None:
        return call.services.jobs.list_page(guid, None, _RUNS)
    try:
        return [call.services.jobs.get(JobRef(guid, match[1].casefold()))]
    except ApiError:
        return []


def _blob(job: Record, one: Artifact) -> Record:
    kind = mimetypes.guess_type(one.path)[0] or "application/octet-stream"
    when = format_time(one.modified)
    body = {
        "size": one.size,
        "etag": one.etag,
        "created": when,
        "modified": when,
        "headers": {"content-type": kind},
        "metadata": {},
        "blocks": [],
    }
    return Record(job.seq, artifacts.artifact_blob_name(job, one.path), None, body)
