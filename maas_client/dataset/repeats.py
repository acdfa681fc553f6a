"""Lines that are the same as an earlier one, byte for byte: eight bytes a line until the end."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from maas_client.dataset.scanners.scanner import Finding, Row

_AT_ONCE_BITS = 16
_AT_ONCE = 1 << _AT_ONCE_BITS
"""Hashes that are compared as one set, which takes some six megabytes."""


class HashArray:
    """Many 64-bit numbers, in parts of one size: an array that grows for ever is copied again and again,
    and leaves holes of its former sizes (measured: twelve bytes more a line)."""

    def __init__(self) -> None:
        self._parts = [array("q")]

    def __len__(self) -> int:
        return (len(self._parts) - 1) * _AT_ONCE + len(self._parts[-1])

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._parts)

    def __getitem__(self, at: int) -> int:
        return self._parts[at >> _AT_ONCE_BITS][at & (_AT_ONCE - 1)]

    def extend(self, values: list[int]) -> None:
        """Add numbers at the end."""
        last = self._parts[-1]
        last.extend(values)
        while len(last) >= _AT_ONCE:
            rest = last[_AT_ONCE:]
            del last[_AT_ONCE:]
            last = rest
            self._parts.append(last)


class RepeatedLineScanner:
    """The cheap half of ``DuplicateScanner``: it looks at lines, not at rows."""

    def __init__(self) -> None:
        self._hashes = HashArray()
        self._numbers = array("q")
        """Line numbers; empty as long as every row has stood on the line of its own number."""
        self._found = 0

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Finding, ...]:
        """Remember the lines; repeats are told at the end."""
        seen = len(self._hashes)
        if self._numbers or numbers[0] != seen + 1 or numbers[-1] != seen + len(numbers):
            if not self._numbers:
                self._numbers.extend(range(1, seen + 1))
            self._numbers.extend(numbers)
        hashes = list(map(hash, lines))
        if not lines[-1].endswith(b"\n"):
            hashes[-1] = hash(lines[-1] + b"\n")
        self._hashes.extend(hashes)
        return ()

    def finish(self) -> Iterator[Finding]:
        """Yield every line that repeats an earlier one."""
        first: dict[int, int] = {}
        maybe = repeated_values(self._hashes)
        for at, value in enumerate(self._hashes if maybe else ()):
            if value in maybe:
                if value in first:
                    self._found += 1
                    said = f"the same as line {self._line(first[value])}"
                    yield Finding("QUALITY_DUPLICATE", self._line(at), detail=said)
                else:
                    first[value] = at

    def _line(self, at: int) -> int:
        return self._numbers[at] if self._numbers else at + 1

    def stats(self) -> dict[str, Any]:
        """Return how many lines repeat an earlier one."""
        return {"duplicates": {"exact": self._found}} if self._found else {}


def repeated_values(hashes: HashArray | array[int]) -> set[int]:
    """Return the values that occur more than once. Takes two bytes more a value, and no more.

    Values are dealt into piles by their last bits, so that a pile is small enough for a set; a quarter
    of the piles at a time.
    """
    if len(hashes) <= _AT_ONCE:
        return _twice(hashes)
    count = 2 << (len(hashes) // _AT_ONCE).bit_length()
    more: set[int] = set()
    for first in range(0, count, count // 4):
        piles = {number: array("q") for number in range(first, first + count // 4)}
        for value in hashes:
            if (pile := piles.get(value & (count - 1))) is not None:
                pile.append(value)
        more.update(*map(_twice, piles.values()))
    return more


def _twice(pile: HashArray | array[int]) -> set[int]:
    once = set(pile)
    if len(once) == len(pile):
        return set()
    more: set[int] = set()
    for value in pile:
        if value in once:
            once.remove(value)
        else:
            more.add(value)
    return more
