"""The files of a run that others may read: its log, and what it learned once it has completed. No HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from maas_client.local.resources.errors import not_found
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import Record

LOG_PATH = "user_logs/std_log.txt"
ARTIFACT_DATASTORE = "workspaceartifactstore"
"""The datastore in which azure-ai-ml's ``jobs.download`` looks for a run's files."""
_CONTAINER = re.compile(r"azureml-artifactstore-([0-9a-f-]{36})")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a run. ``path`` is its name there, ``file`` where it lies."""

    path: str
    file: Path
    size: int
    modified: datetime

    @property
    def etag(self) -> str:
        """Return a word that changes with the file."""
        return f'"{int(self.modified.timestamp() * 1e6):x}-{self.size:x}"'


def artifact_container(guid: str) -> str:
    """Return the blob container in which a workspace's runs seem to lie."""
    return f"azureml-artifactstore-{guid}"


def parse_artifact_container(name: str) -> str | None:
    """Return the workspace whose container this is; None: it is another."""
    match = _CONTAINER.fullmatch(name)
    return match[1] if match else None


def artifact_blob_name(job: Record, path: str = "") -> str:
    """Return a file's name in that container: azure-ai-ml makes the same of a job's name."""
    return f"ExperimentRun/dcid.{job.body['name']}/{path}"


def list_artifacts(files: FileStore, job: Record) -> list[Artifact]:
    """Return a run's files by name. Checkpoints are not among them, nor what a running job writes."""
    own = job.body["id"]
    found = {LOG_PATH: files.log_path(own)}
    out = files.run_folder(own) / "out"
    if job.state == "Completed":
        for file in (*out.glob("*"), *(out / "adapter").rglob("*")):
            found[f"outputs/{file.relative_to(out).as_posix()}"] = file
    return [
        _artifact(path, file)
        for path, file in sorted(found.items())
        if file.is_file() and not file.is_symlink() and not file.name.startswith(".")
    ]


def _artifact(path: str, file: Path) -> Artifact:
    facts = file.stat()
    return Artifact(path, file, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))


def get_artifact(files: FileStore, job: Record, path: str) -> Artifact:
    """Return the file at ``path``, or refuse: there is none."""
    for found in list_artifacts(files, job):
        if found.path == path:
            return found
    raise not_found(f"Artifact {path[:120]} of run {job.body['name']}")
