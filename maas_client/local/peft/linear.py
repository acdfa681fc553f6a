"""A linear layer with its adapter as one function: the same numbers as PEFT's, fewer copies.

PEFT's own forward keeps several full-size results per layer. Here the low-rank product is added
in place, and what backward needs is the input (which its neighbours keep anyway) and ``tokens × r``
numbers. PEFT dispatches to these classes through its own interface for custom layers; whatever is
unusual (merged, several adapters, dropout, sharded weights) goes PEFT's way.
"""

from __future__ import annotations

from typing import Any, cast

import torch  # noqa: TID253 - this module is imported by the training process only
from peft.tuners.lora.layer import Linear  # noqa: TID253 - see above


class _Adapted(torch.autograd.Function):
    """``x Wᵀ + bias + s (x Aᵀ) Bᵀ`` for a frozen W.

    The narrow side of every low-rank product is kept as rows (``r × tokens``): multiplied the other
    way round these products take up to six times as long on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = a @ flat.T
        out = torch.nn.functional.linear(flat, weight, bias)
        out.addmm_(low.T, b.T, alpha=scale)
        ctx.save_for_backward(flat, weight, a, b, low)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, weight, a, b, low = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        grad_low = (b.T @ grad.T).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_low.T, a).view(ctx.shape)
        return grad_x, None, None, grad_low @ flat, (low @ grad).mul_(ctx.scale).T, None


class AdaptedLinear(Linear):  # type: ignore[misc]  # peft ships no types
    """PEFT's LoRA layer over ``nn.Linear``."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return what PEFT's layer returns."""
        name = self.active_adapters[0] if len(self.active_adapters) == 1 else ""
        if args or kwargs or name not in self.lora_A or not self._is_plain(name, x):
            return cast("torch.Tensor", super().forward(x, *args, **kwargs))
        base = self.base_layer
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        apply: Any = _Adapted.apply
        return cast("torch.Tensor", apply(x, base.weight, base.bias, a, b, self.scaling[name]))

    def _is_plain(self, name: str, x: torch.Tensor) -> bool:
        a, base = self.lora_A[name].weight, self.base_layer
        drops = self.training and not isinstance(self.lora_dropout[name], torch.nn.Identity)
        return (
            not (self.disable_adapters or self.merged or drops or name in self.lora_variant)
            and x.dtype == a.dtype == base.weight.dtype
            and base.weight.ndim == a.ndim == 2  # a sharded weight is flat
            and not base.weight.requires_grad
            and self.lora_B[name].bias is None
        )


def custom_layers() -> dict[type[torch.nn.Module], type[torch.nn.Module]]:
    """Return which class of ours PEFT is to use for which kind of layer."""
    return {torch.nn.Linear: AdaptedLinear}
