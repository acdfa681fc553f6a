"""Find duplicate rows, prompts with conflicting answers, and prompts that leak into the validation file.

Rows are compared by hash: 16 bytes a row (prompt and whole row), or 8 bytes a line for
``RepeatedLineScanner``. Candidates for repeated hashes are found with a small table first, then verified,
so no pair of rows is compared directly.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from maas_client.dataset.issues import Issue
from maas_client.dataset.scanners import Row, message_texts

_CHUNK_BITS = 16
_CHUNK = 1 << _CHUNK_BITS
"""Hashes that are compared as one set, which takes about 6 MB."""


class HashArray:
    """A list of 64-bit integers in chunks of one size.

    A single growing array is copied again and again and leaves unused memory behind (measured: 12 bytes
    more per line).
    """

    def __init__(self) -> None:
        self._chunks = [array("q")]

    def __len__(self) -> int:
        return (len(self._chunks) - 1) * _CHUNK + len(self._chunks[-1])

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._chunks)

    def __getitem__(self, index: int) -> int:
        return self._chunks[index >> _CHUNK_BITS][index & (_CHUNK - 1)]

    def extend(self, values: list[int]) -> None:
        """Append numbers."""
        last = self._chunks[-1]
        last.fromlist(values)  # takes half the time of extend
        while len(last) >= _CHUNK:
            overflow = last[_CHUNK:]
            del last[_CHUNK:]
            last = overflow
            self._chunks.append(last)


class RepeatedLineScanner:
    """Finds lines that repeat an earlier line byte for byte. Faster than ``DuplicateScanner``."""

    def __init__(self) -> None:
        self._hashes = HashArray()
        self._numbers = array("q")
        """Line numbers; empty while the n-th row has been on line n."""
        self._repeats = 0

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Issue, ...]:
        """Store the lines; repeats are reported by ``finish``."""
        count = len(self._hashes)
        if self._numbers or numbers[0] != count + 1 or numbers[-1] != count + len(numbers):
            if not self._numbers:
                self._numbers.extend(range(1, count + 1))
            self._numbers.extend(numbers)
        hashes = list(map(hash, lines))
        if not lines[-1].endswith(b"\n"):
            hashes[-1] = hash(lines[-1] + b"\n")
        self._hashes.extend(hashes)
        return ()

    def finish(self) -> Iterator[Issue]:
        """Yield every line that repeats an earlier line."""
        first_index: dict[int, int] = {}
        repeated = repeated_values(self._hashes)
        for index, value in enumerate(self._hashes if repeated else ()):
            if value in repeated:
                if value in first_index:
                    self._repeats += 1
                    detail = f"the same as line {self._line_number(first_index[value])}"
                    yield Issue("QUALITY_DUPLICATE", detail=detail, line=self._line_number(index))
                else:
                    first_index[value] = index

    def _line_number(self, index: int) -> int:
        return self._numbers[index] if self._numbers else index + 1

    def stats(self) -> dict[str, Any]:
        """Return how many lines repeat an earlier line."""
        return {"duplicates": {"exact": self._repeats}} if self._repeats else {}


def repeated_values(hashes: HashArray | array[int]) -> set[int]:
    """Return the values that occur more than once, with two bytes of extra memory per value.

    Values are divided into buckets by their lowest bits, so that each bucket fits into a set. A quarter of
    the buckets is processed at a time.
    """
    if len(hashes) <= _CHUNK:
        return _repeated_in(hashes)
    count = 2 << (len(hashes) // _CHUNK).bit_length()
    repeated: set[int] = set()
    for first in range(0, count, count // 4):
        buckets = {number: array("q") for number in range(first, first + count // 4)}
        for value in hashes:
            if (bucket := buckets.get(value & (count - 1))) is not None:
                bucket.append(value)
        repeated.update(*map(_repeated_in, buckets.values()))
    return repeated


def _repeated_in(values: HashArray | array[int]) -> set[int]:
    unseen = set(values)
    if len(unseen) == len(values):
        return set()
    repeated: set[int] = set()
    for value in values:
        if value in unseen:
            unseen.remove(value)
        else:
            repeated.add(value)
    return repeated


def prompt_key(row: Row, texts: list[str] | None = None) -> str | tuple[str, ...]:
    """Return what identifies a row's prompt: every message before the last, and the tools.

    Two rows with equal keys differ at most in their last message.
    """
    if texts is not None:
        return tuple(texts[:-1])
    return canonical_json([row["messages"][:-1], row.get("tools")])


def canonical_json(value: Any) -> str:
    """Return a value as JSON that does not depend on the order of its keys."""
    try:
        return msgspec.json.encode(value, order="sorted").decode()
    except (ValueError, OverflowError, TypeError):  # lone surrogates, integers beyond 64 bits
        return json.dumps(value, sort_keys=True)


class DuplicateScanner:
    """Finds exact duplicates, conflicting answers and leakage. Keeps 16 bytes a row.

    With ``training`` (the finished scanners of the training files) it also finds the prompts of this
    file, the validation file, that are in a training file.
    """

    def __init__(self, training: Sequence[DuplicateScanner] = ()) -> None:
        self._training = training
        self._prompts = HashArray()
        self._rows = HashArray()
        self._lines = array("I")
        """Line numbers; empty while the n-th row has been on line n."""
        self._counts = {"exact": 0, "conflicting": 0, "leaked": 0}

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Issue, ...]:
        """Store the hashes of the rows; issues are reported by ``finish``."""
        self._store_line_numbers(numbers)
        conversations = message_texts(rows)
        prompts, hashes = [], []
        for index, texts in enumerate(conversations):
            if texts:
                # most rows have three texts, for which the tuple is made faster
                prompt = hash((texts[0], texts[1]) if len(texts) == 3 else tuple(texts[:-1]))
                hashes.append(hash((prompt, texts[-1])))
            else:
                row = rows[index]
                prompt = hash(prompt_key(row))
                hashes.append(hash((prompt, canonical_json(row["messages"][-1]))))
            prompts.append(prompt)
        self._prompts.extend(prompts)
        self._rows.extend(hashes)
        return ()

    def _store_line_numbers(self, numbers: Sequence[int]) -> None:
        count = len(self._rows)
        if not self._lines:
            if not numbers or (numbers[0] == count + 1 and numbers[-1] == count + len(numbers)):
                return
            self._lines.extend(range(1, count + 1))
        self._lines.extend(numbers)

    def line_number(self, index: int) -> int:
        """Return the line number of the row with this index."""
        return self._lines[index] if self._lines else index + 1

    def prompt_hash(self, line: int) -> int:
        """Return the hash of the prompt on a line."""
        return self._prompts[self._index(line)]

    def rows_are_equal(self, first: int, second: int) -> bool:
        """Return whether the rows on two lines are the same."""
        return self._rows[self._index(first)] == self._rows[self._index(second)]

    def _index(self, line: int) -> int:
        return bisect_left(self._lines, line) if self._lines else line - 1

    def finish(self) -> Iterator[Issue]:
        """Yield duplicates, conflicts and leaks. Each names the earlier line."""
        for first, *repeats in find_repeated(self._rows).values():
            self._counts["exact"] += len(repeats)
            for index in repeats:
                yield self._issue(
                    "QUALITY_DUPLICATE", index, f"the same as line {self.line_number(first)}"
                )
        for group in find_repeated(self._prompts).values():
            yield from self._find_conflicts(group)
        reported: set[int] = set()
        for training in self._training:
            yield from self._find_leaks(training, reported)

    def _find_conflicts(self, group: list[int]) -> Iterator[Issue]:
        """Yield an issue for each different answer in a group of rows with the same prompt."""
        index_by_row = {self._rows[index]: index for index in reversed(group)}
        first, *conflicting = sorted(index_by_row.values())
        self._counts["conflicting"] += len(conflicting)
        for index in conflicting:
            yield self._issue(
                "QUALITY_CONFLICT",
                index,
                f"the same prompt as line {self.line_number(first)}",
            )

    def _find_leaks(self, training: DuplicateScanner, reported: set[int]) -> Iterator[Issue]:
        """Yield the rows whose prompt is in a training file, except those already in ``reported``."""
        trained = find_shared(self._prompts, training._prompts)
        for index, prompt in enumerate(self._prompts if trained else ()):
            if prompt in trained and index not in reported:
                reported.add(index)
                self._counts["leaked"] += 1
                line = training.line_number(trained[prompt])
                yield self._issue(
                    "QUALITY_LEAKAGE",
                    index,
                    f"the same prompt as line {line} of the training file",
                )

    def _issue(self, code: str, index: int, detail: str) -> Issue:
        return Issue(code, ("messages",), detail, line=self.line_number(index))

    def stats(self) -> dict[str, Any]:
        """Return how many rows are duplicates, conflicts or leaks."""
        return {"duplicates": {kind: count for kind, count in self._counts.items() if count}}


def find_repeated(hashes: HashArray) -> dict[int, list[int]]:
    """Return the hashes that occur more than once, each with its indices in order."""
    repeated = repeated_values(hashes)
    indices: dict[int, list[int]] = {}
    for index, value in enumerate(hashes if repeated else ()):
        if value in repeated:
            indices.setdefault(value, []).append(index)
    return {value: group for value, group in indices.items() if len(group) > 1}


def find_shared(hashes: HashArray, reference: HashArray) -> dict[int, int]:
    """Return the hashes that occur in both arrays, each with its first index in ``reference``."""
    candidates = set(_filter_candidates(reference, hashes))
    first_index: dict[int, int] = {}
    for index, value in enumerate(reference if candidates else ()):
        if value in candidates:
            first_index.setdefault(value, index)
    return first_index


def _filter_candidates(reference: HashArray, values: Iterable[int]) -> Iterator[int]:
    """Yield the values that may be in ``reference``: all that are, and about one in 16 of the rest."""
    mask = (1 << max(10, (len(reference) * 8).bit_length())) - 1
    table = bytearray(mask + 1)
    for value in reference:
        table[value & mask] = 1
    return (value for value in values if table[value & mask])
