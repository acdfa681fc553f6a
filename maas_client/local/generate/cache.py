"""Keys and values of the rows of a batch, aligned on the right: every row's newest token is in the
same column, and what a shorter row lacks is padding on its left.

Rows join and leave between steps. ``transformers`` sees an object with ``update``; its own caches
copy everything for each new token, this one writes into room that is there already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded

_ROOM = 128
"""Columns by which room grows at least."""


class KeyValueCache:
    """Per layer: keys and values (rows, heads, room, width), of which ``length`` columns are used."""

    def __init__(self) -> None:
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.length = 0
        self.padding: list[int] = []
        """Columns of padding before each row's first token."""

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one layer's new columns and return all of its columns. Called by the model."""
        end = self.length + keys.shape[2]
        if layer == len(self._layers):
            self._layers.append((_room(keys, end), _room(values, end)))
            self.padding = self.padding or [0] * keys.shape[0]
        held = self._layers[layer]
        if end > held[0].shape[2]:
            grown = _grow(held[0], self.length, end), _grow(held[1], self.length, end)
            self._layers[layer] = held = grown
        held[0][:, :, self.length : end] = keys
        held[1][:, :, self.length : end] = values
        return held[0][:, :, :end], held[1][:, :, :end]

    def advance(self, columns: int) -> None:
        """Count the columns that every layer has just written."""
        self.length += columns

    def append_rows(self, other: KeyValueCache) -> None:
        """Take over the rows of ``other``, after our own."""
        if not self._layers:
            self._layers, self.length, self.padding = other._layers, other.length, other.padding
            return
        length = max(self.length, other.length)
        self._layers = [
            (_stack(ours[0], theirs[0], self, other, length),
             _stack(ours[1], theirs[1], self, other, length))
            for ours, theirs in zip(self._layers, other._layers, strict=True)
        ]  # fmt: skip
        self.padding = [pad + length - self.length for pad in self.padding] + [
            pad + length - other.length for pad in other.padding
        ]
        self.length = length

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, and the padding that all of these share."""
        if not rows:
            self.__init__()  # type: ignore[misc]  # empty again, as it began
            return
        pads = [self.padding[row] for row in rows]
        spare = min(pads)
        chosen = torch.tensor(rows, device=self._layers[0][0].device)
        self._layers = [
            (_chosen(keys, chosen, spare, self.length), _chosen(values, chosen, spare, self.length))
            for keys, values in self._layers
        ]
        self.padding = [pad - spare for pad in pads]
        self.length -= spare

    def attention_mask(
        self, columns: int, window: int | None, like: torch.Tensor
    ) -> torch.Tensor | None:
        """Return what the next ``columns`` tokens may not see, to be added to the scores:
        (rows, 1, columns, length + columns) of 0 and -inf; None if plain causal attention does."""
        end = self.length + columns
        whole = columns == 1 or self.length == 0
        if whole and not any(self.padding) and (window is None or end <= window):
            return None
        key = torch.arange(end, device=like.device)
        query = torch.arange(self.length, end, device=like.device)[:, None]
        seen = key <= query
        if window is not None:
            seen = seen & (key > query - window)
        pads = torch.tensor(self.padding or [0], device=like.device)[:, None, None]
        own = key == query  # padding sees itself: of nothing at all softmax makes NaN
        hidden = ~(seen[None] & ((key >= pads) | own))
        return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill_(
            hidden, float("-inf")
        )[:, None]


def _room(like: torch.Tensor, columns: int) -> torch.Tensor:
    rows, heads, _, width = like.shape
    return like.new_empty(rows, heads, columns + max(_ROOM, columns // 4), width)


def _grow(held: torch.Tensor, used: int, columns: int) -> torch.Tensor:
    grown = _room(held, columns)
    grown[:, :, :used] = held[:, :, :used]
    return grown


def _stack(
    ours: torch.Tensor, theirs: torch.Tensor, a: KeyValueCache, b: KeyValueCache, length: int
) -> torch.Tensor:
    rows, heads, _, width = ours.shape
    both = ours.new_zeros(rows + theirs.shape[0], heads, length + _ROOM, width)
    both[:rows, :, length - a.length : length] = ours[:, :, : a.length]
    both[rows:, :, length - b.length : length] = theirs[:, :, : b.length]
    return both


def _chosen(held: torch.Tensor, rows: torch.Tensor, spare: int, used: int) -> torch.Tensor:
    left = held.new_zeros(len(rows), held.shape[1], used - spare + _ROOM, held.shape[3])
    left[:, :, : used - spare] = held[:, :, spare:used].index_select(0, rows)
    return left
