"""Whether rows stand in an order that an unshuffled split would fall foul of.

Without a validation file Azure ML cuts off the last rows. That is harmless for shuffled rows, and
makes the validation loss meaningless if the last rows are of a kind of their own. A row's kind is
its system message here: data sets of several tasks differ in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from maas_client.dataset.scanners.scanner import Finding, Row, message_texts

_RUNS = 10_000
"""Runs of rows of one kind that are remembered; with more, rows are surely mixed."""
_APART = 0.5
"""Share of the last rows that are of kinds more frequent among them than before, from which on it
is told (the total variation distance of the two)."""
_ROWS_A_KIND = 4
"""On average, at least: else nearly every row is of a kind of its own, which tells nothing."""


class SplitOrderScanner:
    """Remembers runs of rows with one system message, and looks at the last rows in the end."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._runs: list[tuple[int, int]] = []
        self._rows = 0

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Finding, ...]:
        """Remember the kinds of some rows."""
        self._rows += len(rows)
        if len(self._runs) > _RUNS:
            return ()
        kinds = [hash(texts[0]) if texts else 0 for texts in message_texts(rows)]
        self._runs += [(kind, sum(1 for _ in run)) for kind, run in groupby(kinds)]
        return ()

    def finish(self) -> Iterator[Finding]:
        """Say if the last rows are of other kinds than those before."""
        last = round(self._rows * self._share)
        if not 0 < last < self._rows or len(self._runs) > _RUNS:
            return
        before, after = self._kinds(self._rows - last)
        if len(before | after) * _ROWS_A_KIND > self._rows:
            return
        more = sum(max(0, n / last - before[k] / before.total()) for k, n in after.items())
        if more > _APART:
            said = f"{more:.0%} of the last {last:,} rows would have to be others"
            yield Finding("SERVICE_SPLIT", 0, detail=f"by their system messages, {said}")

    def _kinds(self, cut: int) -> tuple[Counter[int], Counter[int]]:
        """Count the kinds of the first ``cut`` rows and of the others."""
        before: Counter[int] = Counter()
        after: Counter[int] = Counter()
        seen = 0
        for kind, count in self._runs:
            early = max(0, min(count, cut - seen))
            before[kind] += early
            after[kind] += count - early
            seen += count
        return before, after

    def stats(self) -> dict[str, Any]:
        """Return nothing: what would be cut off stands in the service's part."""
        return {}
