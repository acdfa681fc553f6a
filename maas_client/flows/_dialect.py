"""What a dialect must be able to do: one row of functions per backend, and how one is chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from maas_client.catalog import ModelFacts
from maas_client.flows._io import IO, Step
from maas_client.flows._ready import READY_S
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

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was checked and may be sent."""

    path: Path
    sha256: str
    """Of the bytes that were checked; other bytes are not sent."""
    name: str
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class ModelUpload:
    """A folder of weights trained elsewhere, and the model they belong to."""

    folder: Path
    name: str
    base: str
    """As the catalog names it."""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class JobOrder:
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
class DeploymentOrder:
    """What ``deployments.create`` was asked for, after the model's name is known."""

    name: str
    model: str
    delete_at: datetime | None = None
    ready_s: float = READY_S
    """How long it may take to be made, and then again to answer (reliability.md R13)."""

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Return the part of a resource's body that says when it goes; empty where nothing is said."""
        return {"tags": {lifetime.TAG: lifetime.write(self.delete_at)}} if self.delete_at else {}


@dataclass(frozen=True, slots=True)
class ChatOrder:
    """One chat request: the deployment, and the body as this whole field writes it."""

    deployment: Deployment | str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The verbs of one backend."""

    name: Literal["azureml", "foundry"]
    model_id: Callable[[ModelFacts], str]
    """What a job of this backend names for a catalog model."""
    upload: Callable[[IO, Upload], Step[Dataset]]
    dataset: Callable[[IO, str], Step[Dataset]]
    datasets: Callable[[IO], AsyncGenerator[Dataset, None]]
    delete_dataset: Callable[[IO, str], Step[None]]
    check_order: Callable[[IO, JobOrder], None]
    """Raise for what this backend cannot take, before anything is sent."""
    create_job: Callable[[IO, JobOrder], Step[Job]]
    job: Callable[[IO, str], Step[Job]]
    jobs: Callable[[IO], AsyncGenerator[Job, None]]
    cancel_job: Callable[[IO, str], Step[Job]]
    delete_job: Callable[[IO, str], Step[None]]
    progress: Callable[[IO, Job], AsyncGenerator[JobEvent, None]]
    """What has happened so far, oldest first, without the status itself."""
    checkpoints: Callable[[IO, str], AsyncGenerator[Checkpoint, None]]
    logs: Callable[[IO, str], Step[str]]
    model: Callable[[IO, str], Step[Model]]
    models: Callable[[IO], AsyncGenerator[Model, None]]
    delete_model: Callable[[IO, str], Step[None]]
    deploy: Callable[[IO, DeploymentOrder], Step[Deployment]]
    deployment: Callable[[IO, str], Step[Deployment]]
    deployments: Callable[[IO], AsyncGenerator[Deployment, None]]
    delete_deployment: Callable[[IO, str], Step[None]]
    keys: Callable[[IO, str, str | None], Step[Keys]]
    complete: Callable[[IO, ChatOrder], Step[ChatCompletion]]
    stream: Callable[[IO, ChatOrder], AsyncGenerator[ChatChunk, None]]
    pause_job: Callable[[IO, str], Step[Job]]
    resume_job: Callable[[IO, str], Step[Job]]
    save_checkpoint: Callable[[IO, str], Step[Job]]
    upload_model: Callable[[IO, ModelUpload], Step[Model]] | None = None
    """None: this backend takes no weights from elsewhere."""


def of(io: IO) -> Dialect:
    """Return the dialect of this connection."""
    if io.scope.dialect == "foundry":
        from maas_client.flows.foundry import DIALECT as FOUNDRY

        return FOUNDRY
    from maas_client.flows.azureml import DIALECT as AZUREML

    return AZUREML
