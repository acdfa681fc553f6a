"""Fine-tuning jobs, what goes into them and what comes out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from maas_client.errors import ConfigError
from maas_client.types._api_model import ApiModel

Method = Literal["LoRA", "QLoRA", "DoRA", "Full", "rsLoRA"]


class Hyperparameters(BaseModel):
    """What a job may be told about the training, in our names.

    Serverless Azure takes ``epochs``, ``batch_size`` and ``learning_rate`` (foundry:
    ``learning_rate_multiplier``) alone and refuses nothing silently here: a value the backend
    cannot take is an ``UnsupportedError`` that names those that can. None means the service's
    default. ``extra`` goes to the service verbatim, under the service's own names.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    epochs: int | None = Field(default=None, ge=1, le=1000)
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    """Examples per optimiser step and process (device), before accumulation."""
    learning_rate: float | None = Field(default=None, gt=0, lt=1)
    learning_rate_multiplier: float | None = Field(default=None, gt=0, le=10)
    """foundry only: a factor on the service's own learning rate."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    max_steps: int | None = Field(default=None, ge=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_ratio: float | None = Field(default=None, ge=0, le=1)
    lr_scheduler: str | None = None
    weight_decay: float | None = Field(default=None, ge=0, le=1)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1)
    max_seq_length: int | None = Field(default=None, ge=8)
    """In tokens; longer rows are cut at the end."""
    lora_r: int | None = Field(default=None, ge=1, le=1024)
    lora_alpha: float | None = Field(default=None, gt=0)
    lora_dropout: float | None = Field(default=None, ge=0, lt=1)
    target_modules: tuple[str, ...] | None = None
    """Names of linear layers; None is every linear layer of a block, fused ones too."""
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _ours(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Say what is wrong in this library's own error, with the names there are."""
        try:
            return read(given)
        except ValidationError as bad:
            first = bad.errors(include_input=False, include_url=False)[0]
            name, *inside = first["loc"] or ("hyperparameters",)
            place = f"{name}=" + "".join(f", item {part}" for part in inside)
            known = ", ".join(f"{name}=" for name in cls.model_fields if name != "extra")
            if first["type"] == "extra_forbidden":
                own = f'a name of the service\'s own goes into extra={{"{name}": ...}}'
                raise ConfigError(
                    f"no hyperparameter is called {name!r}", hint=f"Known are {known}; {own}."
                ) from None
            raise ConfigError(f"hyperparameter {place}: {first['msg']}") from None


class JobError(BaseModel):
    """Why a job ended without success, in the service's own words."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    code: str | None = None
    message: str = ""
    param: str | None = None


class Job(ApiModel):
    """One fine-tuning job. ``status`` is the service's own word; code asks ``done``."""

    id: str
    name: str
    status: str
    done: bool
    """Terminal: ``Completed``/``Failed``/``Canceled`` on azureml, ``succeeded``/``failed``/
    ``cancelled`` on foundry. A status nobody documented is not terminal."""
    succeeded: bool
    model: str | None = None
    """The base model as the service names it."""
    fine_tuned_model: str | None = None
    """What a deployment names, read back from the service; None until it has succeeded."""
    error: JobError | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    training_data: str | None = None
    validation_data: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    trained_tokens: int | None = None
    attached: bool = False
    """True when ``create`` found this job instead of starting one."""
    studio_url: str | None = None


class JobEvent(ApiModel):
    """Something that happened to a job. ``key`` is stable: the same event has the same key in
    every process that watches, so nothing is told twice."""

    key: str
    type: str
    """``status``, ``metrics`` or ``message``."""
    message: str
    level: str = "info"
    created_at: datetime | None = None
    status: str | None = None
    step: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    """``train_loss``, ``valid_loss``, ``learning_rate``, ... in this library's names."""
    data: dict[str, Any] = Field(default_factory=dict)


class Checkpoint(ApiModel):
    """A state of the model that was kept during training."""

    id: str
    step: int
    fine_tuned_model: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    created_at: datetime | None = None
