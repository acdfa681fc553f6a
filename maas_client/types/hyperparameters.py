"""The public model ``Hyperparameters``, derived from the table of hyperparameters."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import TextWrapper
from typing import Any, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from maas_client._hyperparameter_table import HYPERPARAMETERS, HyperparameterSpec
from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError
from maas_client.types._api_model import FrozenModel

__all__ = ["HYPERPARAMETERS", "HyperparameterSpec", "Hyperparameters"]


def _field(name: str) -> Any:
    spec = HYPERPARAMETERS[name]
    return Field(default=None, description=_describe(spec), **spec.bounds)  # type: ignore[call-overload]  # bounds


def _describe(spec: HyperparameterSpec) -> str:
    return f"{spec.description}. Default: {spec.default}."


class Hyperparameters(FrozenModel):
    """The hyperparameters of a job, under this library's names.

    A hyperparameter that is left out (None) is not sent, and the service uses its own default. The defaults
    given below are those of the local server, which follow Azure's serverless recipe. Serverless Azure takes
    ``epochs``, ``batch_size`` and ``learning_rate`` only (foundry: ``learning_rate_multiplier`` instead of
    ``learning_rate``). A hyperparameter that the backend does not take raises ``UnsupportedError``.

    Example:
        >>> client.jobs.create(
        ...     model="Phi-4-mini-instruct",
        ...     training_data="train.jsonl",
        ...     hyperparameters=maas.Hyperparameters(epochs=3, learning_rate=1e-4),
        ... )
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    epochs: int | None = _field("epochs")
    batch_size: int | None = _field("batch_size")
    learning_rate: float | None = _field("learning_rate")
    learning_rate_multiplier: float | None = _field("learning_rate_multiplier")
    seed: int | None = _field("seed")
    max_steps: int | None = _field("max_steps")
    warmup_steps: int | None = _field("warmup_steps")
    warmup_ratio: float | None = _field("warmup_ratio")
    lr_scheduler: str | None = _field("lr_scheduler")
    weight_decay: float | None = _field("weight_decay")
    gradient_accumulation_steps: int | None = _field("gradient_accumulation_steps")
    max_seq_length: int | None = _field("max_seq_length")
    lora_r: int | None = _field("lora_r")
    lora_alpha: float | None = _field("lora_alpha")
    lora_dropout: float | None = _field("lora_dropout")
    beta: float | None = _field("beta")
    adapter: str | None = _field("adapter")
    target_modules: tuple[str, ...] | None = _field("target_modules")
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="Further hyperparameters under the service's own names; sent unchanged.",
    )

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
            if not first["loc"]:
                raise ConfigError(
                    Text.format(
                        "{} must be Hyperparameters or a mapping", Argument("hyperparameters")
                    ),
                    hint=Text.format(
                        "For example {}.", Argument("hyperparameters", code='{"epochs": 3}')
                    ),
                ) from None
            name, *path = first["loc"]
            name = str(name)
            if first["type"] == "extra_forbidden":
                raise ConfigError(
                    f"unknown hyperparameter {name!r}",
                    hint=Text.format(
                        "Use one of {}; or pass the service's own name in {}.",
                        Text(", ").join(Argument(valid_name) for valid_name in HYPERPARAMETERS),
                        Argument("extra", code=f'{{"{name}": ...}}'),
                    ),
                ) from None
            items = "".join(f", item {part}" for part in path)
            rule = first["msg"].replace("Input should be", "must be", 1)
            raise ConfigError(
                Text.format("hyperparameter {}{}: {}", Argument(name), items, rule)
            ) from None


def _args_section() -> str:
    """Return the ``Args:`` section of the class docstring."""
    wrapper = TextWrapper(width=108, initial_indent=" " * 8, subsequent_indent=" " * 12)
    texts = {name: field.description for name, field in Hyperparameters.model_fields.items()}
    return "Args:\n" + "\n".join(wrapper.fill(f"{name}: {text}") for name, text in texts.items())


Hyperparameters.__doc__ = (Hyperparameters.__doc__ or "").replace(
    "Example:\n", f"{_args_section()}\n\n    Example:\n"
)
