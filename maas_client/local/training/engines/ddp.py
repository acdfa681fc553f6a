"""One process, or several that each hold the whole model and exchange gradients (DDP)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.local.resources.training_config import TrainingConfig

Moments = Mapping[str, torch.Tensor | float]
"""What an optimiser keeps of one weight, by its own key."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a run has learned so far, whole, however it was divided: what a checkpoint keeps."""

    weights: Mapping[str, torch.Tensor]
    """Of everything trained, under the learner's names."""
    optimizer: Mapping[str, Moments]
    """The optimiser's state of each of them."""
    rng_states: torch.Tensor
    """The random generator of each process, one a row."""


class Engine:
    """One Accelerate ``Accelerator`` with the Module and the optimiser it has prepared."""

    shards_weights = False
    """Whether a process holds only its part of the weights, and cannot ask the model by itself."""

    def __init__(self, accelerator: Any, learner: nn.Module, optimizer: Any) -> None:
        self._accelerator = accelerator
        self.model: nn.Module
        self.optimizer: Any
        self.model, self.optimizer = accelerator.prepare(learner, optimizer)
        # Now and once: FSDP shows other objects under these names while it holds weights whole.
        self.weights = {n: w for n, w in learner.named_parameters() if w.requires_grad}
        """What is trained, by name, as the optimiser knows it."""

    @classmethod
    def prepare(
        cls, model: nn.Module, optimizer: Any, device: str, config: TrainingConfig
    ) -> Engine:
        """Prepare a run; the processes beside this one are found by the usual variables."""
        from accelerate import Accelerator

        return cls(Accelerator(cpu=device == "cpu"), model, optimizer)

    @property
    def device(self) -> torch.device:
        """Return where this process computes."""
        return torch.device(self._accelerator.device)

    @property
    def rank(self) -> int:
        """Return this process's number; 0 writes and reports."""
        return int(self._accelerator.process_index)

    @property
    def process_count(self) -> int:
        """Return how many processes run side by side."""
        return int(self._accelerator.num_processes)

    def accumulate(self, is_last: bool) -> AbstractContextManager[None]:
        """Put off the exchange of gradients until the ``last`` part of a step."""
        alone = self._accelerator.num_processes == 1
        return nullcontext() if is_last or alone else self._accelerator.no_sync(self.model)

    def backward(self, loss: torch.Tensor) -> None:
        """Add a part's gradients."""
        self._accelerator.backward(loss)

    def clip_grad_norm_(self, limit: float) -> float:
        """Clip the gradients of all processes together and return their norm before."""
        return float(
            self._accelerator.clip_grad_norm_(list(self.weights.values()), limit or math.inf)
        )

    def reduce(self, value: torch.Tensor) -> float:
        """Return the sum over processes."""
        return float(self._accelerator.reduce(value, reduction="sum"))

    def broadcast(self, value: int) -> int:
        """Return what the first process says. Every process has to ask."""
        if self.process_count == 1:
            return value
        from accelerate.utils import broadcast

        return int(broadcast(torch.tensor(value, device=self.device), from_process=0))

    def gather_weights(self) -> dict[str, torch.Tensor]:
        """Return what is trained, whole. Every process has to take part."""
        return {name: self._full_tensor(weight) for name, weight in self.weights.items()}

    def gather_state(self) -> TrainingState:
        """Return all that a run needs to go on. Every process has to take part."""
        moments = {name: self._full_moments(weight) for name, weight in self.weights.items()}
        own = torch.get_rng_state()[None].to(self.device)
        return TrainingState(self.gather_weights(), moments, self._accelerator.gather(own).cpu())

    def restore_state(self, state: TrainingState) -> None:
        """Put back what ``state`` has beyond the weights, which the learner had before ``start``."""
        for name, weight in self.weights.items():
            self._restore_moments(weight, state.optimizer[name])
        torch.set_rng_state(state.rng_states[self.rank].clone())  # of a row, torch reads the first

    def _full_tensor(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.detach()

    def _full_moments(self, weight: nn.Parameter) -> Moments:
        """Return the optimiser's state of a weight, whole; empty before the first step."""
        known = self.optimizer.state.get(weight, {})
        return {
            key: self._full_tensor(value) if isinstance(value, torch.Tensor) else value
            for key, value in known.items()
        }

    def _restore_moments(self, weight: nn.Parameter, moments: Moments) -> None:
        """Give the optimiser its state of a weight back."""
        self.optimizer.state[weight] = {
            key: value.to(weight.device) if isinstance(value, torch.Tensor) else value
            for key, value in moments.items()
        }
