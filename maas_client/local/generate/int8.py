"""Weights in eight bits, on request: a quarter of the memory to read for each token.

Each row of a weight has one scale (symmetric). Inputs are rounded to bfloat16 and products are summed in
float32, each row by itself, so an answer does not depend on the rows beside it. Inputs in eight bits are faster
for many rows, but change the answers several times as much as the weights do. How far the answers are from
those of unquantised weights is measured when a base is loaded.

A prompt, and the output layer for every token, multiply integers: inputs are rounded to 16 bits, with a scale
for each row, and their two bytes are two rows of one product, whose sums are exact. Where the processor's sums
of bytes saturate (x86 without VNNI), a prompt's float32 inputs are multiplied with the weights converted back.
Either holds for prompts of any length, so that an answer does not depend on how much of its prompt was known. A
single adapter is merged before weights are rounded, which costs no exactness: a weight is rounded as much with
the adapter as without.
"""

from __future__ import annotations

from functools import lru_cache

import torch  # noqa: TID253 - runs in the answering process, which loads torch

from maas_client.local.machine.onednn import Matmul, unpacked_linear

PROBE_TEXT = (
    "The ferry to the island leaves at nine in the morning and comes back at six. A ticket costs 14.50 euros,"
    " and children under seven travel free of charge. If the wind is too strong, the captain decides at eight"
    " whether the ship can sail; passengers are informed by a text message. Bicycles must be booked one day"
    ' before the journey. Write the answer as JSON: {"departure": "09:00", "price": 14.5, "bicycle": true}.'
)
"""The text on which int8 and float32 are compared: prose, numbers and JSON."""
MAX_PROBE_TOKENS = 128
_MAX_ROWS = 32
"""For more rows, the weight is converted back for each product, which is faster."""
_SMALLEST = 1e-30
"""The scale of rows of zeros."""
_MAX_INPUT = 127 * 256
"""The largest rounded input: its bytes, plus a zero point of 128, are from 0 to 255."""
_ZERO_POINT = 128
_SHIFT = float(1 << 23) + 257 * _ZERO_POINT
"""Added to a number, this rounds it to an integer, whose low bytes are those of the sum in float32."""
_MAX_INPUTS = 1 << 17
"""The most products of two bytes whose sum always has 32 bits."""
_WIDE = 16
"""Outputs for each input from which the packed product of integers is faster for a token that is decoded."""


def int8_linear(weight: torch.Tensor) -> Matmul:
    """Return a function that multiplies with a weight (out, in) in eight bits."""
    weight = weight.float()
    # a scale that bfloat16 can express has no further rounding error in the product
    scale = (weight.abs().amax(1).clamp_min(_SMALLEST) / 127).bfloat16()
    wide_scale = scale.float()[:, None]
    values = (weight / wide_scale).round_().clamp_(-127, 127).to(torch.int8)
    has_product = _has_product()
    has_integer_product = weight.shape[1] <= _MAX_INPUTS and _has_integer_product()
    if has_integer_product and weight.shape[0] >= _WIDE * weight.shape[1]:
        return _packed_linear(values, scale.float())

    def product(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        rows = x.flatten(0, -2)
        is_prompt = x.shape[-2] > 1
        if is_prompt and has_integer_product:
            y = _integer_product(rows, values).mul_(scale).to(x.dtype)
            y = y.view(*x.shape[:-1], -1)
        elif not has_product or is_prompt or len(rows) > _MAX_ROWS:
            # scaling the outputs takes a third of the time of scaling the weights
            y = unpacked_linear(x, values.to(x.dtype), None).mul_(scale)
        else:
            y = torch._weight_int8pack_mm(rows.bfloat16(), values, scale).to(x.dtype)
            y = y.view(*x.shape[:-1], -1)
        return y if bias is None else y + bias

    return product


def _packed_linear(values: torch.Tensor, scale: torch.Tensor) -> Matmul:
    """Return the product of integers with a weight in oneDNN's layout."""
    packed = torch.ops.onednn.qlinear_prepack(values, None)
    zero_points = torch.zeros(len(values), dtype=torch.long)

    def product(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        parts, input_scale = _split(x.flatten(0, -2))
        sums = torch.ops.onednn.qlinear_pointwise(
            parts, 1.0, _ZERO_POINT, packed, scale, zero_points, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        y = _join(sums, input_scale).to(x.dtype).view(*x.shape[:-1], -1)
        return y if bias is None else y + bias

    return product


def _integer_product(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return ``x Wᵀ`` of rows (rows, in) rounded to 16 bits and a weight of integers."""
    parts, scale = _split(x)
    sums: torch.Tensor = torch._int_mm(parts.bitwise_xor_(_ZERO_POINT).view(torch.int8), values.T)
    return _join(sums.float(), scale)


def _split(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows (rows, in) rounded to 16 bits as all low and then all high bytes (2 rows, in), plus the zero
    point, and the scales (rows, 1)."""
    x = x.float()
    scale = x.abs().amax(1, keepdim=True).clamp_min_(_SMALLEST).div_(_MAX_INPUT)
    shifted = (x / scale).add_(_SHIFT).view(torch.uint8)
    return shifted.view(*x.shape, 4)[..., :2].permute(2, 0, 1).contiguous().view(
        -1, x.shape[1]
    ), scale


def _join(sums: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the products of rows, given those of their low and then their high bytes (2 rows, out)."""
    halves = sums.view(2, len(scale), -1)
    return halves[0].add_(halves[1], alpha=256).mul_(scale)


@lru_cache
def _has_integer_product() -> bool:
    """Return whether this torch build has a product of integers whose sums are exact on this processor."""
    values = (torch.arange(64 * 32) % 255 - 127).reshape(32, 64).to(torch.int8)
    values[0], values[1] = 127, -127
    largest = torch.ones(1, 64)
    x = torch.cat((largest, -largest, torch.linspace(-1, 1, 64)[None]))
    expected = x.mul(_MAX_INPUT).round().double() / _MAX_INPUT @ values.double().T
    try:
        actual = _integer_product(x, values), _packed_linear(values, torch.ones(32))(x, None)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return all(torch.allclose(y.double(), expected, rtol=1e-6, atol=1e-6) for y in actual)


@lru_cache
def _has_product() -> bool:
    """Return whether this torch build has the product, which is not in its public API, and it is correct."""
    x = torch.arange(128).reshape(2, 64).bfloat16() / 64
    values = (torch.arange(64 * 32) % 255 - 127).reshape(32, 64).to(torch.int8)
    scale = torch.linspace(0.5, 2, 32).bfloat16()
    expected = x.float() @ (values.float() * scale.float()[:, None]).T
    try:
        actual = torch._weight_int8pack_mm(x, values, scale)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(actual.float(), expected, rtol=2e-2, atol=1)
