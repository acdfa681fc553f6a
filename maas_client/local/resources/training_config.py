"""What a training run is told, in every vocabulary that reaches this server; torch-free.

Our own names, the names of Azure's serverless jobs, those of the OpenAI-shaped jobs, and those of
Microsoft's ``chat_completion_pipeline`` (component 0.0.82) mean the same fields. A name nobody
knows is an error that names the nearest; a combination that Microsoft rejects is rejected.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any, Literal, get_args

from maas_client.errors import ConfigError, MissingExtraError

Method = Literal["LoRA", "QLoRA", "DoRA", "rsLoRA", "Full"]
Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One training run. The defaults are the recipe that Azure's serverless service fixes."""

    method: Method = "LoRA"
    epochs: int = 1
    max_steps: int | None = None
    """Instead of whole epochs."""
    batch_size: int = 1
    """Examples per micro-batch and process."""
    accumulate: int = 1
    """Micro-batches per optimiser step."""
    learning_rate: float = 2e-5
    schedule: Schedule = "cosine"
    warmup_steps: int = 0
    warmup_ratio: float = 0.0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    """0 leaves gradients as they are."""
    optimizer: Literal["adamw_torch", "adafactor"] = "adamw_torch"
    seed: int = 42
    max_length: int | None = None
    """Tokens at which a row is cut; None: the model's own limit."""
    precision: Literal["auto", "32", "16"] = "auto"
    """``auto``: float32 on CPUs; bfloat16 on GPUs, but for weights that are trained themselves
    (method Full): float32, with TF32 products."""
    r: int = 8
    alpha: float = 128.0
    dropout: float = 0.0
    targets: tuple[str, ...] | None = None
    """Names of linear layers; None: every one of a block."""
    checkpoint_activations: bool | None = None
    """None: chosen from the memory at hand."""
    evaluate: Literal["epoch", "steps", "disable"] = "epoch"
    evaluate_steps: int = 500
    evaluate_fraction: float = 0.0
    """Of an epoch; overrides ``evaluate_steps`` when not 0."""
    eval_batch_size: int = 1
    log_steps: int = 1
    save_steps: int = 0
    """Steps between checkpoints; 0: by time (``run.py``)."""
    keep: int = 2
    """Checkpoints that are kept."""
    early_stopping: bool = False
    patience: int = 1
    threshold: float = 0.0
    merge: bool = False
    """Write the merged model too."""
    processes: int = 1
    deepspeed_stage: int | None = None
    fsdp: Literal["full_shard", "shard_grad_op"] | None = None
    """PyTorch's FSDP: a block's weights are gathered for each use, or stay whole from a forward to
    its backward. None: not divided."""

    @property
    def syncs_every_pack(self) -> bool:
        """Tell whether processes wait for each other in every pack, not only at the end of a step."""
        return bool(self.deepspeed_stage or self.fsdp)


def parse_hyperparameters(hyperparameters: Mapping[str, Any]) -> TrainingConfig:
    """Return the recipe that ``asked`` describes; values may be the service's strings.

    Raises ``ConfigError`` for an unknown name, a value out of bounds, two names for one thing that
    disagree, or a combination that cannot be.
    """
    said: dict[str, Any] = {}
    for name, value in hyperparameters.items():
        if value is None or value == "auto" or name in _IGNORED_NAMES | _CHECKED_NAMES:
            continue
        reading = _PARSERS.get(name)
        if reading is None:
            raise _unknown(name)
        field, read = reading
        meant = _read(name, value, read)
        if field in said and said[field] != meant:
            raise ConfigError(f"{name} contradicts what was already said about {field}")
        said[field] = meant
    _reject(hyperparameters, said)
    return _settle(said)


def describe_ignored(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return, in sentences, what was asked for and means nothing beside the rest."""
    if hyperparameters.get("deepspeed_stage") and not _truth(
        hyperparameters.get("apply_deepspeed", False)
    ):
        return ["deepspeed_stage means something with apply_deepspeed=true only: it runs without."]
    return []


def check_installed(config: TrainingConfig) -> None:
    """Raise ``MissingExtraError`` for what this recipe takes and this machine lacks. Nothing is imported."""
    needs = {"bitsandbytes": ("qlora", "method QLoRA", config.method == "QLoRA"),
             "deepspeed": ("deepspeed", "apply_deepspeed", config.deepspeed_stage is not None)}  # fmt: skip
    for package, (extra, what, asked) in needs.items():
        if asked and find_spec(package) is None:
            raise MissingExtraError(
                f"{what} needs {package}, which is not installed where the local server runs",
                extra=extra,
                hint=f"Install it: pip install 'maas-client[{extra}]', then start the server again.",
            )


def _settle(said: dict[str, Any]) -> TrainingConfig:
    """Turn switches that are not fields into fields."""
    lora = said.pop("apply_lora", None)
    if lora is not None and "method" not in said:
        said["method"] = "LoRA" if lora else "Full"
    factor = said.pop("learning_rate_multiplier", None)
    stage, deepspeed = said.pop("deepspeed_stage", None), said.pop("apply_deepspeed", False)
    nodes = said.pop("nodes", 1)
    recipe = TrainingConfig(**said)
    if factor is not None:
        recipe = replace(recipe, learning_rate=recipe.learning_rate * factor)
    if deepspeed:
        recipe = replace(recipe, deepspeed_stage=stage or 2)
    recipe = replace(recipe, processes=recipe.processes * nodes)
    _check_division(recipe)
    return recipe


def _check_division(recipe: TrainingConfig) -> None:
    """Refuse what cannot be divided over processes."""
    fsdp, stage = recipe.fsdp, recipe.deepspeed_stage
    if fsdp and stage:
        raise ConfigError("fsdp and apply_deepspeed cannot be combined: each divides the model")
    if fsdp and recipe.processes == 1:
        raise ConfigError(
            "fsdp divides a model over several processes, and one is asked for",
            hint="Add processes=2 (or more), or leave out fsdp.",
        )
    name, setting = ("FSDP", "fsdp") if fsdp else ("DeepSpeed", "apply_deepspeed")
    if recipe.syncs_every_pack and recipe.optimizer != "adamw_torch":
        raise ConfigError(
            f"{name} cannot run the optimizer {recipe.optimizer}, which needs whole matrices",
            hint=f"Use optim=adamw_torch, or leave out {setting}.",
        )
    if recipe.method == "QLoRA" and (fsdp or stage == 3):
        instead = "or leave out fsdp" if fsdp else "or deepspeed_stage=2"
        raise ConfigError(
            f"{name} cannot divide the 4-bit weights of QLoRA here",
            hint=f"Use method LoRA, {instead}: the processes then hold 4-bit weights each.",
        )


def _reject(asked: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse what Microsoft's pipeline refuses, and what contradicts itself."""
    deepspeed = said.get("apply_deepspeed", False)
    if deepspeed and _truth(asked.get("apply_ort", False)) and said.get("deepspeed_stage") == 3:
        raise ConfigError("deepspeed_stage 3 and apply_ort cannot be combined")
    if deepspeed and _truth(asked.get("auto_find_batch_size", False)):
        raise ConfigError("apply_deepspeed and auto_find_batch_size cannot be combined")
    if said.get("apply_lora") is False and said.get("method", "Full") != "Full":
        raise ConfigError(f"apply_lora is false, but the method is {said['method']}")
    if said.get("apply_lora") and said.get("method") == "Full":
        raise ConfigError("apply_lora is true, but the method is Full")
    if said.get("learning_rate") and said.get("learning_rate_multiplier"):
        raise ConfigError("learning_rate and learning_rate_multiplier cannot both be given")
    if _truth(asked.get("trust_remote_code", False)):
        raise ConfigError("trust_remote_code is never honoured here: no code of a model is run")
    if asked.get("deepspeed"):
        raise ConfigError("a deepspeed file cannot be given here: use deepspeed_stage")
    if str(asked.get("metric_for_best_model", "loss")) != "loss":
        raise ConfigError("metric_for_best_model is loss here: the others are not measured")
    if _truth(asked.get("apply_ort", False)):
        raise ConfigError("apply_ort is not available here: leave it out")


def _unknown(name: str) -> ConfigError:
    near = difflib.get_close_matches(name, [*_PARSERS, *_IGNORED_NAMES], n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(sorted(_OURS))}."
    return ConfigError(f"no hyperparameter is named {name!r}", hint=hint)


def _read(name: str, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ConfigError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{name} cannot be {value!r}: {error}") from None


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ValueError("it is true or false")


def _fsdp(value: Any) -> str | None:
    said = _one_of("full_shard", "shard_grad_op", "true", "false")(value)
    return {"true": "full_shard", "false": None}.get(said, said)


def _whole(low: int, high: int = 1 << 31) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = float(value)
        if isinstance(value, bool) or not number.is_integer() or not low <= number < high:
            most = "" if high == 1 << 31 else f", at most {high - 1}"
            raise ValueError(f"it is a whole number, at least {low}{most}")
        return int(number)

    return read


def _number(low: float, high: float, *, above: bool = False) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high or (above and number == low):
            raise ValueError(f"it is {'above' if above else 'at least'} {low:g}, at most {high:g}")
        return number

    return read


def _unless(none: int, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Read a number where the pipeline's own way to say "not given" is ``none``."""
    return lambda value: None if str(value) == str(none) else read(value)


def _one_of(*choices: str) -> Callable[[Any], str]:
    by_lower = {choice.lower(): choice for choice in choices}

    def read(value: Any) -> str:
        if str(value).lower() not in by_lower:
            raise ValueError(f"it is one of {', '.join(choices)}")
        return by_lower[str(value).lower()]

    return read


def _names(value: Any) -> tuple[str, ...] | None:
    parts = value.split(",") if isinstance(value, str) else list(value)
    names = tuple(part.strip() for part in parts if part.strip())
    return None if names in ((), ("all-linear",)) else names


_EPOCHS, _BATCH, _RATE = _whole(1, 1001), _whole(1, 4097), _number(0.0, 1.0, above=True)
_SHARE, _COUNT = _number(0.0, 1.0), _whole(0)
_OURS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "method": ("method", _one_of(*get_args(Method))),
    "epochs": ("epochs", _EPOCHS),
    "batch_size": ("batch_size", _BATCH),
    "learning_rate": ("learning_rate", _RATE),
    "learning_rate_multiplier": (
        "learning_rate_multiplier",
        _number(0.0, 10.0, above=True),
    ),
    "seed": ("seed", _whole(0)),
    "max_steps": ("max_steps", _unless(-1, _whole(1))),
    "warmup_steps": ("warmup_steps", _COUNT),
    "warmup_ratio": ("warmup_ratio", _SHARE),
    "lr_scheduler": ("schedule", _one_of(*get_args(Schedule))),
    "weight_decay": ("weight_decay", _SHARE),
    "gradient_accumulation_steps": ("accumulate", _whole(1, 4097)),
    "max_seq_length": ("max_length", _unless(-1, _whole(8))),
    "lora_r": ("r", _whole(1, 1025)),
    "lora_alpha": ("alpha", _number(0.0, 1e6, above=True)),
    "lora_dropout": ("dropout", _number(0.0, 0.999)),
    "target_modules": ("targets", _names),
}
_PIPELINE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "num_train_epochs": ("epochs", _EPOCHS),
    "n_epochs": ("epochs", _EPOCHS),
    "per_device_train_batch_size": ("batch_size", _BATCH),
    "per_device_eval_batch_size": ("eval_batch_size", _BATCH),
    "lr_scheduler_type": ("schedule", _one_of(*get_args(Schedule))),
    "optim": ("optimizer", _one_of("adamw_torch", "adafactor")),
    "adam_beta1": ("beta1", _SHARE),
    "adam_beta2": ("beta2", _SHARE),
    "adam_epsilon": ("epsilon", _number(0.0, 1.0, above=True)),
    "max_grad_norm": ("max_grad_norm", _number(0.0, 1e6)),
    "precision": ("precision", _one_of("32", "16", "auto")),
    "apply_lora": ("apply_lora", _truth),
    "merge_lora_weights": ("merge", _truth),
    "apply_deepspeed": ("apply_deepspeed", _truth),
    "deepspeed_stage": ("deepspeed_stage", _whole(1, 4)),
    "fsdp": ("fsdp", _fsdp),
    "num_nodes_finetune": ("nodes", _whole(1, 65)),
    "number_of_gpu_to_use_finetuning": ("processes", _whole(1, 65)),
    "processes": ("processes", _whole(1, 65)),
    "evaluation_strategy": ("evaluate", _one_of("epoch", "steps", "disable")),
    "eval_steps": ("evaluate_steps", _whole(1)),
    "evaluation_steps_interval": ("evaluate_fraction", _SHARE),
    "logging_steps": ("log_steps", _whole(1)),
    "save_steps": ("save_steps", _COUNT),
    "save_total_limit": ("keep", lambda value: _unless(-1, _whole(1))(value) or 1 << 30),
    "apply_early_stopping": ("early_stopping", _truth),
    "early_stopping_patience": ("patience", _whole(1)),
    "early_stopping_threshold": ("threshold", _number(0.0, 1e6)),
    "gradient_checkpointing": ("checkpoint_activations", _truth),
}
_PARSERS = _OURS | _PIPELINE
_CHECKED_NAMES = frozenset({"deepspeed", "metric_for_best_model"})
"""Names that ``_reject`` alone looks at."""
# Understood and without a meaning here: rows are packed, so nothing is padded; packs are cut to fit
# the memory; one loader feeds one process; the base is chosen by the model's name.
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
            f"{what}_{step}"
            for what in ("instance_type", "compute")
            for step in ("model_import", "preprocess", "finetune", "model_evaluation")
        ),
    }
)


def as_names(recipe: TrainingConfig) -> dict[str, Any]:
    """Return what differs from the default recipe, by field, JSON-ready (for the model card)."""
    plain = TrainingConfig()
    return {
        field.name: value
        for field in fields(recipe)
        if (value := getattr(recipe, field.name)) != getattr(plain, field.name)
    }
