"""Write YAML that all parsers read alike: block style, and quotes wherever YAML 1.1 and 1.2 differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN_SCALAR = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_AMBIGUOUS_WORDS = frozenset(["y", "n", "yes", "no", "true", "false", "on", "off", "null", "none"])
"""Words that some parsers read as booleans or null."""
_NON_PRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def dump(value: Mapping[str, Any]) -> str:
    """Return a mapping of JSON values as a YAML document that ends with a newline."""
    return "".join(f"{line}\n" for line in _mapping(value))


def dump_all(*values: Mapping[str, Any]) -> str:
    """Return several documents as one text."""
    return "---\n".join(map(dump, values))


def _lines(value: Any) -> Iterator[str]:
    """Yield the lines of a value that is written below its key."""
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
        if isinstance(inner, str) and _is_literal_block(inner):
            yield f"{name}: |"
            yield from (f"  {line}" if line else "" for line in inner[:-1].split("\n"))
        elif _is_block(inner):
            yield f"{name}:"
            yield from (f"  {line}" for line in _lines(inner))
        else:
            yield f"{name}: {_scalar(inner)}"


def _is_block(value: Any) -> bool:
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and bool(value)


def _is_literal_block(text: str) -> bool:
    """Return whether a text can be a literal block: printable lines that end with exactly one newline."""
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
        plain = _PLAIN_SCALAR.fullmatch(value) and value.lower() not in _AMBIGUOUS_WORDS
        return value if plain else _quote(value)
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        text = repr(value)
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else text
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence):
        return "[]"
    return json.dumps(value, allow_nan=False)


def _quote(text: str) -> str:
    return _NON_PRINTABLE.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(text, ensure_ascii=False))
