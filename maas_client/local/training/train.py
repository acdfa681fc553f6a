"""The training loop. Progress, events, checkpoints and cancelling belong to its caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.engines import Engine
from maas_client.local.training.packing import Batch


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimiser step did."""

    step: int
    """From 1."""
    epoch: float
    loss: float
    """Mean over the learned tokens of the step."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    tokens: int
    learned_tokens: int
    lines: tuple[int, ...]

    @property
    def is_finite(self) -> bool:
        """Tell whether loss and gradients are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


@dataclass(slots=True)
class RunProgress:
    """What lives through a run and is kept in a checkpoint."""

    total_steps: int
    """Steps of the whole run."""
    step: int = 0
    """Steps done."""


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    config: TrainingConfig,
    progress: RunProgress,
    engine: Engine,
) -> Iterator[StepResult]:
    """Train ``learner`` on ``batches``, one optimiser step each; the caller stops by not asking.

    ``engine`` holds the optimiser and has prepared both for the processes at work.
    """
    model.train()
    for batch in batches:
        # 1. The rate of this step: a function of its number alone.
        rate = config.learning_rate * lr_schedule(config)(progress.step, progress.total_steps)
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        # 2. Gradients: summed losses, divided once by all tokens learned in this step. Engines
        #    take the mean over processes, so each multiplies by their number.
        summed = torch.zeros((), device=engine.device)
        for last, pack in _with_last(batch.packs):
            with engine.accumulate(last):
                loss, _ = model(*pack.to(engine.device))
                engine.backward(loss * (config.processes / batch.learned_tokens))
            summed += loss.detach()
        # 3. Clip, step, forget.
        norm = engine.clip_grad_norm_(config.max_grad_norm)
        engine.optimizer.step()
        engine.optimizer.zero_grad()
        # 4. Tell.
        progress.step += 1
        yield StepResult(
            step=progress.step,
            epoch=batch.epoch,
            loss=engine.reduce(summed) / batch.learned_tokens,
            learning_rate=rate,
            grad_norm=norm,
            tokens=batch.tokens,
            learned_tokens=batch.learned_tokens,
            lines=batch.lines,
        )


def _with_last(packs: list[Any]) -> Iterator[tuple[bool, Any]]:
    for at, pack in enumerate(packs):
        yield at == len(packs) - 1, pack


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Batch], device: Any) -> tuple[float, float]:
    """Return mean loss and accuracy over the learned tokens of ``batches``."""
    model.eval()
    summed, right, count = 0.0, 0, 0
    for batch in batches:
        for pack in batch.packs:
            loss, correct = model(*pack.to(device))
            summed, right = summed + float(loss), right + int(correct)
            count += len(pack.targets)
    model.train()
    return summed / max(1, count), right / max(1, count)


def lr_schedule(config: TrainingConfig) -> Callable[[int, int], float]:
    """Return the factor on the learning rate at a step (from 0) of a number of steps.

    The same numbers as ``transformers.get_scheduler`` gives.
    """

    def factor(step: int, total: int) -> float:
        warmup = config.warmup_steps or math.ceil(config.warmup_ratio * total)
        if config.schedule != "constant" and step < warmup:
            return step / max(1, warmup)
        done = (step - warmup) / max(1, total - warmup)
        if config.schedule in ("constant", "constant_with_warmup"):
            return 1.0
        if config.schedule in ("cosine", "cosine_with_restarts"):
            return 0.0 if done >= 1.0 else 0.5 * (1.0 + math.cos(math.pi * done))
        if config.schedule == "polynomial":
            end = 1e-7 / config.learning_rate
            return (1.0 - end) * (1.0 - done) + end
        return max(0.0, 1.0 - done)

    return factor


def create_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser over all trainable weights; norms and biases are not decayed."""
    named = [(n, w) for n, w in model.named_parameters() if w.requires_grad]
    plain = [w for n, w in named if n.endswith("bias") or "norm" in n.lower()]
    spared = {id(weight) for weight in plain}
    groups = [
        {
            "params": [w for _, w in named if id(w) not in spared],
            "weight_decay": config.weight_decay,
        },
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adafactor":
        from transformers import Adafactor

        own: torch.optim.Optimizer = Adafactor(
            groups, lr=config.learning_rate, scale_parameter=False, relative_step=False
        )
        return own
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )
