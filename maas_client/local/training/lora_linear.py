"""A linear layer with its adapter as one function: the same numbers as PEFT's, fewer copies.

PEFT's own forward keeps several full-size results per layer. Here the low-rank product is added
in place, and what backward needs is the input (which its neighbours keep anyway) and ``r × tokens``
numbers. PEFT dispatches to these classes through its own interface for custom layers; whatever is
unusual (merged, several adapters, dropout, other variants, sharded weights) goes PEFT's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only
from peft.tuners.lora.layer import Linear  # noqa: TID253 - see above
from peft.tuners.lora.variants import DoraLinearVariant  # noqa: TID253 - see above

from maas_client.local.machine.onednn import linear, matmul


class FrozenLayer(NamedTuple):
    """What a layer adds to a call that is not trained."""

    dense: Callable[[], torch.Tensor]
    """Gives the weight, ``out × in``; a 4-bit one is unpacked each time it is asked for."""
    squares: Callable[[torch.Tensor], torch.Tensor]
    """Gives the sum of squares of each row of that weight (for DoRA)."""
    bias: torch.Tensor | None
    scale: float


class _Adapted(torch.autograd.Function):
    """LoRA: ``x Wᵀ + bias + s (x Aᵀ) Bᵀ``. DoRA: ``m / |W + s B A|`` times that, without a bias.

    The narrow side of every low-rank product is kept as rows (``r × tokens``): multiplied the other
    way round these products take up to six times as long on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        magnitude: torch.Tensor | None,
        frozen: FrozenLayer,
    ) -> torch.Tensor:
        flat, weight = x.reshape(-1, x.shape[-1]), frozen.dense()
        low = matmul(a, flat.T)
        out = linear(flat, weight, frozen.bias)
        out.addmm_(low.T, b.T, alpha=frozen.scale)
        turn = None
        if magnitude is not None:
            turn = magnitude / _row_norms(weight, a, b, frozen)
            out.mul_(turn)
        kept = out if magnitude is not None else None
        ctx.save_for_backward(flat, a, b, low, magnitude, turn, kept)
        ctx.frozen, ctx.shape = frozen, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, a, b, low, magnitude, turn, out = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        grad_magnitude = None
        if magnitude is not None:
            grad_magnitude = (grad * out).sum(0).div_(magnitude).nan_to_num_(0.0)
            grad = grad * turn
        scale = ctx.frozen.scale
        grad_low = matmul(b.T, grad.T).mul_(scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = matmul(grad, ctx.frozen.dense()).addmm_(grad_low.T, a).view(ctx.shape)
        grad_a, grad_b = matmul(grad_low, flat), matmul(low, grad).mul_(scale).T
        return grad_x, grad_a, grad_b, grad_magnitude, None


def _row_norms(
    weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, frozen: FrozenLayer
) -> torch.Tensor:
    """Return ``|W + s B A|`` of each row without making ``B A``: the square, multiplied out."""
    scale = frozen.scale
    mixed = (b * matmul(weight, a.T)).sum(1)
    own = ((b @ (a @ a.T)) * b).sum(1)
    squares = frozen.squares(weight) + 2 * scale * mixed + scale * scale * own
    return squares.clamp_(min=0).sqrt_()


class FastLoraMixin:
    """The shorter way of a PEFT layer with one plain or DoRA adapter over a frozen weight."""

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
        """Return what PEFT's layer returns."""
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
        if args or kwargs or name not in self.lora_A or not self._is_plain(name, x):
            own: Any = super()
            out: torch.Tensor = own.forward(x, *args, **kwargs)
            return out
        magnitude = self.lora_magnitude_vector[name].weight if name in self.lora_variant else None
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        apply: Callable[..., torch.Tensor] = _Adapted.apply
        return apply(x, a, b, magnitude, self._frozen_layer(name))

    def _is_plain(self, name: str, x: torch.Tensor) -> bool:
        a, base = self.lora_A[name].weight, self.base_layer
        drops = self.training and not isinstance(self.lora_dropout[name], torch.nn.Identity)
        variant = self.lora_variant.get(name)
        return (
            not (self.disable_adapters or self.merged or drops)
            and (variant is None or (isinstance(variant, DoraLinearVariant) and base.bias is None))
            and x.dtype == a.dtype == self._weight_dtype()
            and base.weight.ndim == a.ndim == 2  # a sharded weight is flat
            and not base.weight.requires_grad
            and self.lora_B[name].bias is None
        )

    def _weight_dtype(self) -> torch.dtype:
        kind: torch.dtype = self.base_layer.weight.dtype
        return kind

    def _frozen_layer(self, name: str) -> FrozenLayer:
        return FrozenLayer(
            lambda: self.base_layer.weight,
            self._row_squares,
            self.base_layer.bias,
            self.scaling[name],
        )

    def _row_squares(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the sums of squares of the frozen weight's rows, taken once."""
        mark = (self.base_layer.weight.data_ptr(), self.base_layer.weight._version)
        held: tuple[Any, torch.Tensor] | None = getattr(self, "_squares_held", None)
        if held is None or held[0] != mark:
            held = (mark, weight.pow(2).sum(1))
            self._squares_held = held
        return held[1]


class LoraLinear(FastLoraMixin, Linear):  # type: ignore[misc]  # peft ships no types
    """PEFT's LoRA layer over ``nn.Linear``."""


def lora_layer_classes(*, quantized: bool) -> dict[type[torch.nn.Module], type[torch.nn.Module]]:
    """Return which class of ours PEFT is to use for which kind of layer; the first match counts."""
    layers: dict[type[torch.nn.Module], type[torch.nn.Module]] = {}
    if quantized:
        from maas_client.local.training.lora_linear_4bit import layer_classes

        layers |= layer_classes()
    return layers | {torch.nn.Linear: LoraLinear}
