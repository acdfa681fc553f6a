"""Bytes of a training run, part by part, from a model's shape. Formulas; ``probe`` measures.

Counted as our own training holds them (``local/peft``): a frozen base, trained numbers in float32 with
their gradient and AdamW's two moments, activations of one pack, logits in chunks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from maas_client.catalog import Architecture
from maas_client.local.machine import model_shape as shapes

NF4_BYTES_PER_WEIGHT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of one number in bitsandbytes' nf4 with double quantisation: four bits, a byte-sized constant per
block of 64, a float32 per 256 of those."""
LOGITS_BYTES = 2 * (1 << 26)
"""A chunk of logits and its gradient (``local/training/loss.py``)."""
RUNTIME_BYTES = {"cpu": 420 * 2**20, "gpu": 900 * 2**20}
"""The interpreter with torch, transformers and PEFT; on a GPU its context and allocator's slack."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak of a run."""

    weights: int
    adapters: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int
    runtime: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())

    def as_dict(self) -> dict[str, int]:
        """Return the parts and the total, JSON-ready."""
        return {**asdict(self), "total": self.total}


def activation_values_per_token(shape: Architecture) -> int:
    """Return how many numbers one block keeps for one token until backward.

    Two norms keep input and result; attention keeps queries, keys, values and its result; the gated MLP
    keeps gate, up, their product and silu(gate).
    """
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return 4 * shape.hidden_size + 2 * query + 2 * key + 4 * int(shape.intermediate_size or 0)


def estimate_memory(
    shape: Architecture,
    method: str,
    *,
    tokens: int,
    r: int = 8,
    device: str = "cpu",
    checkpoint_activations: bool = False,
) -> MemoryEstimate:
    """Return the bytes of a run with packs of ``tokens`` tokens. Raises ``ConfigError``."""
    numbers = shapes.count_parameters(shape)
    wide = 4 if device == "cpu" or method == "Full" else 2  # as ``loading.dtype_for`` holds them
    plain = numbers.embedding + numbers.norm
    each = NF4_BYTES_PER_WEIGHT if method == "QLoRA" else wide
    weights = plain * wide + int(numbers.linear * each)
    trained = numbers.adapter_per_rank * r + (numbers.magnitudes if method == "DoRA" else 0)
    if method == "Full":
        trained = numbers.total
    blocks = 1 if checkpoint_activations else shape.layers
    kept = blocks * activation_values_per_token(shape) * wide * tokens
    if checkpoint_activations:
        kept += shape.layers * shape.hidden_size * wide * tokens
    biggest = max(i * o for i, o in shapes.linear_layer_sizes(shape))
    extra = biggest * wide if method in ("QLoRA", "DoRA") else 0  # one layer's weights, whole again
    return MemoryEstimate(
        weights=weights,
        adapters=0 if method == "Full" else trained * 4,
        gradients=trained * 4,
        optimizer=trained * 8,
        activations=kept,
        workspace=LOGITS_BYTES + extra,
        runtime=RUNTIME_BYTES["cpu" if device == "cpu" else "gpu"],
    )
