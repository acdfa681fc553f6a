"""Recognise a file that is not JSON Lines by its first bytes: archives, UTF-16, CSV, JSON arrays."""

from __future__ import annotations

import io
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
    (b"\xff\xff\xff\xff", "Arrow, as a stream"),
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
_CONVERT = "Save it as UTF-8, or convert it: maas-client datasets convert FILE OUT.jsonl"
_HEADER = re.compile(r'"?[^\W\d][\w .-]*"?([,;\t|]"?[^\W\d][\w .-]*"?)+')


def detect_wrong_format(head: bytes, *, is_complete: bool) -> Issue | None:
    """Return a ``FILE_`` issue, or None for what can be JSON Lines.

    ``head`` is the beginning of the file; all of it if ``is_complete``.
    """
    if encoding := _wide_encoding(head):
        is_chat = b"m\0e\0s\0s\0a\0g\0e\0s" in head.replace(b"\0\0\0", b"\0")
        return Issue("FILE_UTF16", detail=encoding, hint="" if is_chat else _CONVERT)
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return Issue("FILE_BINARY", detail=f"it is {name}")
    text = head.removeprefix(BOM)
    if not text.strip():
        detail = "only white space" if head else "0 bytes"
        return Issue("FILE_EMPTY", detail=detail) if is_complete else None
    if b"\n" not in text and _ends_lines_with_cr(text):
        return Issue("FILE_CR_ONLY")
    return _multiline_json(text, is_complete=is_complete) or _table(text, is_complete=is_complete)


def _wide_encoding(head: bytes) -> str | None:
    """Return the name of UTF-16 or UTF-32, with or without a byte order mark."""
    for bom, name in _WIDE_BOMS:
        if head.startswith(bom):
            return name
    for kind, unit in (("UTF-32", 4), ("UTF-16", 2)):
        units = [head[start : start + unit] for start in range(0, 4 * unit, unit)]
        if all(_is_ascii_unit(value[::-1]) for value in units):
            return f"{kind}, little-endian, without a byte order mark"
        if all(map(_is_ascii_unit, units)):
            return f"{kind}, big-endian, without a byte order mark"
    return None


def _is_ascii_unit(value: bytes) -> bool:
    """Return whether a big-endian code unit is an ASCII character other than NUL."""
    return len(value) > 1 and not any(value[:-1]) and 0 < value[-1] < 0x80


def _ends_lines_with_cr(text: bytes) -> bool:
    pieces = [piece for piece in text.split(b"\r") if piece.strip()][:3]
    return len(pieces) > 1 and all(piece.lstrip()[:1] in (b"{", b"[") for piece in pieces)


def _multiline_json(text: bytes, *, is_complete: bool) -> Issue | None:
    """Recognise one JSON value over several lines, or an array of rows on one line."""
    lines = [line.strip() for line in text.split(b"\n")]
    has_first_line = is_complete or len(lines) > 1
    filled = [line for line in lines if line]
    if not filled:
        return None
    first = filled[0]
    if first[:1] == b"{":
        if (len(filled) == 1 or not has_first_line) and (wrapped := _WRAPPED.match(first)):
            key = _FIRST_KEY.match(first, wrapped.end())
            if not (key and key[1] in _MESSAGE_KEYS):
                return Issue("FILE_JSON_ARRAY")
        continues = (
            len(filled) > 1 and filled[1][:10] != first[:10]
        )  # else: rows that are cut short
        is_open = first == b"{" or (continues and first[-1:] in _OPEN_ENDS and _is_open(first))
        return Issue("FILE_PRETTY_PRINTED") if is_open else None
    if first[:1] != b"[":
        return None
    if _ARRAY_OF_LISTS.match(b"".join(filled[:3])):
        return Issue("FILE_JSON_ARRAY")
    if first == b"[" and len(filled) > 1 and filled[1][:1] != b"[":
        return Issue("FILE_JSON_ARRAY")
    element = first[1:].lstrip()
    if JSON_TEXT.match(element):  # rows that are JSON text
        return Issue("FILE_JSON_ARRAY")
    if element[:1] not in (b"{", b"]"):
        return None
    if not has_first_line:  # one long line: a list of rows, or one row that is a list of messages
        key = _FIRST_KEY.match(element)
        return None if key and key[1] in _MESSAGE_KEYS else Issue("FILE_JSON_ARRAY")
    is_only_line = len(filled) == 1 and is_complete
    if scan_json(first).aborted or (is_only_line and _is_array_of_rows(first)):
        return Issue("FILE_JSON_ARRAY")
    return None


_JSON_STRING = r'"(?:[^"\\]|\\.)*+"'
_FEATURES = ""
for _ in range(8):  # arrays within arrays
    _FEATURES = rf'\[(?:[^\[\]"]|{_JSON_STRING}{"|" + _FEATURES if _FEATURES else ""})*+\]'
WRAPPED_ROWS = (
    rf'\s*\{{\s*((?:(?:"features"\s*:\s*{_FEATURES}'
    rf'|"[^"\\]*"\s*:\s*(?:{_JSON_STRING}|[^\s"{{}}\[\],]+))\s*,\s*)*+)'
    r'"(?:data|rows|train)"\s*:\s*\[\s*(?=\{)'
    r'|\s*\{\s*"(?:examples|samples|records|entries|items)"\s*:\s*\[\s*(?=\{)'
)
"""The beginning of a file with its rows under a key: ``{"version": 1, "data": [{...}, ...]}``.

``features`` is the list of columns that the Hugging Face dataset viewer puts before its rows.
"""
_WRAPPED = re.compile(WRAPPED_ROWS.encode(), re.IGNORECASE)
_FIRST_KEY = re.compile(rb'\{\s*"([^"\\]*)"')
_MESSAGE_KEYS = frozenset(
    (b"role", b"content", b"from", b"value", b"name", b"weight", b"tool_calls", b"tool_call_id")
)
_ARRAY_OF_LISTS = re.compile(rb"\[\s*\[\s*\{")
_JSON_SPACE = rb"(?:[ \t\r\n]|\\[nrt])*"
JSON_TEXT = re.compile(rb'"%s(?:\[%s)?\{%s\\"' % (_JSON_SPACE, _JSON_SPACE, _JSON_SPACE))
"""The beginning of a string that holds an object, or a list of objects, as JSON text."""
_OPEN_ENDS = (b"{", b"[", b",", b":")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _is_open(line: bytes) -> bool:
    """Return whether a line opens more brackets than it closes, outside of its strings."""
    rest = _STRING.sub(b"", line)
    return rest.count(b"{") + rest.count(b"[") > rest.count(b"}") + rest.count(b"]")


def _is_array_of_rows(line: bytes) -> bool:
    """Return whether an array holds rows, and is not one row's list of messages."""
    value = scan_json(line).value
    return bool(value) and not any(isinstance(item, dict) and "role" in item for item in value)


SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SEPARATOR_LINE = re.compile(r"\ufeff?sep=([,;\t|])\r?\n", re.IGNORECASE)
"""The line from which Excel takes what separates the columns of a file."""
_SINGLE_COLUMNS = ("messages", "conversations", "conversation", "text")
"""Names of columns that can be the only one of a table."""
_MAX_RECORDS = 5


def find_separator(text: str, *, is_complete: bool) -> str | None:
    """Return the separator of a table by its first records, or None if the text is not a table.

    The records have equally many cells. If the first is a header of column names, half of the others are
    enough, or none.
    """
    text = SEPARATOR_LINE.sub("", text, count=1)
    header = text.lstrip().partition("\n")[0].strip()
    if header.strip('"') in _SINGLE_COLUMNS and text.lstrip().count("\n") > 0:
        return ","
    candidates = []
    for separator in SEPARATOR_NAMES:
        widths = _record_widths(text, separator)
        complete = widths if is_complete or len(widths) > _MAX_RECORDS else widths[:-1]
        has_header = _HEADER.fullmatch(header) is not None and len(widths) > 1
        needed = 1 if has_header else 2
        if len(complete) < needed or complete[0] < 2:
            continue
        same = complete.count(complete[0])
        if same == len(complete) or (has_header and 2 * (same - 1) >= len(complete) - 1 > 1):
            candidates.append((complete[0], separator))
    return max(candidates, key=lambda pair: pair[0])[1] if candidates else None


def _record_widths(text: str, separator: str) -> list[int]:
    """Return the number of cells of the first records; none if one of them is JSON."""
    import csv

    widths: list[int] = []
    lines = re.split(r"\r\n?|\n", text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    start = 0
    try:
        for record in reader:
            if record:
                if lines[start].lstrip()[:1] in ("{", "["):
                    return []
                widths.append(len(record))
            if len(widths) > _MAX_RECORDS:
                break
            start = reader.line_num
    except csv.Error:
        pass
    return widths


def _table(text: bytes, *, is_complete: bool) -> Issue | None:
    """Recognise CSV and its relatives."""
    start = text.lstrip()
    if start[:1] in (b"{", b"[") or _JSON_MEMBER.match(text) or JSON_TEXT.match(start):
        return None
    separator = find_separator(text.decode("utf-8", "replace"), is_complete=is_complete)
    detail = f"columns separated by {SEPARATOR_NAMES[separator]}" if separator else ""
    return Issue("FILE_CSV", detail=detail) if separator else None


_JSON_MEMBER = re.compile(rb'\s*"(?:[^"\\]|\\.)*"\s*:')
