"""The operations of a transformer block, each as one autograd function: fewer copies, less to store.

A function stores what takes long to compute (outputs of layers) and computes again in the backward pass what
is cheap: norms, and the activation of an MLP. Layers have a frozen weight and a trained LoRA or DoRA adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only
from torch.nn import functional  # noqa: TID253 - see above

from maas_client.local.machine.onednn import linear, matmul


class FrozenLayer(NamedTuple):
    """The parts of a layer that are not trained."""

    weight: Callable[[], torch.Tensor]
    """Returns the weight, ``out × in``; a 4-bit weight is dequantised at each call."""
    row_squares: Callable[[torch.Tensor], torch.Tensor]
    """Returns the sum of squares of each row of that weight (for DoRA)."""
    bias: torch.Tensor | None
    scale: float


class LayerGroup(NamedTuple):
    """Layers with the same input."""

    layers: tuple[FrozenLayer, ...]
    trained: tuple[torch.Tensor | None, ...]
    """``A``, ``B`` and ``m`` (None for LoRA) of each layer in turn."""


class FrozenNorm(NamedTuple):
    """A norm ``x / sqrt(mean x² + eps) · weight``."""

    weight: torch.Tensor
    eps: float


Gradients = list[torch.Tensor | None]
_SAVED_PER_LAYER = 4


# -- linear layers with adapters ----------------------------------------------------------------


def _apply_layers(
    x: torch.Tensor, layers: Sequence[FrozenLayer], trained: Sequence[torch.Tensor | None]
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """Return the outputs of layers for ``x`` (tokens, inputs), and what the backward pass needs.

    LoRA: ``x Wᵀ + bias + s (x Aᵀ) Bᵀ``. DoRA: ``m / |W + s B A|`` times that, without a bias.

    The matrices ``A`` of all layers are multiplied at once. Low-rank results are stored as ``r × tokens``: with
    ``tokens × r`` these products take up to six times as long on a CPU.
    """
    matrices_a: list[Any] = list(trained[0::3])
    matrices_b: list[Any] = list(trained[1::3])
    a = torch.cat(matrices_a) if len(layers) > 1 else matrices_a[0]
    low_rank = matmul(a, x.T)
    outputs: list[torch.Tensor] = []
    saved: list[torch.Tensor | None] = [a, low_rank]
    ranks = [matrix.shape[0] for matrix in matrices_a]
    for frozen, layer_a, b, magnitude, layer_low in zip(
        layers, matrices_a, matrices_b, trained[2::3], torch.split(low_rank, ranks), strict=True
    ):
        weight = frozen.weight()
        output = linear(x, weight, frozen.bias)
        output.addmm_(layer_low.T, b.T, alpha=frozen.scale)
        gain = None
        if magnitude is not None:
            gain = magnitude / _row_norms(weight, layer_a, b, frozen)
            output.mul_(gain)
        outputs.append(output)
        saved += [b, magnitude, gain, None if gain is None else output]
    return outputs, saved


def _layer_gradients(
    grads: Sequence[torch.Tensor],
    x: torch.Tensor,
    layers: Sequence[FrozenLayer],
    saved: Sequence[Any],
    *,
    needs_input: bool = True,
) -> tuple[Any, Gradients]:
    """Return the gradient of ``x`` (None if not needed), and those of what is trained."""
    a, low_rank, *per_layer = saved
    ranks = [b.shape[1] for b in per_layer[0::_SAVED_PER_LAYER]]
    grad_x = None
    grads_low: list[torch.Tensor] = []
    trained_grads: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    for number, (frozen, layer_low) in enumerate(
        zip(layers, torch.split(low_rank, ranks), strict=True)
    ):
        start = _SAVED_PER_LAYER * number
        b, magnitude, gain, output = per_layer[start : start + _SAVED_PER_LAYER]
        grad = grads[number]
        grad_magnitude = None
        if magnitude is not None:
            grad_magnitude = (grad * output).sum(0).div_(magnitude).nan_to_num_(0.0)
            grad = grad * gain
        grads_low.append(matmul(b.T, grad.T).mul_(frozen.scale))
        trained_grads.append((matmul(layer_low, grad).mul_(frozen.scale).T, grad_magnitude))
        if needs_input:
            grad_x = matmul(grad, frozen.weight(), add_to=grad_x)
    grad_low = torch.cat(grads_low) if len(grads_low) > 1 else grads_low[0]
    if grad_x is not None:
        grad_x = grad_x.addmm_(grad_low.T, a)
    grads_a = torch.split(matmul(grad_low, x), ranks)
    return grad_x, [
        gradient
        for grad_a, others in zip(grads_a, trained_grads, strict=True)
        for gradient in (grad_a, *others)
    ]


def _row_norms(
    weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, frozen: FrozenLayer
) -> torch.Tensor:
    """Return ``|W + s B A|`` of each row without computing ``B A``, by expanding the square."""
    scale = frozen.scale
    cross_terms = (b * matmul(weight, a.T)).sum(1)
    adapter_squares = ((b @ (a @ a.T)) * b).sum(1)
    row_squares = (
        frozen.row_squares(weight) + 2 * scale * cross_terms + scale * scale * adapter_squares
    )
    return row_squares.clamp_(min=0).sqrt_()


def apply_layers(x: torch.Tensor, group: LayerGroup) -> tuple[torch.Tensor, ...]:
    """Return the outputs of a group of layers."""
    apply: Any = _Layers.apply
    outputs: tuple[torch.Tensor, ...] = apply(x, group.layers, *group.trained)
    return outputs


class _Layers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, layers: Sequence[FrozenLayer], *trained: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        x_flat = x.reshape(-1, x.shape[-1])
        outputs, saved = _apply_layers(x_flat, layers, trained)
        ctx.save_for_backward(x_flat, *saved)
        ctx.layers, ctx.shape = layers, x.shape
        return tuple(output.view(*x.shape[:-1], -1) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_flat, *saved = ctx.saved_tensors
        flat = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        needs_input = ctx.needs_input_grad[0]
        grad_x, trained_grads = _layer_gradients(
            flat, x_flat, ctx.layers, saved, needs_input=needs_input
        )
        return None if grad_x is None else grad_x.view(ctx.shape), None, *trained_grads


# -- norm, rotary embedding, gated activation ---------------------------------------------------


def apply_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return ``x / sqrt(mean x² + eps) · weight`` over the last axis."""
    apply: Any = _Norm.apply
    output: torch.Tensor = apply(x, weight, eps)
    return output


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        inverse = _inverse_norm(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        return _normalise(x, inverse, weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = (grads[0] * x).mul_(inverse).flatten(0, -2).sum(0)
        return _norm_gradient(grads[0] * weight, x, inverse), grad_weight, None


def _inverse_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse: torch.Tensor = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return inverse


def _normalise(x: torch.Tensor, inverse: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (x * inverse).mul_(weight)


def _norm_gradient(weighted: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a norm's input. ``weighted``, the output's times the weight, is overwritten."""
    projection = (weighted * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).div_(-x.shape[-1])
    return weighted.mul_(inverse).addcmul_(x, projection)


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate ``x`` (tokens, heads, width) by ``cos`` and ``sin`` (tokens, rotary width).

    Components beyond the rotary width stay unchanged.
    """
    apply: Any = _Rotate.apply
    output: torch.Tensor = apply(x, cos, sin)
    return output


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate_pairs(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotate_pairs(grads[0], cos, sin, -1.0), None, None


def _rotate_pairs(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sign: float
) -> torch.Tensor:
    """Rotate the pairs ``(x[i], x[i + half])``; ``sign`` -1.0 rotates back."""
    width = cos.shape[-1]
    half = width // 2
    cos, sin = cos[:, None, :], sin[:, None, :half]
    output = torch.empty_like(x, memory_format=torch.contiguous_format)
    torch.mul(x[..., :width], cos, out=output[..., :width])
    output[..., :half].addcmul_(x[..., half:width], sin, value=-sign)
    output[..., half:width].addcmul_(x[..., :half], sin, value=sign)
    if width < x.shape[-1]:
        output[..., width:] = x[..., width:]
    return output


def apply_gate(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return ``silu(gate) · up``."""
    apply: Any = _GatedProduct.apply
    output: torch.Tensor = apply(gate, up)
    return output


class _GatedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gate, up = ctx.saved_tensors
        grad_gate: torch.Tensor = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return grad_gate, functional.silu(gate).mul_(grads[0])


# -- the two halves of a block ------------------------------------------------------------------


def before_attention(
    hidden: torch.Tensor, norm: FrozenNorm, group: LayerGroup
) -> tuple[torch.Tensor, ...]:
    """Return the outputs of the layers before attention for the norm of ``hidden`` (tokens, width)."""
    apply: Any = _BeforeAttention.apply
    outputs: tuple[torch.Tensor, ...] = apply(hidden, norm, group.layers, *group.trained)
    return outputs


class _BeforeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        norm: FrozenNorm,
        layers: Sequence[FrozenLayer],
        *trained: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        inverse = _inverse_norm(hidden, norm.eps)
        outputs, saved = _apply_layers(_normalise(hidden, inverse, norm.weight), layers, trained)
        ctx.save_for_backward(hidden, norm.weight, inverse, *saved)
        ctx.layers = layers
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, inverse, *saved = ctx.saved_tensors
        x = _normalise(hidden, inverse, weight)
        needs_input = ctx.needs_input_grad[0]
        grad, trained_grads = _layer_gradients(grads, x, ctx.layers, saved, needs_input=needs_input)
        if grad is not None:
            grad = _norm_gradient(grad.mul_(weight), hidden, inverse)
        return grad, None, None, *trained_grads


def after_attention(
    attended: torch.Tensor,
    hidden: torch.Tensor,
    norm: FrozenNorm,
    groups: tuple[LayerGroup, LayerGroup, LayerGroup],
) -> torch.Tensor:
    """Return the block's output: that of attention through its last layer, then the MLP, each plus its input.

    ``groups`` are attention's last layer, the MLP's gate and up (or one layer with both), and its last layer.
    """
    apply: Any = _AfterAttention.apply
    layers = tuple(group.layers for group in groups)
    trained = (tensor for group in groups for tensor in group.trained)
    output: torch.Tensor = apply(attended, hidden, norm, layers, *trained)
    return output


class _AfterAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        attended: torch.Tensor,
        hidden: torch.Tensor,
        norm: FrozenNorm,
        layers: tuple[Sequence[FrozenLayer], ...],
        *trained: torch.Tensor | None,
    ) -> torch.Tensor:
        projection, gated, last = layers
        split = 3, 3 + 3 * len(gated)
        (projected,), projection_saved = _apply_layers(attended, projection, trained[: split[0]])
        middle = hidden + projected
        inverse = _inverse_norm(middle, norm.eps)
        gate_up, gated_saved = _apply_layers(
            _normalise(middle, inverse, norm.weight), gated, trained[split[0] : split[1]]
        )
        gate, up = _gate_and_up(gate_up)
        (output,), last_saved = _apply_layers(
            functional.silu(gate).mul_(up), last, trained[split[1] :]
        )
        ctx.save_for_backward(
            attended, middle, norm.weight, inverse, *gate_up,
            *projection_saved, *gated_saved, *last_saved,
        )  # fmt: skip
        ctx.layers = layers
        return output + middle

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        projection, gated, last = ctx.layers
        attended, middle, weight, inverse, *saved = ctx.saved_tensors
        gate_up, saved = saved[: len(gated)], saved[len(gated) :]
        split = 2 + _SAVED_PER_LAYER, 4 + _SAVED_PER_LAYER * (1 + len(gated))
        gate, up = _gate_and_up(gate_up)
        activation = functional.silu(gate)
        grad, last_grads = _layer_gradients(grads, activation * up, last, saved[split[1] :])
        grad_gate_up = [torch.empty_like(tensor) for tensor in gate_up]
        grad_gate, grad_up = _gate_and_up(grad_gate_up)
        torch.mul(grad, activation, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad.mul_(up), gate, grad_input=grad_gate)
        del grad, activation
        grad, gated_grads = _layer_gradients(
            grad_gate_up,
            _normalise(middle, inverse, weight),
            gated,
            saved[split[0] : split[1]],
        )
        grad_middle = _norm_gradient(grad.mul_(weight), middle, inverse).add_(grads[0])
        grad_attended, projection_grads = _layer_gradients(
            (grad_middle,), attended, projection, saved[: split[0]]
        )
        return (
            grad_attended, grad_middle, None, None,
            *projection_grads, *gated_grads, *last_grads,
        )  # fmt: skip


def _gate_and_up(outputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Return gate and up, which some models compute with one layer."""
    return outputs if len(outputs) == 2 else outputs[0].chunk(2, dim=-1)
