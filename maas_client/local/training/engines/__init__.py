"""Where the loop runs: one process, several that hold everything each, or several that divide it.

Accelerate places the loop; Accelerate, PyTorch's FSDP and DeepSpeed are configured here, not imitated.
"""

from __future__ import annotations

from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.engines.ddp import Engine, TrainingState
from maas_client.local.training.engines.fsdp import FsdpEngine
from maas_client.local.training.engines.zero import ZeroEngine

__all__ = ["Engine", "TrainingState", "prepare_engine", "sharding_label", "unset_deepspeed"]


def sharding_label(config: TrainingConfig) -> str:
    """Return what divides the run, for people: nothing, `` (DDP)``, `` (DeepSpeed ZeRO-2)``, ..."""
    if config.deepspeed_stage:
        return f" (DeepSpeed ZeRO-{config.deepspeed_stage})"
    if config.fsdp:
        return f" (FSDP {config.fsdp})"
    return " (DDP)" if config.processes > 1 else ""


def prepare_engine(model: nn.Module, optimizer: Any, device: str, config: TrainingConfig) -> Engine:
    """Prepare a run in this process and in those that were launched beside it."""
    return _kind(config).prepare(model, optimizer, device, config)


def unset_deepspeed() -> None:
    """Let models be loaded whole again: DeepSpeed's stage 3 has transformers divide what it loads."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def _kind(recipe: TrainingConfig) -> type[Engine]:
    if recipe.deepspeed_stage:
        return ZeroEngine
    return FsdpEngine if recipe.fsdp else Engine
