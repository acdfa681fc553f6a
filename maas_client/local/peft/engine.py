"""Where the loop runs: one process, several, shards. Accelerate does it; this names what we use.

DeepSpeed clips, steps and forgets inside the last ``backward`` of a step; Accelerate makes the
loop's own calls for these do nothing then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import UnsupportedError
from maas_client.local.peft import zero
from maas_client.local.rules.recipe import Recipe


class Engine:
    """One Accelerate ``Accelerator`` with the Module and the optimiser it has prepared."""

    def __init__(self, accelerator: Any, learner: nn.Module, optimizer: Any, stage: int) -> None:
        self._accelerator = accelerator
        self.stage = stage
        """Of DeepSpeed's ZeRO; 0 without DeepSpeed."""
        self.learner: nn.Module
        self.optimizer: Any
        self.learner, self.optimizer = accelerator.prepare(learner, optimizer)

    @classmethod
    def start(
        cls, learner: nn.Module, optimizer: Any, device: str, recipe: Recipe | None = None
    ) -> Engine:
        """Prepare a run in this process and in those that were launched beside it."""
        from accelerate import Accelerator

        stage = (recipe.deepspeed_stage or 0) if recipe else 0
        asked: dict[str, Any] = {"cpu": device == "cpu"}
        if recipe and stage:
            half = any(weight.dtype == torch.bfloat16 for weight in learner.parameters())
            asked = zero.settings(recipe, device, bf16=half)
        engine = cls(Accelerator(**asked), learner, optimizer, stage)
        if stage and not zero.is_in_place(engine.learner):
            raise UnsupportedError(
                "DeepSpeed did not start here, and the run is not made without it",
                hint="Leave out apply_deepspeed.",
            )
        return engine

    @property
    def device(self) -> torch.device:
        """Return where this process computes."""
        return torch.device(self._accelerator.device)

    @property
    def rank(self) -> int:
        """Return this process's number; 0 writes and reports."""
        return int(self._accelerator.process_index)

    @property
    def processes(self) -> int:
        """Return how many processes run side by side."""
        return int(self._accelerator.num_processes)

    def accumulate_until(self, last: bool) -> AbstractContextManager[None]:
        """Put off the exchange of gradients until the ``last`` part of a step."""
        if self.stage:
            self._accelerator.sync_gradients = last
            return nullcontext()
        alone = self._accelerator.num_processes == 1
        return nullcontext() if last or alone else self._accelerator.no_sync(self.learner)

    def backward(self, loss: torch.Tensor) -> None:
        """Add a part's gradients."""
        self._accelerator.backward(loss)

    def clip_grad_norm_(self, weights: list[nn.Parameter], limit: float) -> float:
        """Clip the gradients of all processes together and return their norm before."""
        norm = self._accelerator.clip_grad_norm_(weights, limit)
        if norm is None:
            return 0.0
        return math.nan if float(norm) < 0 else float(norm)  # DeepSpeed: -1 for no number

    def reduce(self, value: torch.Tensor) -> float:
        """Return the sum over processes."""
        return float(self._accelerator.reduce(value, reduction="sum"))

    def gathered(self, weights: Iterable[nn.Parameter]) -> AbstractContextManager[None]:
        """Hold weights whole that may lie in parts. Every process has to take part."""
        return zero.gathered(weights) if self.stage == 3 else nullcontext()

    def make_whole(self) -> None:
        """End the training: from here on each process holds the whole model. All must call it."""
        if self.stage == 3:
            zero.make_whole(self.learner)
