"""DeepSpeed's ZeRO: what processes hold in parts, and how it becomes whole again.

Stage 1 divides the optimiser's state, stage 2 the gradients too, stage 3 the weights too. This module
only configures DeepSpeed; Accelerate puts it in place (``engine.py``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.errors import MissingExtraError, UnsupportedError
from maas_client.local.rules.recipe import Recipe

_KEPT_WHOLE = 100_000
"""Stage 3 leaves weights of fewer numbers than this in one piece (DeepSpeed's own default)."""


def check(recipe: Recipe) -> None:
    """Refuse what ZeRO cannot carry out, before anything is loaded."""
    stage = recipe.deepspeed_stage
    if stage is None:
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise MissingExtraError(
            "apply_deepspeed needs DeepSpeed",
            extra="deepspeed",
            hint="Install it: pip install 'maas-client[deepspeed]'",
        )
    if recipe.optimizer != "adamw_torch":
        raise UnsupportedError(
            f"DeepSpeed cannot run the optimizer {recipe.optimizer}, which needs whole matrices",
            hint="Use optim=adamw_torch, or leave out apply_deepspeed.",
        )
    if stage == 3 and recipe.method == "QLoRA":
        raise UnsupportedError(
            "DeepSpeed ZeRO-3 cannot divide the 4-bit weights of QLoRA",
            hint="Use deepspeed_stage=2, or method LoRA.",
        )


def settings(recipe: Recipe, device: str, *, bf16: bool) -> dict[str, Any]:
    """Return how Accelerate is asked for DeepSpeed; nothing is offloaded."""
    from accelerate import DeepSpeedPlugin
    from accelerate.utils import InitProcessGroupKwargs

    plugin = DeepSpeedPlugin(
        hf_ds_config={
            "train_micro_batch_size_per_gpu": recipe.batch_size,
            "gradient_accumulation_steps": 1,  # the loop accumulates, and divides once
            "gradient_clipping": recipe.max_grad_norm,
            "bf16": {"enabled": bf16},
            "zero_optimization": {
                "stage": recipe.deepspeed_stage,
                "stage3_param_persistence_threshold": _KEPT_WHOLE,
            },
            "steps_per_print": 1 << 30,
        }
    )
    # Asked for ``cpu=True``, Accelerate forgets DeepSpeed; DS_ACCELERATOR says it instead (ranks.py).
    return {
        "deepspeed_plugin": plugin,
        "mixed_precision": "bf16" if bf16 else "no",
        "kwargs_handlers": [InitProcessGroupKwargs(backend="gloo")] if device == "cpu" else [],
    }


def is_in_place(learner: nn.Module) -> bool:
    """Tell whether DeepSpeed has wrapped what is trained."""
    import deepspeed

    return isinstance(learner, deepspeed.DeepSpeedEngine)


def gathered(weights: Iterable[nn.Parameter]) -> AbstractContextManager[None]:
    """Hold these divided weights whole for a while. Every process has to take part."""
    import deepspeed

    whole: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(list(weights))
    return whole


def make_whole(engine: Any) -> None:
    """Give every process the whole weights for good and take DeepSpeed off the model.

    DeepSpeed's hooks would divide a weight again after each use, and one process alone could then
    not compute with it.
    """
    gathered(engine.module.parameters()).__enter__()
    engine.optimizer.parameter_offload.destroy()
