"""NUL characters in texts: valid JSON, and the end of the text for many a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from maas_client.dataset.parsing.prefilter import Prefilter
from maas_client.dataset.scanners.scanner import Finding, Row, iter_strings


class NulScanner:
    """Finds rows with U+0000 in a text. Flat memory."""

    def __init__(self) -> None:
        self._sieve = Prefilter(by_literal={"u0000": r"\\u0000"})

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> Iterator[Finding]:
        """Yield a finding for each text that holds one."""
        for at in sorted(self._sieve(lines)):
            for pointer, text in iter_strings(rows[at]):
                if "\0" in text:
                    yield Finding("QUALITY_NUL", numbers[at], pointer)

    def finish(self) -> tuple[Finding, ...]:
        """Return nothing: every text was told where it stood."""
        return ()

    def stats(self) -> dict[str, Any]:
        """Return nothing: the counts say it all."""
        return {}
