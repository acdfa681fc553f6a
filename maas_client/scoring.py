"""Score answers against expected answers: exact match, token F1 and label metrics. Pure functions.

Exact match compares trimmed text, and tool calls by name and arguments, whatever the order of keys.
Token F1 is that of SQuAD: the harmonic mean of precision and recall over words, ignoring case and
punctuation. If the expected answers are a few short labels, a confusion matrix is computed too.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from maas_client.types.evaluation import AnswerScore, LabelScores, Scores

_WORD = re.compile(r"[぀-ヿ㐀-鿿豈-﫿가-힯]|[^\W_]+")
"""A word, or one character in scripts that do not separate words with spaces."""
_MAX_LABELS = 24
_MAX_LABEL_CHARS = 48
OTHER_LABEL = "(other)"
"""Stands in the confusion matrix for an answer that is not a label."""
ToolCalls = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its text and its tool calls."""

    text: str = ""
    tool_calls: ToolCalls = ()

    @property
    def as_text(self) -> str:
        """Return the text and the tool calls as one string."""
        if not self.tool_calls:
            return self.text.strip()
        calls = json.dumps(_parse_calls(self.tool_calls), ensure_ascii=False, sort_keys=True)
        return f"{self.text.strip()} {calls}".strip()


def is_exact_match(expected: Answer, actual: Answer) -> bool:
    """Return whether an answer is the expected one."""
    if expected.tool_calls or actual.tool_calls:
        return _parse_calls(expected.tool_calls) == _parse_calls(actual.tool_calls)
    return expected.text.strip() == actual.text.strip()


def token_f1(expected: str, actual: str) -> float:
    """Return the F1 score of the words of two texts, from 0 to 1; it is 1 for two empty texts."""
    expected_words, actual_words = split_words(expected), split_words(actual)
    if not expected_words or not actual_words:
        return float(expected_words == actual_words)
    shared = sum((Counter(expected_words) & Counter(actual_words)).values())
    return 2 * shared / (len(expected_words) + len(actual_words))


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return _WORD.findall(text.casefold())


def score_answer(line: int, expected: Answer, actual: Answer) -> AnswerScore:
    """Return the scores of one answer, with both texts."""
    return AnswerScore(
        line=line,
        expected=expected.as_text,
        answer=actual.as_text,
        exact=is_exact_match(expected, actual),
        token_f1=token_f1(expected.as_text, actual.as_text),
    )


def aggregate_scores(answers: Sequence[AnswerScore]) -> Scores:
    """Return the means over all answers (zeros if there are none), and the label scores if they apply."""
    count = len(answers)
    grades = [answer.grade for answer in answers if answer.grade is not None]
    passed = [answer.passed for answer in answers if answer.passed is not None]
    return Scores(
        answers=count,
        exact_match=sum(answer.exact for answer in answers) / count if count else 0.0,
        token_f1=sum(answer.token_f1 for answer in answers) / count if count else 0.0,
        labels=label_scores([(score.expected, score.answer) for score in answers]),
        grade=sum(grades) / len(grades) if grades else None,
        pass_rate=sum(passed) / len(passed) if passed else None,
    )


def label_scores(pairs: Sequence[tuple[str, str]]) -> LabelScores | None:
    """Return the confusion matrix and F1 scores of labels.

    Args:
        pairs: The expected and the actual answer of each row.

    Returns:
        The scores, or None if the expected answers are not labels: too many, too long, or never repeated.
    """
    labels = {_normalize_label(expected): expected.strip() for expected, _ in reversed(pairs)}
    counts = Counter(_normalize_label(expected) for expected, _ in pairs)
    if not 2 <= len(labels) <= _MAX_LABELS or len(labels) * 2 > len(pairs):
        return None
    if any(len(label) > _MAX_LABEL_CHARS or "\n" in label for label in labels.values()):
        return None
    confusion: dict[str, Counter[str]] = {labels[key]: Counter() for key in sorted(labels)}
    for expected, actual in pairs:
        predicted = labels.get(_normalize_label(actual), OTHER_LABEL)
        confusion[labels[_normalize_label(expected)]][predicted] += 1
    f1 = {
        label: _label_f1(confusion, label, counts[_normalize_label(label)]) for label in confusion
    }
    return LabelScores(
        confusion={label: dict(sorted(row.items())) for label, row in confusion.items()},
        f1=f1,
        macro_f1=sum(f1.values()) / len(f1),
        accuracy=sum(row[label] for label, row in confusion.items()) / len(pairs),
    )


def _normalize_label(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _label_f1(confusion: Mapping[str, Counter[str]], label: str, expected_count: int) -> float:
    actual_count = sum(row[label] for row in confusion.values())
    total = expected_count + actual_count
    return 2 * confusion[label][label] / total if total else 0.0


def mean_difference_interval(
    scores: Sequence[float], baseline_scores: Sequence[float]
) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean difference of paired scores (bootstrap, 1000 samples)."""
    differences = [a - b for a, b in zip(scores, baseline_scores, strict=True)]
    if not differences:
        return 0.0, 0.0
    generator = random.Random(0)  # noqa: S311 - statistics, not security
    size = len(differences)
    means = sorted(sum(generator.choices(differences, k=size)) / size for _ in range(1000))
    return means[24], means[974]


def _parse_calls(calls: ToolCalls) -> list[tuple[str, Any]]:
    """Return the name and the parsed arguments of each call."""
    parsed = []
    for call in calls:
        function = call.get("function") or {}
        arguments = function.get("arguments")
        with suppress(ValueError, RecursionError):  # what is not JSON is compared as text
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        parsed.append((str(function.get("name")), arguments))
    return parsed
