"""Any text file to UTF-8 lines: encodings and line ends that a strict reader refuses.

Used by what repairs and converts. ``validate`` and the trainer read with ``read`` alone.
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
from maas_client.errors import ConfigError

_WIDE = {"UTF-32, little": "utf-32-le", "UTF-32, big": "utf-32-be", "UTF-16, little": "utf-16-le"}
CP1252 = "windows-1252"
_UNUSED_1252 = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes become characters. ``what`` says so in words; None: it is UTF-8."""

    codec: str
    description: str | None = None
    bom: bytes = b""
    """A byte order mark to pass over."""


def detect_encoding(path: str | PathLike[str]) -> Encoding:
    """Return a file's encoding. Raises ``ConfigError`` for a file that is no text.

    Windows-1252 is certain only if each line beyond ASCII is no UTF-8 and makes sense in it.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        said = detect_wrong_format(head, is_complete=len(head) < HEAD_BYTES)
        if said and said[0] == "FILE_BINARY":
            raise ConfigError(f"{path} is no text file: {said[1]}", hint="Export it as JSON Lines.")
        if said and said[0] == "FILE_UTF16":
            return _wide(head, said[1])
        if head.startswith(codecs.BOM_UTF8):
            return Encoding("utf-8", "byte order mark", codecs.BOM_UTF8)
        file.seek(0)
        if not _is_utf8(file) and _is_single(path):
            return Encoding(CP1252, "Windows-1252")
    return Encoding("utf-8")


def _wide(head: bytes, said: str) -> Encoding:
    codec = next((name for start, name in _WIDE.items() if said.startswith(start)), "utf-16-be")
    mark = "\ufeff".encode(codec)
    return Encoding(codec, said.split(",")[0], mark if head.startswith(mark) else b"")


def _is_utf8(file: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := file.read(1 << 20):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_single(path: str | PathLike[str]) -> bool:
    """Return whether every line beyond ASCII makes sense in Windows-1252 alone."""
    with open(path, "rb") as file:
        while line := file.readline(1 << 24):
            if not line.isascii() and not _only_single(line):
                return False
    return True


def _only_single(line: bytes) -> bool:
    """Return whether a line is no UTF-8, and what looks like UTF-8 in it is an accident ("ß”")."""
    if any(byte in line for byte in _UNUSED_1252):
        return False
    marked = line.decode("utf-8", "backslashreplace").count("\\x") - line.count(b"\\x")
    wide = sum(char > "\x7f" for char in line.decode("utf-8", "ignore"))
    return marked > wide


_WESTERN = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿŒœŠšŽžŸ"
    "€‚„…‘’“”•–—™‹›«»¡¿§©®°±²³´·¹ºª£½¼¾µ\xa0"
)
_FOREIGN_WORD = re.compile(r"[^\W\x00-\x7f]{3}|[^\x00-\x7f]{4}")


def decode_cp1252(line: bytes) -> str | None:
    """Return the text of one line in Windows-1252 if it can be nothing else, else None.

    In a language of western Europe, characters beyond ASCII stand alone or in pairs; in another
    code page whole words are made of them, and which one it is cannot be told from a line.
    """
    if not _only_single(line):
        return None
    text = line.decode(CP1252)
    if _FOREIGN_WORD.search(text) or any(c not in _WESTERN for c in text if c > "\x7f"):
        return None
    return text


def read_utf8_lines(path: str | PathLike[str], encoding: Encoding) -> Iterator[bytes]:
    """Yield a file's lines in UTF-8, without their ends. Bytes that are none stay as they are.

    A line ends at a line feed, with a carriage return before it or not; in a file without line
    feeds, at a carriage return.
    """
    with open(path, "rb") as file:
        file.seek(len(encoding.bom))
        source: BinaryIO = file
        if encoding.codec != "utf-8":
            text = io.TextIOWrapper(file, encoding=encoding.codec, errors="strict", newline="\n")
            source = cast("BinaryIO", _encoded(text, path))
        for line in source:
            if line.count(b"\r") > 1 and b"\n" not in line[:-1]:
                yield from _at_returns(line)
            else:
                yield line.rstrip(b"\r\n")


def _encoded(text: io.TextIOWrapper, path: str | PathLike[str]) -> Iterator[bytes]:
    try:
        for line in text:
            yield line.encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} begins in {text.encoding} and does not go on in it",
            hint="It was joined from files in different encodings: convert them one by one.",
        ) from None


def _at_returns(line: bytes) -> Iterator[bytes]:
    """Split at carriage returns, if those and no line feeds end this file's lines."""
    pieces = line.rstrip(b"\r\n").split(b"\r")
    if all(piece.lstrip()[:1] in (b"{", b"[", b"") for piece in pieces):
        yield from pieces
    else:
        yield line.rstrip(b"\r\n")
