"""Exact match, token F1, label scores and confidence intervals."""

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
    ("expected", "actual", "is_match"),
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
def test_exact_match(expected: Answer, actual: Answer, is_match: bool) -> None:
    assert is_exact_match(expected, actual) is is_match


@pytest.mark.parametrize(
    ("expected", "actual", "f1"),
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
def test_token_f1(expected: str, actual: str, f1: float) -> None:
    assert token_f1(expected, actual) == pytest.approx(f1)


@given(st.text(max_size=30), st.text(max_size=30))
def test_token_f1_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert token_f1(a, b) == token_f1(b, a)
    assert 0 <= token_f1(a, b) <= 1
    assert token_f1(a, a) == 1


def test_label_scores_have_the_confusion_matrix() -> None:
    pairs = [("spam", "Spam."), ("spam", "ham"), ("ham", "ham"), ("ham", "ham"), ("ham", "dunno")]
    scores = label_scores(pairs)
    assert scores is not None
    assert scores.confusion == {"ham": {OTHER_LABEL: 1, "ham": 2}, "spam": {"ham": 1, "spam": 1}}
    assert scores.accuracy == 3 / 5
    assert scores.f1["ham"] == pytest.approx(2 * 2 / (3 + 3))
    assert scores.f1["spam"] == pytest.approx(2 * 1 / (2 + 1))
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3) / 2)


@pytest.mark.parametrize(
    "expected",
    [
        ["only"] * 6,
        [f"each one is different {n}" for n in range(6)],
        ["x" * 80, "y" * 80] * 3,
        ["a\nb", "c\nd"] * 3,
        [],
    ],
)
def test_sentences_are_not_labels(expected: list[str]) -> None:
    assert label_scores([(text, text) for text in expected]) is None


def test_scores_of_no_answers_are_zero() -> None:
    assert scoring.aggregate_scores([]).exact_match == 0


def test_interval_excludes_zero_only_for_a_clear_difference() -> None:
    low, high = mean_difference_interval([0.9, 0.8, 1.0, 0.9] * 5, [0.1, 0.2, 0.1, 0.3] * 5)
    assert 0.6 < low < high < 0.9
    low, high = mean_difference_interval([0.1, 0.9] * 10, [0.9, 0.1] * 10)
    assert low < 0 < high
    assert mean_difference_interval([], []) == (0.0, 0.0)
