"""A job request of either dialect, in the server's own types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class JobRef(NamedTuple):
    """A job's key in the store."""

    scope: str
    key: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The model, data and hyperparameters of a job."""

    model: str
    """The base model's name, as in the catalog."""
    train: str
    """The training data: ``container/blob``, read when the job is created."""
    validation: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    """The name to register the model under."""


class DataRef(NamedTuple):
    """The data that a URI refers to."""

    uri: str
    content: str | None
    """The id of its bytes; None if there are none."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created."""

    name: str
    request: dict[str, Any]
    """The request body; it is kept and echoed."""
    immutable: dict[str, Any]
    """The parts of the request that a second PUT must not change."""
    spec: JobSpec
    train: DataRef
    validation: DataRef | None
    workspace: dict[str, str]
    base: dict[str, Any]
    """The base that the model's name runs on here (``local/bases``)."""
    dialect: str = "azureml"
    properties: dict[str, str] = field(default_factory=dict)
    """Properties that the server adds: the base that ran, whether the job is simulated."""
