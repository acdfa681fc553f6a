"""Faster norms, rotary embeddings, attention and linear layers for Llama, Mistral and Phi-3 blocks.

Results equal those of transformers' modules up to float32 rounding. The class of each module is replaced by
a subclass, so PEFT, saving and merging work unchanged, and unusual calls (another dtype, generation with a
cache) use the original implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.local.machine.onednn import linear, matmul
from maas_client.local.training import attention
from maas_client.local.training.autograd_functions import (
    FrozenNorm,
    LayerGroup,
    after_attention,
    apply_gate,
    apply_layers,
    apply_norm,
    apply_rotary,
    before_attention,
)

_BLOCKS = ("Llama", "Phi3", "Mistral")
_CACHE_KEYWORDS = ("cache", "past_key_values")
"""The names of the cache in versions of transformers: both are passed on as they come."""


def fuse_modules(model: nn.Module) -> nn.Module:
    """Replace the classes of supported modules by their fused subclasses; return the model."""
    module: Any
    for module in model.modules():
        name = type(module).__name__
        if name in {f"{block}RMSNorm" for block in _BLOCKS}:
            module.__class__ = _subclass(_FusedNorm, type(module))
        elif name in {f"{block}Attention" for block in _BLOCKS}:
            module.__class__ = _subclass(_FusedAttention, type(module))
        elif name in {f"{block}MLP" for block in _BLOCKS} and module.config.hidden_act == "silu":
            module.__class__ = _subclass(_FusedMlp, type(module))
        elif name in {f"{block}DecoderLayer" for block in _BLOCKS}:
            # the class keeps its name, by which accelerate and transformers find the blocks
            module.__class__ = type(name, (_FusedBlock, type(module)), {})
        elif type(module) is nn.Linear:
            module.__class__ = _subclass(_FusedLinear, nn.Linear)
    return model


def _subclass(mixin: type, original: type) -> type:
    return type(f"Fused{original.__name__}", (mixin, original), {})


class _FusedLinear(nn.Module):
    """``x Wᵀ + bias``, computed with the fastest matrix product of this machine."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to the last axis."""
        weight = self.weight
        if x.device.type != "cpu" or x.dtype != weight.dtype or weight.ndim != 2:
            original: torch.Tensor = super().forward(x)  # a sharded weight is flat
            return original
        apply: Any = _Linear.apply
        output: torch.Tensor = apply(x, weight, self.bias)
        return output


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
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            matmul(grad, weight).view(x.shape) if needs_x else None,
            matmul(grad.T, x.flatten(0, -2)) if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


class _FusedNorm(nn.Module):
    """``x / sqrt(mean x² + eps) · weight``."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Normalise over the last axis."""
        if hidden_states.dtype != torch.float32:
            original: torch.Tensor = super().forward(hidden_states)
            return original
        return apply_norm(hidden_states, self.weight, self.variance_epsilon)


class _FusedAttention(nn.Module):
    """Self attention with ``q_proj``, ``k_proj``, ``v_proj``, or Phi's fused ``qkv_proj``."""

    config: Any
    head_dim: int
    scaling: float
    attention_dropout: float

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Any]:
        """Return the attention output of a pack, ``(1, tokens, width)``."""
        if not _is_packed(hidden_states, kwargs):
            original: tuple[torch.Tensor, Any] = super().forward(
                hidden_states,
                position_embeddings=position_embeddings,
                attention_mask=attention_mask,
                **kwargs,
            )
            return original
        module: Any = self
        outputs = _project(hidden_states[0], *self.layers_before())
        attended = self.attend(outputs, position_embeddings, kwargs["segments"])
        return module.o_proj(attended)[None], None

    def layers_before(self) -> list[Any]:
        """Return the layers that compute queries, keys and values."""
        module: Any = self
        if hasattr(self, "qkv_proj"):
            return [module.qkv_proj]
        return [module.q_proj, module.k_proj, module.v_proj]

    def attend(
        self,
        outputs: Sequence[torch.Tensor],
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        segments: torch.Tensor,
    ) -> torch.Tensor:
        """Return the attention of a pack, ``(tokens, width)``, for the outputs of the layers before it."""
        heads, kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        if len(outputs) == 1:
            sizes = [heads * self.head_dim, kv_heads * self.head_dim, kv_heads * self.head_dim]
            query, key, value = torch.split(outputs[0], sizes, dim=-1)
            outputs = query, key, value.contiguous()  # a view would keep all three in memory
        query, key, value = (output.view(output.shape[0], -1, self.head_dim) for output in outputs)
        cos, sin = (tensor[0] for tensor in position_embeddings)
        attended, _ = attention.packed_attention(
            self,
            apply_rotary(query, cos, sin).transpose(0, 1)[None],
            apply_rotary(key, cos, sin).transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            None,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
            segments=segments,
            sliding_window=getattr(self.config, "sliding_window", None),
        )
        return attended[0].flatten(1)


class _FusedMlp(nn.Module):
    """``down(silu(gate(x)) · up(x))``, or Phi's with one ``gate_up_proj``; the activation is not stored."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Apply the gated layers to the last axis."""
        module: Any = self
        outputs = _project(hidden_states, *self.gated_layers())
        gate, up = outputs if len(outputs) == 2 else outputs[0].chunk(2, dim=-1)
        output: torch.Tensor = module.down_proj(apply_gate(gate, up))
        return output

    def gated_layers(self) -> list[Any]:
        """Return the layers that compute gate and up."""
        module: Any = self
        if hasattr(self, "gate_up_proj"):
            return [module.gate_up_proj]
        return [module.gate_proj, module.up_proj]


class _FusedBlock(nn.Module):
    """A transformer block as two autograd functions around attention, if all its layers have adapters."""

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the block's output for a pack: of all tokens, or of those that ``last_rows`` chooses."""
        module: Any = self
        groups = None if args else self._groups(hidden_states, kwargs)
        if groups is None:
            original: torch.Tensor = super().forward(hidden_states, *args, **kwargs)
            return original
        hidden = hidden_states[0]
        before, *after = groups
        outputs = before_attention(hidden, _frozen_norm(module.input_layernorm), before)
        attended = module.self_attn.attend(
            outputs, kwargs["position_embeddings"], kwargs["segments"]
        )
        norm = _frozen_norm(module.post_attention_layernorm)

        def finish(attended: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
            return after_attention(attended, hidden, norm, (after[0], after[1], after[2]))

        rows: LastRows | None = kwargs.get("last_rows")
        number: int = module.self_attn.layer_idx
        if rows is not None and number == module.self_attn.config.num_hidden_layers - 1:
            return rows.apply(finish, attended, hidden)[None]
        return finish(attended, hidden)[None]

    def _groups(
        self, hidden_states: torch.Tensor, kwargs: Mapping[str, Any]
    ) -> list[LayerGroup] | None:
        """Return the layers with the same input, in their order; None if the modules must be called."""
        module: Any = self
        attention_module, mlp = module.self_attn, module.mlp
        norms = (module.input_layernorm, module.post_attention_layernorm)
        dropouts = (getattr(self, f"resid_{name}_dropout", None) for name in ("attn", "mlp"))
        if (
            not _is_packed(hidden_states, kwargs)
            or not isinstance(mlp, _FusedMlp)
            or any(norm.weight.requires_grad or norm.weight.ndim != 1 for norm in norms)
            or any(dropout is not None and dropout.p and self.training for dropout in dropouts)
        ):
            return None
        parts = (
            attention_module.layers_before(),
            [attention_module.o_proj],
            mlp.gated_layers(),
            [module.mlp.down_proj],
        )
        groups: list[LayerGroup] = []
        for layers in parts:
            group_with = getattr(layers[0], "group_with", None)
            group = None if group_with is None else group_with(hidden_states, layers)
            if group is None:
                return None
            groups.append(group)
        return groups


def _frozen_norm(module: Any) -> FrozenNorm:
    return FrozenNorm(module.weight, module.variance_epsilon)


class LastRows:
    """The tokens of a pack whose output is needed: a fused last block computes its MLP for these only."""

    def __init__(self, positions: torch.Tensor, others: torch.Tensor | None = None) -> None:
        """Choose ``positions``, and then ``others``, whose output has no gradient."""
        self._positions = positions
        self._others = positions[:0] if others is None else others
        self._is_done = False

    def apply(self, function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
        """Return ``function`` of these rows of ``tensors``; the others are computed apart from them."""
        self._is_done = True
        output = function(*(tensor.index_select(0, self._positions) for tensor in tensors))
        if not len(self._others):
            return output
        with torch.no_grad():
            others = function(*(tensor.index_select(0, self._others) for tensor in tensors))
        return torch.cat([output, others])

    def finish(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the rows of the model's output, which has only these if its last block computed no others."""
        if self._is_done:
            return hidden
        return hidden.index_select(0, torch.cat([self._positions, self._others]))


def _is_packed(hidden_states: torch.Tensor, kwargs: Mapping[str, Any]) -> bool:
    """Return whether this is a pack in float32: not generation with a cache, nor another dtype."""
    has_cache = any(kwargs.get(name) is not None for name in _CACHE_KEYWORDS)
    return (
        kwargs.get("segments") is not None
        and not has_cache
        and hidden_states.dtype == torch.float32
    )


def _project(x: torch.Tensor, *layers: Any) -> tuple[torch.Tensor, ...]:
    """Return the outputs of layers with the same input, in one operation where they can do that."""
    group_with = getattr(layers[0], "group_with", None)
    group = None if group_with is None else group_with(x, layers)
    return tuple(layer(x) for layer in layers) if group is None else apply_layers(x, group)
