"""Bodies of a Foundry resource (docs/azure-http.md sections 4.5 and 4.6).

OpenAI-shaped bodies use snake case, ARM's use camel case. Fields may be null, and a status may be any string:
Azure uses words that it does not document.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from maas_client.wire.parsing import WireModel


class SnakeCaseModel(WireModel):
    model_config = ConfigDict(alias_generator=None)


class ListPage(SnakeCaseModel):
    """A page of a list. The dated api-versions have no ``has_more``."""

    data: list[Any]
    """Required: a body without it must not be read as an empty list, or a job could be created twice."""
    has_more: bool | None = None
    last_id: str | None = None


class File(SnakeCaseModel):
    id: str
    bytes: int | None = None
    created_at: int | None = None
    filename: str = ""
    purpose: str = ""
    status: str | None = None
    """Azure: pending, running, processed, error, deleted."""
    status_details: str | None = None


class Upload(SnakeCaseModel):
    id: str
    status: str = ""
    expires_at: int | None = None
    """One hour after the upload was created."""
    file: File | None = None


class UploadPart(SnakeCaseModel):
    id: str


class JobError(SnakeCaseModel):
    code: str | None = None
    message: str | None = None
    param: str | None = None


class Job(SnakeCaseModel):
    id: str
    model: str | None = None
    status: str = ""
    """Azure documents pending, running, succeeded, cancelled and failed. queued and others occur too."""
    created_at: int | None = None
    finished_at: int | None = None
    fine_tuned_model: str | None = None
    training_file: str | None = None
    validation_file: str | None = None
    result_files: list[str] | None = None
    trained_tokens: int | None = None
    hyperparameters: dict[str, Any] | None = None
    method: dict[str, Any] | None = None
    seed: int | None = None
    suffix: str | None = None
    metadata: dict[str, Any] | None = None
    error: JobError | None = None


class JobEvent(SnakeCaseModel):
    id: str
    created_at: int | None = None
    level: str = "info"
    type: str | None = None
    message: str = ""
    data: dict[str, Any] | None = None


class Checkpoint(SnakeCaseModel):
    id: str
    created_at: int | None = None
    step_number: int = 0
    fine_tuned_model_checkpoint: str | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)


class Model(SnakeCaseModel):
    id: str
    created: int | None = None
    created_at: int | None = None
    model: str | None = None
    """The base model of a fine-tuned model; null for a base model."""
    fine_tune: str | None = None
    metadata: dict[str, Any] | None = None
    """From the local server only: the base, and whether the model is simulated."""


class DeployedModel(WireModel):
    format: str | None = None
    name: str = ""
    version: str | None = None
    source: str | None = None


class DeploymentProperties(WireModel):
    model: DeployedModel = Field(default_factory=DeployedModel)
    provisioning_state: str | None = None


class Deployment(WireModel):
    id: str | None = None
    name: str | None = None
    sku: dict[str, Any] = Field(default_factory=dict)
    tags: dict[str, str] | None = None
    properties: DeploymentProperties = Field(default_factory=DeploymentProperties)


class AccountKeys(WireModel):
    key1: str = Field(repr=False)
    key2: str = Field(repr=False)


_METADATA_PAIRS, _METADATA_KEY_LENGTH, _METADATA_VALUE_LENGTH = 16, 64, 512


def find_metadata_problem(metadata: Any) -> str | None:
    """Return what is wrong with ``metadata`` of a job or chat (docs/azure-http.md section 4.4), or None."""
    if not isinstance(metadata, dict):
        return "metadata must be an object."
    if len(metadata) > _METADATA_PAIRS:
        return f"metadata must have at most {_METADATA_PAIRS} keys."
    for name, value in metadata.items():
        if len(name) > _METADATA_KEY_LENGTH:
            return f"metadata.{name[:60]} must have a name of at most {_METADATA_KEY_LENGTH} characters."
        if not isinstance(value, str):
            return f"metadata.{name} must be a string."
        if len(value) > _METADATA_VALUE_LENGTH:
            return f"metadata.{name} must have at most {_METADATA_VALUE_LENGTH} characters."
    return None


JOB_FIELDS = frozenset(
    {
        "model", "training_file", "validation_file", "hyperparameters", "method", "suffix", "seed",
        "integrations", "metadata", "trainingType", "prompt_loss_weight",
    }
)  # fmt: skip
"""The fields of a job's body: OpenAI's, and two of Azure (docs/azure-http.md section 4.4)."""
