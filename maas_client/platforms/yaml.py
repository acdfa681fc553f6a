"""YAML that every reader reads alike: block style, and quotes wherever YAML 1.1 and 1.2 differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = frozenset(["y", "n", "yes", "no", "true", "false", "on", "off", "null", "none"])
"""Plain words that one reader or another takes for something else than text."""
_UNSEEN = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def dump(value: Mapping[str, Any]) -> str:
    """Return a mapping of JSON-ready values as a YAML document that ends with a newline."""
    return "".join(f"{line}\n" for line in _mapping(value))


def dump_all(*values: Mapping[str, Any]) -> str:
    """Return several documents in one text."""
    return "---\n".join(map(dump, values))


def _lines(value: Any) -> Iterator[str]:
    """Yield the lines of a value that does not fit behind its key."""
    if isinstance(value, Mapping):
        yield from _mapping(value)
        return
    for item in value:
        first, *rest = _lines(item) if _is_block(item) else [_scalar(item)]
        yield f"- {first}"
        yield from (f"  {line}" for line in rest)


def _mapping(value: Mapping[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        name = _scalar(key)
        if isinstance(inner, str) and _is_paragraph(inner):
            yield f"{name}: |"
            yield from (f"  {line}" if line else "" for line in inner[:-1].split("\n"))
        elif _is_block(inner):
            yield f"{name}:"
            yield from (f"  {line}" for line in _lines(inner))
        else:
            yield f"{name}: {_scalar(inner)}"


def _is_block(value: Any) -> bool:
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and bool(value)


def _is_paragraph(text: str) -> bool:
    """Tell whether a text is safe as a literal block: lines, ended by exactly one newline."""
    lines = text.split("\n")
    return (
        len(lines) > 2
        and lines[-1] == ""
        and lines[-2] != ""
        and lines[0][:1] not in ("", " ")
        and all(line.isprintable() for line in lines)
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else _quoted(value)
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        text = repr(value)
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else text
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence):
        return "[]"
    return json.dumps(value, allow_nan=False)


def _quoted(text: str) -> str:
    return _UNSEEN.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(text, ensure_ascii=False))
