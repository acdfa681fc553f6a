"""NUL characters in texts: valid JSON, and the end of the text for many a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from operator import contains
from typing import Any

from maas_client.dataset.finding import Finding, Row, strings, texts_of


class Nuls:
    """Finds rows with U+0000 in a text. Flat memory."""

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> Iterator[Finding]:
        """Yield a finding for each text that holds one."""
        every = texts_of(rows)
        plain = chain.from_iterable([texts for texts in every if texts is not None])
        if None not in every and not any(map(contains, plain, repeat("\0"))):
            return
        for number, row in zip(numbers, rows, strict=True):
            for pointer, text in strings(row):
                if "\0" in text:
                    yield Finding("QUALITY_NUL", number, pointer)

    def finish(self) -> tuple[Finding, ...]:
        """Return nothing: every text was told where it stood."""
        return ()

    def stats(self) -> dict[str, Any]:
        """Return nothing: the counts say it all."""
        return {}
