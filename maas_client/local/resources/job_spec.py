"""What a job is asked for with, whatever dialect it was asked in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class JobRef(NamedTuple):
    """Where a job stands in the store."""

    scope: str
    key: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job asks for, whatever dialect it was asked in."""

    model: str
    """The base model's name, as in the catalog."""
    train: str
    """``container/blob``: resolved to its bytes when the job is created."""
    validation: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    """The name to register the model under."""


class DataRef(NamedTuple):
    """The bytes behind a data uri: ``content`` is None when there are none."""

    uri: str
    content: str | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created: ``request`` is kept and echoed; ``fixed`` is what may not change."""

    name: str
    request: dict[str, Any]
    immutable: dict[str, Any]
    spec: JobSpec
    train: DataRef
    validation: DataRef | None
    workspace: dict[str, str]
    base: dict[str, Any]
    """What the model's name runs on here (``local/bases``)."""
    dialect: str = "azureml"
    properties: dict[str, str] = field(default_factory=dict)
    """Facts of ours about the job: which base it runs on, whether it is simulated."""
