"""Compare two conversations: is one a slightly edited copy of the other, or a sibling from one template?

Only what a user wrote and what is answered counts, not the system message and the tools that many rows
share. Two copies have most of their three-word sequences in common, as MinHash measures it, and the same
numbers and names in the question. Siblings of a template differ where many rows differ: at a slot.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import Any, NamedTuple

Row = dict[str, Any]

MIN_SIMILARITY = 0.7
"""Jaccard similarity of the three-word sequences of two copies, question and answer together."""
_MIN_QUESTION_SIMILARITY = 0.35
_CONTEXT = 3
"""Words next to a place that identify it in several rows."""
_MIN_FILLERS = 3
"""Different words at one place of several rows that make it a slot of a template."""
_MAX_CHARS = 2000
"""At the end of a question and of an answer that are compared."""
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<![.!?:\n\"“(])[ \t]([^\W\d_a-z]\w*)")
"""A capitalised word that does not begin a sentence."""


def question_and_answer(row: Row) -> tuple[str, str]:
    """Return the text of the last question of a row, and what is answered: text or calls."""
    *before, last = row["messages"]
    question: Row = next((m for m in reversed(before) if m.get("role") in ("user", "tool")), {})
    parts = [_content_text(last.get("content"))]
    for call in last.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts += [str(function.get("name")), str(function.get("arguments"))]
    return _content_text(question.get("content")), "\n".join(filter(None, parts))


def _content_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


class ComparedRow:
    """The words of a row's question and answer."""

    __slots__ = ("answer", "names", "numbers", "question")

    def __init__(self, row: Row) -> None:
        question, answer = question_and_answer(row)
        question = question[-_MAX_CHARS:]
        self.question: list[str] = _WORD.findall(question.casefold())
        self.answer: list[str] = _WORD.findall(answer[-_MAX_CHARS:].casefold())
        self.names = {name.casefold() for name in _NAME.findall(question)}
        self.numbers = Counter(word for word in self.question if not word.isalpha())


Words = tuple[str, ...]


class EditContext(NamedTuple):
    """A place where two texts differ."""

    before: Words
    """The words before it, in order."""
    after: Words
    """The words after it, backwards."""


class TemplateVariables:
    """Decides which of some places are slots of a template: places where some rows have different words."""

    def __init__(self, rows: Iterable[ComparedRow], places: Iterable[EditContext]) -> None:
        self._after: dict[Words, Counter[str]] = {}
        self._before: dict[Words, Counter[str]] = {}
        for place in places:
            self._after[place.before] = Counter()
            self._before[place.after] = Counter()
        for row in rows if self._after else ():
            _count_fillers(self._after, row.question)
            _count_fillers(self._before, row.question[::-1])

    def contain(self, place: EditContext) -> bool:
        """Return whether the words at a place differ from row to row."""
        return any(
            len(counts) >= _MIN_FILLERS and 2 * max(counts.values()) <= counts.total()
            for counts in (self._after[place.before], self._before[place.after])
        )


def _count_fillers(fillers: dict[Words, Counter[str]], words: list[str]) -> None:
    """Count the word after each occurrence of the contexts in ``fillers``."""
    contexts = zip(*(words[at:] for at in range(_CONTEXT)), strict=False)
    for context, filler in zip(contexts, words[_CONTEXT:], strict=False):
        if (counts := fillers.get(context)) is not None:
            counts[filler] += 1


def find_changes(first: ComparedRow, second: ComparedRow) -> list[EditContext] | None:
    """Return where the questions of two copies differ; None if one row is not a copy of the other.

    A row is a copy only if none of the places is a slot of a template.
    """
    if first.question == second.question:
        is_copy = first.answer == second.answer or _similarity(first, second) >= MIN_SIMILARITY
        return [] if is_copy else None
    if first.numbers != second.numbers:
        return None
    if first.names - set(second.question) or second.names - set(first.question):
        return None
    questions = _jaccard(_sequences(first.question), _sequences(second.question))
    if questions < _MIN_QUESTION_SIMILARITY or _similarity(first, second) < MIN_SIMILARITY:
        return None
    return list(_places_of_change(first.question, second.question))


def _similarity(first: ComparedRow, second: ComparedRow) -> float:
    return _jaccard(
        _sequences(first.question) + _sequences(first.answer),
        _sequences(second.question) + _sequences(second.answer),
    )


def _sequences(words: list[str]) -> Counter[tuple[str, ...]]:
    """Return the three-word sequences of a text; the words themselves if it is shorter."""
    size = 3 if len(words) >= 3 else 1
    return Counter(zip(*(words[at:] for at in range(size)), strict=False))


def _jaccard(first: Counter[tuple[str, ...]], second: Counter[tuple[str, ...]]) -> float:
    union = (first | second).total()
    return (first & second).total() / union if union else 1.0


def _places_of_change(first: list[str], second: list[str]) -> Iterator[EditContext]:
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    for operation, start, end, *_ in matcher.get_opcodes():
        if operation != "equal":
            before = tuple(first[max(0, start - _CONTEXT) : start])
            yield EditContext(before, tuple(first[end : end + _CONTEXT][::-1]))
