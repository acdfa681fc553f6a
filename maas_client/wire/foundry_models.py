"""Bodies of the foundry dialect (docs/azure-http.md section 4.5 and 4.6).

The OpenAI-shaped ones are written in snake case, ARM's in camel case. Azure's nulls and its own status
words are part of the shape: nothing here is an enum.
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from maas_client.wire._model import WireModel


class SnakeCaseModel(WireModel):
    model_config = ConfigDict(alias_generator=None)


class ListPage(SnakeCaseModel):
    """A page. The dated api-versions know no ``has_more``."""

    data: list[dict[str, Any]]
    """Always there: a body without it, taken for an empty list, would let a job be made twice."""
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
    """One hour after the upload was begun."""
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
    """Azure: pending, running, succeeded, cancelled, failed; queued and others were seen."""
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
    """The base, for a tuned model; null for a base model."""
    fine_tune: str | None = None


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
    key1: str
    key2: str


JOB_FIELDS = frozenset(
    {
        "model", "training_file", "validation_file", "hyperparameters", "method", "suffix", "seed",
        "integrations", "metadata", "trainingType", "prompt_loss_weight",
    }
)  # fmt: skip
"""What a job's body may hold (section 4.4): OpenAI's fields and Azure's two."""
