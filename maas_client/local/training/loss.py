"""Cross entropy of the learned positions, with the head run in chunks.

The whole matrix of logits never exists: Phi-4-mini's vocabulary of 200,064 would make 1.6 GB of it
at 2,048 positions, and as much again for its gradient. The gradient is taken on the way forward,
chunk by chunk, so that the head is multiplied twice and not three times.
"""

# ruff: noqa: N803
# Tensor names end in their axes: T tokens, N learned positions, H hidden width, V vocabulary.

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.machine.onednn import linear, matmul

_CHUNK_NUMBERS = 1 << 24
"""Logits that exist at a time: 64 MB in float32."""


def summed_loss(
    hidden_NH: torch.Tensor,
    weight_VH: torch.Tensor,
    targets_N: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of ``-log p(target)`` over N positions, and how many were the likeliest."""
    apply: Any = _HeadLoss.apply
    loss, correct = apply(hidden_NH, weight_VH, targets_N)
    return loss, correct


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: torch.Tensor,
        weight_VH: torch.Tensor,
        targets_N: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        of_hidden, of_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_NH) if of_hidden else None
        grad_weight = torch.zeros_like(weight_VH) if of_weight else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden_NH.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden_NH.device)
        size = max(16, _CHUNK_NUMBERS // weight_VH.shape[0])
        for start in range(0, hidden_NH.shape[0], size):
            part = slice(start, start + size)
            targets = targets_N[part, None]
            logits = linear(hidden_NH[part], weight_VH).float()
            top, best = logits.max(dim=1, keepdim=True)
            correct += (best == targets).sum()
            aimed = logits.gather(1, targets) - top
            shares = logits.sub_(top).exp_()
            total = shares.sum(dim=1, keepdim=True)
            loss += (total.log() - aimed).sum()
            if not (of_hidden or of_weight):
                continue
            shares.div_(total).scatter_add_(1, targets, shares.new_full(targets.shape, -1.0))
            shares = shares.to(hidden_NH.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = matmul(shares, weight_VH)
            if grad_weight is not None:
                grad_weight += matmul(shares.T, hidden_NH[part])
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0]
        return (
            None if grad_hidden is None else grad_hidden * scale.to(grad_hidden.dtype),
            None if grad_weight is None else grad_weight * scale.to(grad_weight.dtype),
            None,
        )
