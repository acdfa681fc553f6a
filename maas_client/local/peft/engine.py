"""Where the loop runs: one process, several, shards. Accelerate does it; this names what we use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

T = TypeVar("T")


class Engine:
    """One Accelerate ``Accelerator`` with the Module and the optimiser it has prepared."""

    def __init__(self, accelerator: Any, learner: nn.Module, optimizer: Any) -> None:
        self._accelerator = accelerator
        self.learner: nn.Module
        self.optimizer: Any
        self.learner, self.optimizer = accelerator.prepare(learner, optimizer)

    @classmethod
    def start(cls, learner: nn.Module, optimizer: Any, device: str) -> Engine:
        """Prepare a run in this process and in those that were launched beside it."""
        from accelerate import Accelerator

        return cls(Accelerator(cpu=device == "cpu"), learner, optimizer)

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
        alone = self._accelerator.num_processes == 1
        return nullcontext() if last or alone else self._accelerator.no_sync(self.learner)

    def backward(self, loss: torch.Tensor) -> None:
        """Add a part's gradients."""
        self._accelerator.backward(loss)

    def clip_grad_norm_(self, weights: list[nn.Parameter], limit: float) -> float:
        """Clip the gradients of all processes together and return their norm before."""
        norm = self._accelerator.clip_grad_norm_(weights, limit)
        return float(norm) if norm is not None else 0.0

    def reduce(self, value: torch.Tensor) -> float:
        """Return the sum over processes."""
        return float(self._accelerator.reduce(value, reduction="sum"))
