"""Key-value cache of a batch, right-aligned: the newest token of every row is in the same column.

Shorter rows are padded on the left.
Rows are added and removed between steps. A new token is written into preallocated columns, so that nothing is
copied.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch  # noqa: TID253 - runs in the answering process, which loads torch

from maas_client.local.generate.prefix_cache import Prefix

_SPARE_COLUMNS = 128
"""Minimum number of columns to preallocate."""


def cache_keyword(module: Any) -> str:
    """Return the name of a model's cache argument: ``past_key_values`` in older versions of transformers."""
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"


class KeyValueCache:
    """Per layer: keys and values (rows, heads, capacity, width), of which ``length`` columns are used."""

    def __init__(self) -> None:
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.length = 0
        self.padding: list[int] = []
        """Padding columns before each row's first token."""

    @classmethod
    def from_prefixes(
        cls, prefixes: Sequence[Prefix], lengths: Sequence[int], columns: int
    ) -> KeyValueCache:
        """Return a cache for rows of these ``lengths``, the longest with ``columns`` tokens. It contains what
        is known, without the columns that any of the rows must compute."""
        cache = cls()
        cache.padding = [columns - length for length in lengths]
        cache.length = min(
            pad + prefix.length for pad, prefix in zip(cache.padding, prefixes, strict=True)
        )
        if cache.length == 0:
            return cache
        first = next(piece for prefix in prefixes for piece in prefix.pieces)
        layers, _, heads, _, width = first.shape
        shape = (len(lengths), heads, _capacity(columns), width)
        # zeros, as the softmax's zeros are multiplied with the values of padding
        cache._layers = [(first.new_zeros(shape), first.new_zeros(shape)) for _ in range(layers)]
        for row, prefix in enumerate(prefixes):
            start = cache.padding[row]
            for piece in prefix.pieces:
                end = min(start + piece.shape[3], cache.length)
                if end <= start:
                    break
                for pair, stored in zip(cache._layers, piece[..., : end - start, :], strict=True):
                    pair[0][row, :, start:end], pair[1][row, :, start:end] = stored
                start = end
        return cache

    def known_tokens(self, row: int) -> int:
        """Return how many tokens of a row the cache contains."""
        return max(0, self.length - self.padding[row])

    def copy_tokens(self, row: int, start: int, end: int) -> torch.Tensor:
        """Return keys and values (layers, 2, heads, tokens, width) of a row's tokens ``start`` to ``end``."""
        columns = slice(self.padding[row] + start, self.padding[row] + end)
        tensors = [tensor[row, :, columns] for pair in self._layers for tensor in pair]
        return torch.stack(tensors).view(len(self._layers), 2, *tensors[0].shape)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one layer's new columns and return all its columns."""
        end = self.length + keys.shape[2]
        if layer == len(self._layers):
            self._layers.append((_allocate(keys, end), _allocate(values, end)))
            self.padding = self.padding or [0] * keys.shape[0]
        stored = self._layers[layer]
        if end > stored[0].shape[2]:
            grown = _grow(stored[0], self.length, end), _grow(stored[1], self.length, end)
            self._layers[layer] = stored = grown
        stored[0][:, :, self.length : end] = keys
        stored[1][:, :, self.length : end] = values
        return stored[0][:, :, :end], stored[1][:, :, :end]

    def advance(self, columns: int) -> None:
        """Advance by the columns that every layer has just stored."""
        self.length += columns

    def append_rows(self, source: KeyValueCache) -> None:
        """Append the rows of ``source``."""
        if not self._layers:
            self._layers, self.length, self.padding = source._layers, source.length, source.padding
            return
        length = max(self.length, source.length)
        self._layers = [
            (_stack(first[0], second[0], self, source, length),
             _stack(first[1], second[1], self, source, length))
            for first, second in zip(self._layers, source._layers, strict=True)
        ]  # fmt: skip
        self.padding = [pad + length - self.length for pad in self.padding] + [
            pad + length - source.length for pad in source.padding
        ]
        self.length = length

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Keep only these rows, without the padding they all share."""
        if not rows:
            self.__init__()  # type: ignore[misc]  # reset to the empty state
            return
        pads = [self.padding[row] for row in rows]
        shared_padding = min(pads)
        row_indices = torch.tensor(rows, device=self._layers[0][0].device)
        self._layers = [
            (
                _select_rows(keys, row_indices, shared_padding, self.length),
                _select_rows(values, row_indices, shared_padding, self.length),
            )
            for keys, values in self._layers
        ]
        self.padding = [pad - shared_padding for pad in pads]
        self.length -= shared_padding

    def attention_mask(
        self, columns: int, window: int | None, like: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the additive attention mask of the next ``columns`` tokens, 0 and -inf, of shape
        (rows, 1, columns, length + columns); None if plain causal attention is enough."""
        end = self.length + columns
        is_first_or_single = columns == 1 or self.length == 0
        if is_first_or_single and not any(self.padding) and (window is None or end <= window):
            return None
        key = torch.arange(end, device=like.device)
        query = torch.arange(self.length, end, device=like.device)[:, None]
        visible = key <= query
        if window is not None:
            visible = visible & (key > query - window)
        pads = torch.tensor(self.padding or [0], device=like.device)[:, None, None]
        is_self = key == query  # padding attends to itself: softmax over nothing gives NaN
        masked = ~(visible[None] & ((key >= pads) | is_self))
        return torch.zeros(masked.shape, dtype=like.dtype, device=like.device).masked_fill_(
            masked, float("-inf")
        )[:, None]


def _allocate(like: torch.Tensor, columns: int) -> torch.Tensor:
    rows, heads, _, width = like.shape
    return like.new_empty(rows, heads, _capacity(columns), width)


def _capacity(columns: int) -> int:
    return columns + max(_SPARE_COLUMNS, columns // 4)


def _grow(stored: torch.Tensor, length: int, columns: int) -> torch.Tensor:
    grown = _allocate(stored, columns)
    grown[:, :, :length] = stored[:, :, :length]
    return grown


def _stack(
    first: torch.Tensor, second: torch.Tensor, a: KeyValueCache, b: KeyValueCache, length: int
) -> torch.Tensor:
    rows, heads, _, width = first.shape
    stacked = first.new_zeros(rows + second.shape[0], heads, length + _SPARE_COLUMNS, width)
    stacked[:rows, :, length - a.length : length] = first[:, :, : a.length]
    stacked[rows:, :, length - b.length : length] = second[:, :, : b.length]
    return stacked


def _select_rows(
    stored: torch.Tensor, rows: torch.Tensor, shared_padding: int, length: int
) -> torch.Tensor:
    selected = stored.new_zeros(
        len(rows), stored.shape[1], length - shared_padding + _SPARE_COLUMNS, stored.shape[3]
    )
    selected[:, :, : length - shared_padding] = stored[:, :, shared_padding:length].index_select(
        0, rows
    )
    return selected
