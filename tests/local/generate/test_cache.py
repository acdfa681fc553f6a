"""The key-value cache: appending, removing and masking rows."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.cache import KeyValueCache  # noqa: E402 - after the skip


def filled(rows: int, columns: int, value: float) -> KeyValueCache:
    cache = KeyValueCache()
    block = torch.full((rows, 2, columns, 4), value)
    cache.update(block, -block, 0)
    cache.advance(columns)
    return cache


def column(cache: KeyValueCache, value: float) -> torch.Tensor:
    rows = len(cache.padding)
    block = torch.full((rows, 2, 1, 4), value)
    keys, values = cache.update(block, -block, 0)
    cache.advance(1)
    assert torch.equal(keys, -values)
    return keys[:, 0, :, 0]


def test_rows_are_right_aligned() -> None:
    cache = filled(1, 3, 1.0)
    cache.append_rows(filled(1, 5, 2.0))
    cache.append_rows(filled(2, 2, 3.0))
    assert cache.padding == [2, 0, 3, 3]
    assert column(cache, 9.0).tolist() == [
        [0, 0, 1, 1, 1, 9],
        [2, 2, 2, 2, 2, 9],
        [0, 0, 0, 3, 3, 9],
        [0, 0, 0, 3, 3, 9],
    ]


def test_removed_rows_remove_shared_padding() -> None:
    cache = filled(1, 3, 1.0)
    cache.append_rows(filled(1, 5, 2.0))
    cache.append_rows(filled(1, 2, 3.0))
    cache.keep_rows([2, 0])
    assert (cache.padding, cache.length) == ([1, 0], 3)
    assert column(cache, 9.0).tolist() == [[0, 3, 3, 9], [1, 1, 1, 9]]
    cache.keep_rows([])
    cache.append_rows(filled(1, 1, 4.0))
    assert column(cache, 9.0).tolist() == [[4, 9]]


def test_cache_grows_without_losing_columns() -> None:
    cache = filled(1, 1, 0.0)
    for value in range(1, 400):
        columns = column(cache, float(value))
    assert columns.tolist() == [list(range(400))]


@pytest.mark.parametrize("window", [None, 2])
def test_attention_mask_hides_padding_and_later_columns(window: int | None) -> None:
    cache = KeyValueCache()
    cache.padding = [2, 0]
    mask = cache.attention_mask(4, window, torch.zeros(0))
    assert mask is not None
    seen = mask[:, 0] == 0
    assert seen.any(-1).all(), "softmax over nothing is NaN"
    assert seen[0].tolist()[2:] == [[False, False, True, False], [False, False, True, True]]
    last = [False, False, True, True] if window else [True] * 4
    assert seen[1].tolist()[3] == last


def test_causal_attention_needs_no_mask() -> None:
    assert KeyValueCache().attention_mask(4, None, torch.zeros(0)) is None
    assert filled(1, 3, 1.0).attention_mask(1, None, torch.zeros(0)) is None
    assert filled(1, 3, 1.0).attention_mask(2, None, torch.zeros(0)) is not None
    assert filled(1, 3, 1.0).attention_mask(1, 3, torch.zeros(0)) is not None
