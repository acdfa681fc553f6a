"""Lines that are the same as an earlier one, byte for byte: eight bytes a line until the end."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from maas_client.dataset.duplicates import repeats
from maas_client.dataset.finding import Finding, Row


class Repeats:
    """The cheap half of ``Duplicates``: it looks at lines, not at rows."""

    def __init__(self) -> None:
        self._hashes = array("q")
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
        self._hashes.extend(map(hash, lines))
        return ()

    def finish(self) -> Iterator[Finding]:
        """Yield every line that repeats an earlier one."""
        for first, *others in repeats(self._hashes).values():
            self._found += len(others)
            for at in others:
                said = f"the same as line {self._line(first)}"
                yield Finding("QUALITY_DUPLICATE", self._line(at), detail=said)

    def _line(self, at: int) -> int:
        return self._numbers[at] if self._numbers else at + 1

    def stats(self) -> dict[str, Any]:
        """Return how many lines repeat an earlier one."""
        return {"duplicates": {"exact": self._found}} if self._found else {}
