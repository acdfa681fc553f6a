"""A linear layer that answers for several adapters at once.

On an x86 CPU the weight is kept packed in oneDNN's own order, which reads it 2 to 4 times as fast
as ``torch.nn.functional.linear`` for the few rows of a decoding step (measured: 29 against
11 GB/s at 8 rows). Elsewhere it is the plain tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded
from torch import nn  # noqa: TID253 - as above
from torch.nn import functional as f  # noqa: TID253 - as above

from maas_client.local.generate.adapter import Change


@dataclass(slots=True)
class Rows:
    """Which rows of the current step go through which adapter; one object for all layers."""

    groups: list[tuple[str, torch.Tensor | None]] = field(default_factory=list)
    """(adapter, row numbers); None is every row. Rows in no group are the base's or merged."""


@dataclass(slots=True)
class _Side:
    change: Change
    gain: torch.Tensor | None

    def apply(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y = y + f.linear(f.linear(x, self.change.a), self.change.b)
        return y if self.gain is None else y * self.gain


class AdaptedLinear(nn.Module):
    """``y = x Wᵀ + bias``, with per-row adapters. ``source`` reads the base's weight from disk."""

    def __init__(
        self, source: Callable[[], torch.Tensor], bias: torch.Tensor | None, rows: Rows
    ) -> None:
        super().__init__()
        self._source = source
        self._bias = bias
        self._rows = rows
        self._sides: dict[str, _Side] = {}
        self.shape: tuple[int, ...] = tuple(source().shape)
        self._matmul: Matmul | None = None

    def fits(self, change: Change) -> bool:
        """Tell whether an adapter was made for a layer of this shape."""
        return (change.b.shape[0], change.a.shape[1]) == self.shape

    def add(self, name: str, change: Change) -> None:
        """Hold an adapter beside the weight; once is enough."""
        if name in self._sides:
            return
        weight = self._source()
        gain = None
        if change.magnitude is not None:
            gain = change.gain(torch.addmm(weight.float(), change.b, change.a)).to(weight)
        held = Change(change.a.to(weight), change.b.to(weight))
        self._sides[name] = _Side(held, gain)

    def remove(self, name: str) -> None:
        """Let go of an adapter; unknown ones are no error."""
        self._sides.pop(name, None)

    @property
    def ready(self) -> bool:
        """Tell whether ``merge`` has been called: before that there is no weight in memory."""
        return self._matmul is not None

    def merge(self, change: Change | None) -> None:
        """Take the base's weight from disk and put an adapter into it, or none."""
        weight = self._source()
        if change is not None:
            on = Change(change.a.to(weight.device), change.b.to(weight.device), change.magnitude)
            weight = on.merged(weight.float()).to(weight.dtype)
        self._matmul = _matmul(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, positions, out) for (rows, positions, in)."""
        assert self._matmul is not None
        if not self._rows.groups:
            return self._matmul(x, self._bias)
        y = self._matmul(x, None)
        for name, rows in self._rows.groups:
            side = self._sides.get(name)
            if side is None:  # this adapter leaves this layer alone
                continue
            if rows is None:
                y = side.apply(x, y)
            else:
                y[rows] = side.apply(x[rows], y[rows])
        return y if self._bias is None else y + self._bias


Matmul = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


def _matmul(weight: torch.Tensor) -> Matmul:
    if weight.device.type != "cpu" or not _packs(weight.dtype):
        return lambda x, bias: f.linear(x, weight, bias)
    return _packed(weight)


def _packed(weight: torch.Tensor) -> Matmul:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
    apply = torch.ops.mkldnn._linear_pointwise
    return lambda x, bias: apply(x, packed, bias, "none", [], "")


@lru_cache
def _packs(dtype: torch.dtype) -> bool:
    """Tell whether this build of torch packs weights of a format and multiplies them rightly.

    Inductor uses the same two operations; they are not part of torch's public interface, so they are
    tried once and done without where they fail.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    weight = torch.arange(-24, 24).reshape(6, 8).to(dtype) / 16
    x, bias = torch.arange(16).reshape(2, 8).to(dtype) / 8, torch.arange(6).to(dtype)
    try:
        return torch.allclose(_packed(weight)(x, bias), f.linear(x, weight, bias), rtol=1e-2)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
