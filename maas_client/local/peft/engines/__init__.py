"""Where the loop runs: one process, several that hold everything each, or several that divide it.

Accelerate places the loop; Accelerate, PyTorch's FSDP and DeepSpeed are configured here, not imitated.
"""

from __future__ import annotations

from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.peft.engines.fsdp import Fsdp
from maas_client.local.peft.engines.plain import Engine, State
from maas_client.local.peft.engines.zero import Zero
from maas_client.local.rules.recipe import Recipe

__all__ = ["Engine", "State", "forget", "name", "start"]


def name(recipe: Recipe) -> str:
    """Return what divides the run, for people: nothing, `` (DDP)``, `` (DeepSpeed ZeRO-2)``, ..."""
    if recipe.deepspeed_stage:
        return f" (DeepSpeed ZeRO-{recipe.deepspeed_stage})"
    if recipe.fsdp:
        return f" (FSDP {recipe.fsdp})"
    return " (DDP)" if recipe.processes > 1 else ""


def start(learner: nn.Module, optimizer: Any, device: str, recipe: Recipe) -> Engine:
    """Prepare a run in this process and in those that were launched beside it."""
    return _kind(recipe).start(learner, optimizer, device, recipe)


def forget() -> None:
    """Let models be loaded whole again: DeepSpeed's stage 3 has transformers divide what it loads."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def _kind(recipe: Recipe) -> type[Engine]:
    if recipe.deepspeed_stage:
        return Zero
    return Fsdp if recipe.fsdp else Engine
