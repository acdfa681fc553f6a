"""Engines: run the training loop in one process, in several with DDP, or sharded with FSDP or DeepSpeed.

All are configured through Accelerate.
"""

from __future__ import annotations

from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.strategies.ddp import Strategy, TrainingState
from maas_client.local.training.strategies.fsdp import FsdpStrategy
from maas_client.local.training.strategies.zero import ZeroStrategy

__all__ = ["Strategy", "TrainingState", "prepare_strategy", "sharding_label", "unset_deepspeed"]


def sharding_label(config: TrainingConfig) -> str:
    """Return the kind of parallelism as text: nothing, `` (DDP)``, `` (DeepSpeed ZeRO-2)``, ..."""
    if config.deepspeed_stage:
        return f" (DeepSpeed ZeRO-{config.deepspeed_stage})"
    if config.fsdp:
        return f" (FSDP {config.fsdp})"
    return " (DDP)" if config.processes > 1 else ""


def prepare_strategy(
    model: nn.Module, optimizer: Any, device: str, config: TrainingConfig
) -> Strategy:
    """Create the engine for this process and its peers."""
    return _strategy_class(config).prepare(model, optimizer, device, config)


def unset_deepspeed() -> None:
    """Let transformers load models unsharded again: with DeepSpeed's stage 3 it shards them."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def _strategy_class(config: TrainingConfig) -> type[Strategy]:
    if config.deepspeed_stage:
        return ZeroStrategy
    return FsdpStrategy if config.fsdp else Strategy
