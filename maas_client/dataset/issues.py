"""One issue of a row or a file, before it becomes a ``Problem`` with a place, a severity and a message."""

from __future__ import annotations

from typing import NamedTuple

KeyPath = tuple[str | int, ...]
"""Keys and indices that lead to a value within a JSON value."""
_MAX_QUOTED_CHARS = 24


class Issue(NamedTuple):
    """What a rule or a scanner found. ``detail`` never contains a secret or the text of a row."""

    code: str
    path: KeyPath = ()
    """Keys and indices that lead to the value within the row; empty for the row or the file."""
    detail: str = ""
    """What differs from case to case; printed after the code's own message."""
    in_key: bool = False
    """True: the issue is in the member's key, not in its value."""
    char_offset: int | None = None
    """Characters into the string at ``path``; None where the issue is the value as a whole."""
    line: int = 0
    """Line number from 1; 0 for the file as a whole, and where the caller knows the line."""
    hint: str = ""
    """What to do in this case, where it is more exact than the code's own hint."""


def quote_if_safe(word: object) -> str:
    """Return a word of a row in quotes if it is short and made of ASCII letters, else nothing.

    Reports are shared and logged, so they must not repeat the text of a row.
    """
    if not isinstance(word, str) or not 0 < len(word) <= _MAX_QUOTED_CHARS:
        return ""
    return f"'{word}'" if word.isascii() and word.replace("_", "").isalpha() else ""


def json_type(value: object) -> str:
    """Return the name of a value's JSON type, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "an array" if isinstance(value, list) else "an object")
