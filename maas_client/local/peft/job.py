"""Everything a run needs, made ready from its spec: data, model, adapters, optimiser."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.chat import TEMPLATES, Template
from maas_client.errors import ConfigError
from maas_client.local.machine.hardware import this_machine
from maas_client.local.machine.memory import estimate
from maas_client.local.machine.shape import of_folder
from maas_client.local.peft import adapters, engines, loading, ranks
from maas_client.local.peft.adapters import Coverage
from maas_client.local.peft.checkpoints import fingerprint
from maas_client.local.peft.data import Data
from maas_client.local.peft.engines import Engine, State
from maas_client.local.peft.learner import Learner
from maas_client.local.peft.packs import (
    Batch,
    Limits,
    batches_in_order,
    steps_per_epoch,
    total_steps,
)
from maas_client.local.peft.train import Run, optimizer_for
from maas_client.local.rules import recipe
from maas_client.local.rules.recipe import Recipe


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
    data: Data
    held_out: list[Batch]
    limits: Limits
    model: nn.Module
    learner: Learner
    coverage: Coverage
    device: str
    run: Run
    mark: str
    engine: Engine = field(init=False)
    """From ``start`` on."""
    warnings: list[str] = field(default_factory=list)
    seen_tokens: int = 0
    recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=256))
    """The newest step events; a checkpoint keeps them, to be told again after a kill."""

    @classmethod
    def prepare(cls, spec: Mapping[str, Any]) -> Job:
        """Read the data, load the base, put on what is trained. Raises ``MaasError``s."""
        asked, base = recipe.from_names(spec.get("recipe") or {}), spec["base"]
        recipe.check_installed(asked)
        if asked.processes != ranks.count():
            raise ConfigError(
                f"the recipe wants {asked.processes} processes, and {ranks.count()} run here",
                hint="Leave out processes, num_nodes_finetune and number_of_gpu_to_use_finetuning.",
            )
        device = loading.device_for(str(spec.get("device") or "auto"))
        if device == "cuda":
            loading.take_gpu(ranks.own(), ranks.count())
        tokenizer = loading.load_tokenizer(base["folder"])
        template, warning = loading.own_template(tokenizer, TEMPLATES[base["template"]])
        model = loading.load_model(base["folder"], asked, device)
        longest = min(asked.max_length or 1 << 30, loading.context_length(model))
        data = Data.read(spec, tokenizer, template, longest)
        mark = fingerprint({"recipe": asdict(asked), "base": base["name"], "data": data.hashes})
        limits = Limits(long_from=loading.long_from(model))
        asked, unmet = _settled(asked, base, data, limits, device)
        adapted, coverage = adapters.attach(model, asked)
        loading.save_memory(adapted, asked)
        learner = Learner(adapted)
        return cls(
            spec=spec,
            recipe=asked,
            base=base,
            out=Path(spec["out"]),
            tokenizer=tokenizer,
            template=template,
            data=data,
            held_out=list(batches_in_order(data.held_out, limits)),
            limits=limits,
            model=adapted,
            learner=learner,
            coverage=coverage,
            device=device,
            run=Run(total=total_steps(len(data.examples), asked)),
            mark=mark,
            warnings=[
                text
                for text in (warning, *recipe.without_effect(spec.get("recipe") or {}), *unmet)
                if text
            ],
        )

    def start(self, state: State | None) -> None:
        """Place the run where its recipe says, from ``state`` on where there is one."""
        if state is not None:
            self.put(state.weights)
        optimizer = optimizer_for(self.learner, self.recipe)
        self.engine = engines.start(self.learner, optimizer, self.device, self.recipe)
        if state is not None:
            self.engine.restore(state)

    def make_whole(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put the base in the place of a divided model, with the ``weights`` that were trained.

        What engines hang on a model to divide it does not come off again.
        """
        engines.forget()
        model = loading.load_model(self.base["folder"], self.recipe, self.device)
        self.model, _ = adapters.attach(model, self.recipe)
        self.learner = Learner(self.model)
        self.put(weights)

    def put(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Give the learner ``weights`` of what it trains, under its own names."""
        said = self.learner.load_state_dict(weights, strict=False)
        assert not said.unexpected_keys, said.unexpected_keys[:3]

    @property
    def rank(self) -> int:
        """Return this process's number; 0 writes and reports."""
        return ranks.own()

    @property
    def placement(self) -> str:
        """Return where the run is, for people."""
        many = f"{self.recipe.processes} processes" if self.recipe.processes > 1 else "one process"
        return f"{many}{engines.name(self.recipe)}"

    @property
    def checkpoints(self) -> Path:
        """Return where a killed run finds itself again."""
        return self.out / "checkpoints"

    @property
    def adapters(self) -> Path:
        """Return where adapters of past epochs lie."""
        return self.out / "adapters"

    @property
    def best(self) -> Path:
        """Return where a whole model's best weights lie until an early end."""
        return self.out / "best"

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimiser steps of one pass."""
        return steps_per_epoch(len(self.data.examples), self.recipe)

    @property
    def evaluate_every(self) -> int:
        """Return the steps between evaluations, for ``evaluation_strategy=steps``."""
        share = self.recipe.evaluate_fraction
        return max(1, round(share * self.steps_per_epoch)) if share else self.recipe.evaluate_steps

    @property
    def probe(self) -> list[Batch]:
        """Return a batch to compare two models on when nothing is held out."""
        return list(batches_in_order(self.data.examples[:4], self.limits))

    def trained_tokens(self) -> int:
        """Return tokens as the service bills them: training and validation, times epochs."""
        passes = self.run.step / self.steps_per_epoch
        return round((self.data.tally.tokens + self.data.held_tally.tokens) * passes)

    def facts(self) -> dict[str, Any]:
        """Return what the job says about itself when it begins."""
        return {
            "base": dict(self.base),
            "template": {"name": self.template.name, "revision": self.template.revision},
            "method": self.recipe.method,
            "device": self.device,
            "placement": self.placement,
            "steps": self.run.total,
            "examples": len(self.data.examples),
            "tokens": self.data.tally.tokens,
            "learned_tokens": self.data.tally.learned_tokens,
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
            "data": self.data.hashes,
            "rows": len(self.data.examples),
            "step": self.run.step,
            "metrics": progress.metrics(),
        }


def _settled(
    asked: Recipe, base: Mapping[str, Any], data: Data, limits: Limits, device: str
) -> tuple[Recipe, list[str]]:
    """Return the recipe with what it left open decided, and what of it means nothing here."""
    said = []
    if asked.precision == "16" and device == "cpu":
        said.append("Precision 16 is for GPUs: on this CPU the run computes in float32.")
    if asked.early_stopping and not data.held_out:
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
    asked: Recipe, base: Mapping[str, Any], data: Data, limits: Limits, device: str
) -> bool:
    """Tell whether a pack's activations would not fit beside the rest (the estimate of ``plan``)."""
    try:
        shape = of_folder(Path(base["folder"]))
        tokens = min(max(limits.tokens, data.longest), data.tally.tokens)
        kind = "cpu" if device == "cpu" else "gpu"
        needed = estimate(shape, asked.method, tokens=tokens, r=asked.r, device=kind).total
    except ConfigError:
        return False  # a shape that plan does not know: the user may still ask for it
    return needed > 0.9 * this_machine().memory_bytes
