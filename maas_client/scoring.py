"""How near answers come to the ones that were wanted: pure functions over text.

Exact match compares trimmed text (and tool calls by name and arguments, whatever the order of keys).
Token F1 is SQuAD's: the harmonic mean of the shares of words that both have, case and punctuation
aside. Where all wanted answers are a few short labels, a confusion table says which is taken for which.
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
"""A word; where a script puts no spaces between them, a character."""
_MOST_LABELS = 24
_LONGEST_LABEL = 48
OTHER_LABEL = "(other)"
"""Stands in the confusion table for an answer that is none of the labels."""
ToolCalls = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its text, and the tools it calls."""

    text: str = ""
    tool_calls: ToolCalls = ()

    @property
    def as_text(self) -> str:
        """Return text and calls as one text."""
        if not self.tool_calls:
            return self.text.strip()
        calls = json.dumps(_calls(self.tool_calls), ensure_ascii=False, sort_keys=True)
        return f"{self.text.strip()} {calls}".strip()


def is_exact_match(expected: Answer, actual: Answer) -> bool:
    """Tell whether an answer is the one that was wanted."""
    if expected.tool_calls or actual.tool_calls:
        return _calls(expected.tool_calls) == _calls(actual.tool_calls)
    return expected.text.strip() == actual.text.strip()


def token_f1(expected: str, actual: str) -> float:
    """Return the F1 of the words of two texts, from 0 to 1; two empty texts agree."""
    wanted, given = split_words(expected), split_words(actual)
    if not wanted or not given:
        return float(wanted == given)
    shared = sum((Counter(wanted) & Counter(given)).values())
    return 2 * shared / (len(wanted) + len(given))


def split_words(text: str) -> list[str]:
    """Return the words of a text, folded."""
    return _WORD.findall(text.casefold())


def score_answer(line: int, expected: Answer, actual: Answer) -> AnswerScore:
    """Return one answer beside the one that was wanted, with both measures."""
    return AnswerScore(
        line=line,
        want=expected.as_text,
        got=actual.as_text,
        exact=is_exact_match(expected, actual),
        token_f1=token_f1(expected.as_text, actual.as_text),
    )


def aggregate_scores(answers: Sequence[AnswerScore]) -> Scores:
    """Return the means over all answers (zeros for none), and the labels if these are labels."""
    count = len(answers)
    return Scores(
        answers=count,
        exact_match=sum(one.exact for one in answers) / count if count else 0.0,
        token_f1=sum(one.token_f1 for one in answers) / count if count else 0.0,
        labels=label_scores([(one.want, one.got) for one in answers]),
    )


def label_scores(pairs: Sequence[tuple[str, str]]) -> LabelScores | None:
    """Return which label was taken for which, from (wanted, given); None where wanted answers are
    no labels: too many, too long, or none of them twice."""
    known = {_label(want): want.strip() for want, _ in reversed(pairs)}
    counts = Counter(_label(want) for want, _ in pairs)
    if not 2 <= len(known) <= _MOST_LABELS or len(known) * 2 > len(pairs):
        return None
    if any(len(name) > _LONGEST_LABEL or "\n" in name for name in known.values()):
        return None
    table: dict[str, Counter[str]] = {known[key]: Counter() for key in sorted(known)}
    for want, got in pairs:
        table[known[_label(want)]][known.get(_label(got), OTHER_LABEL)] += 1
    f1 = {name: _label_f1(table, name, counts[_label(name)]) for name in table}
    return LabelScores(
        confusion={want: dict(sorted(row.items())) for want, row in table.items()},
        f1=f1,
        macro_f1=sum(f1.values()) / len(f1),
        accuracy=sum(row[want] for want, row in table.items()) / len(pairs),
    )


def _label(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _label_f1(table: Mapping[str, Counter[str]], name: str, wanted: int) -> float:
    given = sum(row[name] for row in table.values())
    return 2 * table[name][name] / (wanted + given) if wanted + given else 0.0


def mean_difference_interval(
    scores: Sequence[float], baseline_scores: Sequence[float], seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference of paired scores: a bootstrap, 1000 draws."""
    differences = [a - b for a, b in zip(scores, baseline_scores, strict=True)]
    if not differences:
        return 0.0, 0.0
    draw = random.Random(seed)  # noqa: S311 - statistics, no secret
    size = len(differences)
    means = sorted(sum(draw.choices(differences, k=size)) / size for _ in range(1000))
    return means[24], means[974]


def _calls(calls: ToolCalls) -> list[tuple[str, Any]]:
    found = []
    for call in calls:
        function = call.get("function") or {}
        arguments = function.get("arguments")
        with suppress(ValueError):  # no JSON: compared as the text it is
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        found.append((str(function.get("name")), arguments))
    return found
