"""PyTorch's FSDP: weights, gradients and the optimiser's state lie in parts on every process.

This module only configures it; Accelerate puts it in place. Each block of the model is gathered when
it is computed; what lies outside the blocks stays gathered from a forward to its backward.
"""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import UnsupportedError
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.engines.ddp import Engine, Moments


class FsdpEngine(Engine):
    """A run whose processes hold a part of each weight."""

    shards_weights = True

    @classmethod
    def prepare(
        cls, model: nn.Module, optimizer: Any, device: str, config: TrainingConfig
    ) -> Engine:
        """Prepare a run; the processes beside this one are found by the usual variables."""
        from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin

        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            reshard_after_forward=config.fsdp == "full_shard",
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=_blocks(model),
            cpu_ram_efficient_loading=False,
        )
        accelerator = Accelerator(cpu=device == "cpu", fsdp_plugin=plugin)
        if device == "cpu":
            # Accelerate 1.15 turns FSDP on for GPUs only and without a word; PyTorch's own runs on gloo.
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
        engine = cls(accelerator, model, optimizer)
        if not all(_is_divided(weight) for weight in engine.weights.values()):
            raise UnsupportedError(
                "FSDP did not start here, and the run is not made without it",
                hint="Leave out fsdp.",
            )
        return engine

    def clip_grad_norm_(self, limit: float) -> float:
        """Clip the gradients of all processes together and return their norm before."""
        norm: Any = self._accelerator.clip_grad_norm_(
            list(self.weights.values()), limit or torch.inf
        )
        return float(self._full_tensor(norm))

    def _full_tensor(self, weight: torch.Tensor) -> torch.Tensor:
        anything: Any = weight.detach()
        whole: torch.Tensor = anything.full_tensor() if _is_divided(weight) else anything
        return whole

    def _restore_moments(self, weight: nn.Parameter, moments: Moments) -> None:
        from torch.distributed.tensor import distribute_tensor

        like: Any = weight
        parts = {
            key: distribute_tensor(value.to(weight.device), like.device_mesh, like.placements)
            for key, value in moments.items()
            if isinstance(value, torch.Tensor) and value.shape == weight.shape
        }
        super()._restore_moments(weight, {**moments, **parts})


def _is_divided(weight: torch.Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(weight, DTensor)


def _blocks(learner: nn.Module) -> list[str]:
    """Return the names of the model's block classes, as transformers gives them."""
    named = (getattr(module, "_no_split_modules", None) for module in learner.modules())
    return sorted({name for names in named for name in names or ()})
