"""Attention within each document of a packed sequence, computed document by document.

Registered with transformers under ``NAME``. The document boundaries are passed as the keyword
``cu_seq_lens_q`` through PEFT, the layers and gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch.nn.functional import (  # noqa: TID253 - see above
    scaled_dot_product_attention,
)

NAME = "maas_documents"


@contextmanager
def standard_attention(model: Any) -> Iterator[None]:
    """Use the standard attention of transformers inside the block, to generate with a cache."""
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(NAME)


def register() -> str:
    """Register ``packed_attention`` with transformers and return its name."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)
    return NAME


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return causal attention within each document, shape ``(1, tokens, heads, width)``.

    ``query`` is ``(1, heads, tokens, width)``; ``key`` and ``value`` may have fewer heads.
    ``cu_seq_lens_q`` (on the CPU) holds the start of each document, then the total length: ``[0, 12, 30]``.
    """
    tokens, group_size = query.shape[2], query.shape[1] // key.shape[1]
    boundaries = cu_seq_lens_q.tolist()
    lengths = [end - start for start, end in pairwise(boundaries)]
    # query heads that share a key head become a batch, so keys are not copied
    query = query[0].view(key.shape[1], group_size, tokens, -1).transpose(0, 1)
    key, value = (tensor.expand(group_size, -1, -1, -1) for tensor in (key, value))
    outputs = [
        scaled_dot_product_attention(
            q,
            k,
            v,
            _window_mask(q, sliding_window),
            dropout,
            _is_causal(q, sliding_window),
            scale=scaling,
        ).permute(2, 1, 0, 3)
        for q, k, v in zip(
            *(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True
        )
    ]
    return torch.cat(outputs).flatten(1, 2).unsqueeze(0), None


def _is_causal(query: torch.Tensor, window: int | None) -> bool:
    return window is None or query.shape[2] <= window


def _window_mask(query: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """Return the mask for a document longer than the model's sliding window (Phi-3-mini-4k: 2047)."""
    if window is None or query.shape[2] <= window:
        return None
    position = torch.arange(query.shape[2], device=query.device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)
