"""Fine-tuning jobs: their hyperparameters, state, events and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from maas_client._text import Argument, Text
from maas_client.errors import ConfigError
from maas_client.types._api_model import ApiModel, FrozenModel, html_table

__all__ = ["Checkpoint", "Hyperparameters", "Job", "JobError", "JobEvent", "Method"]

Method = Literal["LoRA", "QLoRA", "DoRA", "Full", "rsLoRA"]
"""How the weights are trained. Serverless Azure always runs its own LoRA; the local server and ``compute=``
let you choose."""


class Hyperparameters(FrozenModel):
    """The hyperparameters of a job, under this library's names.

    A hyperparameter that is left out (None) is not sent, and the service uses its own default. The defaults
    given below are those of the local server, which follow Azure's serverless recipe. Serverless Azure takes
    ``epochs``, ``batch_size`` and ``learning_rate`` only (foundry: ``learning_rate_multiplier`` instead of
    ``learning_rate``). A hyperparameter that the backend does not take raises ``UnsupportedError``.

    Args:
        epochs: Passes over the training data, 1 to 1000. Default: 1.
        batch_size: Examples per micro-batch and process (device), 1 to 4096. Default: 1.
        learning_rate: The highest learning rate, above 0 and below 1. Default: 2e-5.
        learning_rate_multiplier: foundry only: a factor on the service's own learning rate, above 0 and at
            most 10.
        seed: The seed of all random choices, 0 to 2**31 - 1. Default: 42.
        max_steps: Stop after this many optimizer steps, whatever ``epochs`` says. Default: no limit.
        warmup_steps: Optimizer steps until the learning rate reaches its highest value. Default: 0.
        warmup_ratio: The same as a share of all steps, 0 to 1. Default: 0.
        lr_scheduler: ``linear``, ``cosine``, ``cosine_with_restarts``, ``polynomial``, ``constant`` or
            ``constant_with_warmup``. Default: ``cosine``.
        weight_decay: The weight decay of AdamW, 0 to 1. Default: 0.1.
        gradient_accumulation_steps: Micro-batches per optimizer step. Default: 1.
        max_seq_length: The length at which rows are truncated, in tokens, at least 8. Default: the model's
            limit.
        lora_r: The rank of the adapter, 1 to 1024. Default: 8.
        lora_alpha: The scale of the adapter: it is multiplied by ``lora_alpha / lora_r``. Default: 128.
        lora_dropout: The dropout before the adapter, 0 to below 1. Default: 0.
        target_modules: The names of the linear layers that get an adapter. Default: every linear layer of
            each transformer block.
        extra: Further hyperparameters under the service's own names; sent unchanged.

    Example:
        >>> client.jobs.create(
        ...     model="Phi-4-mini-instruct",
        ...     training_data="train.jsonl",
        ...     hyperparameters=maas.Hyperparameters(epochs=3, learning_rate=1e-4),
        ... )
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: int | None = Field(default=None, ge=1, le=1000)
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    learning_rate_multiplier: float | None = Field(default=None, gt=0, le=10)
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    max_steps: int | None = Field(default=None, ge=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_ratio: float | None = Field(default=None, ge=0, le=1)
    lr_scheduler: str | None = None
    weight_decay: float | None = Field(default=None, ge=0, le=1)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1)
    max_seq_length: int | None = Field(default=None, ge=8)
    lora_r: int | None = Field(default=None, ge=1, le=1024)
    lora_alpha: float | None = Field(default=None, gt=0)
    lora_dropout: float | None = Field(default=None, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if value is not None and value != {}:
                yield name, value

    @model_validator(mode="wrap")
    @classmethod
    def _raise_config_error(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Turn pydantic's error into a ``ConfigError`` that lists the valid names."""
        try:
            return validate(values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name, *path = first["loc"] or ("hyperparameters",)
            name = str(name)
            known = [Argument(field) for field in cls.model_fields if field != "extra"]
            if first["type"] == "extra_forbidden":
                raise ConfigError(
                    f"there is no hyperparameter {name!r}",
                    hint=Text.format(
                        "Use one of {}; or pass the service's own name in {}.",
                        Text(", ").join(known),
                        Argument("extra", code=f'{{"{name}": ...}}'),
                    ),
                ) from None
            items = "".join(f", item {part}" for part in path)
            raise ConfigError(
                Text.format("hyperparameter {}{}: {}", Argument(name), items, first["msg"])
            ) from None


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


class Job(ApiModel):
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
        studio_url: The job's page in Azure ML studio; None on foundry.
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
            *((name, value) for name, value in self.hyperparameters.items()),
            ("studio", self.studio_url),
        ]
        return html_table(rows, f"Job {self.name}")


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
