"""Where lines begin: one entry a block, so that any line can be read again."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from io import FileIO

from maas_client.dataset.parsing.lines import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    Line,
    iter_lines,
    read_blocks,
)


class LineIndex:
    """Some sixteen bytes for each hundred kilobytes of file."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._offsets = array("Q")

    def add(self, no: int, offset: int) -> None:
        """Remember where line ``no`` begins; called in ascending order."""
        self._numbers.append(no)
        self._offsets.append(offset)

    def read_lines(self, path: str, numbers: Iterable[int]) -> Iterator[Line]:
        """Read some lines again, in ascending order. Raises ``OSError``."""
        with open(path, "rb", buffering=0) as file:
            for no in sorted(set(numbers)):
                at = bisect_right(self._numbers, no) - 1
                file.seek(self._offsets[at])
                yield from _one(file, no, self._numbers[at], self._offsets[at])


def _one(file: FileIO, no: int, first: int, offset: int) -> Iterator[Line]:
    for block in read_blocks(file, max_line_bytes=MAX_LINE_BYTES, block_bytes=BLOCK_BYTES):
        block.first_line += first - 1
        block.offset += offset
        for line in iter_lines(block):
            if line.number == no:
                yield line
                return
