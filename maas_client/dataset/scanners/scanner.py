"""What a scanner saw, before it gets its severity and its words (``codes.py``) and its place.

A scanner is fed every row of a file once, in order, and never reads the file itself: secrets,
PII and quality all ride on the one pass of ``validate``. Rows come in blocks because a filter over
a hundred kilobytes at once costs a third of the same filter line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen. ``detail`` never holds a secret, personal data or the text of a row."""

    code: str
    line: int
    """From 1; 0 where it is the file as a whole."""
    pointer: str = ""
    """JSON pointer (RFC 6901) within the line's value."""
    char_offset: int | None = None
    """How many characters into the text at ``pointer``; None where it is the value as a whole."""
    in_key: bool = False
    """True: it is about the member's key, not its value."""
    detail: str = ""
    """What differs from case to case; put behind the code's own message."""


class Scanner(Protocol):
    """Fed block by block; flat memory unless its own docstring says otherwise."""

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> Iterable[Finding]:
        """Look at some rows: their line numbers (ascending), their bytes and their values."""
        ...

    def finish(self) -> Iterable[Finding]:
        """Say what only the whole file shows. Called once, after the last ``feed``."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return figures for ``FileReport.stats``; JSON values only."""
        ...


def iter_strings(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(pointer, text)`` for every text within a JSON value, in order."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            name = key.replace("~", "~0").replace("/", "~1")
            yield from iter_strings(inner, f"{pointer}/{name}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from iter_strings(inner, f"{pointer}/{at}")


def iter_keys(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(pointer, key)`` for every member within a JSON value, in order."""
    if isinstance(value, dict):
        for key, inner in value.items():
            place = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            yield place, key
            yield from iter_keys(inner, place)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from iter_keys(inner, f"{pointer}/{at}")


def collect_strings(value: Any) -> list[str]:
    """Return every text within a JSON value: what ``strings`` yields, without places or order."""
    found: list[str] = []
    level = [value]
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, str):
                found.append(each)
            elif isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
        level = below
    return found


def message_texts(rows: Sequence[Row]) -> Sequence[list[str] | None]:
    """Return each row's texts, message by message, or None for a row that is more than texts.

    The first text is the system message's, empty if the row has none.
    """
    made: Callable[[], list[list[str]]] | None = getattr(rows, "texts", None)
    return made() if made else [_texts(row) for row in rows]


def _texts(row: Row) -> list[str] | None:
    messages = row["messages"]
    texts = [message.get("content") for message in messages]
    plain = "tools" not in row and all(type(text) is str for text in texts)
    if not plain or any("tool_calls" in message for message in messages):
        return None
    return texts if messages[0].get("role") == "system" else ["", *texts]
