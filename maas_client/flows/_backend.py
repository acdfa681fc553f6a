"""What a dialect must be able to do: one row of functions per backend, and how one is chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from maas_client.catalog import ModelInfo
from maas_client.flows._io import IO, Coro
from maas_client.flows._ready import READY_TIMEOUT_S
from maas_client.types import (
    ChatChunk,
    ChatCompletion,
    Checkpoint,
    Dataset,
    Deployment,
    Hyperparameters,
    Job,
    JobEvent,
    Keys,
    Model,
)
from maas_client.wire import lifetime

ProgressCallback = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A file that was checked and may be sent."""

    path: Path
    sha256: str
    """Of the bytes that were checked; other bytes are not sent."""
    name: str
    progress: ProgressCallback | None = None


@dataclass(frozen=True, slots=True)
class ModelUploadRequest:
    """A folder of weights trained elsewhere, and the model they belong to."""

    folder: Path
    name: str
    base_model: str
    """As the catalog names it."""
    progress: ProgressCallback | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Everything ``jobs.create`` was asked for, after names are known and data is uploaded."""

    model: str
    """As the service names it: a registry uri, an asset id, a foundry model name."""
    model_name: str
    training: Dataset
    validation: Dataset | None
    hyperparameters: Hyperparameters
    method: str | None
    name: str | None
    compute: tuple[str, ...]
    force_new: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    display_name: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """What ``deployments.create`` was asked for, after the model's name is known."""

    name: str
    model: str
    delete_at: datetime | None = None
    ready_timeout_s: float = READY_TIMEOUT_S
    """How long it may take to be made, and then again to answer (reliability.md R13)."""

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Return the part of a resource's body that says when it goes; empty where nothing is said."""
        return (
            {"tags": {lifetime.DELETE_AT_TAG: lifetime.format_delete_at(self.delete_at)}}
            if self.delete_at
            else {}
        )


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat request: the deployment, and the body as this whole field writes it."""

    deployment: Deployment | str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Backend:
    """The verbs of one backend."""

    name: Literal["azureml", "foundry"]
    model_id: Callable[[ModelInfo], str]
    """What a job of this backend names for a catalog model."""
    upload: Callable[[IO, UploadRequest], Coro[Dataset]]
    dataset: Callable[[IO, str], Coro[Dataset]]
    datasets: Callable[[IO], AsyncGenerator[Dataset, None]]
    delete_dataset: Callable[[IO, str], Coro[None]]
    check_order: Callable[[IO, JobRequest], None]
    """Raise for what this backend cannot take, before anything is sent."""
    create_job: Callable[[IO, JobRequest], Coro[Job]]
    job: Callable[[IO, str], Coro[Job]]
    jobs: Callable[[IO], AsyncGenerator[Job, None]]
    cancel_job: Callable[[IO, str], Coro[Job]]
    delete_job: Callable[[IO, str], Coro[None]]
    progress: Callable[[IO, Job], AsyncGenerator[JobEvent, None]]
    """What has happened so far, oldest first, without the status itself."""
    checkpoints: Callable[[IO, str], AsyncGenerator[Checkpoint, None]]
    logs: Callable[[IO, str], Coro[str]]
    model: Callable[[IO, str], Coro[Model]]
    models: Callable[[IO], AsyncGenerator[Model, None]]
    delete_model: Callable[[IO, str], Coro[None]]
    deploy: Callable[[IO, DeploymentRequest], Coro[Deployment]]
    deployment: Callable[[IO, str], Coro[Deployment]]
    deployments: Callable[[IO], AsyncGenerator[Deployment, None]]
    delete_deployment: Callable[[IO, str], Coro[None]]
    keys: Callable[[IO, str, str | None], Coro[Keys]]
    complete: Callable[[IO, ChatRequest], Coro[ChatCompletion]]
    stream: Callable[[IO, ChatRequest], AsyncGenerator[ChatChunk, None]]
    pause_job: Callable[[IO, str], Coro[Job]]
    resume_job: Callable[[IO, str], Coro[Job]]
    save_checkpoint: Callable[[IO, str], Coro[Job]]
    upload_model: Callable[[IO, ModelUploadRequest], Coro[Model]] | None = None
    """None: this backend takes no weights from elsewhere."""


def backend_for(io: IO) -> Backend:
    """Return the dialect of this connection."""
    if io.scope.dialect == "foundry":
        from maas_client.flows.foundry import BACKEND as FOUNDRY

        return FOUNDRY
    from maas_client.flows.azureml import BACKEND as AZUREML

    return AZUREML
