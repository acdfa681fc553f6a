"""Rows that are nearly the same: a bottom-k sketch of content-defined pieces.

A text is cut at a few rare letters, so that an edit changes only the piece it falls into. Its
longest pieces are its sketch: an order that comes from the content, as MinHash's does, but costs
no hash of every word. Two rows are near duplicates if most of their sketches' bytes are shared.
Pieces that many rows share (a template around every prompt) do not count. Against any number of
rows a new one costs four look-ups.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from maas_client.dataset.finding import Finding, Row

KEYS = 4
"""Pieces in a sketch."""
MIN_BYTES = 24
"""A row nearly repeats an earlier one that holds half of its pieces, and so much text in them."""
COMMON = 32
"""A piece that was met again this often is part of a template, and no longer looked at."""
ROWS = 1 << 16
"""Rows compared with each other: all of a file of some fifty megabytes. Sixteen slots of eight
bytes for each (8 MB in all) lose one piece in nine to another's."""
_TEXT_BYTES = 1 << 14
_LINE = (1 << 26) - 1
"""Line numbers are kept in 26 bits."""


def _cutter(letters: bytes, every: int) -> bytes:
    """Make a table: lower case, and a line feed for ``letters`` and one in ``every`` high bytes."""
    table = bytearray(range(256)).lower()
    for c in letters:
        table[c] = table[c - 32] = 10
    for c in range(0x80 + every // 2, 0xC0, every):
        table[c] = 10
    return bytes(table)


_CUTTERS = (_cutter(b"bfgkpvwy", 8), _cutter(b"bv", 32), _cutter(b"v", 64))
_SIZES = (364, 400, 440, 2728, 3000, 3300)
_LEVELS = ((0, None), (0, 1), (1, 0), (1, None), (1, 2), (2, 1), (2, None))
"""By bytes of text: the cutter that leaves some ten pieces or more, and near a limit also the one
that texts of about this length beyond the limit are cut with."""


def text_of(row: Row) -> bytes:
    """Return what is compared: all texts of a row but a leading system message."""
    messages = row["messages"]
    start = messages[0].get("role") == "system"
    texts = [message.get("content") for message in messages[start:]]
    try:
        return "\n".join(texts).encode()[:_TEXT_BYTES]
    except TypeError:
        return "\n".join([str(text) for text in texts if text]).encode()[:_TEXT_BYTES]


class NearDuplicates:
    """Finds rows that nearly repeat an earlier one, among the first ``rows`` of a file.

    Memory is bounded, and so is time: a row costs as much as all other checks together.
    """

    def __init__(self, rows: int = ROWS) -> None:
        self._limit = rows
        self._found = self._rows = self._skipped = 0
        self._slots = array("Q", bytes(8 << 12))
        """By a key's lower bits: ``key << 32 | times met again << 26 | line``."""

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Finding]:
        """Return a finding for each row that nearly repeats an earlier one, naming its line."""
        if self._rows >= self._limit:
            self._skipped += len(rows)
            return []
        self._grow(len(rows))
        found = []
        slots, mask = self._slots, len(self._slots) - 1
        for number, row in zip(numbers, rows, strict=True):
            text = text_of(row)
            level, other = _LEVELS[bisect_right(_SIZES, len(text))]
            pieces = text.translate(_CUTTERS[level]).split(b"\n")
            pieces.sort(key=len)
            keys = [hash(piece) & 0xFFFFFFFF for piece in pieces[-KEYS:]]
            twin = 0 if other is None else self._across(text, other)
            if [key for key in keys if slots[key & mask] >> 32 == key]:
                twin = self._meet(pieces, number) or twin
            else:
                for key in keys:
                    slots[key & mask] = key << 32 | number & _LINE
            if twin:
                detail = f"nearly the same as line {twin}"
                found.append(Finding("QUALITY_NEAR_DUPLICATE", number, "/messages", detail=detail))
        self._found += len(found)
        return found

    def finish(self) -> tuple[Finding, ...]:
        """Return nothing: near duplicates were told where they stood."""
        return ()

    def stats(self) -> dict[str, Any]:
        """Return how many rows nearly repeat another, and how many rows were not compared."""
        figures = {"near_duplicates": self._found, "near_duplicates_not_compared": self._skipped}
        return {name: n for name, n in figures.items() if n}

    def _grow(self, more: int) -> None:
        self._rows += more
        while self._rows * KEYS * 4 > len(self._slots) < self._limit * KEYS * 4:
            old = self._slots
            self._slots = array("Q", bytes(16 * len(old)))
            for entry in old:
                if entry:
                    self._slots[entry >> 32 & len(self._slots) - 1] = entry

    def _entry(self, piece: bytes) -> tuple[int, int]:
        """Return a piece's key, and its slot's content or 0 if that is another's."""
        key = hash(piece) & 0xFFFFFFFF
        entry = self._slots[key & len(self._slots) - 1]
        return key, entry if entry >> 32 == key else 0

    def _across(self, text: bytes, level: int) -> int:
        """Return the line of a twin among the rows that are cut otherwise, or 0."""
        pieces = text.translate(_CUTTERS[level]).split(b"\n")
        pieces.sort(key=len)
        return self._best(self._uncommon(pieces))

    def _meet(self, pieces: list[bytes], number: int) -> int:
        """Remember a row of which some piece is known; return its twin's line or 0."""
        sketch = self._uncommon(pieces)
        twin = self._best(sketch)
        for piece in sketch:
            key, entry = self._entry(piece)
            times = (entry >> 26 & 0x3F) + 1 if entry else 0
            self._slots[key & len(self._slots) - 1] = key << 32 | times << 26 | number & _LINE
        return twin

    def _uncommon(self, pieces: list[bytes]) -> list[bytes]:
        """Return the longest pieces that are not part of a template; ``pieces`` ascend in length."""
        chosen: list[bytes] = []
        for piece in reversed(pieces[-8 * KEYS :]):
            if self._entry(piece)[1] >> 26 & 0x3F < COMMON:
                chosen.append(piece)
                if len(chosen) == KEYS:
                    break
        return chosen

    def _best(self, sketch: list[bytes]) -> int:
        """Return the line of the earlier row that holds enough of a sketch's bytes, or 0."""
        shared: dict[int, list[int]] = {}
        for piece in sketch:
            if entry := self._entry(piece)[1]:
                shared.setdefault(entry & _LINE, []).append(len(piece))
        twin = max(shared, key=lambda line: sum(shared[line]), default=0)
        enough = twin and 2 * len(shared[twin]) >= len(sketch) and sum(shared[twin]) >= MIN_BYTES
        return twin if enough else 0
