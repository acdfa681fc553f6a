"""The settings of a training run, read from hyperparameters under any of their names. Torch-free.

Four sets of names are understood: the client's own, those of Azure's serverless jobs, those of the
OpenAI-shaped jobs, and those of Microsoft's ``chat_completion_pipeline`` (component 0.0.82). An unknown name
is an error that names the closest known one. Combinations that Microsoft rejects are rejected.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal, get_args

from maas_client._hyperparameter_table import (
    ADAPTER_HYPERPARAMETERS,
    HYPERPARAMETERS,
    HyperparameterSpec,
)
from maas_client.errors import ConfigError, MissingExtraError
from maas_client.types import Method

Task = Literal["SFT", "DPO"]
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The settings of one training run. The defaults are those of Azure's serverless service."""

    method: Method = "LoRA"
    task: Task = "SFT"
    """``SFT``: learn the answers of chats. ``DPO``: learn the difference between the answers of preferences."""
    beta: float = 0.1
    """DPO: how strongly the model is kept close to its base."""
    epochs: int = 1
    """Passes over the training data."""
    max_steps: int | None = None
    """Optimizer steps, instead of whole epochs."""
    batch_size: int = 1
    """Examples per micro-batch and process."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step (gradient accumulation)."""
    learning_rate: float = 2e-5
    """The highest learning rate."""
    lr_scheduler_type: Schedule = "cosine"
    """The learning rate schedule."""
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    """Warmup as a fraction of all steps; used if ``warmup_steps`` is 0."""
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """0: gradients are not clipped."""
    optimizer: Literal["adamw_torch", "adafactor"] = "adamw_torch"
    seed: int = 42
    max_length: int | None = None
    """Rows are truncated to this many tokens; None: the model's context length."""
    precision: Literal["auto", "32", "16"] = "auto"
    """``auto``: float32 on CPUs; on GPUs bfloat16, except with method Full: float32 weights with TF32
    matrix products."""
    lora_r: int = 8
    """The rank of the LoRA adapter."""
    lora_alpha: float = 128.0
    """The adapter is scaled by ``alpha / r`` (rsLoRA: by ``alpha / sqrt(r)``)."""
    lora_dropout: float = 0.0
    """Dropout before the adapter."""
    target_modules: tuple[str, ...] | None = None
    """Names of the linear layers that get adapters; None: all of a block."""
    gradient_checkpointing: bool | None = None
    """Gradient checkpointing; None: used if memory is short."""
    evaluate: Literal["epoch", "steps", "disable"] = "epoch"
    evaluate_steps: int = 500
    evaluate_fraction: float = 0.0
    """A fraction of an epoch between evaluations; replaces ``evaluate_steps`` unless 0."""
    eval_batch_size: int = 1
    log_steps: int = 1
    """Steps between reported metrics."""
    save_steps: int = 0
    """Steps between checkpoints; 0: checkpoints are written by time (``training/run.py``)."""
    save_total_limit: int = 2
    """The number of newest checkpoints to keep."""
    early_stopping: bool = False
    early_stopping_patience: int = 1
    """Evaluations without an improvement after which early stopping ends the run."""
    early_stopping_threshold: float = 0.0
    """A smaller decrease of the validation loss is not an improvement."""
    merge: bool = False
    """Also write the model with the adapter merged into it."""
    processes: int = 1
    """Processes that train together."""
    deepspeed_stage: int | None = None
    """The ZeRO stage of DeepSpeed; None: DeepSpeed is not used."""
    fsdp: Literal["full_shard", "shard_grad_op"] | None = None
    """PyTorch's FSDP: ``full_shard`` gathers a block's weights for each use, ``shard_grad_op`` keeps them
    from the forward to the backward pass. None: the model is not sharded."""

    @property
    def examples_per_step(self) -> int:
        """Return the examples of one optimizer step, in all processes together."""
        return self.batch_size * self.gradient_accumulation_steps * self.processes

    @property
    def syncs_every_pack(self) -> bool:
        """Return whether processes wait for each other in every pack, not only at the end of a step."""
        return bool(self.deepspeed_stage or self.fsdp)

    def steps_per_epoch(self, examples: int) -> int:
        """Return the number of optimizer steps of one pass over so many examples."""
        return max(1, math.ceil(examples / self.examples_per_step))

    def total_steps(self, examples: int) -> int:
        """Return the number of optimizer steps of a run over so many examples."""
        return self.max_steps or self.epochs * self.steps_per_epoch(examples)


def parse_hyperparameters(hyperparameters: Mapping[str, Any]) -> TrainingConfig:
    """Return the settings that hyperparameters describe. Values may be strings, as the services send them.

    Raises ``ConfigError`` for an unknown name, a value out of bounds, two names of one setting with different
    values, or an invalid combination.
    """
    values: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        if value is None or value == "auto" or name in _IGNORED_NAMES | _CHECKED_NAMES:
            continue
        parser = _PARSERS.get(name)
        if parser is None:
            raise _unknown_name(name)
        field, parse = parser
        parsed = _parse(name, value, parse)
        if field in values and values[field] != parsed:
            raise ConfigError(f"{name} contradicts another value for {field}")
        values[field] = parsed
    _check_combinations(hyperparameters, values)
    return _to_config(values)


def describe_ignored(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each setting that has no effect beside the others."""
    uses_deepspeed = _parse_bool(hyperparameters.get("apply_deepspeed", False))
    if hyperparameters.get("deepspeed_stage") and not uses_deepspeed:
        return [
            "deepspeed_stage has no effect without apply_deepspeed=true: the job runs without DeepSpeed."
        ]
    return []


def check_installed(config: TrainingConfig) -> None:
    """Raise ``MissingExtraError`` if a package that the settings need is missing. Nothing is imported."""
    requirements = (
        ("bitsandbytes", "qlora", "method QLoRA", config.method == "QLoRA"),
        ("deepspeed", "deepspeed", "apply_deepspeed", config.deepspeed_stage is not None),
    )
    for package, extra, setting, is_used in requirements:
        if is_used and find_spec(package) is None:
            raise MissingExtraError(
                f"{setting} needs {package}, which is not installed where the local server runs",
                extra=extra,
                hint=f"Install it with: pip install 'maas-client[{extra}]'. Then start the server again.",
            )


TRACKERS: Mapping[str, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""The values of ``report_to``, and the package of each."""


def parse_trackers(hyperparameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the trackers that ``report_to`` names: one, several with commas, or none."""
    text = str(hyperparameters.get("report_to") or "none").lower()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ("none",):
        return ()
    for name in names:
        if name not in TRACKERS:
            raise ConfigError(
                f"report_to cannot be {name!r}: it must be one or several of {', '.join(TRACKERS)}, or none"
            )
    return names


def check_trackers(hyperparameters: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    """Raise for a tracker whose package, or whose address in the server's ``variables``, is missing."""
    for name in parse_trackers(hyperparameters):
        if find_spec(TRACKERS[name]) is None:
            raise MissingExtraError(
                f"report_to {name} needs the package {TRACKERS[name]}, which is not installed where the local "
                "server runs",
                extra=name,
                hint=f"Install it with: pip install 'maas-client[{name}]'. Then start the server again.",
            )
        if name == "mlflow" and not variables.get("MLFLOW_TRACKING_URI"):
            raise ConfigError(
                "report_to mlflow needs the tracking server's address",
                hint="Start the local server with MLFLOW_TRACKING_URI set.",
            )


def _to_config(values: dict[str, Any]) -> TrainingConfig:
    """Build the configuration; settings without a field of their own change other fields."""
    lora = values.pop("apply_lora", None)
    if lora is not None and "method" not in values:
        values["method"] = "LoRA" if lora else "Full"
    if values.get("method") == "DPO":
        adapter = values.pop("adapter", "LoRA")
        values |= {"method": "Full" if adapter == "none" else adapter, "task": "DPO"}
    for name in ("beta", "adapter"):
        if name in values and values.get("task") != "DPO":
            raise ConfigError(f"{name} is an option of the method DPO", hint=f"Leave out {name}.")
    factor = values.pop("learning_rate_multiplier", None)
    stage, deepspeed = values.pop("deepspeed_stage", None), values.pop("apply_deepspeed", False)
    nodes = values.pop("nodes", 1)
    config = TrainingConfig(**values)
    if factor is not None:
        config = replace(config, learning_rate=config.learning_rate * factor)
    if deepspeed:
        config = replace(config, deepspeed_stage=stage or 2)
    config = replace(config, processes=config.processes * nodes)
    _check_sharding(config)
    return config


def _check_sharding(config: TrainingConfig) -> None:
    """Raise ``ConfigError`` for a model that cannot be sharded over the processes."""
    fsdp, stage = config.fsdp, config.deepspeed_stage
    if fsdp and stage:
        raise ConfigError("fsdp and apply_deepspeed cannot be combined: each shards the model")
    if fsdp and config.processes == 1:
        raise ConfigError(
            "fsdp shards a model over several processes, but the job has one",
            hint="Add processes=2 (or more), or leave out fsdp.",
        )
    name, setting = ("FSDP", "fsdp") if fsdp else ("DeepSpeed", "apply_deepspeed")
    if config.syncs_every_pack and config.optimizer != "adamw_torch":
        raise ConfigError(
            f"{name} cannot run the optimizer {config.optimizer}, which does not support sharded parameters",
            hint=f"Use optim=adamw_torch, or leave out {setting}.",
        )
    if config.method == "QLoRA" and (fsdp or stage == 3):
        alternative = "or leave out fsdp" if fsdp else "or deepspeed_stage=2"
        raise ConfigError(
            f"{name} cannot shard the 4-bit weights of QLoRA",
            hint=f"Use method LoRA, {alternative}, with which each process holds all 4-bit weights.",
        )


def _check_combinations(hyperparameters: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for contradictions, and for what Microsoft's pipeline rejects."""
    deepspeed = values.get("apply_deepspeed", False)
    if (
        deepspeed
        and _parse_bool(hyperparameters.get("apply_ort", False))
        and values.get("deepspeed_stage") == 3
    ):
        raise ConfigError("deepspeed_stage 3 and apply_ort cannot be combined")
    if deepspeed and _parse_bool(hyperparameters.get("auto_find_batch_size", False)):
        raise ConfigError("apply_deepspeed and auto_find_batch_size cannot be combined")
    is_full = values.get("method") == "Full" or values.get("adapter") == "none"
    if values.get("apply_lora") is False and "method" in values and not is_full:
        raise ConfigError(
            f"apply_lora is false, but the method is {values['method']}",
            hint="With DPO, adapter=none trains all weights."
            if values["method"] == "DPO"
            else None,
        )
    if values.get("apply_lora") and is_full:
        raise ConfigError("apply_lora is true, but the method trains all weights")
    # Without ``method``, the job is one of Microsoft's pipeline, which sends the adapter's defaults always.
    unused = [name for name in ADAPTER_HYPERPARAMETERS if values.get(name)]
    if unused and is_full:
        raise ConfigError(
            f"{unused[0]} is an option of adapters, but the method trains all weights",
            hint=f"Leave out {unused[0]}.",
        )
    if values.get("learning_rate") and values.get("learning_rate_multiplier"):
        raise ConfigError("learning_rate and learning_rate_multiplier cannot both be given")
    if _parse_bool(hyperparameters.get("trust_remote_code", False)):
        raise ConfigError("trust_remote_code is not supported: no code of a model is run")
    if hyperparameters.get("deepspeed"):
        raise ConfigError("a deepspeed configuration file is not supported: use deepspeed_stage")
    parse_trackers(hyperparameters)
    if str(hyperparameters.get("metric_for_best_model", "loss")) != "loss":
        raise ConfigError(
            "metric_for_best_model must be loss: the local server measures no other metric"
        )
    if _parse_bool(hyperparameters.get("apply_ort", False)):
        raise ConfigError("the local server does not support apply_ort: remove it")


def _unknown_name(name: str) -> ConfigError:
    matches = difflib.get_close_matches(name, [*_PARSERS, *_IGNORED_NAMES], n=1, cutoff=0.5)
    names = ", ".join(sorted(["method", *HYPERPARAMETERS]))
    hint = (
        f"Did you mean {matches[0]}?"
        if matches
        else f"The names are {names}; docs/reference/training.md lists further settings."
    )
    return ConfigError(f"unknown hyperparameter {name!r}", hint=hint)


def _parse(name: str, value: Any, parse: Callable[[Any], Any]) -> Any:
    try:
        return parse(value)
    except ConfigError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name} cannot be {value!r}: {error}") from None


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ValueError("it must be true or false")


def _parse_fsdp(value: Any) -> str | None:
    mode = _one_of("full_shard", "shard_grad_op", "true", "false")(value)
    return {"true": "full_shard", "false": None}.get(mode, mode)


def _number(
    kind: type,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Callable[[Any], Any]:
    """Return a parser for a finite ``int`` or ``float`` within bounds."""
    bounds = [
        ("at least", minimum, operator.ge),
        ("at most", maximum, operator.le),
        ("above", above, operator.gt),
        ("below", below, operator.lt),
    ]
    rules = [(words, bound, holds) for words, bound, holds in bounds if bound is not None]
    conditions = [f"{words} {bound:g}" for words, bound, _ in rules]
    text = ", ".join(["a whole number" if kind is int else "a number", *conditions])

    def parse(value: Any) -> Any:
        number = float(value)
        is_valid = math.isfinite(number) and all(holds(number, bound) for _, bound, holds in rules)
        if kind is int:
            is_valid = is_valid and number.is_integer() and abs(number) < 1 << 31
        if isinstance(value, bool) or not is_valid:
            raise ValueError(f"it must be {text}")
        return kind(number)

    return parse


def _none_if(none: int, parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a parser for a number that the pipeline writes as ``none`` if it is not set."""
    return lambda value: None if str(value) == str(none) else parse(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    by_lower = {choice.lower(): choice for choice in choices}

    def parse(value: Any) -> str:
        if str(value).lower() not in by_lower:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return by_lower[str(value).lower()]

    return parse


def _parse_layer_names(value: Any) -> tuple[str, ...] | None:
    parts = value.split(",") if isinstance(value, str) else list(value)
    names = tuple(part.strip() for part in parts if part.strip())
    return None if names in ((), ("all-linear",)) else names


def _table_parser(spec: HyperparameterSpec) -> Callable[[Any], Any]:
    """Return the parser for a hyperparameter of the table."""
    if spec.choices:
        return _one_of(*spec.choices)
    if spec.type is tuple:
        return _parse_layer_names
    parse = _number(
        spec.type,
        minimum=spec.minimum,
        maximum=spec.maximum,
        above=spec.above,
        below=spec.below,
    )
    return parse if spec.unset_value is None else _none_if(spec.unset_value, parse)


_Parser = tuple[str, Callable[[Any], Any]]
"""The field of ``TrainingConfig`` that a name sets (or a switch of ``_to_config``), and its parser."""
_CLIENT_NAMES: dict[str, _Parser] = {
    "method": ("method", _one_of(*get_args(Method))),
    **{
        name: (spec.config_field, _table_parser(spec))
        for spec in HYPERPARAMETERS.values()
        for name in (spec.name, spec.azureml_name, spec.foundry_name)
        if name is not None
    },
}
_FRACTION = _number(float, minimum=0, maximum=1)
_POSITIVE = _number(int, minimum=1)
_PROCESSES = _number(int, minimum=1, maximum=64)
_SERVICE_NAMES: dict[str, _Parser] = {
    "per_device_eval_batch_size": ("eval_batch_size", _number(int, minimum=1, maximum=4096)),
    "optim": ("optimizer", _one_of("adamw_torch", "adafactor")),
    "adam_beta1": ("beta1", _FRACTION),
    "adam_beta2": ("beta2", _FRACTION),
    "adam_epsilon": ("epsilon", _number(float, above=0, maximum=1)),
    "max_grad_norm": ("max_grad_norm", _number(float, minimum=0)),
    "precision": ("precision", _one_of("32", "16", "auto")),
    "apply_lora": ("apply_lora", _parse_bool),
    "merge_lora_weights": ("merge", _parse_bool),
    "apply_deepspeed": ("apply_deepspeed", _parse_bool),
    "deepspeed_stage": ("deepspeed_stage", _number(int, minimum=1, maximum=3)),
    "fsdp": ("fsdp", _parse_fsdp),
    "num_nodes_finetune": ("nodes", _PROCESSES),
    "number_of_gpu_to_use_finetuning": ("processes", _PROCESSES),
    "processes": ("processes", _PROCESSES),
    "evaluation_strategy": ("evaluate", _one_of("epoch", "steps", "disable")),
    "eval_steps": ("evaluate_steps", _POSITIVE),
    "evaluation_steps_interval": ("evaluate_fraction", _FRACTION),
    "logging_steps": ("log_steps", _POSITIVE),
    "save_steps": ("save_steps", _number(int, minimum=0)),
    "save_total_limit": (
        "save_total_limit",
        lambda value: _none_if(-1, _POSITIVE)(value) or 1 << 30,
    ),
    "apply_early_stopping": ("early_stopping", _parse_bool),
    "early_stopping_patience": ("early_stopping_patience", _POSITIVE),
    "early_stopping_threshold": ("early_stopping_threshold", _number(float, minimum=0)),
    "gradient_checkpointing": ("gradient_checkpointing", _parse_bool),
}
_PARSERS = _CLIENT_NAMES | _SERVICE_NAMES
_CHECKED_NAMES = frozenset({"deepspeed", "metric_for_best_model", "report_to"})
"""Names that only ``_check_combinations`` looks at, and ``parse_trackers``."""
# Accepted and without effect here: rows are packed, so nothing is padded; packs are sized to fit the memory;
# one data loader serves one process; the model's name selects the base.
_IGNORED_NAMES = frozenset(
    {
        *(
            "apply_ort",
            "auto_find_batch_size",
            "trust_remote_code",
            "task_name",
            "logging_strategy",
        ),
        *("enable_full_determinism", "eval_accumulation_steps", "dataloader_num_workers"),
        *("ignore_mismatched_sizes", "pad_to_max_length", "resume_from_checkpoint"),
        *("shm_size_finetune", "evaluation_config", "evaluation_config_params"),
        *("huggingface_id", "pytorch_model_path", "mlflow_model_path", "finetune_config_path"),
        *(
            f"{prefix}_{step}"
            for prefix in ("instance_type", "compute")
            for step in ("model_import", "preprocess", "finetune", "model_evaluation")
        ),
    }
)
