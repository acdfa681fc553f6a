"""What a file is, from its beginning: the mistakes that make every line wrong at once."""

from __future__ import annotations

import re

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
_WIDE = (
    (b"\xff\xfe\0\0", "UTF-32, little-endian"),
    (b"\0\0\xfe\xff", "UTF-32, big-endian"),
    (b"\xff\xfe", "UTF-16, little-endian"),
    (b"\xfe\xff", "UTF-16, big-endian"),
)
_HEADER = re.compile(rb'"?[A-Za-z_][\w .-]*"?([,;\t]"?[A-Za-z_][\w .-]*"?)+')


def detect_wrong_format(head: bytes, *, is_complete: bool) -> tuple[str, str] | None:
    """Return a ``FILE_`` code and its detail, or None for what may be JSON Lines.

    ``head`` is the file's beginning, and all of it if ``whole``.
    """
    if wide := _wide(head):
        return "FILE_UTF16", wide
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return "FILE_BINARY", f"it is {name}"
    text = head.removeprefix(BOM)
    if not text.strip():
        return ("FILE_EMPTY", "only white space" if head else "0 bytes") if is_complete else None
    if b"\n" not in text and _is_cut_by_returns(text):
        return "FILE_CR_ONLY", ""
    return _json_for_people(text, whole=is_complete) or _table(text)


def _wide(head: bytes) -> str | None:
    for mark, name in _WIDE:
        if head.startswith(mark):
            return name
    if len(head) >= 8 and head[0] in b'{["':
        if head[1:4] == b"\0\0\0":
            return "UTF-32, little-endian, without a mark"
        if head[1] == 0 == head[3] and head[2]:
            return "UTF-16, little-endian, without a mark"
    if len(head) >= 8 and head[0] == 0:
        if head[:3] == b"\0\0\0" and head[3] in b'{["':
            return "UTF-32, big-endian, without a mark"
        if head[1] in b'{["' and head[2] == 0 and head[3]:
            return "UTF-16, big-endian, without a mark"
    return None


def _is_cut_by_returns(text: bytes) -> bool:
    pieces = [piece for piece in text.split(b"\r") if piece.strip()][:3]
    return len(pieces) > 1 and all(piece.lstrip()[:1] in (b"{", b"[") for piece in pieces)


def _json_for_people(text: bytes, *, whole: bool) -> tuple[str, str] | None:
    """Recognise one JSON value over several lines, or an array on one."""
    lines = [line.strip() for line in text.split(b"\n")]
    filled = [line for line in lines[: None if whole else -1] if line]
    if not filled:
        return None
    first = filled[0]
    if first == b"{" or (first == b"[" and len(filled) > 1 and filled[1][:1] != b"["):
        return ("FILE_JSON_ARRAY" if first == b"[" else "FILE_PRETTY_PRINTED"), ""
    if first[:1] != b"[" or first[1:].lstrip()[:1] not in (b"{", b"]"):
        return None
    one = len(filled) == 1 and whole
    if scan_json(first).aborted or (one and _holds_rows(first)):
        return "FILE_JSON_ARRAY", ""
    return None


def _holds_rows(line: bytes) -> bool:
    """Return whether an array is one of rows, and not one row's list of messages."""
    value = scan_json(line).value
    return bool(value) and not any(isinstance(each, dict) and "role" in each for each in value)


def _table(text: bytes) -> tuple[str, str] | None:
    first, _, rest = text.partition(b"\n")
    second = rest.partition(b"\n")[0]
    if not _HEADER.fullmatch(first.strip()) or second[:1] in (b"{", b"["):
        return None
    mark = max((b",", b";", b"\t"), key=first.count)
    names = {b",": "commas", b";": "semicolons", b"\t": "tabs"}
    return ("FILE_CSV", f"columns separated by {names[mark]}") if mark in second else None
