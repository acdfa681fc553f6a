"""Model and loss as one module, with the cross entropy of the output layer computed in chunks.

Engines for several processes wrap this module. Calling the inner model of a wrapped one would return the
right loss but leave the gradients unsynchronised.

The whole matrix of logits never exists: Phi-4-mini's vocabulary of 200,064 would need 1.6 GB for it at
2,048 positions, and as much again for its gradient. The gradient is computed in the forward pass, chunk by
chunk, so the output layer is multiplied twice instead of three times.
"""

# ruff: noqa: N803, N806
# Tensor names end in their axes: T tokens, N loss positions, H hidden width, V vocabulary.

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import UnsupportedError
from maas_client.local.machine.onednn import linear, matmul
from maas_client.local.training.fused_modules import LastRows

_CHUNK_LOGITS = 1 << 24
"""Logits in memory at a time: 64 MB in float32."""


class ModelWithLoss(nn.Module):
    """A causal model whose forward returns the summed loss of a pack."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config = self._causal().config
        for name, default in (("final_logit_softcapping", None), ("logits_scaling", 1.0)):
            if getattr(config, name, default) not in (default, 1.0):
                raise UnsupportedError(
                    f"{config.model_type} scales its logits ({name}), which local training does not support",
                    hint="Use a Phi, Llama, Qwen or Mistral model.",
                )

    def _causal(self) -> Any:
        """Return the causal model inside PEFT's wrapper, with its adapters."""
        get_base_model = getattr(self.model, "get_base_model", None)
        return get_base_model() if get_base_model is not None else self.model

    def forward(
        self,
        input_ids_T: torch.Tensor,
        position_ids_T: torch.Tensor,
        segments: torch.Tensor,
        loss_positions_N: torch.Tensor,
        targets_N: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss and the number of correct predictions.

        ``segments`` (on the CPU) is that of ``packing.Pack``; ``loss_positions_N`` are the positions before
        the targets ``targets_N``.
        """
        hidden_NH, weight_VH = self._run(input_ids_T, position_ids_T, segments, loss_positions_N)
        return cross_entropy_sum(hidden_NH, weight_VH, targets_N)

    def _run(
        self,
        input_ids_T: torch.Tensor,
        position_ids_T: torch.Tensor,
        segments: torch.Tensor,
        loss_positions_N: torch.Tensor,
        other_positions: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last hidden states at the loss positions, and the weight of the output layer.

        Those at ``other_positions``, without gradient, follow.
        """
        causal, rows = self._causal(), LastRows(loss_positions_N, other_positions)
        output = causal.get_decoder()(
            input_ids=input_ids_T[None],
            position_ids=position_ids_T[None],
            segments=segments,
            last_rows=rows,
            use_cache=False,
        )
        hidden_NH = rows.finish(output.last_hidden_state[0])
        return hidden_NH, causal.get_output_embeddings().weight


def cross_entropy_sum(
    hidden_NH: torch.Tensor,
    weight_VH: torch.Tensor,
    targets_N: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of ``-log p(target)`` over N positions, and how many targets had the highest score."""
    apply: Any = _ChunkedCrossEntropy.apply
    loss, correct = apply(hidden_NH, weight_VH, targets_N)
    return loss, correct


def token_losses(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, targets_N: torch.Tensor
) -> torch.Tensor:
    """Return ``-log p(target)`` of each of N positions.

    If the output layer is trained too, backward computes the logits again: the gradient of its weight is a
    sum over positions whose factors are not known before.
    """
    apply: Any = _TokenLosses.apply
    losses: torch.Tensor = apply(hidden_NH, weight_VH, targets_N)
    return losses


def _chunks(hidden_NH: torch.Tensor, weight_VH: torch.Tensor) -> Iterator[slice]:
    """Yield the positions of each chunk: about as many in each, as few rows multiply slowly."""
    count, largest = hidden_NH.shape[0], max(16, _CHUNK_LOGITS // weight_VH.shape[0])
    chunks = math.ceil(count / largest)
    bounds = [number * count // chunks for number in range(chunks + 1)] if chunks else []
    yield from (slice(start, end) for start, end in pairwise(bounds))


def _chunk_losses(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, targets_N1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the losses of a chunk, its number of correct predictions, and the softmax in two parts."""
    logits = linear(hidden_NH, weight_VH).float()
    max_logits, predictions = logits.max(dim=1, keepdim=True)
    correct = (predictions == targets_N1).sum()
    target_logits = logits.gather(1, targets_N1) - max_logits
    exponentials = logits.sub_(max_logits).exp_()
    total = exponentials.sum(dim=1, keepdim=True)
    return total.log() - target_logits, correct, exponentials, total


def _logit_gradients(
    exponentials: torch.Tensor, total: torch.Tensor, targets_N1: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of each loss with respect to its logits: the softmax minus one at the target."""
    return exponentials.div_(total).scatter_add_(
        1, targets_N1, exponentials.new_full(targets_N1.shape, -1.0)
    )


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NH: torch.Tensor, weight_VH: torch.Tensor, targets_N: torch.Tensor
    ) -> torch.Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        keeps_gradient = needs_hidden and not needs_weight
        grad_hidden = torch.empty_like(hidden_NH) if keeps_gradient else None
        losses_N = hidden_NH.new_empty(hidden_NH.shape[0], dtype=torch.float32)
        for chunk in _chunks(hidden_NH, weight_VH):
            targets = targets_N[chunk, None]
            losses, _, exponentials, total = _chunk_losses(hidden_NH[chunk], weight_VH, targets)
            losses_N[chunk] = losses[:, 0]
            if grad_hidden is not None:
                gradients = _logit_gradients(exponentials, total, targets).to(hidden_NH.dtype)
                grad_hidden[chunk] = matmul(gradients, weight_VH)
        inputs = (hidden_NH, weight_VH, targets_N) if needs_weight else (None, None, None)
        ctx.save_for_backward(grad_hidden, *inputs)
        return losses_N

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, hidden_NH, weight_VH, targets_N = ctx.saved_tensors
        if weight_VH is not None:
            return (*_gradients_of_token_losses(hidden_NH, weight_VH, targets_N, grads[0]), None)
        if grad_hidden is None:
            return None, None, None
        return grad_hidden * grads[0][:, None].to(grad_hidden.dtype), None, None


def _gradients_of_token_losses(
    hidden_NH: torch.Tensor, weight_VH: torch.Tensor, targets_N: torch.Tensor, grads_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients with respect to hidden states and the output layer's weight."""
    grad_hidden, grad_weight = torch.empty_like(hidden_NH), torch.zeros_like(weight_VH)
    for chunk in _chunks(hidden_NH, weight_VH):
        targets = targets_N[chunk, None]
        _, _, exponentials, total = _chunk_losses(hidden_NH[chunk], weight_VH, targets)
        gradients = _logit_gradients(exponentials, total, targets).mul_(grads_N[chunk, None])
        gradients = gradients.to(hidden_NH.dtype)
        grad_hidden[chunk] = matmul(gradients, weight_VH)
        grad_weight += matmul(gradients.T, hidden_NH[chunk])
    return grad_hidden, grad_weight


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        targets_N: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_NH) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VH) if needs_weight else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden_NH.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden_NH.device)
        for chunk in _chunks(hidden_NH, weight_VH):
            losses, hits, probabilities, total = _chunk_losses(
                hidden_NH[chunk], weight_VH, targets_N[chunk, None]
            )
            correct += hits
            loss += losses.sum()
            if not (needs_hidden or needs_weight):
                continue
            probabilities = _logit_gradients(probabilities, total, targets_N[chunk, None])
            probabilities = probabilities.to(hidden_NH.dtype)
            if grad_hidden is not None:
                grad_hidden[chunk] = matmul(probabilities, weight_VH)
            if grad_weight is not None:
                grad_weight += matmul(probabilities.T, hidden_NH[chunk])
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        grad_loss = grads[0]
        return (
            None if grad_hidden is None else grad_hidden * grad_loss.to(grad_hidden.dtype),
            None if grad_weight is None else grad_weight * grad_loss.to(grad_weight.dtype),
            None,
        )
