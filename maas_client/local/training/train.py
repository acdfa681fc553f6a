"""The training loop, one optimiser step at a time. Events, checkpoints and cancelling are up to its caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.pack_threads import add_gradients
from maas_client.local.training.packing import Batch
from maas_client.local.training.preference_loss import REWARD_SUMS, reward_metrics
from maas_client.local.training.strategies import Strategy


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of one optimiser step."""

    step: int
    """Number of the step, from 1."""
    epoch: float
    """Passes over the data after this step."""
    loss: float
    """Mean over the tokens of the step that carry loss."""
    learning_rate: float
    grad_norm: float
    """Norm of the gradients before clipping."""
    tokens: int
    learned_tokens: int
    lines: tuple[int, ...]
    """Lines of the training file in this step."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Preferences: accuracy, margin and means of the rewards (``preference_loss.reward_metrics``)."""

    @property
    def is_finite(self) -> bool:
        """Return whether loss and gradient norm are finite numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(slots=True)
class RunProgress:
    """Position in a run. Checkpoints store it."""

    total_steps: int
    """Optimiser steps of the whole run."""
    step: int = 0
    """Completed steps."""


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    config: TrainingConfig,
    progress: RunProgress,
    engine: Strategy,
) -> Iterator[StepResult]:
    """Train ``model`` on ``batches`` and yield after each optimiser step. To stop, stop iterating.

    ``engine`` holds the optimiser, and has prepared model and optimiser for all processes of the run.
    """
    model.train()
    for batch in batches:
        # 1. Learning rate: depends on the step number only.
        learning_rate = config.learning_rate * lr_schedule(config)(
            progress.step, progress.total_steps
        )
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate
        # 2. Gradients: summed losses, divided once by all loss-carrying tokens (or preferences) of this
        #    step. Engines average over processes, so multiply by the number of processes.
        loss_sum = torch.zeros((), device=engine.device)
        reward_sums = torch.zeros(REWARD_SUMS, device=engine.device)
        for is_last, packs in _flag_last(batch.packs):
            with engine.accumulate(is_last):
                results = add_gradients(
                    lambda pack: model(*pack.to(engine.device)),
                    packs,
                    engine,
                    factor=config.processes / batch.loss_terms,
                )
            for loss, statistics in results:
                loss_sum += loss
                if batch.pairs:
                    reward_sums += statistics
        # 3. Clip, update the weights, clear the gradients.
        grad_norm = engine.clip_grad_norm_(config.max_grad_norm)
        engine.optimizer.step()
        engine.optimizer.zero_grad()
        # 4. Report.
        progress.step += 1
        yield StepResult(
            step=progress.step,
            epoch=batch.epoch,
            loss=engine.reduce(loss_sum) / batch.loss_terms,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            tokens=batch.tokens,
            learned_tokens=batch.learned_tokens,
            lines=batch.lines,
            rewards=reward_metrics([engine.reduce(value) for value in reward_sums], batch.pairs)
            if batch.pairs
            else {},
        )


def _flag_last(packs: Sequence[Any]) -> Iterator[tuple[bool, Any]]:
    for index, pack in enumerate(packs):
        yield index == len(packs) - 1, pack


class Evaluation(NamedTuple):
    """Means over the loss-carrying tokens, or over the preferences, of a file."""

    loss: float
    accuracy: float
    """Share of tokens that were predicted, or of preferred answers with the higher reward."""
    margin: float | None = None
    """Preferences: the mean difference of the rewards of both answers."""


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], device: Any) -> Evaluation:
    """Return mean loss and accuracy over ``batches``."""
    model.eval()
    loss_sum, correct_count, terms = 0.0, 0, 0
    reward_sums, pairs = torch.zeros(REWARD_SUMS), 0
    for batch in batches:
        for pack in chain.from_iterable(batch.packs):
            loss, statistics = model(*pack.to(device))
            loss_sum += float(loss)
            if batch.pairs:
                reward_sums += statistics.cpu()
            else:
                correct_count += int(statistics)
        terms, pairs = terms + batch.loss_terms, pairs + batch.pairs
    model.train()
    if pairs:
        rewards = reward_metrics(reward_sums.tolist(), pairs)
        return Evaluation(loss_sum / pairs, rewards["accuracy"], rewards["margin"])
    return Evaluation(loss_sum / max(1, terms), correct_count / max(1, terms))


def lr_schedule(config: TrainingConfig) -> Callable[[int, int], float]:
    """Return a function from step (from 0) and total steps to the factor on the learning rate.

    The factors equal those of ``transformers.get_scheduler``.
    """

    def factor(step: int, total: int) -> float:
        warmup = config.warmup_steps or math.ceil(config.warmup_ratio * total)
        if config.lr_scheduler_type != "constant" and step < warmup:
            return step / max(1, warmup)
        fraction = (step - warmup) / max(1, total - warmup)
        if config.lr_scheduler_type in ("constant", "constant_with_warmup"):
            return 1.0
        if config.lr_scheduler_type in ("cosine", "cosine_with_restarts"):
            return 0.0 if fraction >= 1.0 else 0.5 * (1.0 + math.cos(math.pi * fraction))
        if config.lr_scheduler_type == "polynomial":
            final_factor = 1e-7 / config.learning_rate
            return (1.0 - final_factor) * (1.0 - fraction) + final_factor
        return max(0.0, 1.0 - fraction)

    return factor


def create_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser for all trainable weights, without weight decay on norms and biases."""
    trainable = [(n, w) for n, w in model.named_parameters() if w.requires_grad]
    no_decay = [w for n, w in trainable if n.endswith("bias") or "norm" in n.lower()]
    no_decay_ids = {id(weight) for weight in no_decay}
    groups = [
        {
            "params": [w for _, w in trainable if id(w) not in no_decay_ids],
            "weight_decay": config.weight_decay,
        },
        {"params": no_decay, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adafactor":
        from transformers import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(
            groups, lr=config.learning_rate, scale_parameter=False, relative_step=False
        )
        return adafactor
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
