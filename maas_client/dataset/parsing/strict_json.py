"""Parse one line as strict JSON, fast: a compiled parser, and a check that it kept every key.

The parser silently keeps the last of two equal keys. Counting quotes shows that: every key and every
string that it returns has two quotes in the line, and all other quotes of the line are inside its
strings. A line whose quotes do not add up is read again by ``scan_json``, which locates the error.
"""

from __future__ import annotations

from typing import Any

import msgspec

from maas_client.dataset.parsing.json_scan import (
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_VALUES,
    JsonDocument,
    scan_json,
)
from maas_client.dataset.parsing.prefilter import compile_pattern

_decode = msgspec.json.Decoder().decode
PARSE_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)
"""What the parser raises for a line that is not JSON: invalid UTF-8 is a ``ValueError``."""


def parse_json(data: bytes) -> Any:
    """Return the one JSON value in ``data``.

    Raises ``JsonError`` for everything that two readers could read differently: bytes that are not
    UTF-8, duplicate keys, NaN, lone surrogates, numbers that no double represents, nesting beyond 64
    levels.
    """
    document = parse_strict(data)
    if document.errors:
        raise document.errors[0]
    return document.value


def parse_strict(data: bytes) -> JsonDocument:
    """Return what ``scan_json`` returns, faster, without positions if there is no error."""
    try:
        value = _decode(data)
    except PARSE_ERRORS:
        return scan_json(data)
    return JsonDocument(value) if is_lossless(value, data) else scan_json(data)


def is_lossless(value: Any, data: bytes) -> bool:
    """Return whether ``value`` has every key of ``data``, and numbers and depth are within limits.

    False also means that counting quotes does not decide it.
    """
    return _same_quotes_when_encoded(value, data) or _same_quotes_when_counted(value, data)


def _same_quotes_when_encoded(value: Any, data: bytes) -> bool:
    r"""Return whether encoding ``value`` again proves that it is all of ``data``.

    The encoded value has as many quotes as the line if no key was repeated: a quote inside a string
    is escaped with one quote in both, unless the line writes it as ``\\u0022``.
    """
    if len(data) > MAX_VALUES or _has_long_number(data) or rb"\u0022" in data:
        return False
    try:
        encoded = msgspec.json.encode(value)
    except (ValueError, OverflowError, TypeError, RecursionError):
        return False
    return encoded.count(b'"') == data.count(b'"') and (
        encoded.count(b"[") + encoded.count(b"{") <= MAX_DEPTH or not _is_too_deep(value)
    )


def _has_long_number(data: bytes) -> bool:
    return compile_pattern(r"[0-9]{16}")(data.decode("utf-8", "replace"))


def _is_too_deep(value: Any) -> bool:
    """Return whether arrays and objects are nested beyond the limit."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _same_quotes_when_counted(value: Any, data: bytes) -> bool:
    """Return the same as ``_same_quotes_when_encoded``, by counting all keys and strings."""
    strings: list[str] = []
    objects: list[dict[str, Any]] = []
    level, value_count = [value], 0
    for _ in range(MAX_DEPTH):
        next_level: list[Any] = []
        value_count += len(level)
        if value_count > MAX_VALUES:
            return False
        for item in level:
            kind = type(item)
            if kind is str:
                strings.append(item)
            elif kind is dict:
                objects.append(item)
                next_level += item.values()
            elif kind is list:
                next_level += item
            elif kind is int and not -MAX_INTEGER <= item <= MAX_INTEGER:
                return False
        level = next_level
        if not level:
            return _quotes_add_up(strings, objects, data)
    return False


def _quotes_add_up(strings: list[str], objects: list[dict[str, Any]], data: bytes) -> bool:
    excess = data.count(b'"') - 2 * (len(strings) + sum(map(len, objects)))
    if excess == 0:
        return True
    inside = sum([string.count('"') for string in strings])
    keys_have_quotes = any('"' in key for item in objects for key in item)
    return not keys_have_quotes and excess == inside and rb"\u0022" not in data


def collect_strings(value: Any) -> list[str]:
    """Return every string value within a JSON value, in any order. Keys are not included."""
    strings: list[str] = []
    level = [value]
    while level:
        next_level: list[Any] = []
        for item in level:
            if isinstance(item, str):
                strings.append(item)
            elif isinstance(item, dict):
                next_level += item.values()
            elif isinstance(item, list):
                next_level += item
        level = next_level
    return strings
