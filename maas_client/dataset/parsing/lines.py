"""Bytes to lines, lines to strict JSON. Constant memory; knows nothing of chats.

The line feed alone ends a line, so numbers agree with ``wc -l``. ``validate``, the upload and the
trainer all read with this module, so they see the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO, FileIO
from os import PathLike
from typing import Any, BinaryIO

from maas_client.dataset.parsing.json_scan import JsonError

__all__ = [
    "BLOCK_BYTES",
    "BOM",
    "MAX_LINE_BYTES",
    "Block",
    "JsonError",
    "Line",
    "parse_json",
    "read_blocks",
    "read_lines",
    "read_rows",
]

MAX_LINE_BYTES = 16 * 1024 * 1024
"""The longest line that is read; a longer one is reported and skipped."""
BLOCK_BYTES = 192 * 1024
"""Small enough to stay in a core's cache between hashing, splitting and decoding, large enough for
what is done once a block."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line. ``data`` has no line feed, no carriage return at its end and no BOM in front."""

    number: int
    """From 1."""
    offset: int
    """Of ``data``'s first byte, from the start of the file."""
    data: bytes
    truncated: bool = False
    """True: the line is longer than the limit, and ``data`` is only its beginning."""


@dataclass(slots=True)
class Block:
    """Some whole lines, as they were read together."""

    first_line: int
    """Number of the first line, from 1."""
    offset: int
    """Of the first line's first byte."""
    lines: list[bytes]
    """As they stand in the file, line feeds and all, but for a BOM in front of the first."""
    raw: bytes
    """The bytes read from the file for this block: for hashing, not the same as the lines."""
    truncated: bool = False
    """True: this block is one line, longer than the limit, cut short at the limit."""


def read_blocks(
    file: BinaryIO | FileIO, *, max_line_bytes: int = MAX_LINE_BYTES, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Read a file to its end. Every byte is in exactly one ``raw``; a block may have no lines."""
    no, offset = 1, 0
    begun = _Begun(max_line_bytes)
    while chunk := file.read(min(block_bytes, max_line_bytes)):
        raw = chunk
        whole = BytesIO(chunk).readlines()  # a fifth of the time that split(b"\n") takes
        rest = b"" if whole[-1].endswith(b"\n") else whole.pop()
        if whole and (begun.size or no == 1):
            first, size, cut = begun.finish(whole[0])
            if no == 1 and first.startswith(BOM):
                first, size, offset = first[len(BOM) :], size - len(BOM), len(BOM)
            if cut:
                yield Block(no, offset, [first], raw, truncated=True)
                no, offset, raw = no + 1, offset + size, b""
                del whole[0]
            else:
                whole[0] = first
        if whole or raw:
            yield Block(no, offset, whole, raw)
        no += len(whole)
        offset += sum(map(len, whole))
        begun.add(rest)
    if begun.size:
        last, _, cut = begun.finish(b"")
        if no == 1 and last.startswith(BOM):
            last, offset = last[len(BOM) :], len(BOM)
        yield Block(no, offset, [last], b"", truncated=cut)


class _Begun:
    """A line whose end has not been read yet; what is over the limit is counted and let go."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        room = self.limit_bytes - self.size
        if piece and room >= 0:
            self.pieces.append(piece[: room + 1])
        self.size += len(piece)

    def finish(self, rest: bytes) -> tuple[bytes, int, bool]:
        """Return the line, its full size in bytes, and whether the limit cut it."""
        self.add(rest)
        line, size = b"".join(self.pieces), self.size
        self.pieces, self.size = [], 0
        if size - rest.endswith(b"\n") > self.limit_bytes:
            return line[: self.limit_bytes], size, True
        return line, size, False


def read_lines(
    path: str | PathLike[str], *, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Line]:
    """Yield every line of a file, blank ones too. Raises ``OSError`` for a file that is not there."""
    with open(path, "rb", buffering=0) as file:
        for block in read_blocks(file, max_line_bytes=max_line_bytes):
            yield from iter_lines(block)


def iter_lines(block: Block) -> Iterator[Line]:
    """Yield a block's lines with their numbers and places."""
    offset = block.offset
    for no, data in enumerate(block.lines, block.first_line):
        yield make_line(no, offset, data, truncated=block.truncated)
        offset += len(data)


def make_line(number: int, offset: int, data: bytes, *, truncated: bool = False) -> Line:
    """Return one line as its readers want it, without its end (LF or CRLF)."""
    if data.endswith(b"\n"):
        data = data[:-1]
    if data.endswith(b"\r"):
        data = data[:-1]
    return Line(number, offset, data, truncated)


def parse_json(data: bytes) -> Any:
    """Return the one JSON value that ``data`` holds, strictly.

    Raises ``JsonError`` for what any two readers might read differently: bytes that are not UTF-8,
    duplicate keys, NaN, lone surrogates, numbers no double holds, nesting beyond 64 levels.
    """
    from maas_client.dataset.parsing.strict_json import parse_strict

    document = parse_strict(data)
    if document.errors:
        raise document.errors[0]
    return document.value


def read_rows(
    path: str | PathLike[str], *, model: str | None = None
) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Yield the rows of a chat file: exactly those that ``validate(target="local")`` accepts.

    Blank lines and refused lines are passed over; ``validate`` names them. Raises ``OSError``.
    """
    from maas_client.dataset.block_check import valid_rows

    yield from valid_rows(path, target="local", model=model)
