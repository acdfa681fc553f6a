"""Detect the encoding of a text file and read it as UTF-8 lines.

Used by ``fix`` and ``convert``, which accept encodings and line ends that a strict reader rejects.
``validate`` and the trainer use ``parsing.lines`` instead.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO, cast

from maas_client.dataset.parsing.file_type import HEAD_BYTES, detect_wrong_format
from maas_client.errors import DatasetError

_WIDE = {"UTF-32, little": "utf-32-le", "UTF-32, big": "utf-32-be", "UTF-16, little": "utf-16-le"}
CP1252 = "windows-1252"
_UNDEFINED_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of a file."""

    codec: str
    description: str | None = None
    """The encoding in words; None for plain UTF-8."""
    bom: bytes = b""
    """The byte order mark at the start of the file, to skip."""


def detect_encoding(path: str | PathLike[str]) -> Encoding:
    """Return a file's encoding. Raises ``DatasetError`` for a file that is not text.

    The result is Windows-1252 only if every line with non-ASCII bytes is invalid UTF-8 and valid Windows-1252.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        problem = detect_wrong_format(head, is_complete=len(head) < HEAD_BYTES)
        if problem and problem.code == "FILE_BINARY":
            raise DatasetError(
                f"{path} is not a text file: {problem.detail}", hint="Export it as JSON Lines."
            )
        if problem and problem.code == "FILE_UTF16":
            return _wide_encoding(head, problem.detail)
        if head.startswith(codecs.BOM_UTF8):
            return Encoding("utf-8", "byte order mark", codecs.BOM_UTF8)
        file.seek(0)
        if not _is_utf8(file) and _is_cp1252(path):
            return Encoding(CP1252, "Windows-1252")
    return Encoding("utf-8")


def read_head(path: str | PathLike[str], encoding: Encoding) -> tuple[bytes, bool]:
    """Return the beginning of a file in UTF-8, and whether it is all of the file."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES + 1)
    text = head[:HEAD_BYTES].removeprefix(encoding.bom).decode(encoding.codec, "replace").encode()
    return text, len(head) <= HEAD_BYTES


def _wide_encoding(head: bytes, detail: str) -> Encoding:
    """Return the UTF-16 or UTF-32 encoding that ``detail`` of a ``FILE_UTF16`` problem names."""
    codec = next((name for start, name in _WIDE.items() if detail.startswith(start)), "utf-16-be")
    bom = "\ufeff".encode(codec)
    return Encoding(codec, detail.split(",")[0], bom if head.startswith(bom) else b"")


def _is_utf8(file: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := file.read(1 << 20):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_cp1252(path: str | PathLike[str]) -> bool:
    """Return whether every line with non-ASCII bytes is Windows-1252 and not UTF-8."""
    with open(path, "rb") as file:
        while line := file.readline(1 << 24):
            if not line.isascii() and not _is_cp1252_line(line):
                return False
    return True


def _is_cp1252_line(line: bytes) -> bool:
    """Return whether a line is Windows-1252 and any valid UTF-8 sequence in it is a coincidence ("ß”")."""
    if any(byte in line for byte in _UNDEFINED_IN_CP1252):
        return False
    invalid = line.decode("utf-8", "backslashreplace").count("\\x") - line.count(b"\\x")
    valid = sum(char > "\x7f" for char in line.decode("utf-8", "ignore"))
    return invalid > valid


_WESTERN_CHARACTERS = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿŒœŠšŽžŸ"
    "€‚„…‘’“”•–—™‹›«»¡¿§©®°±²³´·¹ºª£½¼¾µ\xa0"
)
_NON_WESTERN_WORD = re.compile(r"[^\W\x00-\x7f]{3}|[^\x00-\x7f]{4}")


def decode_cp1252(line: bytes) -> str | None:
    """Return the text of a line if it can only be Windows-1252, else None.

    In Western European languages, non-ASCII characters stand alone or in pairs. In other code pages
    whole words consist of them, and a single line does not show which code page it is.
    """
    if not _is_cp1252_line(line):
        return None
    text = line.decode(CP1252)
    if _NON_WESTERN_WORD.search(text) or any(
        char not in _WESTERN_CHARACTERS for char in text if char > "\x7f"
    ):
        return None
    return text


def read_utf8_lines(path: str | PathLike[str], encoding: Encoding) -> Iterator[bytes]:
    """Yield a file's lines in UTF-8, without line ends. Invalid bytes are left unchanged.

    A line ends at a line feed, with or without a carriage return before it; in a file without line
    feeds, at a carriage return.
    """
    with open(path, "rb") as file:
        file.seek(len(encoding.bom))
        source: BinaryIO = file
        if encoding.codec != "utf-8":
            text = io.TextIOWrapper(file, encoding=encoding.codec, errors="strict", newline="\n")
            source = cast("BinaryIO", _encode_lines(text, path))
        for line in source:
            if line.count(b"\r") > 1 and b"\n" not in line[:-1]:
                yield from _split_at_returns(line)
            else:
                yield line.rstrip(b"\r\n")


def _encode_lines(text: io.TextIOWrapper, path: str | PathLike[str]) -> Iterator[bytes]:
    try:
        for line in text:
            yield line.encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise DatasetError(
            f"{path} starts in {text.encoding} but continues in a different encoding",
            hint="Convert the parts to UTF-8 one by one: the file was joined from several encodings.",
        ) from None


def _split_at_returns(line: bytes) -> Iterator[bytes]:
    """Split at carriage returns, if these are the line ends of this file."""
    pieces = line.rstrip(b"\r\n").split(b"\r")
    if all(piece.lstrip()[:1] in (b"{", b"[", b"") for piece in pieces):
        yield from pieces
    else:
        yield line.rstrip(b"\r\n")
