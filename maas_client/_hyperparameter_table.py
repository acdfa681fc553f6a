"""The table of hyperparameters, and their names and values on the wire.

Everything that lists hyperparameters derives from ``HYPERPARAMETERS``: the public model and its documentation
(``types/hyperparameters.py``), the names on the wire (below the table), the command line's options, and the
local server's training configuration. It imports nothing heavy, so that the command line starts fast.

Azure ML takes the names of Microsoft's ``chat_completion_pipeline`` (azureml-assets), which are those of
``transformers.TrainingArguments`` where both have the parameter. Foundry takes OpenAI's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

__all__ = ["HYPERPARAMETERS", "HyperparameterSpec"]


@dataclass(frozen=True, slots=True)
class HyperparameterSpec:
    """One hyperparameter: its type, bounds, texts, and its name wherever it is sent."""

    name: str
    """The name in ``Hyperparameters``."""
    type: type
    """``int``, ``float``, ``str``, or ``tuple`` for a list of names."""
    description: str
    """What it does, without a full stop."""
    help: str
    """The help text of the command line."""
    default: str
    """What the local server uses if it is left out, in words."""
    config_field: str
    """The field of the local server's ``TrainingConfig``."""
    azureml_name: str | None = None
    """The name in Microsoft's ``chat_completion_pipeline``; None if Azure ML does not have it."""
    foundry_name: str | None = None
    """The name in a Foundry job; None if Foundry does not take it."""
    is_serverless: bool = False
    """True if Azure ML's serverless fine-tuning takes it (docs/azure-http.md section 1.4)."""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    """The value must be greater than this."""
    below: float | None = None
    """The value must be less than this."""
    unset_value: int | None = None
    """The number that means "not set" in Microsoft's pipeline."""
    choices: tuple[str, ...] = ()
    """The values that the local server takes; a service may take others."""
    foundry_range: tuple[int, int] | None = None
    """The range that Foundry takes, where it is narrower."""

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds as arguments of ``pydantic.Field``."""
        limits = {"ge": self.minimum, "le": self.maximum, "gt": self.above, "lt": self.below}
        return {name: limit for name, limit in limits.items() if limit is not None}


_SPECS = (
    HyperparameterSpec(
        "epochs",
        int,
        "Passes over the training data, 1 to 1000",
        "passes over the data",
        "1",
        "epochs",
        azureml_name="num_train_epochs",
        foundry_name="n_epochs",
        is_serverless=True,
        minimum=1,
        maximum=1000,
        foundry_range=(1, 50),
    ),
    HyperparameterSpec(
        "batch_size",
        int,
        "Examples per micro-batch and process (device), 1 to 4096",
        "examples per step and process",
        "1",
        "batch_size",
        azureml_name="per_device_train_batch_size",
        foundry_name="batch_size",
        is_serverless=True,
        minimum=1,
        maximum=4096,
        foundry_range=(1, 256),
    ),
    HyperparameterSpec(
        "learning_rate",
        float,
        "The highest learning rate, above 0 and below 1",
        "peak learning rate, for example 2e-4",
        "2e-5",
        "learning_rate",
        azureml_name="learning_rate",
        is_serverless=True,
        above=0,
        below=1,
    ),
    HyperparameterSpec(
        "learning_rate_multiplier",
        float,
        "Foundry only: a factor on the service's own learning rate, above 0 and at most 10",
        "foundry: factor on the service's learning rate",
        "1",
        "learning_rate_multiplier",
        foundry_name="learning_rate_multiplier",
        above=0,
        maximum=10,
    ),
    HyperparameterSpec(
        "seed",
        int,
        "The seed of all random choices, 0 to 2**31 - 1",
        "seed for the order of the data and the initial adapter weights",
        "42",
        "seed",
        azureml_name="seed",
        foundry_name="seed",
        minimum=0,
        below=2**31,
    ),
    HyperparameterSpec(
        "max_steps",
        int,
        "Stop after this many optimizer steps, whatever ``epochs`` says",
        "stop after this many steps",
        "no limit",
        "max_steps",
        azureml_name="max_steps",
        minimum=1,
        unset_value=-1,
    ),
    HyperparameterSpec(
        "warmup_steps",
        int,
        "Optimizer steps until the learning rate reaches its highest value",
        "steps until the peak learning rate",
        "0",
        "warmup_steps",
        azureml_name="warmup_steps",
        minimum=0,
    ),
    HyperparameterSpec(
        "warmup_ratio",
        float,
        "Steps until the peak learning rate, as a fraction of all steps, 0 to 1",
        "steps until the peak rate, as a fraction of all steps",
        "0",
        "warmup_ratio",
        azureml_name="warmup_ratio",
        minimum=0,
        maximum=1,
    ),
    HyperparameterSpec(
        "lr_scheduler",
        str,
        "``linear``, ``cosine``, ``cosine_with_restarts``, ``polynomial``, ``constant`` or "
        "``constant_with_warmup``",
        "cosine, linear, constant, ...",
        "``cosine``",
        "lr_scheduler_type",
        azureml_name="lr_scheduler_type",
        choices=(
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "constant",
            "constant_with_warmup",
        ),
    ),
    HyperparameterSpec(
        "weight_decay",
        float,
        "The weight decay of AdamW, 0 to 1",
        "weight decay, for example 0.1",
        "0.1",
        "weight_decay",
        azureml_name="weight_decay",
        minimum=0,
        maximum=1,
    ),
    HyperparameterSpec(
        "gradient_accumulation_steps",
        int,
        "Micro-batches per optimizer step",
        "batches per step",
        "1",
        "gradient_accumulation_steps",
        azureml_name="gradient_accumulation_steps",
        minimum=1,
    ),
    HyperparameterSpec(
        "max_seq_length",
        int,
        "The length at which rows are truncated, in tokens, at least 8",
        "longest row in tokens; longer rows are truncated",
        "the model's limit",
        "max_length",
        azureml_name="max_seq_length",
        minimum=8,
        unset_value=-1,
    ),
    HyperparameterSpec(
        "lora_r",
        int,
        "The rank of the adapter, 1 to 1024",
        "rank of the LoRA matrices",
        "8",
        "lora_r",
        azureml_name="lora_r",
        minimum=1,
        maximum=1024,
    ),
    HyperparameterSpec(
        "lora_alpha",
        float,
        "The scale of the adapter: it is multiplied by ``lora_alpha / lora_r``",
        "LoRA scale: alpha / rank",
        "128",
        "lora_alpha",
        azureml_name="lora_alpha",
        above=0,
    ),
    HyperparameterSpec(
        "lora_dropout",
        float,
        "The dropout before the adapter, 0 to below 1",
        "LoRA dropout, between 0 and 1",
        "0",
        "lora_dropout",
        azureml_name="lora_dropout",
        minimum=0,
        below=1,
    ),
    HyperparameterSpec(
        "beta",
        float,
        "DPO only: how strongly the model is kept close to its base, above 0 and at most 2",
        "DPO: weight of the base model as the reference, for example 0.1",
        "0.1",
        "beta",
        azureml_name="beta",
        foundry_name="beta",
        above=0,
        maximum=2,
    ),
    HyperparameterSpec(
        "adapter",
        str,
        "DPO only: what is trained: LoRA, rsLoRA, QLoRA or DoRA, or with ``none`` all weights",
        "DPO: LoRA, rsLoRA, QLoRA, DoRA, or none to train all weights",
        "LoRA",
        "adapter",
        azureml_name="adapter",
        choices=("LoRA", "rsLoRA", "QLoRA", "DoRA", "none"),
    ),
    HyperparameterSpec(
        "target_modules",
        tuple,
        "The names of the linear layers that get an adapter",
        "linear layers to adapt (default: all)",
        "every linear layer of each transformer block",
        "target_modules",
        azureml_name="target_modules",
    ),
)
HYPERPARAMETERS = {spec.name: spec for spec in _SPECS}
"""Every hyperparameter by its name, in the order of the documentation."""

ADAPTER_HYPERPARAMETERS = ("lora_r", "lora_alpha", "lora_dropout", "target_modules")
"""What describes an adapter, so that it has no effect where all weights are trained."""
WIRE_NAMES = {
    spec.name: spec.azureml_name for spec in HYPERPARAMETERS.values() if spec.azureml_name
}
"""Azure ML's names by this library's."""
SERVERLESS_HYPERPARAMETERS = frozenset(
    spec.name for spec in HYPERPARAMETERS.values() if spec.is_serverless
)
"""What serverless fine-tuning takes: what every Microsoft sample sends (docs/azure-http.md section 1.4)."""
FOUNDRY_WIRE_NAMES = {
    spec.name: spec.foundry_name for spec in HYPERPARAMETERS.values() if spec.foundry_name
}
"""Foundry's names by this library's (docs/azure-http.md section 4.4). The seed is a field of the job itself."""
FOUNDRY_DPO_FIELDS = frozenset(FOUNDRY_WIRE_NAMES.values()) - {"seed"}
"""The fields of ``method.dpo.hyperparameters``."""
FOUNDRY_SUPERVISED_FIELDS = FOUNDRY_DPO_FIELDS - {"beta"}
"""The fields of ``method.supervised.hyperparameters``."""
FOUNDRY_RANGES = {
    spec.foundry_name: spec.foundry_range
    for spec in HYPERPARAMETERS.values()
    if spec.foundry_name and spec.foundry_range
}
"""OpenAI's ranges of integers, by Foundry's names."""
NAMES_BY_WIRE_NAME = {
    wire_name: name
    for names in (WIRE_NAMES, FOUNDRY_WIRE_NAMES)
    for name, wire_name in names.items()
}
"""This library's names by the names of either service."""


def to_wire_value(value: Any) -> str:
    """Return a value as a string, as Azure ML takes it: numbers without an exponent, lists with commas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, ".10f").rstrip("0").rstrip(".") if value >= 1e-9 else repr(value)
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def read_epochs(values: Mapping[str, object]) -> float | None:
    """Return the epochs of a job's hyperparameters; None if the service chooses (-1), or if it is no number."""
    for name in (WIRE_NAMES["epochs"], FOUNDRY_WIRE_NAMES["epochs"], "epochs"):
        with suppress(KeyError, ValueError):
            epochs = float(str(values[name]))
            return epochs if epochs > 0 else None
    return None
