"""Fine-tuning jobs: their state, events and checkpoints, and the result of ``client.fine_tune``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
)

from maas_client.types._api_model import ApiModel, FrozenModel, SimulatableModel, html_table
from maas_client.types.datasets import Dataset
from maas_client.types.deployments import Deployment
from maas_client.types.report import ValidationReport

__all__ = ["Checkpoint", "FineTuneResult", "Job", "JobError", "JobEvent", "Method"]

Method = Literal["LoRA", "QLoRA", "DoRA", "Full", "rsLoRA", "DPO"]
"""How the weights are trained. Serverless Azure always runs its own LoRA; the local server and ``compute=``
let you choose."""


class JobError(FrozenModel):
    """Why a job ended without success, in the service's own words.

    Attributes:
        code: The service's error code; None if it gave none.
        message: The service's message; empty if it gave none.
        param: The part of the job's request that caused the error; None if the service names none.
    """

    model_config = ConfigDict(extra="allow")

    code: str | None = None
    message: str = ""
    param: str | None = None


class Job(SimulatableModel):
    """A fine-tuning job.

    Attributes:
        id: The job's id: an ARM id on azureml, ``ftjob-...`` on foundry.
        name: The job's name. Every verb of ``client.jobs`` takes the job, its id or its name.
        status: The service's own status, such as ``Running`` or ``Completed`` (azureml), ``running`` or
            ``succeeded`` (foundry). Programs should test ``done`` and ``succeeded`` instead.
        done: True if the status is final. An unknown status does not count as final.
        succeeded: True if the job is done and has produced a model.
        model: The base model as the service names it.
        fine_tuned_model: What ``deployments.create(model=...)`` takes; None until the job has succeeded.
        error: Why the job failed; None unless it did.
        properties: The service's own properties and tags.
        hyperparameters: The hyperparameters that the service reports, under its own names.
        training_data: The id or URI of the training data.
        validation_data: The id or URI of the validation data; None if there is none.
        created_at: When the job was created; None if the service does not report it.
        finished_at: When the job reached its final status; None before that.
        trained_tokens: The number of tokens that were trained on (and billed); None if not reported.
        attached: True if ``create`` found this job instead of starting a new one.
        studio_url: The job's page in Azure ML studio; None on foundry and on the local server.
        raw: The service's response, unchanged.
    """

    _REPR_FIELDS: ClassVar = ("name", "status", "model", "fine_tuned_model", "error")

    id: str
    name: str
    status: str
    done: bool
    succeeded: bool
    model: str | None = None
    fine_tuned_model: str | None = None
    error: JobError | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    training_data: str | None = None
    validation_data: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    trained_tokens: int | None = None
    attached: bool = False
    studio_url: str | None = None

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("status", self.status),
            ("model", self.model),
            ("fine-tuned model", self.fine_tuned_model),
            ("error", self.error and self.error.message),
            ("created", self.created_at and f"{self.created_at:%Y-%m-%d %H:%M:%S %Z}"),
            ("finished", self.finished_at and f"{self.finished_at:%Y-%m-%d %H:%M:%S %Z}"),
            ("trained tokens", self.trained_tokens and f"{self.trained_tokens:,}"),
            (
                "training",
                "simulated by the instant engine" if self.simulated else None,
            ),
            *(
                (name, None if value == -1 else value)  # the service chooses
                for name, value in self.hyperparameters.items()
            ),
            ("studio", self.studio_url),
        ]
        return html_table(rows, caption=f"Job {self.name}")


class JobEvent(ApiModel):
    """Something that happened to a job, yielded by ``client.jobs.events``.

    Attributes:
        key: The event's key. It is the same in every process, so ``events(after=key)`` can resume there.
        type: ``status``, ``metrics`` or ``message``.
        message: The event as one line of text.
        level: ``info``, ``warning`` or ``error``.
        created_at: When it happened; None if the service does not report it.
        status: The new status, for ``status`` events; otherwise None.
        step: The optimizer step, for ``metrics`` events; otherwise None.
        metrics: Values by name, for ``metrics`` events: ``train_loss``, ``valid_loss``, ``learning_rate``, ...
        data: Further values of the service's event.
        raw: The service's response, unchanged.
    """

    _REPR_FIELDS: ClassVar = ("type", "message", "level", "step", "key")

    key: str
    type: str
    message: str
    level: str = "info"
    created_at: datetime | None = None
    status: str | None = None
    step: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)


class Checkpoint(ApiModel):
    """The state of a model that was saved during training.

    Attributes:
        id: The checkpoint's id.
        step: The optimizer step after which it was saved.
        fine_tuned_model: What ``deployments.create(model=...)`` takes; None if it cannot be deployed.
        metrics: The metrics at this step, by name.
        created_at: When it was saved; None if the service does not report it.
        raw: The service's response, unchanged.
    """

    _REPR_FIELDS: ClassVar = ("id", "step", "fine_tuned_model", "metrics")

    id: str
    step: int
    fine_tuned_model: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: datetime | None = None


class FineTuneResult(FrozenModel):
    """Everything that ``client.fine_tune`` did.

    Attributes:
        report: The validation of the training file.
        dataset: The uploaded training file.
        job: The finished job.
        deployment: The deployment; None with ``deploy=None``.
    """

    report: ValidationReport = Field(repr=False)
    dataset: Dataset = Field(repr=False)
    job: Job
    deployment: Deployment | None = None
