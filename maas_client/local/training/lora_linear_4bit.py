"""QLoRA: LoRA layers over bitsandbytes' 4-bit weights, on CPUs too. Needs the extra ``qlora``.

A module of its own: importing it fails without bitsandbytes.
"""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from peft.tuners.lora.bnb import Linear4bit  # noqa: TID253 - see above
from torch import nn  # noqa: TID253 - see above

from maas_client.local.training.autograd_functions import FrozenLayer
from maas_client.local.training.lora_linear import FastLoraMixin


class Lora4bitLinear(FastLoraMixin, Linear4bit):  # type: ignore[misc]  # peft ships no types
    """PEFT's LoRA layer over a 4-bit weight, which is dequantised for each product and not kept."""

    def _weight_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.base_layer.weight.quant_state.dtype
        return dtype

    def _frozen_layer(self, name: str) -> FrozenLayer:
        from bitsandbytes.functional import dequantize_4bit

        quantized = self.base_layer.weight
        return FrozenLayer(
            lambda: dequantize_4bit(quantized.data, quantized.quant_state),
            self._row_squares,
            self.base_layer.bias,
            self.scaling[name],
        )


def layer_classes() -> dict[type[nn.Module], type[nn.Module]]:
    """Map the 4-bit layer class to its LoRA class."""
    from bitsandbytes.nn import Linear4bit as QuantizedLinear

    return {QuantizedLinear: Lora4bitLinear}


def keep_trainable_layout(model: nn.Module) -> None:
    """Prevent bitsandbytes from repacking weights for inference.

    On a CPU with bfloat16 instructions its layer does so permanently at the first evaluation without
    gradients, and computes no gradients after that.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            quantized_layer: Any = module
            quantized_layer.support_avx512bf16_for_cpu = False
