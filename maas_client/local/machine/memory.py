"""Estimate the memory of a training run from a model's shape.

The formulas describe this project's own training (``local/training``): frozen base weights; trained
parameters in float32 with a gradient and AdamW's two moments; the activations of one pack; logits in chunks.
``planning/probe.py`` measures instead.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from maas_client.catalog import Architecture
from maas_client.local.machine import model_architecture as shapes

NF4_BYTES_PER_WEIGHT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per weight in bitsandbytes' nf4 with double quantization: four bits, a one-byte constant per block
of 64, and a float32 per 256 of those."""
FUSED_MODEL_TYPES = ("llama", "mistral", "phi3")
"""Models whose blocks ``local/training/fused_modules.py`` replaces."""
LOGITS_BYTES = 2 * (1 << 26)
"""A chunk of logits and its gradient (``local/training/model_loss.py``)."""
RUNTIME_BYTES = {"cpu": 420 * 2**20, "gpu": 900 * 2**20}
"""Python with torch, transformers and PEFT; on a GPU also its context and the allocator's overhead."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the peak of a run, by what they are used for."""

    weights: int
    adapters: int
    gradients: int
    optimizer: int
    activations: int
    workspace: int
    runtime: int

    @property
    def total(self) -> int:
        """Return the sum of all parts."""
        return sum(asdict(self).values())

    def as_dict(self) -> dict[str, int]:
        """Return the parts and the total for JSON."""
        return {**asdict(self), "total": self.total}


def activation_values_per_token(
    shape: Architecture, method: str, *, fuses_blocks: bool = True, has_dropout: bool = False
) -> int:
    """Return how many activation values one block stores per token for the backward pass.

    Attention stores queries, keys, values and its output, which its last layer stores once more. A fused block
    with adapters (``local/training/autograd_functions.py``) adds its input, the sum after attention, gate and
    up; DoRA also the outputs of layers that are not stored otherwise. Other blocks store the inputs and outputs
    of two norms, gate, up and their product, and silu(gate) unless the MLP is fused. Dropout, with which no
    block is fused, stores its mask and its output for each adapter.
    """
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, inner = shape.hidden_size, int(shape.intermediate_size or 0)
    is_fused = shape.model_type in FUSED_MODEL_TYPES
    stored = 3 * query + 2 * key
    if has_dropout:
        stored += 2 * sum(inputs for inputs, _ in shapes.linear_layer_sizes(shape))
    if not (is_fused and fuses_blocks) or has_dropout or method == "Full":
        return stored + 4 * hidden + (3 if is_fused else 4) * inner
    stored += 2 * hidden + 2 * inner
    return stored + (query + key + 2 * hidden if method == "DoRA" else 0)


def estimate_memory(
    shape: Architecture,
    method: str,
    *,
    tokens: int,
    r: int = 8,
    device: str = "cpu",
    checkpoint_activations: bool = False,
    fuses_blocks: bool = True,
    has_dropout: bool = False,
) -> MemoryEstimate:
    """Return the memory of a run with packs of ``tokens`` tokens.

    ``fuses_blocks``: every layer of a block has an adapter. On a GPU, which computes in bfloat16, no block is
    fused.

    Raises ``ConfigError`` for a model whose parameters cannot be counted (``count_parameters``).
    """
    counts = shapes.count_parameters(shape)
    is_float32 = device == "cpu" or method == "Full"  # as ``load_base.dtype_for`` chooses
    full_bytes = 4 if is_float32 else 2
    unquantized = counts.embedding + counts.norm
    linear_bytes = NF4_BYTES_PER_WEIGHT if method == "QLoRA" else full_bytes
    weights = unquantized * full_bytes + int(counts.linear * linear_bytes)
    trained = counts.adapter_per_rank * r + (counts.magnitudes if method == "DoRA" else 0)
    if method == "Full":
        trained = counts.total
    blocks = 1 if checkpoint_activations else shape.layers
    values = activation_values_per_token(
        shape, method, fuses_blocks=fuses_blocks and device == "cpu", has_dropout=has_dropout
    )
    activations = blocks * values * full_bytes * tokens
    if checkpoint_activations:
        activations += shape.layers * shape.hidden_size * full_bytes * tokens
    largest = max(i * o for i, o in shapes.linear_layer_sizes(shape))
    # one layer's weights, dequantized
    workspace = largest * full_bytes if method in ("QLoRA", "DoRA") else 0
    return MemoryEstimate(
        weights=weights,
        adapters=0 if method == "Full" else trained * 4,
        gradients=trained * 4,
        optimizer=trained * 8,
        activations=activations,
        workspace=LOGITS_BYTES + workspace,
        runtime=RUNTIME_BYTES["cpu" if device == "cpu" else "gpu"],
    )
