"""The decoder, for answering: one network for all supported architectures, whose steps are few and large.

It computes what transformers' networks compute. Layers that share an input (queries, keys and values; gate and
up) are one product, keys and values are written where attention reads them, and no mask is created where
none is needed. Without transformers, whose import takes seconds, a base of ordinary position encoding is ready
in half the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch  # noqa: TID253 - runs in the answering process, which loads torch
from torch.nn import functional as f  # noqa: TID253 - as above

from maas_client.local.generate.adapter_linear import (
    AdapterRows,
    LinearLayer,
    MultiAdapterLinear,
    Pack,
)
from maas_client.local.generate.architecture import Architecture
from maas_client.local.generate.cache import KeyValueCache

ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": f.silu,
    "swish": f.silu,
    "gelu": f.gelu,
    "relu": f.relu,
}
ReadTensor = Callable[[str, tuple[int, ...]], Callable[[], torch.Tensor]]
"""Returns a function that reads a tensor of this name, which must have this shape."""


class Decoder:
    """The network of one base. ``linear_layers`` are its linear layers by name, without weights until they are
    loaded."""

    def __init__(
        self, architecture: Architecture, read: ReadTensor, rows: AdapterRows, pack: Pack
    ) -> None:
        self._architecture = architecture
        self.linear_layers: dict[str, LinearLayer] = {}
        self._read, self._adapter_rows, self._pack = read, rows, pack
        hidden, vocabulary = architecture.hidden_size, architecture.vocab_size
        self._embedding = read("model.embed_tokens.weight", (vocabulary, hidden))().clone()
        self._rotary = Rotary(architecture, self._embedding)
        self._blocks = [_Block(self, f"model.layers.{n}", n) for n in range(architecture.layers)]
        self._norm = self.norm("model.norm", hidden)
        self._head = self.linear({"lm_head": vocabulary}, hidden)

    @property
    def architecture(self) -> Architecture:
        """Return the sizes of this network."""
        return self._architecture

    @property
    def products(self) -> list[MultiAdapterLinear]:
        """Return the products of one step, in order."""
        blocks = [product for block in self._blocks for product in block.products]
        return [*blocks, self._head]

    def linear(
        self, outputs: Mapping[str, int], inputs: int, *, bias: bool = False
    ) -> MultiAdapterLinear:
        """Return one product for linear layers (name to number of outputs) that share their input."""
        layers = []
        for name, output in outputs.items():
            read_bias = self._read(f"{name}.bias", (output,)) if bias else None
            weight = self._read(f"{name}.weight", (output, inputs))
            layers.append(LinearLayer(weight, (output, inputs), read_bias and read_bias()))
            self.linear_layers[name] = layers[-1]
        return MultiAdapterLinear(layers, self._adapter_rows, self._pack)

    def norm(self, name: str, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a root mean square norm."""
        weight = self._read(f"{name}.weight", (size,))().clone()
        return lambda x: rms_norm(x, weight, self._architecture.norm_epsilon)

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: KeyValueCache
    ) -> torch.Tensor:
        """Process ``tokens`` (rows, columns) at ``positions`` and return the logits (rows, vocabulary) after
        the last column."""
        return self._head(self._norm(self._hidden(tokens, positions, cache, last_only=True)))[:, 0]

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits (tokens, vocabulary) after each of the ``tokens`` of a text."""
        positions = torch.arange(len(tokens), device=tokens.device)
        hidden = self._hidden(tokens[None], positions[None], KeyValueCache())
        return self._head(self._norm(hidden))[0]

    def _hidden(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        cache: KeyValueCache,
        *,
        last_only: bool = False,
    ) -> torch.Tensor:
        """Return the output of the last block (rows, columns, hidden), of the last column only if that is
        enough: of the others, that block computes just keys and values."""
        columns = tokens.shape[1]
        mask = cache.attention_mask(columns, self._architecture.window, self._embedding)
        cos, sin = self._rotary(positions)
        hidden = f.embedding(tokens, self._embedding)
        for block in self._blocks[:-1]:
            hidden = block.forward(hidden, cos, sin, mask, cache)
        hidden = self._blocks[-1].forward(hidden, cos, sin, mask, cache, last_only=last_only)
        cache.advance(columns)
        return hidden


class _Block:
    """One layer of the decoder: attention, then the gated two-layer network."""

    def __init__(self, decoder: Decoder, name: str, number: int) -> None:
        a = decoder.architecture
        self._number = number
        self._heads, self._kv_heads, self._width = a.heads, a.kv_heads, a.head_width
        self._activation = ACTIVATIONS[a.activation]
        query, key = a.heads * a.head_width, a.kv_heads * a.head_width
        self._input_norm = decoder.norm(f"{name}.input_layernorm", a.hidden_size)
        self._post_norm = decoder.norm(f"{name}.post_attention_layernorm", a.hidden_size)
        attention, mlp = f"{name}.self_attn", f"{name}.mlp"
        qkv = {f"{attention}.q_proj": query, f"{attention}.k_proj": key, f"{attention}.v_proj": key}
        gate_up = {f"{mlp}.gate_proj": a.intermediate_size, f"{mlp}.up_proj": a.intermediate_size}
        if a.is_fused:
            qkv = {f"{attention}.qkv_proj": query + 2 * key}
            gate_up = {f"{mlp}.gate_up_proj": 2 * a.intermediate_size}
        self._qkv = decoder.linear(qkv, a.hidden_size, bias=a.qkv_bias)
        self._output = decoder.linear(
            {f"{attention}.o_proj": a.hidden_size}, query, bias=a.output_bias
        )
        self._gate_up = decoder.linear(gate_up, a.hidden_size, bias=a.mlp_bias)
        self._down = decoder.linear(
            {f"{mlp}.down_proj": a.hidden_size}, a.intermediate_size, bias=a.mlp_bias
        )
        self._head_norm: Callable[[torch.Tensor], torch.Tensor] | None = None
        if a.has_head_norms:
            norms = [decoder.norm(f"{attention}.{part}_norm", a.head_width) for part in "qk"]
            self._head_norm = lambda x: torch.cat(
                (norms[0](x[:, :, : a.heads]), norms[1](x[:, :, a.heads :])), 2
            )

    @property
    def products(self) -> list[MultiAdapterLinear]:
        """Return the products of this layer."""
        return [self._qkv, self._output, self._gate_up, self._down]

    def forward(
        self,
        hidden: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        mask: torch.Tensor | None,
        cache: KeyValueCache,
        *,
        last_only: bool = False,
    ) -> torch.Tensor:
        """Return the layer's output (rows, columns, hidden), of the last column only if asked, in the memory of
        its input."""
        rows, columns, _ = hidden.shape
        heads = self._heads + self._kv_heads
        qkv = self._qkv(self._input_norm(hidden)).view(
            rows, columns, heads + self._kv_heads, self._width
        )
        rotated = qkv[:, :, :heads]
        if self._head_norm is not None:
            rotated = self._head_norm(rotated)
        rotated = rotate(rotated, cos, sin)
        keys, values = cache.update(
            rotated[:, :, self._heads :].transpose(1, 2),
            qkv[:, :, heads:].transpose(1, 2),
            self._number,
        )
        query = rotated[:, :, : self._heads]
        if last_only and columns > 1:
            hidden, query = hidden[:, -1:], query[:, -1:]
            mask = None if mask is None else mask[:, :, -1:]
        attended = attention(query, keys, values, mask)
        hidden.add_(self._output(attended))
        gate, up = self._gate_up(self._post_norm(hidden)).chunk(2, -1)
        return hidden.add_(self._down(self._activation(gate).mul_(up)))


class Rotary:
    """The rotary position encoding of a base: cosines and signed sines of positions."""

    def __init__(self, architecture: Architecture, like: torch.Tensor) -> None:
        self._like = like
        self._scaled: Any = None
        if architecture.scaled_rope is not None:
            kind = architecture.scaled_rope.model_type
            module = import_module(f"transformers.models.{kind}.modeling_{kind}")
            with torch.device(like.device):
                self._scaled = getattr(module, f"{kind.capitalize()}RotaryEmbedding")(
                    config=architecture.scaled_rope
                )
        width = architecture.rotary_width
        exponents = torch.arange(0, width, 2, dtype=torch.float) / width
        self._frequencies = (1.0 / (architecture.rope_theta**exponents)).to(like.device)

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines (rows, columns, 1, width) of positions (rows, columns). The first half of
        the sines is negative, as ``rotate`` needs it."""
        if self._scaled is not None:
            cos, sin = self._scaled(self._like, positions)
            half = sin.shape[-1] // 2
            cos, sin = cos[:, :, None], sin[:, :, None].clone()
            sin[..., :half].neg_()
            return cos, sin
        angles = positions[..., None, None].float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        dtype = self._like.dtype
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first part of each head (rows, columns, heads, width) by its position."""
    width = cos.shape[-1]
    if width == x.shape[-1]:
        return (x * cos).addcmul_(torch.roll(x, width // 2, -1), sin)
    leading = x[..., :width]
    rotated = (leading * cos).addcmul_(torch.roll(leading, width // 2, -1), sin)
    return torch.cat((rotated, x[..., width:]), -1)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return the root mean square norm over the last dimension, computed in float32."""
    if x.numel() == len(weight) and x.dtype == torch.float32:  # one token: fewer operations
        mean_square = float(torch.dot(x.view(-1), x.view(-1))) / len(weight)
        return (x * weight).mul_((mean_square + epsilon) ** -0.5)
    if x.dtype == torch.float32:
        return f.rms_norm(x, weight.shape, weight, epsilon)
    return weight * f.rms_norm(x.float(), weight.shape, None, epsilon).to(x.dtype)


def attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Compute attention: query (rows, columns, heads, width), keys and values (rows, KV heads, all, width).

    For a single column, the heads that share a key take the place of columns, so keys are not repeated.
    """
    rows, columns, heads, width = query.shape
    kv_heads = keys.shape[1]
    if columns == 1:
        query = query.reshape(rows, kv_heads, heads // kv_heads, width)
        output = f.scaled_dot_product_attention(query, keys, values, mask)
        return output.reshape(rows, 1, heads * width)
    output = f.scaled_dot_product_attention(
        query.transpose(1, 2),
        keys,
        values,
        mask,
        is_causal=mask is None,
        enable_gqa=heads != kv_heads,
    )
    return output.transpose(1, 2).reshape(rows, columns, heads * width)
