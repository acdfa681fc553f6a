"""Everything a run needs, made ready from its spec: data, model, adapters, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.chat import TEMPLATES, Template
from maas_client.dataset import read
from maas_client.errors import ConfigError, DatasetError
from maas_client.local import durable
from maas_client.local.peft import adapters, loading, recipe
from maas_client.local.peft.adapters import Coverage
from maas_client.local.peft.checkpoints import fingerprint
from maas_client.local.peft.engine import Engine
from maas_client.local.peft.examples import Example, Tally, encode
from maas_client.local.peft.learner import Learner
from maas_client.local.peft.packs import (
    Batch,
    Limits,
    batches_in_order,
    steps_per_epoch,
    total_steps,
)
from maas_client.local.peft.recipe import Recipe
from maas_client.local.peft.samples import Sample, choose
from maas_client.local.peft.train import Run, optimizer_for
from maas_client.local.planning.hardware import this_machine
from maas_client.local.planning.memory import estimate
from maas_client.local.planning.shape import of_folder


@dataclass(slots=True)
class Validation:
    """Validation so far: the base model's, the last, the best."""

    base_loss: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    worse_for: int = 0
    """Evaluations in a row that did not improve on the best."""

    def take(self, step: int, loss: float, accuracy: float, threshold: float) -> None:
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
class Job:
    """A run, ready to begin."""

    spec: Mapping[str, Any]
    recipe: Recipe
    base: Mapping[str, Any]
    out: Path
    tokenizer: Any
    template: Template
    examples: list[Example]
    held_out: list[Batch]
    tally: Tally
    held_tally: Tally
    limits: Limits
    model: nn.Module
    learner: Learner
    coverage: Coverage
    engine: Engine
    run: Run
    mark: str
    samples: list[Sample]
    warnings: list[str] = field(default_factory=list)
    seen_tokens: int = 0

    @classmethod
    def prepare(cls, spec: Mapping[str, Any]) -> Job:
        """Read the data, load the base, put on what is trained. Raises ``MaasError``s."""
        asked, base = recipe.from_names(spec.get("recipe") or {}), spec["base"]
        device = loading.device_for(str(spec.get("device") or "auto"))
        tokenizer = loading.load_tokenizer(base["folder"])
        template, warning = loading.own_template(tokenizer, TEMPLATES[base["template"]])
        model = loading.load_model(base["folder"], asked, device)
        longest = min(asked.max_length or 1 << 30, loading.context_length(model))
        examples, tally = _read(spec["train"], tokenizer, template, longest)
        if not examples:
            raise DatasetError(
                "No assistant tokens found after preprocessing: the training file has nothing to "
                "learn from."
            )
        held: list[Example] = []
        held_tally = Tally()
        if spec.get("validation"):
            held, held_tally = _read(spec["validation"], tokenizer, template, longest)
        limits = Limits(long_from=loading.long_from(model))
        warnings = [text for text in (warning, *_unmet(asked, device)) if text]
        if asked.checkpoint_activations is None:
            asked = replace(asked, checkpoint_activations=_is_tight(asked, base, examples, device))
            warnings += [_FORGETS] if asked.checkpoint_activations else []
        adapted, coverage = adapters.attach(model, asked)
        loading.save_memory(adapted, asked)
        learner = Learner(adapted)
        optimizer = optimizer_for(learner, asked)
        engine = Engine.start(learner, optimizer, device)
        if engine.processes != asked.processes:
            raise ConfigError(
                f"the recipe wants {asked.processes} processes, and {engine.processes} run here",
                hint="Leave out processes, num_nodes_finetune and number_of_gpu_to_use_finetuning.",
            )
        return cls(
            spec=spec,
            recipe=asked,
            base=base,
            out=Path(spec["out"]),
            tokenizer=tokenizer,
            template=template,
            examples=examples,
            held_out=list(batches_in_order(held, limits)),
            tally=tally,
            held_tally=held_tally,
            limits=limits,
            model=adapted,
            learner=learner,
            coverage=coverage,
            engine=engine,
            run=Run(total=total_steps(len(examples), asked)),
            mark=fingerprint(_identity(spec, asked)),
            samples=_samples(spec, template, asked),
            warnings=warnings,
        )

    @property
    def checkpoints(self) -> Path:
        """Return where a killed run finds itself again."""
        return self.out / "checkpoints"

    @property
    def adapters(self) -> Path:
        """Return where adapters of past epochs lie."""
        return self.out / "adapters"

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps of one pass."""
        return steps_per_epoch(len(self.examples), self.recipe)

    @property
    def evaluate_every(self) -> int:
        """Return the steps between evaluations, for ``evaluation_strategy=steps``."""
        share = self.recipe.evaluate_fraction
        return max(1, round(share * self.steps_per_epoch)) if share else self.recipe.evaluate_steps

    @property
    def probe(self) -> list[Batch]:
        """Return a batch to compare two models on when nothing is held out."""
        return list(batches_in_order(self.examples[:4], self.limits))

    def trained_tokens(self) -> int:
        """Return tokens as the service bills them: training and validation, times epochs."""
        passes = self.run.step / self.steps_per_epoch
        return round((self.tally.tokens + self.held_tally.tokens) * passes)

    def facts(self) -> dict[str, Any]:
        """Return what the job says about itself when it begins."""
        return {
            "base": dict(self.base),
            "template": {"name": self.template.name, "revision": self.template.revision},
            "method": self.recipe.method,
            "device": str(self.engine.device),
            "steps": self.run.total,
            "examples": len(self.examples),
            "tokens": self.tally.tokens,
            "learned_tokens": self.tally.learned_tokens,
            "trainable": self.coverage.trainable,
            "coverage": self.coverage.as_dict(),
        }

    def card(self, progress: Validation) -> dict[str, Any]:
        """Return what is written beside the weights: where they come from and how they do."""
        return {
            "model": self.spec.get("model"),
            "template": self.template.name,
            "recipe": asdict(self.recipe),
            "coverage": self.coverage.as_dict(),
            "data": {"train_sha256": durable.sha256_of(Path(self.spec["train"]))},
            "rows": len(self.examples),
            "step": self.run.step,
            "metrics": progress.metrics(),
        }


def _read(
    path: str, tokenizer: Any, template: Template, longest: int
) -> tuple[list[Example], Tally]:
    rows = ((line.no, row) for line, row in read.rows(path))
    return encode(rows, tokenizer, template, longest)


def _samples(spec: Mapping[str, Any], template: Template, asked: Recipe) -> list[Sample]:
    if not spec.get("validation") or asked.evaluate == "disable":
        return []
    return choose((row for _, row in read.rows(spec["validation"])), template)


_FORGETS = (
    "Memory is tight, so blocks forget their activations and compute them twice "
    "(gradient_checkpointing=false keeps them)."
)


def _is_tight(asked: Recipe, base: Mapping[str, Any], examples: list[Example], device: str) -> bool:
    """Tell whether a pack's activations would not fit beside the rest (the estimate of ``plan``)."""
    try:
        shape = of_folder(Path(base["folder"]))
        tokens = max(Limits().tokens, *(len(example.ids) for example in examples))
        tokens = min(tokens, sum(len(example.ids) for example in examples))
        kind = "cpu" if device == "cpu" else "gpu"
        needed = estimate(shape, asked.method, tokens=tokens, r=asked.r, device=kind).total
    except ConfigError:
        return False  # a shape that plan does not know: the user may still ask for it
    return needed > 0.9 * this_machine().memory_bytes


def _unmet(asked: Recipe, device: str) -> list[str]:
    """Return what a user asked for that means nothing here."""
    said = []
    if asked.precision == "16" and device == "cpu":
        said.append("Precision 16 is for GPUs: on this CPU the run computes in float32.")
    if asked.deepspeed_stage and asked.processes == 1:
        said.append("DeepSpeed has nothing to divide in one process: the run goes without it.")
    return said


def _identity(spec: Mapping[str, Any], asked: Recipe) -> dict[str, Any]:
    files = (spec["train"], spec.get("validation"))
    return {
        "recipe": asdict(replace(asked, checkpoint_activations=None)),
        "base": spec["base"]["name"],
        "data": [durable.sha256_of(Path(path)) if path else None for path in files],
    }
