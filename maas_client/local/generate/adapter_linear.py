"""A linear layer that answers for several adapters at once.

The weight is kept as oneDNN has it where that is faster (``machine/onednn.py``), else as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded
from torch import nn  # noqa: TID253 - as above
from torch.nn import functional as f  # noqa: TID253 - as above

from maas_client.local.generate.adapter import LoraDelta
from maas_client.local.machine.onednn import Matmul, prepacked_linear


@dataclass(slots=True)
class AdapterRows:
    """Which rows of the current step go through which adapter; one object for all layers."""

    groups: list[tuple[str, torch.Tensor | None]] = field(default_factory=list)
    """(adapter, row numbers); None is every row. Rows in no group are the base's or merged."""


@dataclass(slots=True)
class _Side:
    change: LoraDelta
    gain: torch.Tensor | None

    def apply(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y = y + f.linear(f.linear(x, self.change.a), self.change.b)
        return y if self.gain is None else y * self.gain


class MultiAdapterLinear(nn.Module):
    """``y = x Wᵀ + bias``, with per-row adapters. ``source`` reads the base's weight from disk."""

    def __init__(
        self, source: Callable[[], torch.Tensor], bias: torch.Tensor | None, rows: AdapterRows
    ) -> None:
        super().__init__()
        self._source = source
        self._bias = bias
        self._rows = rows
        self._sides: dict[str, _Side] = {}
        self.shape: tuple[int, ...] = tuple(source().shape)
        self._matmul: Matmul | None = None

    def fits(self, change: LoraDelta) -> bool:
        """Tell whether an adapter was made for a layer of this shape."""
        return (change.b.shape[0], change.a.shape[1]) == self.shape

    def add_adapter(self, name: str, change: LoraDelta) -> None:
        """Hold an adapter beside the weight; once is enough."""
        if name in self._sides:
            return
        weight = self._source()
        gain = None
        if change.magnitude is not None:
            gain = change.dora_scale(torch.addmm(weight.float(), change.b, change.a)).to(weight)
        held = LoraDelta(change.a.to(weight), change.b.to(weight))
        self._sides[name] = _Side(held, gain)

    def remove_adapter(self, name: str) -> None:
        """Let go of an adapter; unknown ones are no error."""
        self._sides.pop(name, None)

    @property
    def is_loaded(self) -> bool:
        """Tell whether ``merge`` has been called: before that there is no weight in memory."""
        return self._matmul is not None

    def load_weight(self, change: LoraDelta | None) -> None:
        """Take the base's weight from disk and put an adapter into it, or none."""
        weight = self._source()
        if change is not None:
            on = LoraDelta(change.a.to(weight.device), change.b.to(weight.device), change.magnitude)
            weight = on.apply_to(weight.float()).to(weight.dtype)
        self._matmul = prepacked_linear(weight)

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
