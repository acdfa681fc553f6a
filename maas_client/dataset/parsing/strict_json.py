"""One line's JSON value, strictly and fast: a compiled parser, and proof that it kept every key.

A parser that takes the last of two equal keys silently cannot hide it from a count: each key and
each text that it returns has two quotes in the line, and what else the line may hold of quotes are
those inside its texts. A line that does not add up is read again by ``scan``, which names the place.
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
"""What the parser raises for a line that is no JSON: bad UTF-8 is a ``ValueError``."""


def parse_strict(data: bytes) -> JsonDocument:
    """Return what ``scan`` would, without the places when there is nothing to explain."""
    try:
        value = _decode(data)
    except PARSE_ERRORS:
        return scan_json(data)
    return JsonDocument(value) if is_lossless(value, data) else scan_json(data)


def is_lossless(value: Any, data: bytes) -> bool:
    """Return whether ``value`` holds every key of ``data``, and numbers and depth are within caps.

    False also means that this cannot be told from counting.
    """
    return _written_alike(value, data) or _counted(value, data)


def _written_alike(value: Any, data: bytes) -> bool:
    r"""Return whether ``value`` is surely all that ``data`` says, by writing it out again.

    Written again it has as many quotes as before, if no key came twice: a quote within a text is
    escaped with one quote both times, unless the line says ``\\u0022``.
    """
    if len(data) > MAX_VALUES or _long_number(data) or rb"\u0022" in data:
        return False
    try:
        again = msgspec.json.encode(value)
    except (ValueError, OverflowError, TypeError, RecursionError):
        return False
    return again.count(b'"') == data.count(b'"') and (
        again.count(b"[") + again.count(b"{") <= MAX_DEPTH or not _deep(value)
    )


def _long_number(data: bytes) -> bool:
    return compile_pattern(r"[0-9]{16}")(data.decode("utf-8", "replace"))


def _deep(value: Any) -> bool:
    """Return whether lists and objects are nested beyond the cap."""
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


def _counted(value: Any, data: bytes) -> bool:
    """Return the same from all keys and texts one by one."""
    texts: list[str] = []
    objects: list[dict[str, Any]] = []
    level, seen = [value], 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        seen += len(level)
        if seen > MAX_VALUES:
            return False
        for item in level:
            kind = type(item)
            if kind is str:
                texts.append(item)
            elif kind is dict:
                objects.append(item)
                below += item.values()
            elif kind is list:
                below += item
            elif kind is int and not -MAX_INTEGER <= item <= MAX_INTEGER:
                return False
        level = below
        if not level:
            return _quotes_add_up(texts, objects, data)
    return False


def _quotes_add_up(texts: list[str], objects: list[dict[str, Any]], data: bytes) -> bool:
    more = data.count(b'"') - 2 * (len(texts) + sum(map(len, objects)))
    if more == 0:
        return True
    inside = sum([text.count('"') for text in texts])
    plain = not any('"' in key for each in objects for key in each)
    return plain and more == inside and rb"\u0022" not in data
