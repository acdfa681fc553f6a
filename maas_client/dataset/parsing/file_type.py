"""Recognise a file that is not JSON Lines by its first bytes: archives, UTF-16, CSV, JSON arrays."""

from __future__ import annotations

import re

from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.json_scan import scan_json
from maas_client.dataset.parsing.lines import BOM

HEAD_BYTES = 64 * 1024
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "ZIP (or XLSX, or DOCX)"),
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"7z\xbc\xaf", "7z"),
    (b"%PDF-", "PDF"),
    (b"\x89PNG", "PNG"),
    (b"SQLite format 3\0", "SQLite"),
    (b"\x80\x04\x95", "pickle"),
    (b"\x89HDF\r\n", "HDF5"),
)
_WIDE_BOMS = (
    (b"\xff\xfe\0\0", "UTF-32, little-endian"),
    (b"\0\0\xfe\xff", "UTF-32, big-endian"),
    (b"\xff\xfe", "UTF-16, little-endian"),
    (b"\xfe\xff", "UTF-16, big-endian"),
)
_HEADER = re.compile(rb'"?[A-Za-z_][\w .-]*"?([,;\t]"?[A-Za-z_][\w .-]*"?)+')


def detect_wrong_format(head: bytes, *, is_complete: bool) -> Issue | None:
    """Return a ``FILE_`` issue, or None for what can be JSON Lines.

    ``head`` is the beginning of the file; all of it if ``is_complete``.
    """
    if encoding := _wide_encoding(head):
        return Issue("FILE_UTF16", detail=encoding)
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return Issue("FILE_BINARY", detail=f"it is {name}")
    text = head.removeprefix(BOM)
    if not text.strip():
        detail = "only white space" if head else "0 bytes"
        return Issue("FILE_EMPTY", detail=detail) if is_complete else None
    if b"\n" not in text and _ends_lines_with_cr(text):
        return Issue("FILE_CR_ONLY")
    return _multiline_json(text, is_complete=is_complete) or _table(text)


def _wide_encoding(head: bytes) -> str | None:
    """Return the name of UTF-16 or UTF-32, with or without a byte order mark."""
    for bom, name in _WIDE_BOMS:
        if head.startswith(bom):
            return name
    if len(head) >= 8 and head[0] in b'{["':
        if head[1:4] == b"\0\0\0":
            return "UTF-32, little-endian, without a byte order mark"
        if head[1] == 0 == head[3] and head[2]:
            return "UTF-16, little-endian, without a byte order mark"
    if len(head) >= 8 and head[0] == 0:
        if head[:3] == b"\0\0\0" and head[3] in b'{["':
            return "UTF-32, big-endian, without a byte order mark"
        if head[1] in b'{["' and head[2] == 0 and head[3]:
            return "UTF-16, big-endian, without a byte order mark"
    return None


def _ends_lines_with_cr(text: bytes) -> bool:
    pieces = [piece for piece in text.split(b"\r") if piece.strip()][:3]
    return len(pieces) > 1 and all(piece.lstrip()[:1] in (b"{", b"[") for piece in pieces)


def _multiline_json(text: bytes, *, is_complete: bool) -> Issue | None:
    """Recognise one JSON value over several lines, or an array of rows on one line."""
    lines = [line.strip() for line in text.split(b"\n")]
    filled = [line for line in lines[: None if is_complete else -1] if line]
    if not filled:
        return None
    first = filled[0]
    if first == b"{" or (first == b"[" and len(filled) > 1 and filled[1][:1] != b"["):
        return Issue("FILE_JSON_ARRAY" if first == b"[" else "FILE_PRETTY_PRINTED")
    if first[:1] != b"[" or first[1:].lstrip()[:1] not in (b"{", b"]"):
        return None
    is_only_line = len(filled) == 1 and is_complete
    if scan_json(first).aborted or (is_only_line and _is_array_of_rows(first)):
        return Issue("FILE_JSON_ARRAY")
    return None


def _is_array_of_rows(line: bytes) -> bool:
    """Return whether an array holds rows, and is not one row's list of messages."""
    value = scan_json(line).value
    return bool(value) and not any(isinstance(item, dict) and "role" in item for item in value)


def _table(text: bytes) -> Issue | None:
    """Recognise CSV and its relatives by a header line."""
    first, _, rest = text.partition(b"\n")
    second = rest.partition(b"\n")[0]
    if not _HEADER.fullmatch(first.strip()) or second[:1] in (b"{", b"["):
        return None
    separator = max((b",", b";", b"\t"), key=first.count)
    if separator not in second:
        return None
    names = {b",": "commas", b";": "semicolons", b"\t": "tabs"}
    return Issue("FILE_CSV", detail=f"columns separated by {names[separator]}")
