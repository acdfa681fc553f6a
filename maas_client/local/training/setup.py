"""Set up a training run from its spec: configuration, data, model, adapters, optimiser."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.chat import TEMPLATES, ChatTemplate
from maas_client.errors import ConfigError
from maas_client.local.machine.hardware import detect_hardware
from maas_client.local.machine.matmul_choice import MatmulChoice
from maas_client.local.machine.memory import estimate_memory
from maas_client.local.machine.model_architecture import load_architecture
from maas_client.local.resources import training_config
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training import adapters, load_base, processes, strategies
from maas_client.local.training.adapters import TrainedLayers
from maas_client.local.training.checkpoints import compute_fingerprint, load_newest_extra
from maas_client.local.training.data import TrainingData
from maas_client.local.training.model_loss import ModelWithLoss
from maas_client.local.training.packing import (
    Batch,
    PackLimits,
    evaluation_batches,
)
from maas_client.local.training.preference_loss import ModelWithPreferenceLoss, add_reference
from maas_client.local.training.strategies import Strategy, TrainingState
from maas_client.local.training.train import Evaluation, RunProgress, create_optimizer


@dataclass(slots=True)
class ValidationProgress:
    """Validation results: of the base model, the latest, and the best."""

    base_loss: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    worse_for: int = 0
    """Consecutive evaluations without improvement on the best."""
    margin: float | None = None
    """The mean difference of the rewards of both answers; None unless the rows are preferences."""

    def record(self, step: int, evaluation: Evaluation, threshold: float) -> None:
        """Record one evaluation; step 0 is the base model and never the best."""
        loss, self.accuracy, self.margin = evaluation
        self.loss = loss
        if step == 0:
            self.base_loss = loss
        elif self.best_loss is None or loss < self.best_loss - threshold:
            self.best_loss, self.best_step, self.worse_for = loss, step, 0
        else:
            self.worse_for += 1

    def metrics(self) -> dict[str, float]:
        """Return the available metrics under this library's names."""
        metrics = {
            "base_valid_loss": self.base_loss,
            "best_valid_loss": self.best_loss,
            **self.latest(),
        }
        return {name: value for name, value in metrics.items() if value is not None}

    def latest(self) -> dict[str, float | None]:
        """Return the metrics of the latest evaluation."""
        if self.margin is None:
            return {"valid_loss": self.loss, "valid_token_accuracy": self.accuracy}
        return {
            "valid_loss": self.loss,
            "valid_reward_accuracy": self.accuracy,
            "valid_reward_margin": self.margin,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready."""
        return asdict(self)


@dataclass(slots=True)
class TrainingSetup:
    """A training run, ready to start."""

    spec: Mapping[str, Any]
    config: TrainingConfig
    base: Mapping[str, Any]
    output_dir: Path
    tokenizer: Any
    template: ChatTemplate
    data: TrainingData
    validation_batches: list[Batch]
    pack_limits: PackLimits
    model: nn.Module
    model_with_loss: ModelWithLoss
    coverage: TrainedLayers
    device: str
    progress: RunProgress
    fingerprint: str
    engine: Strategy = field(init=False)
    """Set by ``start_engine``."""
    warnings: list[str] = field(default_factory=list)
    seen_tokens: int = 0
    recent_events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=256))
    """The latest step events. Checkpoints store them, so that they can be emitted again after a crash."""

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> TrainingSetup:
        """Read the data, load the base and make it trainable. Raises ``MaasError``."""
        config, base = (
            training_config.parse_hyperparameters(spec.get("hyperparameters") or {}),
            spec["base"],
        )
        training_config.check_installed(config)
        if config.processes != processes.world_size():
            raise ConfigError(
                f"The job asks for {config.processes} processes, but {processes.world_size()} are running.",
                hint="Leave out processes, num_nodes_finetune and number_of_gpu_to_use_finetuning.",
            )
        device = load_base.resolve_device(str(spec.get("device") or "auto"))
        if device == "cuda":
            load_base.select_gpu(processes.process_rank(), processes.world_size())
        tokenizer = load_base.load_tokenizer(base["folder"])
        template, warning = load_base.detect_template(tokenizer, TEMPLATES[base["template"]])
        model = load_base.load_model(base["folder"], config, device)
        max_length = min(config.max_length or 1 << 30, load_base.context_length(model))
        data = TrainingData.load(spec, tokenizer, template, max_length, config.task)
        fingerprint = compute_fingerprint(
            {"config": asdict(config), "base": base["name"], "data": data.hashes}
        )
        kept = load_newest_extra(_checkpoints_dir(spec), fingerprint).get("matmul")
        if choice := kept or spec.get("matmul"):  # a resumed run computes the same bytes
            MatmulChoice.from_dict(choice).apply()
        pack_limits = PackLimits(
            threads=load_base.pack_threads(model, device),
            longrope_threshold=load_base.longrope_threshold(model),
        )
        config, ineffective = _resolve_config(config, base, data, pack_limits, device)
        adapted, coverage = adapters.make_trainable(model, config)
        load_base.enable_activation_checkpointing(adapted, config)
        model_with_loss = add_loss(adapted, config)
        if isinstance(model_with_loss, ModelWithPreferenceLoss):
            items = [*data.examples, *data.validation_examples]
            add_reference(model_with_loss, items, pack_limits, torch.device(device))
        return cls(
            spec=spec,
            config=config,
            base=base,
            output_dir=Path(spec["out"]),
            tokenizer=tokenizer,
            template=template,
            data=data,
            validation_batches=list(evaluation_batches(data.validation_examples, pack_limits)),
            pack_limits=pack_limits,
            model=adapted,
            model_with_loss=model_with_loss,
            coverage=coverage,
            device=device,
            progress=RunProgress(total_steps=config.total_steps(len(data.examples))),
            fingerprint=fingerprint,
            warnings=[
                warning_text
                for warning_text in (
                    warning,
                    *training_config.describe_ignored(spec.get("hyperparameters") or {}),
                    *ineffective,
                )
                if warning_text
            ],
        )

    def start_engine(self, state: TrainingState | None) -> None:
        """Create the engine, and restore ``state`` if there is one."""
        if state is not None:
            self.load_weights(state.weights)
        optimizer = create_optimizer(self.model_with_loss, self.config)
        self.engine = strategies.prepare_strategy(
            self.model_with_loss, optimizer, self.device, self.config
        )
        if state is not None:
            self.engine.restore_state(state)

    def reload_unsharded(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Replace a sharded model by a newly loaded base with the trained ``weights``.

        A sharded model cannot be turned back into a whole one.
        """
        strategies.unset_deepspeed()
        model = load_base.load_model(self.base["folder"], self.config, self.device)
        self.model, _ = adapters.make_trainable(model, self.config)
        self.model_with_loss = add_loss(self.model, self.config)
        self.load_weights(weights)

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load trained ``weights``, by parameter name, into the model."""
        result = self.model_with_loss.load_state_dict(weights, strict=False)
        if result.unexpected_keys:
            raise ValueError(f"the weights have unknown parameters: {result.unexpected_keys[:3]}")

    @property
    def rank(self) -> int:
        """Return the rank of this process. Rank 0 writes and reports."""
        return processes.process_rank()

    @property
    def placement(self) -> str:
        """Describe the processes of the run."""
        count = f"{self.config.processes} processes" if self.config.processes > 1 else "one process"
        return f"{count}{strategies.sharding_label(self.config)}"

    @property
    def checkpoints_dir(self) -> Path:
        """Return the folder of checkpoints, from which a run resumes."""
        return _checkpoints_dir(self.spec)

    @property
    def adapters_dir(self) -> Path:
        """Return the folder of adapters of past epochs."""
        return self.output_dir / "adapters"

    @property
    def best_weights_dir(self) -> Path:
        """Return the folder of a whole model's best weights, used by early stopping."""
        return self.output_dir / "best"

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimizer steps of one pass."""
        return self.config.steps_per_epoch(len(self.data.examples))

    @property
    def evaluation_interval(self) -> int:
        """Return the steps between evaluations, for ``evaluation_strategy=steps``."""
        fraction = self.config.evaluate_fraction
        return (
            max(1, round(fraction * self.steps_per_epoch))
            if fraction
            else self.config.evaluate_steps
        )

    @property
    def comparison_batches(self) -> list[Batch]:
        """Return a batch to compare two models on if there is no validation data."""
        return list(evaluation_batches(self.data.examples[:4], self.pack_limits))

    @property
    def passes(self) -> float:
        """Return the passes over the training data so far."""
        return self.progress.step / self.steps_per_epoch

    def trained_tokens(self) -> int:
        """Return tokens as the service bills them: training and validation, times epochs."""
        tokens = self.data.row_counts.tokens + self.data.validation_row_counts.tokens
        return round(tokens * self.passes)

    def describe(self) -> dict[str, Any]:
        """Return the fields of the ``started`` event."""
        return {
            "base": dict(self.base),
            "template": {"name": self.template.name, "revision": self.template.revision},
            "method": self.config.method,
            "device": self.device,
            "placement": self.placement,
            "steps": self.progress.total_steps,
            "examples": len(self.data.examples),
            "tokens": self.data.row_counts.tokens,
            "learned_tokens": self.data.row_counts.learned_tokens,
            "trainable": self.coverage.trainable,
            "coverage": self.coverage.as_dict(),
        }

    def training_metadata(self, progress: ValidationProgress) -> dict[str, Any]:
        """Return the content of ``training.json``, stored with the weights: origin, settings, metrics."""
        return {
            "model": self.spec.get("model"),
            "template": self.template.name,
            "training_config": asdict(self.config),
            "coverage": self.coverage.as_dict(),
            "data": self.data.hashes,
            "rows": len(self.data.examples),
            "step": self.progress.step,
            "metrics": progress.metrics(),
        }


def _checkpoints_dir(spec: Mapping[str, Any]) -> Path:
    return Path(spec["out"]) / "checkpoints"


def add_loss(model: nn.Module, config: TrainingConfig) -> ModelWithLoss:
    """Return the model with the loss of its task."""
    if config.task == "DPO":
        return ModelWithPreferenceLoss(model, config.beta)
    return ModelWithLoss(model)


def _resolve_config(
    config: TrainingConfig,
    base: Mapping[str, Any],
    data: TrainingData,
    pack_limits: PackLimits,
    device: str,
) -> tuple[TrainingConfig, list[str]]:
    """Return the configuration with automatic choices made, and warnings about settings without effect."""
    warnings = []
    if config.precision == "16" and device == "cpu":
        warnings.append("Precision 16 is for GPUs: on this CPU the run computes in float32.")
    if config.early_stopping and not data.validation_examples:
        warnings.append(
            "Early stopping has no effect: it needs validation data, and there is none."
        )
    if config.gradient_checkpointing is None:
        is_tight = _is_tight(config, base, data, pack_limits, device)
        config = replace(config, gradient_checkpointing=is_tight)
        warnings += [_MEMORY_WARNING] if is_tight else []
    return config, warnings


_MEMORY_WARNING = (
    "Memory is tight, so gradient checkpointing is on: activations are computed twice "
    "(turn it off with gradient_checkpointing=false)."
)


def _is_tight(
    config: TrainingConfig,
    base: Mapping[str, Any],
    data: TrainingData,
    pack_limits: PackLimits,
    device: str,
) -> bool:
    """Return whether activations of a full pack would not fit into memory, by the estimate of ``plan``."""
    try:
        shape = load_architecture(Path(base["folder"]))
        tokens = min(max(pack_limits.max_tokens, data.longest_example), data.row_counts.tokens)
        device_kind = "cpu" if device == "cpu" else "gpu"
        needed_bytes = estimate_memory(
            shape,
            config.method,
            tokens=tokens,
            r=config.lora_r,
            device=device_kind,
            # layers whose weights are sharded call their own modules
            fuses_blocks=not (config.target_modules or config.syncs_every_pack),
            has_dropout=bool(config.lora_dropout),
        ).total
    except ConfigError:
        return False  # plan does not know this architecture; the user can still turn it on
    return needed_bytes > 0.9 * detect_hardware().memory_bytes
