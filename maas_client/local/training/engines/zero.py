"""DeepSpeed's ZeRO: what processes hold in parts, and how it becomes whole again.

Stage 1 divides the optimiser's state, stage 2 the gradients too, stage 3 the weights too. This module
only configures DeepSpeed; Accelerate puts it in place. DeepSpeed clips, steps and forgets inside the
last ``backward`` of a step; Accelerate makes the loop's own calls for these do nothing then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import UnsupportedError
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.engines.ddp import Engine, Moments, TrainingState

_KEPT_WHOLE = 100_000
"""Stage 3 leaves weights of fewer numbers than this in one piece (DeepSpeed's own default)."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""
_GROUPS = (
    ("bit16_groups", "single_partition_of_fp32_groups"),  # stages 1 and 2
    ("bf16_groups", "fp32_groups_flat_partition"),  # stage 1 in bfloat16
    ("fp16_groups", "fp32_partitioned_groups_flat"),  # stage 3
)
"""What DeepSpeed's optimisers call their weights and this process's flat part of them."""


class ZeroEngine(Engine):
    """A run whose processes divide what DeepSpeed's stage says."""

    def __init__(self, accelerator: Any, learner: nn.Module, optimizer: Any, stage: int) -> None:
        super().__init__(accelerator, learner, optimizer)
        self._stage = stage
        self.shards_weights = stage == 3

    @classmethod
    def prepare(
        cls, model: nn.Module, optimizer: Any, device: str, config: TrainingConfig
    ) -> Engine:
        """Prepare a run; the processes beside this one are found by the usual variables."""
        import deepspeed
        from accelerate import Accelerator

        half = any(weight.dtype == torch.bfloat16 for weight in model.parameters())
        accelerator = Accelerator(**_settings(config, device, bf16=half))
        engine = cls(accelerator, model, optimizer, config.deepspeed_stage or 0)
        if not isinstance(engine.model, deepspeed.DeepSpeedEngine):
            raise UnsupportedError(
                "DeepSpeed did not start here, and the run is not made without it",
                hint="Leave out apply_deepspeed.",
            )
        return engine

    def accumulate(self, is_last: bool) -> AbstractContextManager[None]:
        """Put off the exchange of gradients until the ``last`` part of a step."""
        self._accelerator.sync_gradients = is_last
        return nullcontext()

    def clip_grad_norm_(self, limit: float) -> float:
        """Return the gradients' norm before DeepSpeed clipped them."""
        norm = self._accelerator.clip_grad_norm_(list(self.weights.values()), limit)
        if norm is None:
            return 0.0
        return math.nan if float(norm) < 0 else float(norm)  # DeepSpeed: -1 for no number

    def restore_state(self, state: TrainingState) -> None:
        """Put back what ``state`` has beyond the weights, which the learner had before ``start``."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        own = self.optimizer.optimizer.optimizer
        step: Any = next(iter(state.optimizer.values()))["step"]  # the same of every weight
        for weights, flat in self._groups():
            own.state[flat] = {
                "step": step.clone(),
                **{key: torch.zeros_like(flat) for key in _MOMENTS},
            }
            if self._stage < 3:
                lazy_init_hp_params_optimizer_state(weights, flat, own.state)
        super().restore_state(state)

    def _full_tensor(self, weight: torch.Tensor) -> torch.Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        whole: torch.Tensor = safe_get_full_fp32_param(weight)
        return whole.detach()

    def _full_moments(self, weight: nn.Parameter) -> Moments:
        from deepspeed.utils import safe_get_full_optimizer_state

        whole = {key: safe_get_full_optimizer_state(weight, key).detach() for key in _MOMENTS}
        steps = self.optimizer.optimizer.optimizer.state.values()
        return {"step": next(iter(steps))["step"].clone(), **whole}

    def _restore_moments(self, weight: nn.Parameter, moments: Moments) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        for key in _MOMENTS:
            value = moments[key]
            assert isinstance(value, torch.Tensor)
            if self._stage < 3:
                safe_set_full_optimizer_state(weight, value, key)
            else:
                safe_set_local_optimizer_state(weight, self._part(weight, value), key)

    def _part(self, weight: Any, whole: torch.Tensor) -> torch.Tensor:
        """Return this process's part, as stage 3 cuts it: all are as long, the last is filled up."""
        length = weight.ds_tensor.numel()
        filled = nn.functional.pad(
            whole.flatten(), (0, length * self.process_count - whole.numel())
        )
        return filled.narrow(0, length * self.rank, length).to(weight.ds_tensor.device)

    def _groups(self) -> Iterator[tuple[list[Any], torch.Tensor]]:
        """Yield DeepSpeed's groups of weights, each with this process's flat part."""
        divided = self.optimizer.optimizer
        for weights, flat in _GROUPS:
            if hasattr(divided, weights) and hasattr(divided, flat):
                yield from zip(getattr(divided, weights), getattr(divided, flat), strict=True)
                return
        raise UnsupportedError(
            f"this version of DeepSpeed ({type(divided).__name__}) cannot go on from a checkpoint",
            hint="Start the job again, or leave out apply_deepspeed.",
        )


def _settings(recipe: TrainingConfig, device: str, *, bf16: bool) -> dict[str, Any]:
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
