"""Exact match, token F1, labels, paired gains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_client import scoring
from maas_client.scoring import (
    OTHER_LABEL,
    Answer,
    is_exact_match,
    label_scores,
    mean_difference_interval,
    token_f1,
)


def call(name: str, arguments: str) -> dict[str, object]:
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        (Answer("yes"), Answer(" yes\n"), True),
        (Answer("yes"), Answer("Yes"), False),
        (Answer(""), Answer(""), True),
        (
            Answer("", [call("f", '{"a": 1, "b": 2}')]),
            Answer("ok", [call("f", '{"b":2,"a":1}')]),
            True,
        ),
        (Answer("", [call("f", '{"a": 1}')]), Answer("", [call("f", '{"a": 2}')]), False),
        (Answer("", [call("f", "{}")]), Answer("", [call("g", "{}")]), False),
        (Answer("", [call("f", "{}")]), Answer("f {}"), False),
        (Answer("", [call("f", "no json")]), Answer("", [call("f", "no json")]), True),
    ],
)
def test_exact_match(want: Answer, got: Answer, same: bool) -> None:
    assert is_exact_match(want, got) is same


@pytest.mark.parametrize(
    ("want", "got", "f1"),
    [
        ("the cat sat", "The cat sat!", 1.0),
        ("a b c d", "a b", 2 / 3),
        ("a a b", "a", 0.5),
        ("a", "b", 0.0),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("東京都", "東京", 0.8),
        ("snake_case", "snake case", 1.0),
        ("3.5", "3.5", 1.0),
    ],
)
def test_token_f1(want: str, got: str, f1: float) -> None:
    assert token_f1(want, got) == pytest.approx(f1)


@given(st.text(max_size=30), st.text(max_size=30))
def test_token_f1_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert token_f1(a, b) == token_f1(b, a)
    assert 0 <= token_f1(a, b) <= 1
    assert token_f1(a, a) == 1


def test_labels_say_which_is_taken_for_which() -> None:
    pairs = [("spam", "Spam."), ("spam", "ham"), ("ham", "ham"), ("ham", "ham"), ("ham", "dunno")]
    found = label_scores(pairs)
    assert found is not None
    assert found.confusion == {"ham": {OTHER_LABEL: 1, "ham": 2}, "spam": {"ham": 1, "spam": 1}}
    assert found.accuracy == 3 / 5
    assert found.f1["ham"] == pytest.approx(2 * 2 / (3 + 3))
    assert found.f1["spam"] == pytest.approx(2 * 1 / (2 + 1))
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize(
    "wanted",
    [
        ["only"] * 6,
        [f"each one is different {n}" for n in range(6)],
        ["x" * 80, "y" * 80] * 3,
        ["a\nb", "c\nd"] * 3,
        [],
    ],
)
def test_sentences_are_no_labels(wanted: list[str]) -> None:
    assert label_scores([(text, text) for text in wanted]) is None


def test_total_of_nothing_is_zero() -> None:
    assert scoring.aggregate_scores([]).exact_match == 0


def test_a_clear_gain_is_above_zero_and_noise_is_not() -> None:
    low, high = mean_difference_interval([0.9, 0.8, 1.0, 0.9] * 5, [0.1, 0.2, 0.1, 0.3] * 5)
    assert 0.6 < low < high < 0.9
    low, high = mean_difference_interval([0.1, 0.9] * 10, [0.9, 0.1] * 10)
    assert low < 0 < high
    assert mean_difference_interval([], []) == (0.0, 0.0)
