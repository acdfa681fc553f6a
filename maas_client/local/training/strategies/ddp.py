"""The base engine: one process, or several with a full copy of the model each (DDP)."""

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
"""The optimiser's state of one weight, by the optimiser's keys."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The unsharded state of a run that a checkpoint stores."""

    weights: Mapping[str, torch.Tensor]
    """All trained weights, by parameter name."""
    optimizer: Mapping[str, Moments]
    """The optimiser's state of each weight."""
    rng_states: torch.Tensor
    """The random generator's state of each process, one per row."""


class Strategy:
    """An Accelerate ``Accelerator`` with the model and optimiser it has prepared."""

    shards_weights = False
    """Whether each process holds only a shard of the weights, so that one alone cannot run the model."""

    def __init__(self, accelerator: Any, model: nn.Module, optimizer: Any) -> None:
        self._accelerator = accelerator
        self.model: nn.Module
        self.optimizer: Any
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        # Collected once: while FSDP gathers weights, these names refer to other objects.
        self.weights = {n: w for n, w in model.named_parameters() if w.requires_grad}
        """The trained weights by name, as the optimiser knows them."""

    @classmethod
    def prepare(
        cls, model: nn.Module, optimizer: Any, device: str, config: TrainingConfig
    ) -> Strategy:
        """Prepare a run; peers are found through the standard environment variables."""
        from accelerate import Accelerator

        return cls(Accelerator(cpu=device == "cpu"), model, optimizer)

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        return torch.device(self._accelerator.device)

    @property
    def rank(self) -> int:
        """Return the rank of this process. Rank 0 writes and reports."""
        return int(self._accelerator.process_index)

    @property
    def process_count(self) -> int:
        """Return the number of processes."""
        return int(self._accelerator.num_processes)

    def accumulate(self, is_last: bool) -> AbstractContextManager[None]:
        """Synchronise gradients only in the last pack of a step."""
        is_single = self._accelerator.num_processes == 1
        return nullcontext() if is_last or is_single else self._accelerator.no_sync(self.model)

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate the gradients of ``loss``."""
        self._accelerator.backward(loss)

    def clip_grad_norm_(self, limit: float) -> float:
        """Clip the gradients over all processes and return their norm before clipping."""
        return float(
            self._accelerator.clip_grad_norm_(list(self.weights.values()), limit or math.inf)
        )

    def reduce(self, value: torch.Tensor) -> float:
        """Return the sum over all processes."""
        return float(self._accelerator.reduce(value, reduction="sum"))

    def broadcast(self, value: int) -> int:
        """Return the first process's ``value``. Every process must call this."""
        if self.process_count == 1:
            return value
        from accelerate.utils import broadcast

        return int(broadcast(torch.tensor(value, device=self.device), from_process=0))

    def gather_weights(self) -> dict[str, torch.Tensor]:
        """Return the trained weights, unsharded. Every process must call this."""
        return {name: self._full_tensor(weight) for name, weight in self.weights.items()}

    def gather_state(self) -> TrainingState:
        """Return the state that a run needs to resume. Every process must call this."""
        moments = {name: self._full_moments(weight) for name, weight in self.weights.items()}
        rng_state = torch.get_rng_state()[None].to(self.device)
        return TrainingState(
            self.gather_weights(), moments, self._accelerator.gather(rng_state).cpu()
        )

    def restore_state(self, state: TrainingState) -> None:
        """Restore optimiser and random states. The weights are loaded before ``prepare``."""
        for name, weight in self.weights.items():
            self._restore_moments(weight, state.optimizer[name])
        torch.set_rng_state(
            state.rng_states[self.rank].clone()
        )  # cloned, as torch ignores the row's offset

    def _full_tensor(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.detach()

    def _full_moments(self, weight: nn.Parameter) -> Moments:
        """Return the optimiser's state of a weight, unsharded; empty before the first step."""
        optimizer_state = self.optimizer.state.get(weight, {})
        return {
            key: self._full_tensor(value) if isinstance(value, torch.Tensor) else value
            for key, value in optimizer_state.items()
        }

    def _restore_moments(self, weight: nn.Parameter, moments: Moments) -> None:
        """Restore the optimiser's state of a weight."""
        self.optimizer.state[weight] = {
            key: value.to(weight.device) if isinstance(value, torch.Tensor) else value
            for key, value in moments.items()
        }
