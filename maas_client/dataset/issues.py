"""A rule that a row breaks, before it gets its place in the file."""

from __future__ import annotations

from typing import NamedTuple

KeyPath = tuple[str | int, ...]
_STEP_CHARS = 80
"""Of a key in a pointer: keys can be as long as the line."""


_COVERED_CHARS = 16_384
"""Of a key that are looked through for secrets before it is shown: more than any secret has."""


class Issue(NamedTuple):
    """``detail`` says what differs from case to case; it never holds the text of a row."""

    code: str
    path: KeyPath = ()
    """Where in the row: keys and indices."""
    detail: str = ""
    in_key: bool = False
    """True: the fault is the member's key, not its value."""
    char_offset: int | None = None
    """How many characters into the text that ``path`` names; None where it is the value as a whole."""


def to_pointer(path: KeyPath) -> str:
    """Return a path as a JSON pointer (RFC 6901).

    Very long keys are cut, half characters replaced, and secrets in keys covered.
    """
    return "".join("/" + _step(part) for part in path)


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return str(part)
    part = mask_secrets(part[:_COVERED_CHARS])
    cut = part if len(part) <= _STEP_CHARS else part[:_STEP_CHARS] + "…"
    whole = cut.encode("utf-8", "replace").decode()
    return whole.replace("~", "~0").replace("/", "~1")


def mask_secrets(text: str) -> str:
    """Return a text with a bullet for every character of a secret."""
    from maas_client.dataset.scanners.secrets import (
        find_secrets,  # here: only what is shown needs it
    )

    pieces, at = [], 0
    for start, end in sorted((start, end) for _, start, end in find_secrets(text)):
        pieces += [text[at:start], "•" * (end - start)]
        at = end
    return "".join(pieces) + text[at:]


def from_pointer(text: str) -> KeyPath:
    """Return a JSON pointer as a path; steps that are digits become indices."""
    steps = text.split("/")[1:]
    plain = (step.replace("~1", "/").replace("~0", "~") for step in steps)
    return tuple(int(step) if step.isascii() and step.isdigit() else step for step in plain)


def quote_if_safe(word: object) -> str:
    """Return a word of a row if it is one that may be shown: short, and made of letters."""
    text = str(word)
    plain = isinstance(word, str) and 0 < len(text) <= 24 and text.replace("_", "").isalpha()
    return f"'{text}'" if plain and text.isascii() else ""


def json_type(value: object) -> str:
    """Return what JSON calls a value."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
