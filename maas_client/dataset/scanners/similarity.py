"""Decide whether a conversation is an edited copy of another, or only comes from the same template.

All messages count, except the system message and the tools, which many rows share. Two copies have most of
their three-word sequences in common, as MinHash measures it, the same numbers and names in the question, and
similar answers. Siblings of a template differ where many rows differ: at a slot. Rows that share a passage
differ in the question about it: in several words in a row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

Row = dict[str, Any]

MIN_SIMILARITY = 0.7
"""Jaccard similarity of the three-word sequences of two copies, question and answer together."""
_MIN_QUESTION_SIMILARITY = 0.35
_MIN_ANSWER_SIMILARITY = 0.5
"""Of the answers to two questions that differ."""
_MIN_REWRITTEN_WORDS = 3
"""Words in a row in both texts, most of them different, that make two questions of one passage."""
_MAX_KEPT_SHARE = 0.3
"""Of the words of such a place that both texts have."""
_CONTEXT = 3
"""Words next to a place that identify it in several rows."""
_MIN_FILLERS = 3
"""Different words at one place of several rows that make it a slot of a template."""
_MAX_CHARS = 2000
"""Of a question, with the messages before it, and of an answer that are compared: half of them at each end."""
_PART_CHARS = 160
"""At the end of the longest and of the last message of a dialogue, by which copies are found."""
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<![.!?:\n\"“(])[ \t]([^\W\d_a-z]\w*)")
"""A capitalised word that does not begin a sentence."""


def question_and_answer(row: Row) -> tuple[str, str]:
    """Return the question of a row, see ``join_question``, and what is answered: text or calls."""
    return join_question(_texts_before_answer(row)), _answer(row)


def _texts_before_answer(row: Row) -> list[str]:
    messages = (m for m in row["messages"][:-1] if m.get("role") != "system")
    return [_content_text(message.get("content")) for message in messages]


def _answer(row: Row) -> str:
    last = row["messages"][-1]
    parts = [_content_text(last.get("content"))]
    for call in last.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts += [str(function.get("name")), str(function.get("arguments"))]
    return "\n".join(filter(None, parts))


def join_question(texts: Sequence[str]) -> str:
    """Return the last message before an answer, after the end of the longest message.

    Many dialogues end with the same thanks; they differ in what was written before.
    """
    last = texts[-1] if texts else ""
    longest = max(texts, key=len, default="")
    if longest == last:
        return last
    return f"{longest[-_PART_CHARS:]}\n{last[-_PART_CHARS:]}"


def _content_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _shorten(text: str) -> str:
    """Return the two ends of a long text."""
    half = _MAX_CHARS // 2
    return text if len(text) <= _MAX_CHARS else f"{text[:half]}\n{text[-half:]}"


class ComparedRow:
    """The words of a row's answer, and of the messages before it: the question."""

    __slots__ = ("answer", "names", "numbers", "question")

    def __init__(self, row: Row) -> None:
        question = _shorten("\n".join(_texts_before_answer(row)))
        self.question: list[str] = _WORD.findall(question.casefold())
        self.answer: list[str] = _WORD.findall(_shorten(_answer(row)).casefold())
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
    if _jaccard(Counter(first.answer), Counter(second.answer)) < _MIN_ANSWER_SIMILARITY:
        return None
    return _places_of_change(first.question, second.question)


def _similarity(first: ComparedRow, second: ComparedRow) -> float:
    return _jaccard(
        _sequences(first.question) + _sequences(first.answer),
        _sequences(second.question) + _sequences(second.answer),
    )


def _sequences(words: list[str]) -> Counter[tuple[str, ...]]:
    """Return the three-word sequences of a text; the words themselves if it is shorter."""
    size = 3 if len(words) >= 3 else 1
    return Counter(zip(*(words[at:] for at in range(size)), strict=False))


def _jaccard(first: Counter[Any], second: Counter[Any]) -> float:
    union = (first | second).total()
    return (first & second).total() / union if union else 1.0


def _places_of_change(first: list[str], second: list[str]) -> list[EditContext] | None:
    """Return where two texts differ; None if one of the places is another question."""
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    places = []
    start_first = start_second = 0  # of the words since the last sequence that both have
    for at_first, at_second, size in matcher.get_matching_blocks():
        if size and size < _CONTEXT:
            continue
        if _is_rewritten(first[start_first:at_first], second[start_second:at_second]):
            return None
        start_first, start_second = at_first + size, at_second + size
    for operation, start, end, *_ in matcher.get_opcodes():
        if operation != "equal":
            before = tuple(first[max(0, start - _CONTEXT) : start])
            places.append(EditContext(before, tuple(first[end : end + _CONTEXT][::-1])))
    return places


def _is_rewritten(first: list[str], second: list[str]) -> bool:
    """Return whether two places are different phrases, and not a phrase with edits."""
    if min(len(first), len(second)) < _MIN_REWRITTEN_WORDS:
        return False
    return _jaccard(Counter(first), Counter(second)) < _MAX_KEPT_SHARE
