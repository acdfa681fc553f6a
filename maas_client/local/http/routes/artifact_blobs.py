"""The files of runs as blobs that nobody writes: so azure-ai-ml's ``jobs.download`` reads them."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from maas_client.local.http.app import Call
from maas_client.local.rules import artifacts
from maas_client.local.rules.artifacts import Artifact
from maas_client.local.rules.assets import stamp
from maas_client.local.rules.orders import Ref
from maas_client.local.rules.refusal import Refusal
from maas_client.local.state.store import Fact

_NAME = re.compile(r"ExperimentRun/dcid\.([^/]+)/(.*)", re.DOTALL)
_RUNS = 1000
"""How many of the newest runs are listed when no run is named."""


def find(call: Call, container: str, name: str) -> tuple[Fact, Path]:
    """Return one blob and where it lies, or refuse."""
    for job in _runs(call, container, name):
        for one in artifacts.of(call.services.files, job):
            if artifacts.blob(job, one.path) == name:
                return _blob(job, one), one.file
    raise Refusal(404, "BlobNotFound", "The specified blob does not exist.")


def names(call: Call, container: str, prefix: str) -> list[Fact]:
    """Return the blobs whose name begins with ``prefix``, by name."""
    found = [
        _blob(job, one)
        for job in _runs(call, container, prefix)
        for one in artifacts.of(call.services.files, job)
    ]
    return sorted((b for b in found if b.key.startswith(prefix)), key=lambda b: b.key)


def _runs(call: Call, container: str, name: str) -> list[Fact]:
    """Return the runs that a name may mean: the one whose folder it names, else the newest."""
    guid = artifacts.workspace_of(container) or ""
    match = _NAME.fullmatch(name)
    if match is None:
        return call.services.jobs.page(guid, None, _RUNS)
    try:
        return [call.services.jobs.get(Ref(guid, match[1].casefold()))]
    except Refusal:
        return []


def _blob(job: Fact, one: Artifact) -> Fact:
    kind = mimetypes.guess_type(one.path)[0] or "application/octet-stream"
    when = stamp(one.modified)
    body = {
        "size": one.size,
        "etag": one.etag,
        "created": when,
        "modified": when,
        "headers": {"content-type": kind},
        "metadata": {},
        "blocks": [],
    }
    return Fact(job.seq, artifacts.blob(job, one.path), None, body)
