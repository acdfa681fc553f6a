"""Attention inside each document of a packed sequence, and no work between documents.

Registered under ``NAME`` with transformers; the documents' bounds travel as the keyword
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
    """Let a model attend as transformers has it: to generate, one sequence with a cache."""
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(NAME)


def register() -> str:
    """Make the function known to transformers and return its name."""
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
    """Return ``(1, tokens, heads, width)`` of causal attention within each document.

    ``query`` is ``(1, heads, tokens, width)``, ``key`` and ``value`` may have fewer heads.
    ``cu_seq_lens_q`` (on the CPU) holds where documents begin, and the end: ``[0, 12, 30]``.
    """
    tokens, repeats = query.shape[2], query.shape[1] // key.shape[1]
    bounds = cu_seq_lens_q.tolist()
    lengths = [end - start for start, end in pairwise(bounds)]
    # query heads that share a key head become a batch, so that keys need no copy
    query = query[0].view(key.shape[1], repeats, tokens, -1).transpose(0, 1)
    key, value = (side.expand(repeats, -1, -1, -1) for side in (key, value))
    pieces = [
        scaled_dot_product_attention(
            q, k, v, _window(q, sliding_window), dropout, _causal(q, sliding_window), scale=scaling
        ).permute(2, 1, 0, 3)
        for q, k, v in zip(
            *(torch.split(side, lengths, dim=2) for side in (query, key, value)), strict=True
        )
    ]
    return torch.cat(pieces).flatten(1, 2).unsqueeze(0), None


def _causal(query: torch.Tensor, window: int | None) -> bool:
    return window is None or query.shape[2] <= window


def _window(query: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """Return the mask of a document longer than the model's sliding window (Phi-3-mini-4k: 2047)."""
    if window is None or query.shape[2] <= window:
        return None
    at = torch.arange(query.shape[2], device=query.device)
    back = at[:, None] - at[None, :]
    return (back >= 0) & (back < window)
