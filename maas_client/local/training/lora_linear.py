"""A linear layer with its LoRA or DoRA adapter as one autograd function: PEFT's results, fewer copies.

PEFT's forward keeps several full-size results per layer. Here the low-rank product is added in place, and
backward needs only the input (which neighbouring layers keep anyway) and ``r × tokens`` numbers. PEFT
dispatches to these classes through its interface for custom layers. Unusual cases (merged, several adapters,
dropout, other variants, sharded weights) use PEFT's implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from peft.tuners.lora.layer import Linear  # noqa: TID253 - see above
from peft.tuners.lora.variants import DoraLinearVariant  # noqa: TID253 - see above

from maas_client.local.training.autograd_functions import (
    FrozenLayer,
    LayerGroup,
    apply_layers,
)


class FastLoraMixin:
    """Fast path for a PEFT layer with one LoRA or DoRA adapter over a frozen weight."""

    active_adapters: list[str]
    base_layer: Any
    lora_A: Any  # noqa: N815 - PEFT's name
    lora_B: Any  # noqa: N815 - PEFT's name
    lora_dropout: Any
    lora_variant: Any
    lora_magnitude_vector: Any
    scaling: dict[str, float]
    disable_adapters: bool
    merged: bool
    training: bool

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the same result as PEFT's layer."""
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
        if args or kwargs or name not in self.lora_A or not self._can_use_fast_path(name, x):
            peft_layer: Any = super()
            output: torch.Tensor = peft_layer.forward(x, *args, **kwargs)
            return output
        return apply_layers(x, _group([self], name))[0]

    def group_with(self, x: torch.Tensor, layers: Sequence[Any]) -> LayerGroup | None:
        """Return ``layers``, whose input is like ``x``, as a group; None if each must be called instead."""
        (name, *others) = self.active_adapters
        if others or not all(_can_join(layer, name, x) for layer in layers):
            return None
        return _group(layers, name)

    def _trained(self, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        magnitude = self.lora_magnitude_vector[name].weight if name in self.lora_variant else None
        return self.lora_A[name].weight, self.lora_B[name].weight, magnitude

    def _can_use_fast_path(self, name: str, x: torch.Tensor) -> bool:
        a, base = self.lora_A[name].weight, self.base_layer
        has_dropout = self.training and not isinstance(self.lora_dropout[name], torch.nn.Identity)
        variant = self.lora_variant.get(name)
        return (
            not (self.disable_adapters or self.merged or has_dropout)
            and (variant is None or (isinstance(variant, DoraLinearVariant) and base.bias is None))
            and x.dtype == a.dtype == self._weight_dtype()
            and base.weight.ndim == a.ndim == 2  # a sharded weight is flat
            and not base.weight.requires_grad
            and self.lora_B[name].bias is None
        )

    def _weight_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.base_layer.weight.dtype
        return dtype

    def _frozen_layer(self, name: str) -> FrozenLayer:
        return FrozenLayer(
            lambda: self.base_layer.weight,
            self._row_squares,
            self.base_layer.bias,
            self.scaling[name],
        )

    def _row_squares(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the sum of squares of each row of the frozen weight, computed once."""
        version = (self.base_layer.weight.data_ptr(), self.base_layer.weight._version)
        cached: tuple[Any, torch.Tensor] | None = getattr(self, "_cached_row_squares", None)
        if cached is None or cached[0] != version:
            cached = (version, weight.pow(2).sum(1))
            self._cached_row_squares = cached
        return cached[1]


def _group(layers: Sequence[Any], name: str) -> LayerGroup:
    return LayerGroup(
        tuple(layer._frozen_layer(name) for layer in layers),
        tuple(weight for layer in layers for weight in layer._trained(name)),
    )


def _can_join(layer: Any, name: str, x: torch.Tensor) -> bool:
    """Return whether a layer has this adapter and takes the fast path, and nothing waits for a call of it."""
    return (
        isinstance(layer, FastLoraMixin)
        and layer.active_adapters == [name]
        and name in layer.lora_A
        and layer._can_use_fast_path(name, x)
        and not (layer._forward_hooks or layer._forward_pre_hooks)  # type: ignore[attr-defined]  # a Module
    )


class LoraLinear(FastLoraMixin, Linear):  # type: ignore[misc]  # peft ships no types
    """PEFT's LoRA layer over ``nn.Linear``."""


def lora_layer_classes(*, quantized: bool) -> dict[type[torch.nn.Module], type[torch.nn.Module]]:
    """Map layer classes to the LoRA classes that PEFT uses for them; the first match counts."""
    layers: dict[type[torch.nn.Module], type[torch.nn.Module]] = {}
    if quantized:
        from maas_client.local.training.lora_linear_4bit import layer_classes

        layers |= layer_classes()
    return layers | {torch.nn.Linear: LoraLinear}
