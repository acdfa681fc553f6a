"""Which lines of a block need a closer look: many patterns, a fraction of a nanosecond per byte.

The engine is the one that pydantic brings along for its own patterns (Rust's regex crate): it finds
a pattern that begins with a literal or a rare character by comparing 16 or 32 bytes at once. So each
pattern is matched by itself over a whole block, and over its lines only where the block has it. Two
dozen such passes cost less than one pass of an automaton that looks for all of them, or one search
of Python's for a single word. Patterns must not match a line feed, and cannot look around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

Matcher = Callable[[str], bool]


@lru_cache(maxsize=128)
def compile_pattern(pattern: str) -> Matcher:
    """Return a function that tells whether a text holds a pattern (Rust's syntax)."""
    from pydantic_core import SchemaValidator, core_schema

    return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python


_last: tuple[Sequence[bytes], str] = ((), "")
"""The block that was joined last: every scanner of a file is fed the same list in turn."""
_TOGETHER = 8
"""Texts that the engine looks for at once in the time of three; from the ninth on it is slower."""


def join_lines(lines: Sequence[bytes]) -> str:
    """Return lines as one text, a line feed between them; made once for a block."""
    global _last
    known, text = _last
    if known is not lines:
        text = b"\n".join(lines).decode("utf-8", "replace")
        _last = (lines, text)
    return text


class _Shared:
    """What all sieves look for together: found out once for a block."""

    def __init__(self, form: str, together: int) -> None:
        """``form``: a pattern, with braces for the choice between ``together`` parts."""
        self._form = form
        self._together = together
        self._parts: dict[str, None] = {}
        self._looked: tuple[str, int, set[str]] = ("", 0, set())
        """The text that was last looked through, for how many parts, and which it may hold."""

    def add(self, parts: Iterable[str]) -> None:
        """Look for some parts from now on."""
        self._parts.update(dict.fromkeys(parts))

    def __call__(self, whole: str) -> set[str]:
        """Return the parts that a block may hold: of those looked for at once, all or none."""
        known, count, found = self._looked
        if known is not whole or count != len(self._parts):
            parts = sorted(self._parts, key=len)  # the engine compares as far as the shortest goes
            found = set()
            for at in range(0, len(parts), self._together):
                group = parts[at : at + self._together]
                if compile_pattern(self._form.format("|".join(group)))(whole):
                    found.update(group)
            self._looked = (whole, len(parts), found)
        return found


_numbers = _Shared("[0-9](?:{})", together=1000)
_rare = _Shared("{}", together=_TOGETHER)


class Prefilter:
    """Some patterns, ready to be looked for.

    ``rare`` are patterns by a rare text that each match holds, of at least three characters: those
    texts are looked for several at once, for all sieves. ``numbers`` are what may stand behind a digit;
    a pass over digits takes its time, so there is one for those of all sieves.
    """

    def __init__(
        self,
        *patterns: str,
        by_literal: Mapping[str, str] = MappingProxyType({}),
        after_digit: Sequence[str] = (),
    ) -> None:
        self._holds = list(map(compile_pattern, patterns))
        self._rare = [
            (re.escape(text), compile_pattern(pattern)) for text, pattern in by_literal.items()
        ]
        _rare.add(text for text, _ in self._rare)
        self._numbers = (
            compile_pattern(f"[0-9](?:{'|'.join(after_digit)})") if after_digit else None
        )
        _numbers.add(after_digit)

    def __call__(self, lines: Sequence[bytes]) -> set[int]:
        """Return the indices of the lines that hold a pattern."""
        whole = join_lines(lines)
        found = [holds for holds in self._holds if holds(whole)]
        if self._rare and (maybe := _rare(whole)):
            found += [holds for text, holds in self._rare if text in maybe and holds(whole)]
        if self._numbers is not None and _numbers(whole) and self._numbers(whole):
            found.append(self._numbers)
        if not found:
            return set()
        texts = [line.decode("utf-8", "replace") for line in lines]
        return {at for holds in found for at, text in enumerate(texts) if holds(text)}
