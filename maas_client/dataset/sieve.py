"""Which lines of a block need a closer look: many patterns, a fraction of a nanosecond per byte.

The engine is the one that pydantic brings along for its own patterns (Rust's regex crate): it finds
a pattern that begins with a literal or a rare character by comparing 16 or 32 bytes at once. So each
pattern is matched by itself over a whole block, and over its lines only where the block has it. Two
dozen such passes cost less than one pass of an automaton that looks for all of them, or one search
of Python's for a single word. Patterns must not match a line feed, and cannot look around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

Holds = Callable[[str], bool]


@lru_cache(maxsize=128)
def compiled(pattern: str) -> Holds:
    """Return a function that tells whether a text holds a pattern (Rust's syntax)."""
    from pydantic_core import SchemaValidator, core_schema

    return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python


_last: tuple[Sequence[bytes], str] = ((), "")
"""The block that was joined last: every scanner of a file is fed the same list in turn."""
_numbers: dict[str, None] = {}
"""What all sieves look for behind a digit."""
_looked: tuple[str, int, bool] = ("", 0, False)
"""The text that was last looked through, for how many of these, and whether it holds any."""


def joined(lines: Sequence[bytes]) -> str:
    """Return lines as one text, a line feed between them; made once for a block."""
    global _last
    known, text = _last
    if known is not lines:
        text = b"\n".join(lines).decode("utf-8", "replace")
        _last = (lines, text)
    return text


def _holds_numbers(whole: str) -> bool:
    """Return whether a block holds any of ``_numbers``: found out once for all sieves."""
    global _looked
    known, patterns, found = _looked
    if known is not whole or patterns != len(_numbers):
        found = compiled(f"[0-9](?:{'|'.join(_numbers)})")(whole)
        _looked = (whole, len(_numbers), found)
    return found


class Sieve:
    """Some patterns, ready to be looked for.

    A pattern that begins with nothing rare may be a pair: first one that is found faster and that
    every match of the second holds. ``heads`` are rare texts, one of which every pattern begins with:
    a dozen of them are looked for at once in the time of four patterns. ``numbers`` are what may stand
    behind a digit; a pass over digits takes its time, so there is one for those of all sieves.
    """

    def __init__(
        self,
        *patterns: str | tuple[str, str],
        heads: Sequence[str] = (),
        numbers: Sequence[str] = (),
    ) -> None:
        pairs = [("", each) if isinstance(each, str) else each for each in patterns]
        self._holds = [(first and compiled(first), compiled(then)) for first, then in pairs]
        self._heads = compiled("|".join(map(re.escape, heads))) if heads else None
        self._numbers = compiled(f"[0-9](?:{'|'.join(numbers)})") if numbers else None
        _numbers.update(dict.fromkeys(numbers))

    def __call__(self, lines: Sequence[bytes]) -> set[int]:
        """Return the indices of the lines that hold a pattern."""
        whole = joined(lines)
        if self._heads is not None and not self._heads(whole):
            return set()
        found = [holds for first, holds in self._holds if not first or first(whole)]
        if self._numbers is not None and _holds_numbers(whole):
            found.append(self._numbers)
        found = [holds for holds in found if holds(whole)]
        if not found:
            return set()
        texts = [line.decode("utf-8", "replace") for line in lines]
        return {at for holds in found for at, text in enumerate(texts) if holds(text)}
