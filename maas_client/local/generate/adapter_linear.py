"""A linear layer that applies a different adapter to each row of a batch.

The weight is stored in oneDNN's packed format where that is faster (``machine/onednn.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch  # noqa: TID253 - runs in the answering process, which loads torch
from torch import nn  # noqa: TID253 - as above
from torch.nn import functional as f  # noqa: TID253 - as above

from maas_client.local.generate.adapter import LoraDelta
from maas_client.local.machine.onednn import Matmul, prepacked_linear


@dataclass(slots=True)
class AdapterRows:
    """The adapter of each row in the current step; shared by all layers."""

    groups: list[tuple[str, torch.Tensor | None]] = field(default_factory=list)
    """(adapter, row numbers); None means all rows. Other rows use the base or the merged adapter."""


@dataclass(slots=True)
class _SideAdapter:
    delta: LoraDelta
    dora_scale: torch.Tensor | None

    def apply(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        y = y + f.linear(f.linear(x, self.delta.a), self.delta.b)
        return y if self.dora_scale is None else y * self.dora_scale


class MultiAdapterLinear(nn.Module):
    """``y = x Wᵀ + bias`` with per-row adapters. ``read_weight`` reads the base's weight from disk."""

    def __init__(
        self, read_weight: Callable[[], torch.Tensor], bias: torch.Tensor | None, rows: AdapterRows
    ) -> None:
        super().__init__()
        self._read_weight = read_weight
        self._bias = bias
        self._rows = rows
        self._adapters: dict[str, _SideAdapter] = {}
        self.shape: tuple[int, ...] = tuple(read_weight().shape)
        self._matmul: Matmul | None = None

    def fits(self, delta: LoraDelta) -> bool:
        """Return whether the delta has the shape of this layer."""
        return (delta.b.shape[0], delta.a.shape[1]) == self.shape

    def add_adapter(self, name: str, delta: LoraDelta) -> None:
        """Add an adapter that is applied beside the weight; do nothing if it is already there."""
        if name in self._adapters:
            return
        weight = self._read_weight()
        dora_scale = None
        if delta.magnitude is not None:
            dora_scale = delta.dora_scale(torch.addmm(weight.float(), delta.b, delta.a)).to(weight)
        device_delta = LoraDelta(delta.a.to(weight), delta.b.to(weight))
        self._adapters[name] = _SideAdapter(device_delta, dora_scale)

    def remove_adapter(self, name: str) -> None:
        """Remove an adapter; ignore unknown names."""
        self._adapters.pop(name, None)

    @property
    def is_loaded(self) -> bool:
        """Return whether ``load_weight`` has been called: before that no weight is in memory."""
        return self._matmul is not None

    def load_weight(self, delta: LoraDelta | None) -> None:
        """Read the base's weight from disk and merge a delta into it, if one is given."""
        weight = self._read_weight()
        if delta is not None:
            device_delta = LoraDelta(
                delta.a.to(weight.device), delta.b.to(weight.device), delta.magnitude
            )
            weight = device_delta.apply_to(weight.float()).to(weight.dtype)
        self._matmul = prepacked_linear(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (rows, positions, out) for (rows, positions, in)."""
        assert self._matmul is not None
        if not self._rows.groups:
            return self._matmul(x, self._bias)
        y = self._matmul(x, None)
        for name, rows in self._rows.groups:
            adapter = self._adapters.get(name)
            if adapter is None:  # this adapter does not change this layer
                continue
            if rows is None:
                y = adapter.apply(x, y)
            else:
                y[rows] = adapter.apply(x[rows], y[rows])
        return y if self._bias is None else y + self._bias
