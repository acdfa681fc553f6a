"""Norms, rotary positions, attention and plain layers of the known blocks with less work.

The same numbers as transformers' own modules to float32 rounding. A module becomes a subclass of
its own class, so that PEFT, saving and merging notice nothing, and whatever is unusual (another
dtype, generation with a cache) goes the way of the class it came from.
"""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.local.machine.onednn import linear, matmul
from maas_client.local.training import attention

_BLOCKS = ("Llama", "Phi3", "Mistral")


def fuse_modules(model: nn.Module) -> nn.Module:
    """Give the modules of ``model`` that have a lighter form here that form; return the model."""
    for module in model.modules():
        name = type(module).__name__
        if name in {f"{block}RMSNorm" for block in _BLOCKS}:
            module.__class__ = _with(_NormForm, type(module))
        elif name in {f"{block}Attention" for block in _BLOCKS}:
            module.__class__ = _with(_AttentionForm, type(module))
        elif type(module) is nn.Linear:
            module.__class__ = _with(_LinearForm, nn.Linear)
    return model


def _with(form: type, own: type) -> type:
    return type(f"Fused{own.__name__}", (form, own), {})


class _LinearForm(nn.Module):
    """``x Wᵀ + bias``, with the products that the machine does fastest."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product along the last axis."""
        weight = self.weight
        if x.device.type != "cpu" or x.dtype != weight.dtype or weight.ndim != 2:
            own: torch.Tensor = super().forward(x)  # a sharded weight is flat
            return own
        apply: Any = _Linear.apply
        out: torch.Tensor = apply(x, weight, self.bias)
        return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            matmul(grad, weight).view(x.shape) if of_x else None,
            matmul(grad.T, x.flatten(0, -2)) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


class _NormForm(nn.Module):
    """``x / sqrt(mean x² + eps) · weight``."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return the norm over the last axis."""
        if hidden_states.dtype != torch.float32:
            own: torch.Tensor = super().forward(hidden_states)
            return own
        apply: Any = _Norm.apply
        out: torch.Tensor = apply(hidden_states, self.weight, self.variance_epsilon)
        return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse: torch.Tensor = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grads[0] * x).mul_(inverse).flatten(0, -2).sum(0)
        grad = grads[0] * weight
        along = (grad * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(-x.shape[-1])
        return grad.mul_(inverse).addcmul_(x, along), grad_weight, None


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return ``x`` (tokens, heads, width) turned by ``cos`` and ``sin`` (tokens, rotary width).

    What exceeds the rotary width is left as it is.
    """
    apply: Any = _Rotate.apply
    out: torch.Tensor = apply(x, cos, sin)
    return out


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1.0), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, way: float) -> torch.Tensor:
    """Turn the pairs ``(x[i], x[i + half])`` by an angle whose cosine and sine are given."""
    width = cos.shape[-1]
    half = width // 2
    cos, sin = cos[:, None, :], sin[:, None, :half]
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    torch.mul(x[..., :width], cos, out=out[..., :width])
    out[..., :half].addcmul_(x[..., half:width], sin, value=-way)
    out[..., half:width].addcmul_(x[..., :half], sin, value=way)
    if width < x.shape[-1]:
        out[..., width:] = x[..., width:]
    return out


class _AttentionForm(nn.Module):
    """Self attention with ``q_proj, k_proj, v_proj``, or Phi's one ``qkv_proj``."""

    config: Any
    head_dim: int
    scaling: float
    attention_dropout: float

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **rest: Any,
    ) -> tuple[torch.Tensor, Any]:
        """Return the attended states of a pack, ``(1, tokens, width)``."""
        bounds = rest.get("cu_seq_lens_q")
        if bounds is None or past_key_values is not None or hidden_states.dtype != torch.float32:
            own: tuple[torch.Tensor, Any] = super().forward(
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                **rest,
            )
            return own
        cos, sin = (side[0] for side in position_embeddings)
        query, key, value = self._heads(hidden_states[0])
        out, _ = attention.packed_attention(
            self,
            apply_rotary(query, cos, sin).transpose(0, 1)[None],
            apply_rotary(key, cos, sin).transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            None,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
            cu_seq_lens_q=bounds,
            sliding_window=getattr(self.config, "sliding_window", None),
        )
        project: Any = self.o_proj
        return project(out.flatten(2)), None

    def _heads(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return query, key and value as ``(tokens, heads, width)``."""
        heads, keys = self.config.num_attention_heads, self.config.num_key_value_heads
        anything: Any = self
        if hasattr(self, "qkv_proj"):
            sizes = [heads * self.head_dim, keys * self.head_dim, keys * self.head_dim]
            sides = torch.split(anything.qkv_proj(hidden), sizes, dim=-1)
        else:
            sides = tuple(
                project(hidden) for project in (anything.q_proj, anything.k_proj, anything.v_proj)
            )
        return tuple(side.view(side.shape[0], -1, self.head_dim) for side in sides)
