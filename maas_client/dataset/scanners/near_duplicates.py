"""Rows that are nearly the same: a bottom-k sketch of content-defined pieces.

The end of a conversation is cut at a few rare letters, so that an edit changes only the piece
it falls into. Its longest pieces are its sketch: an order that comes from the content, as MinHash's
does, but costs no hash of every word. Two rows are near duplicates if most of their sketches are
shared. Pieces that many rows share (a template around every prompt) do not count. Against any number of
rows a new one costs four look-ups.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from maas_client.dataset.scanners.duplicates import DuplicateScanner
from maas_client.dataset.scanners.scanner import Finding, Row, iter_strings, message_texts

SKETCH_SIZE = 4
"""Pieces in a sketch."""
MIN_SHARED_BYTES = 24
"""A row nearly repeats an earlier one that holds half of its pieces, and so much text in them."""
TEMPLATE_REPEATS = 32
"""A piece that was met again this often is part of a template, and no longer looked at."""
MAX_ROWS = 1 << 16
"""Rows compared with each other: all of a file of some fifty megabytes, at some 30 MB of memory."""
TAIL_CHARS = 320
"""Characters of the last question and of its answer that are looked at: their ends, as prompts made
from one template begin alike."""
_LINE = (1 << 40) - 1
"""Bits of a value that are a line number; above them: how often its piece was met again."""


def _cutter(letters: bytes, every: int) -> bytes:
    """Make a table: lower case, and a line feed for ``letters`` and one in ``every`` high bytes."""
    table = bytearray(range(256)).lower()
    for c in letters:
        table[c] = table[c - 32] = 10
    for c in range(0x80 + every // 2, 0xC0, every):
        table[c] = 10
    return bytes(table)


_CUTTER, _LONG_CUTTER = _cutter(b"bfgkpvwy", 8), _cutter(b"b", 32)
LONG_TEXT_BYTES = 400
"""Bytes of text from which on the second cutter is used, so that most texts have ten pieces."""
_AROUND = range(384, 416)
"""Texts of about this length are also looked up among those beyond the limit."""


def _spoken(row: Row) -> list[str]:
    """Return the last messages but one, and the last, of a row that is more than texts."""
    *before, last = row["messages"]
    asked = [text for message in before[-3:] for _, text in iter_strings(message)]
    return ["\n".join(asked), "\n".join(text for _, text in iter_strings(last))]


def _cut(text: bytes, long: bool) -> list[bytes]:
    """Return a text's pieces, the longest last."""
    pieces = text.translate(_LONG_CUTTER if long else _CUTTER).split(b"\n")
    pieces.sort(key=len)
    return pieces


class NearDuplicateScanner:
    """Finds rows that nearly repeat an earlier one, among the first ``rows`` of a file.

    Memory is bounded, and so is time: a row costs as much as all other checks together.
    """

    def __init__(
        self,
        exact: DuplicateScanner,
        max_rows: int = MAX_ROWS,
        *,
        training: Sequence[NearDuplicateScanner] = (),
    ) -> None:
        """Look at rows that ``exact`` has been fed just before: what is the same text by text is told
        there. ``training``: for a validation file, the scanners of the training files, finished."""
        self._exact = exact
        self._limit = max_rows
        self._training = training
        self._found = self._compared = self._skipped = 0
        self._lines: dict[int, int] = {}
        """By a piece's hash: the last line that had it, and how often it was met again."""

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Finding]:
        """Return a finding for each row that nearly repeats an earlier one, naming its line."""
        if self._compared >= self._limit:
            self._skipped += len(rows)
            return []
        self._compared += len(rows)
        talks = [texts or _spoken(rows[at]) for at, texts in enumerate(message_texts(rows))]
        bodies = [
            f"{texts[-2][-TAIL_CHARS:]}\n{texts[-1][-TAIL_CHARS:]}".encode() for texts in talks
        ]
        keys = [
            list(map(hash, _cut(text, len(text) >= LONG_TEXT_BYTES)[-SKETCH_SIZE:]))
            for text in bodies
        ]
        found = self._compare(numbers, bodies, keys)
        self._found += len(found)
        for other in self._training:
            found += other.find_leaks(numbers, bodies, keys, self._exact)
        return found

    def _compare(
        self, numbers: Sequence[int], bodies: list[bytes], keys: list[list[int]]
    ) -> list[Finding]:
        """Return a finding for each row with a twin among the earlier ones; remember the rows."""
        fresh = _owners(numbers, keys)
        met = self._lines.keys() & fresh.keys()
        if len(fresh) < sum(map(len, keys)):
            met |= _repeated(keys)
            again = [at for at, some in enumerate(keys) if not met.isdisjoint(some)]
        else:
            again = sorted({bisect_left(numbers, fresh[key]) for key in met})
        for key in chain.from_iterable([keys[at] for at in again]):
            fresh.pop(key, None)
        low, high = _AROUND[0], _AROUND[-1]
        around = [at for at, size in enumerate(map(len, bodies)) if low <= size <= high]
        found = []
        for at in sorted({*again, *around}) if around else again:
            text, twin = bodies[at], 0
            if at in again:
                twin = self._meet(_cut(text, len(text) >= LONG_TEXT_BYTES), numbers[at])
            if not twin and at in around:
                twin = self._cut_otherwise(_cut(text, len(text) < LONG_TEXT_BYTES))
            if twin and not self._exact.rows_are_equal(twin, numbers[at]):
                found.append(_finding(numbers[at], twin))
        self._lines.update(fresh)
        return found

    def find_leaks(
        self,
        numbers: Sequence[int],
        bodies: Sequence[bytes],
        keys: Sequence[list[int]],
        exact: DuplicateScanner,
    ) -> Iterator[Finding]:
        """Yield a finding for each row of a validation file that nearly repeats one of this file."""
        for at, text in enumerate(bodies):
            if self._lines.keys().isdisjoint(keys[at]):
                continue
            line = self._twin(self._uncommon(_cut(text, len(text) >= LONG_TEXT_BYTES)))
            if line and self._exact.prompt_hash(line) != exact.prompt_hash(numbers[at]):
                detail = f"nearly the same as line {line} of the training file"
                yield Finding("QUALITY_LEAKAGE", numbers[at], "/messages", detail=detail)

    def finish(self) -> tuple[Finding, ...]:
        """Return nothing: near duplicates were told where they stood."""
        return ()

    def stats(self) -> dict[str, Any]:
        """Return how many rows nearly repeat another, and how many rows were not compared."""
        figures = {"near_duplicates": self._found, "near_duplicates_not_compared": self._skipped}
        return {name: n for name, n in figures.items() if n}

    def _meet(self, pieces: list[bytes], number: int) -> int:
        """Remember a row of which some piece is known; return its twin's line or 0.

        Of a row with a twin all pieces are remembered: those of a template soon are common.
        """
        sketch = self._uncommon(pieces)
        twin = self._twin(sketch)
        for piece in pieces[-8 * SKETCH_SIZE :] if twin else sketch:
            known = self._lines.get(hash(piece))
            times = 0 if known is None else (known >> 40) + 1
            self._lines[hash(piece)] = times << 40 | number
        return twin

    def _cut_otherwise(self, pieces: list[bytes]) -> int:
        """Return the twin's line of a row of which another cutter makes these pieces, or 0."""
        if self._lines.keys().isdisjoint(map(hash, pieces[-8 * SKETCH_SIZE :])):
            return 0
        return self._twin(self._uncommon(pieces))

    def _uncommon(self, pieces: list[bytes]) -> list[bytes]:
        """Return the longest pieces that are not part of a template; ``pieces`` ascend in length."""
        chosen: list[bytes] = []
        for piece in reversed(pieces[-8 * SKETCH_SIZE :]):
            if self._lines.get(hash(piece), 0) >> 40 < TEMPLATE_REPEATS:
                chosen.append(piece)
                if len(chosen) == SKETCH_SIZE:
                    break
        return chosen

    def _twin(self, sketch: list[bytes]) -> int:
        """Return the line of the earlier row that holds enough of a sketch, or 0."""
        shared: dict[int, list[int]] = {}
        for piece in sketch:
            line = self._lines.get(hash(piece), 0) & _LINE
            if line:
                shared.setdefault(line, []).append(len(piece))
        twin = max(shared, key=lambda line: sum(shared[line]), default=0)
        enough = (
            twin and 2 * len(shared[twin]) >= len(sketch) and sum(shared[twin]) >= MIN_SHARED_BYTES
        )
        return twin if enough else 0


def _owners(numbers: Sequence[int], keys: list[list[int]]) -> dict[int, int]:
    """Return the rows' line numbers by their keys."""
    lines = chain.from_iterable(map(repeat, numbers, map(len, keys)))
    return dict(zip(chain.from_iterable(keys), lines, strict=True))


def _repeated(keys: list[list[int]]) -> set[int]:
    """Return the keys that come twice in a block."""
    once: set[int] = set()
    twice: set[int] = set()
    for key in chain.from_iterable(keys):
        if key in once:
            twice.add(key)
        once.add(key)
    return twice


def _finding(number: int, twin: int) -> Finding:
    detail = f"nearly the same as line {twin}"
    return Finding("QUALITY_NEAR_DUPLICATE", number, "/messages", detail=detail)
