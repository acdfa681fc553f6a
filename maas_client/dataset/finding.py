"""What a scanner saw, before it gets its severity and its words (``codes.py``) and its place.

A scanner is fed every row of a file once, in order, and never reads the file itself: secrets,
PII and quality all ride on the one pass of ``validate``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from maas_client.dataset.read import Line


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen. ``detail`` never holds a secret, personal data or the text of a row."""

    code: str
    line: int
    """From 1; 0 where it is the file as a whole."""
    pointer: str = ""
    """JSON pointer (RFC 6901) within the line's value."""
    offset_in_line: int | None = None
    """In bytes from the start of the line, where the scanner knows it."""
    detail: str = ""
    """What differs from case to case; put behind the code's own message."""


class Scanner(Protocol):
    """Fed row by row; flat memory unless its own docstring says otherwise."""

    def feed(self, line: Line, row: dict[str, Any]) -> Iterable[Finding]:
        """Look at one row, which is a chat line of the right shape."""
        ...

    def finish(self) -> Iterable[Finding]:
        """Say what only the whole file shows."""
        ...

    def stats(self) -> dict[str, Any]:
        """Return figures for ``FileReport.stats``; JSON values only."""
        ...
