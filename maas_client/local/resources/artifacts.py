"""The files of a job that clients can read: its log and, once it has completed, its outputs."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from maas_client.local.resources.errors import not_found
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import Record

LOG_PATH = "user_logs/std_log.txt"
ARTIFACT_DATASTORE = "workspaceartifactstore"
"""The datastore in which azure-ai-ml's ``jobs.download`` looks for a job's files."""
_CONTAINER = re.compile(r"azureml-artifactstore-([0-9a-f-]{36})")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a job."""

    path: str
    """The name that clients see, such as ``outputs/adapter_config.json``."""
    file: Path
    """The file on disk."""
    size: int
    modified: datetime

    @property
    def etag(self) -> str:
        """Return a tag that changes with the file."""
        return f'"{int(self.modified.timestamp() * 1e6):x}-{self.size:x}"'


def artifact_container(guid: str) -> str:
    """Return the blob container under which clients find a workspace's job files."""
    return f"azureml-artifactstore-{guid}"


def parse_artifact_container(name: str) -> str | None:
    """Return the GUID of the workspace that an artifact container belongs to; None for other names."""
    match = _CONTAINER.fullmatch(name)
    return match[1] if match else None


def artifact_blob_name(job: Record, path: str = "") -> str:
    """Return a file's blob name in the artifact container, as azure-ai-ml derives it from the job."""
    return f"ExperimentRun/dcid.{job.body['name']}/{path}"


def experiment_name(job: Record) -> str:
    """Return the name of a job's experiment."""
    return str(job.body["request"]["properties"].get("experimentName") or "Default")


def experiment_id(job: Record) -> str:
    """Return the id of a job's experiment, derived from its workspace and name."""
    return str(uuid.uuid5(uuid.UUID(job.body["scope"]), experiment_name(job).casefold()))


def outputs_uri(workspace_id: str, job_name: str) -> str:
    """Return the URI of a job's outputs in the form that azure-ai-ml reads: datastore and path."""
    workspace = workspace_id.replace("/providers/Microsoft.MachineLearningServices", "").lstrip("/")
    return (
        f"azureml://{workspace}/datastores/{ARTIFACT_DATASTORE}"
        f"/paths/ExperimentRun/dcid.{job_name}/outputs/"
    )


def list_artifacts(files: FileStore, job: Record) -> list[Artifact]:
    """Return a job's files by name, without checkpoints and without outputs of an unfinished job."""
    job_id = job.body["id"]
    by_path = {LOG_PATH: files.log_path(job_id)}
    outputs = files.run_folder(job_id) / "out"
    if job.state == "Completed":
        for file in (*outputs.glob("*"), *(outputs / "adapter").rglob("*")):
            by_path[f"outputs/{file.relative_to(outputs).as_posix()}"] = file
    return [
        _artifact(path, file)
        for path, file in sorted(by_path.items())
        if file.is_file() and not file.is_symlink() and not file.name.startswith(".")
    ]


def _artifact(path: str, file: Path) -> Artifact:
    status = file.stat()
    return Artifact(path, file, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def get_artifact(files: FileStore, job: Record, path: str) -> Artifact:
    """Return the file at ``path``. Raises ``ApiError`` (404) when there is none."""
    for artifact in list_artifacts(files, job):
        if artifact.path == path:
            return artifact
    raise not_found(f"Artifact {path[:120]} of run {job.body['name']}")
