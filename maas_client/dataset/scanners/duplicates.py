"""Rows that are the same, prompts answered in two ways, and prompts of both files of a split.

Sixteen bytes a row: the hash of its prompt and the hash of all of it. Nothing is compared pair by
pair; what may repeat is found with one table of a byte per slot, then made sure of.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from maas_client.dataset.repeats import HashArray, repeated_values
from maas_client.dataset.scanners.scanner import Finding, Row, message_texts


def prompt_key(row: Row, texts: list[str] | None = None) -> str | tuple[str, ...]:
    """Return what identifies a row's prompt: every message before the last, and the tools.

    Two rows with equal prompts differ at most in their last message.
    """
    if texts is not None:
        return tuple(texts[:-1])
    return canonical_json([row["messages"][:-1], row.get("tools")])


def canonical_json(value: Any) -> str:
    """Return a JSON value as a text that is the same for the same value, whatever its keys' order."""
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except (ValueError, OverflowError, TypeError):  # half characters, integers beyond 64 bits
        return json.dumps(value, sort_keys=True)


class DuplicateScanner:
    """Exact duplicates, conflicting answers and leakage. Keeps 16 bytes a row.

    With ``training`` (the scanners of the training files, finished) it also tells which prompts of
    this file, the validation file, were trained on.
    """

    def __init__(self, training: Sequence[DuplicateScanner] = ()) -> None:
        self._training = training
        self._prompts = HashArray()
        self._rows = HashArray()
        self._lines = array("I")
        """Line numbers; empty as long as every row has stood on the line of its own number."""
        self._counts = {"exact": 0, "conflicting": 0, "leaked": 0}

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Finding, ...]:
        """Remember the rows; repeats are told at the end."""
        self._note_lines(numbers)
        talks = message_texts(rows)
        prompts = [
            hash(tuple(texts[:-1])) if texts else hash(prompt_key(rows[at]))
            for at, texts in enumerate(talks)
        ]
        self._prompts.extend(prompts)
        self._rows.extend(
            [
                hash((prompt, texts[-1] if texts else canonical_json(rows[at]["messages"][-1])))
                for at, (prompt, texts) in enumerate(zip(prompts, talks, strict=True))
            ]
        )
        return ()

    def _note_lines(self, numbers: Sequence[int]) -> None:
        seen = len(self._rows)
        if not self._lines:
            if not numbers or (numbers[0] == seen + 1 and numbers[-1] == seen + len(numbers)):
                return
            self._lines.extend(range(1, seen + 1))
        self._lines.extend(numbers)

    def line_number(self, index: int) -> int:
        """Return the line number of the row with this index."""
        return self._lines[index] if self._lines else index + 1

    def prompt_hash(self, line: int) -> int:
        """Return the hash of the prompt on a line."""
        return self._prompts[self._index(line)]

    def rows_are_equal(self, line: int, other: int) -> bool:
        """Return whether two lines hold the same row."""
        return self._rows[self._index(line)] == self._rows[self._index(other)]

    def _index(self, line: int) -> int:
        return bisect_left(self._lines, line) if self._lines else line - 1

    def finish(self) -> Iterator[Finding]:
        """Yield duplicates, conflicts and leaks: each names the earlier line."""
        same = find_repeated(self._rows)
        for first, *others in same.values():
            self._counts["exact"] += len(others)
            for index in others:
                yield self._finding(
                    "QUALITY_DUPLICATE", index, f"the same as line {self.line_number(first)}"
                )
        for group in find_repeated(self._prompts).values():
            yield from self._conflict(group)
        told: set[int] = set()
        for training in self._training:
            yield from self._leaks(training, told)

    def _conflict(self, group: list[int]) -> Iterator[Finding]:
        answered = {self._rows[index]: index for index in reversed(group)}
        first, *others = sorted(answered.values())
        self._counts["conflicting"] += len(others)
        for index in others:
            yield self._finding(
                "QUALITY_CONFLICT",
                index,
                f"the prompt is that of line {self.line_number(first)}",
            )

    def _leaks(self, training: DuplicateScanner, told: set[int]) -> Iterator[Finding]:
        """Yield the rows that were trained on, but for those that are told already."""
        trained = find_shared(self._prompts, training._prompts)
        for index, prompt in enumerate(self._prompts if trained else ()):
            if prompt in trained and index not in told:
                told.add(index)
                self._counts["leaked"] += 1
                place = f"line {training.line_number(trained[prompt])} of the training file"
                yield self._finding("QUALITY_LEAKAGE", index, f"the prompt is that of {place}")

    def _finding(self, code: str, index: int, detail: str) -> Finding:
        return Finding(code, self.line_number(index), "/messages", detail=detail)

    def stats(self) -> dict[str, Any]:
        """Return how many rows repeat another, conflict with another or leak."""
        return {"duplicates": {kind: n for kind, n in self._counts.items() if n}}


def find_repeated(hashes: HashArray) -> dict[int, list[int]]:
    """Return the hashes that occur more than once, each with its indices, in order."""
    maybe = repeated_values(hashes)
    places: dict[int, list[int]] = {}
    for index, value in enumerate(hashes if maybe else ()):
        if value in maybe:
            places.setdefault(value, []).append(index)
    return {value: found for value, found in places.items() if len(found) > 1}


def find_shared(these: HashArray, those: HashArray) -> dict[int, int]:
    """Return the hashes that occur in both, each with its first index in ``those``."""
    maybe = set(_met(those, these))
    places: dict[int, int] = {}
    for index, value in enumerate(those if maybe else ()):
        if value in maybe:
            places.setdefault(value, index)
    return places


def _met(known: HashArray, asked: Iterable[int]) -> Iterator[int]:
    """Yield all of ``asked`` that ``known`` holds, and one in 16 more."""
    mask = (1 << max(10, (len(known) * 8).bit_length())) - 1
    table = bytearray(mask + 1)
    for value in known:
        table[value & mask] = 1
    return (value for value in asked if table[value & mask])
