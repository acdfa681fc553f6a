"""The numbers of a model's shape, and how many parameters they make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_client.catalog import Architecture
from maas_client.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters by what happens to them."""

    embedding: int
    """Both ends; once where they are tied."""
    linear: int
    """Linear layers of all blocks: what adapters go on and QLoRA holds in four bits."""
    norm: int
    """Norms."""
    adapter_per_rank: int
    """Trainable numbers of LoRA on every linear layer, for r = 1."""
    magnitudes: int
    """What DoRA adds: one number per output."""

    @property
    def total(self) -> int:
        """All of the base."""
        return self.embedding + self.linear + self.norm


def is_dense(shape: Architecture) -> bool:
    """Tell whether the formulas hold: no experts, all numbers known."""
    return shape.experts == 1 and None not in (shape.intermediate_size, shape.vocab_size)


def linear_layer_sizes(shape: Architecture) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of each linear layer of one block; Phi's are fused."""
    hidden, wide = shape.hidden_size, int(shape.intermediate_size or 0)
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if shape.model_type == "phi3":
        return [(hidden, query + 2 * key), (query, hidden), (hidden, 2 * wide), (wide, hidden)]
    return [
        *((hidden, query), (hidden, key), (hidden, key), (query, hidden)),
        *((hidden, wide), (hidden, wide), (wide, hidden)),
    ]


def count_parameters(shape: Architecture) -> ParameterCounts:
    """Return the parameters. Raises ``ConfigError`` for a shape with experts or unknown numbers."""
    if not is_dense(shape):
        raise ConfigError(
            f"a {shape.model_type} model with experts, or with sizes nobody publishes, cannot be planned"
        )
    layers, ends = linear_layer_sizes(shape), 1 if shape.tied_embeddings else 2
    return ParameterCounts(
        embedding=ends * int(shape.vocab_size or 0) * shape.hidden_size,
        linear=shape.layers * sum(i * o for i, o in layers),
        norm=(2 * shape.layers + 1) * shape.hidden_size,
        adapter_per_rank=shape.layers * sum(i + o for i, o in layers),
        magnitudes=shape.layers * sum(o for _, o in layers),
    )


def read_shape(folder: Path) -> Architecture:
    """Read the shape from a base's ``config.json``. Raises ``ConfigError``."""
    try:
        held: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
        heads = int(held["num_attention_heads"])
        return Architecture(
            model_type=str(held["model_type"]),
            hidden_size=int(held["hidden_size"]),
            layers=int(held["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(held.get("num_key_value_heads") or heads),
            head_dim=int(held.get("head_dim") or held["hidden_size"] // heads),
            intermediate_size=int(held["intermediate_size"]),
            vocab_size=int(held["vocab_size"]),
            tied_embeddings=bool(held.get("tie_word_embeddings", False)),
        )
    except (OSError, ValueError, KeyError, TypeError) as bad:
        raise ConfigError(f"{folder} holds no model whose shape can be read") from bad
