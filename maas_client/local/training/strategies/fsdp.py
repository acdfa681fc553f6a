"""PyTorch's FSDP: weights, gradients and optimiser state are sharded over the processes.

This module configures FSDP; Accelerate applies it. Each block of the model is gathered when it is computed.
Weights outside the blocks stay gathered from forward to backward.
"""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import UnsupportedError
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.strategies.ddp import Moments, Strategy


class FsdpStrategy(Strategy):
    """A run whose processes each hold a shard of every weight."""

    shards_weights = True

    @classmethod
    def prepare(
        cls, model: nn.Module, optimizer: Any, device: str, config: TrainingConfig
    ) -> Strategy:
        """Prepare a run; peers are found through the standard environment variables."""
        from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin

        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            reshard_after_forward=config.fsdp == "full_shard",
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=_block_class_names(model),
            cpu_ram_efficient_loading=False,
        )
        accelerator = Accelerator(cpu=device == "cpu", fsdp_plugin=plugin)
        if device == "cpu":
            # Accelerate 1.15 silently enables FSDP on GPUs only; PyTorch's FSDP also runs on gloo.
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
        engine = cls(accelerator, model, optimizer)
        if not all(_is_sharded(weight) for weight in engine.weights.values()):
            raise UnsupportedError(
                "FSDP did not start.",
                hint="Leave out fsdp to train without it.",
            )
        return engine

    def clip_grad_norm_(self, limit: float) -> float:
        """Clip the gradients over all processes and return their norm before clipping."""
        norm: Any = self._accelerator.clip_grad_norm_(
            list(self.weights.values()), limit or torch.inf
        )
        return float(self._full_tensor(norm))

    def _full_tensor(self, weight: torch.Tensor) -> torch.Tensor:
        sharded: Any = weight.detach()
        full: torch.Tensor = sharded.full_tensor() if _is_sharded(weight) else sharded
        return full

    def _restore_moments(self, weight: nn.Parameter, moments: Moments) -> None:
        from torch.distributed.tensor import distribute_tensor

        dtensor: Any = weight
        shards = {
            key: distribute_tensor(value.to(weight.device), dtensor.device_mesh, dtensor.placements)
            for key, value in moments.items()
            if isinstance(value, torch.Tensor) and value.shape == weight.shape
        }
        super()._restore_moments(weight, {**moments, **shards})


def _is_sharded(weight: torch.Tensor) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(weight, DTensor)


def _block_class_names(model: nn.Module) -> list[str]:
    """Return the names of the model's block classes, as transformers lists them."""
    names_by_module = (getattr(module, "_no_split_modules", None) for module in model.modules())
    return sorted({name for names in names_by_module for name in names or ()})
