"""Everything a run needs, made ready from its spec: data, model, adapters, optimiser."""

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
from maas_client.local.machine.memory import estimate_memory
from maas_client.local.machine.model_shape import read_shape
from maas_client.local.resources import training_config
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training import adapters, engines, load_base, processes
from maas_client.local.training.adapters import Coverage
from maas_client.local.training.checkpoints import compute_fingerprint
from maas_client.local.training.engines import Engine, TrainingState
from maas_client.local.training.model_loss import ModelWithLoss
from maas_client.local.training.packing import (
    Batch,
    PackLimits,
    evaluation_batches,
    steps_per_epoch,
    total_steps,
)
from maas_client.local.training.train import RunProgress, create_optimizer
from maas_client.local.training.training_data import TrainingData


@dataclass(slots=True)
class ValidationProgress:
    """Validation so far: the base model's, the last, the best."""

    base_loss: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    worse_for: int = 0
    """Evaluations in a row that did not improve on the best."""

    def record(self, step: int, loss: float, accuracy: float, threshold: float) -> None:
        """Note one evaluation; step 0 is the base model's and never the best."""
        self.loss, self.accuracy = loss, accuracy
        if step == 0:
            self.base_loss = loss
        elif self.best_loss is None or loss < self.best_loss - threshold:
            self.best_loss, self.best_step, self.worse_for = loss, step, 0
        else:
            self.worse_for += 1

    def metrics(self) -> dict[str, float]:
        """Return what is known, under this library's names."""
        named = {
            "base_valid_loss": self.base_loss,
            "valid_loss": self.loss,
            "valid_token_accuracy": self.accuracy,
            "best_valid_loss": self.best_loss,
        }
        return {name: value for name, value in named.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready."""
        return asdict(self)


@dataclass(slots=True)
class TrainingSetup:
    """A run, ready to begin."""

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
    coverage: Coverage
    device: str
    progress: RunProgress
    fingerprint: str
    engine: Engine = field(init=False)
    """From ``start`` on."""
    warnings: list[str] = field(default_factory=list)
    seen_tokens: int = 0
    recent_events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=256))
    """The newest step events; a checkpoint keeps them, to be told again after a kill."""

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> TrainingSetup:
        """Read the data, load the base, put on what is trained. Raises ``MaasError``s."""
        asked, base = training_config.parse_hyperparameters(spec.get("recipe") or {}), spec["base"]
        training_config.check_installed(asked)
        if asked.processes != processes.world_size():
            raise ConfigError(
                f"the recipe wants {asked.processes} processes, and {processes.world_size()} run here",
                hint="Leave out processes, num_nodes_finetune and number_of_gpu_to_use_finetuning.",
            )
        device = load_base.resolve_device(str(spec.get("device") or "auto"))
        if device == "cuda":
            load_base.select_gpu(processes.process_rank(), processes.world_size())
        tokenizer = load_base.load_tokenizer(base["folder"])
        template, warning = load_base.detect_template(tokenizer, TEMPLATES[base["template"]])
        model = load_base.load_model(base["folder"], asked, device)
        longest = min(asked.max_length or 1 << 30, load_base.context_length(model))
        data = TrainingData.load(spec, tokenizer, template, longest)
        mark = compute_fingerprint(
            {"recipe": asdict(asked), "base": base["name"], "data": data.hashes}
        )
        limits = PackLimits(longrope_threshold=load_base.longrope_threshold(model))
        asked, unmet = _settled(asked, base, data, limits, device)
        adapted, coverage = adapters.make_trainable(model, asked)
        load_base.enable_activation_checkpointing(adapted, asked)
        learner = ModelWithLoss(adapted)
        return cls(
            spec=spec,
            config=asked,
            base=base,
            output_dir=Path(spec["out"]),
            tokenizer=tokenizer,
            template=template,
            data=data,
            validation_batches=list(evaluation_batches(data.validation_examples, limits)),
            pack_limits=limits,
            model=adapted,
            model_with_loss=learner,
            coverage=coverage,
            device=device,
            progress=RunProgress(total_steps=total_steps(len(data.examples), asked)),
            fingerprint=mark,
            warnings=[
                text
                for text in (
                    warning,
                    *training_config.describe_ignored(spec.get("recipe") or {}),
                    *unmet,
                )
                if text
            ],
        )

    def start_engine(self, state: TrainingState | None) -> None:
        """Place the run where its recipe says, from ``state`` on where there is one."""
        if state is not None:
            self.load_weights(state.weights)
        optimizer = create_optimizer(self.model_with_loss, self.config)
        self.engine = engines.prepare_engine(
            self.model_with_loss, optimizer, self.device, self.config
        )
        if state is not None:
            self.engine.restore_state(state)

    def reload_unsharded(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put the base in the place of a divided model, with the ``weights`` that were trained.

        What engines hang on a model to divide it does not come off again.
        """
        engines.unset_deepspeed()
        model = load_base.load_model(self.base["folder"], self.config, self.device)
        self.model, _ = adapters.make_trainable(model, self.config)
        self.model_with_loss = ModelWithLoss(self.model)
        self.load_weights(weights)

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the learner ``weights`` of what it trains, under its own names."""
        said = self.model_with_loss.load_state_dict(weights, strict=False)
        assert not said.unexpected_keys, said.unexpected_keys[:3]

    @property
    def rank(self) -> int:
        """Return this process's number; 0 writes and reports."""
        return processes.process_rank()

    @property
    def placement(self) -> str:
        """Return where the run is, for people."""
        many = f"{self.config.processes} processes" if self.config.processes > 1 else "one process"
        return f"{many}{engines.sharding_label(self.config)}"

    @property
    def checkpoints_dir(self) -> Path:
        """Return where a killed run finds itself again."""
        return self.output_dir / "checkpoints"

    @property
    def adapters_dir(self) -> Path:
        """Return where adapters of past epochs lie."""
        return self.output_dir / "adapters"

    @property
    def best_weights_dir(self) -> Path:
        """Return where a whole model's best weights lie until an early end."""
        return self.output_dir / "best"

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps of one pass."""
        return steps_per_epoch(len(self.data.examples), self.config)

    @property
    def evaluation_interval(self) -> int:
        """Return the steps between evaluations, for ``evaluation_strategy=steps``."""
        share = self.config.evaluate_fraction
        return max(1, round(share * self.steps_per_epoch)) if share else self.config.evaluate_steps

    @property
    def probe_batches(self) -> list[Batch]:
        """Return a batch to compare two models on when nothing is held out."""
        return list(evaluation_batches(self.data.examples[:4], self.pack_limits))

    def trained_tokens(self) -> int:
        """Return tokens as the service bills them: training and validation, times epochs."""
        passes = self.progress.step / self.steps_per_epoch
        return round(
            (self.data.row_counts.tokens + self.data.validation_row_counts.tokens) * passes
        )

    def describe(self) -> dict[str, Any]:
        """Return what the job says about itself when it begins."""
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

    def training_card(self, progress: ValidationProgress) -> dict[str, Any]:
        """Return what is written beside the weights: where they come from and how they do."""
        return {
            "model": self.spec.get("model"),
            "template": self.template.name,
            "recipe": asdict(self.config),
            "coverage": self.coverage.as_dict(),
            "data": self.data.hashes,
            "rows": len(self.data.examples),
            "step": self.progress.step,
            "metrics": progress.metrics(),
        }


def _settled(
    asked: TrainingConfig,
    base: Mapping[str, Any],
    data: TrainingData,
    limits: PackLimits,
    device: str,
) -> tuple[TrainingConfig, list[str]]:
    """Return the recipe with what it left open decided, and what of it means nothing here."""
    said = []
    if asked.precision == "16" and device == "cpu":
        said.append("Precision 16 is for GPUs: on this CPU the run computes in float32.")
    if asked.early_stopping and not data.validation_examples:
        said.append("Early stopping looks at the validation loss, and there is no validation data.")
    if asked.checkpoint_activations is None:
        tight = _is_tight(asked, base, data, limits, device)
        asked = replace(asked, checkpoint_activations=tight)
        said += [_FORGETS] if tight else []
    return asked, said


_FORGETS = (
    "Memory is tight, so blocks forget their activations and compute them twice "
    "(gradient_checkpointing=false keeps them)."
)


def _is_tight(
    asked: TrainingConfig,
    base: Mapping[str, Any],
    data: TrainingData,
    limits: PackLimits,
    device: str,
) -> bool:
    """Tell whether a pack's activations would not fit beside the rest (the estimate of ``plan``)."""
    try:
        shape = read_shape(Path(base["folder"]))
        tokens = min(max(limits.max_tokens, data.longest_example), data.row_counts.tokens)
        kind = "cpu" if device == "cpu" else "gpu"
        needed = estimate_memory(shape, asked.method, tokens=tokens, r=asked.r, device=kind).total
    except ConfigError:
        return False  # a shape that plan does not know: the user may still ask for it
    return needed > 0.9 * detect_hardware().memory_bytes
