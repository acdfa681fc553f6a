"""QLoRA: adapters over bitsandbytes' 4-bit weights, on a CPU too. Needs the extra ``qlora``."""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from peft.tuners.lora.bnb import Linear4bit  # noqa: TID253 - see above
from torch import nn  # noqa: TID253 - see above

from maas_client.local.training.lora_linear import FastLoraMixin, FrozenLayer


class Lora4bitLinear(FastLoraMixin, Linear4bit):  # type: ignore[misc]  # peft ships no types
    """PEFT's LoRA layer over a 4-bit weight, which is unpacked for each product and let go."""

    def _weight_dtype(self) -> torch.dtype:
        kind: torch.dtype = self.base_layer.weight.quant_state.dtype
        return kind

    def _frozen_layer(self, name: str) -> FrozenLayer:
        from bitsandbytes.functional import dequantize_4bit

        packed = self.base_layer.weight
        return FrozenLayer(
            lambda: dequantize_4bit(packed.data, packed.quant_state),
            self._row_squares,
            self.base_layer.bias,
            self.scaling[name],
        )


def layer_classes() -> dict[type[nn.Module], type[nn.Module]]:
    """Return the 4-bit layer and our class over it."""
    from bitsandbytes.nn import Linear4bit as Packed

    return {Packed: Lora4bitLinear}


def keep_trainable_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from packing weights for inference for good.

    On a CPU with bfloat16 instructions its layer does so at the first evaluation without gradients;
    after that it gives no gradient any more.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            anything: Any = module
            anything.support_avx512bf16_for_cpu = False
