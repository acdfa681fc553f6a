"""Tokens of a file: how many, how many of them are learned, how long the rows are, what is cut."""

from __future__ import annotations

from collections import Counter as Times
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from maas_client.dataset.issues import Issue
from maas_client.dataset.scanners.scanner import Row, collect_strings, message_texts
from maas_client.dataset.scanners.token_counting import (
    EstimatedCounter,
    ExactCounter,
    TokenCounter,
    load_token_counter,
    token_bounds,
)

__all__ = [
    "EstimatedCounter",
    "ExactCounter",
    "TokenCounter",
    "TokenLimits",
    "TokenScanner",
    "load_token_counter",
    "token_bounds",
]

PERCENTILES = (50, 90, 95, 99)
MAX_BARS = 24
"""In a histogram, at most."""
WORD_COUNT_BYTES = 1 << 19
"""Of the beginning of a file: up to here the lower bound counts words, beyond it rows."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What a service takes. None: nobody says."""

    per_row: int | None = None
    """Tokens of a row; what is beyond is cut off."""
    per_file: int | None = None
    """Tokens of a file times epochs."""
    epochs: float = 1


class TokenScanner:
    """Counts the tokens of every row. Memory: one number for each different length."""

    def __init__(self, counter: TokenCounter, limits: TokenLimits | None = None) -> None:
        self.counter = counter
        self.limits = limits or TokenLimits()
        self._totals: Times[int] = Times()
        self._learned: Times[int] = Times()
        self._low = self._high = self._over = 0

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> list[Issue]:
        """Count; return a finding for each row over the model's length."""
        texts = message_texts(rows)
        sizes = self.counter.sizes(rows, texts)
        self._totals.update(sizes.totals)
        self._learned.update(sizes.learned)
        if not self.counter.is_exact:
            self._bound(lines, rows, texts)
        most = self.limits.per_row
        if most is None or max(sizes.totals, default=0) <= most:
            return []
        found: list[Issue] = []
        for at, total in enumerate(sizes.totals):
            if total > most:
                found += self._too_long(numbers[at], total, most)
                if sizes.prompt(at) >= most and self._surely(rows[at], most):
                    found.append(Issue("SERVICE_NOTHING_LEFT", ("messages",), line=numbers[at]))
        return found

    def _bound(
        self, lines: Sequence[bytes], rows: Sequence[Row], texts: Sequence[list[str] | None]
    ) -> None:
        """Add the fewest and the most tokens that these rows can have.

        A row's line is longer than all its texts, and what JSON puts around a message is longer
        than what any template does; tools may be written out with more white space.
        """
        self._high += sum(map(len, lines))
        plain = [each for each in texts if each is not None]
        more = () if len(plain) == len(texts) else [at for at, t in enumerate(texts) if t is None]
        self._high += sum([len(lines[at]) for at in more])
        least = len(rows)
        if self._high < WORD_COUNT_BYTES:
            said = list(chain.from_iterable(plain))
            for at in more:
                said += collect_strings(rows[at])
            joined = "\n".join(said)
            least = max(least, joined.count(" ") - 2 * joined.count("  ") - len(said))
        self._low += least

    def _too_long(self, number: int, total: int, most: int) -> Iterator[Issue]:
        self._over += 1
        about = "" if self.counter.is_exact else "about "
        detail = f"{about}{total:,} tokens, the model is trained on {most:,}"
        yield Issue("SERVICE_TRUNCATED", ("messages",), detail, line=number)

    def _surely(self, row: Row, most: int) -> bool:
        """Return whether nothing learned can be within the length, even if this is an estimate."""
        if self.counter.is_exact:
            return True
        words = 0
        for message in row["messages"]:
            if message.get("role") == "assistant" and message.get("weight", 1) != 0:
                break
            words += sum(token_bounds(text)[0] for text in collect_strings(message.get("content")))
        return words >= most

    def total(self) -> int:
        """Return the tokens of all rows."""
        return sum(size * times for size, times in self._totals.items())

    def bounds(self) -> tuple[int, int]:
        """Return the fewest and the most tokens the file can have."""
        return (self.total(), self.total()) if self.counter.is_exact else (self._low, self._high)

    def finish(self) -> Iterator[Issue]:
        """Say whether the file is more than the service trains."""
        most, epochs = self.limits.per_file, self.limits.epochs
        if most is None:
            return
        total, (low, high) = self.total() * epochs, self.bounds()
        detail = f"{total:,.0f}, at most {most:,}"
        if total > most and low * epochs > most:
            yield Issue("SERVICE_TOO_MANY_TOKENS", detail=detail)
        elif high * epochs > most and total * 1.5 > most:
            yield Issue("SERVICE_MANY_TOKENS", detail=detail)

    def stats(self) -> dict[str, Any]:
        """Return totals with their bounds, percentiles and a histogram."""
        if not self._totals:
            return {}
        low, high = self.bounds()
        said: dict[str, Any] = {
            "counted_by": self.counter.name,
            "exact": self.counter.is_exact,
            "total": self.total(),
            "at_least": low,
            "at_most": high,
            "learned": sum(size * times for size, times in self._learned.items()),
            "per_row": percentiles(self._totals),
            "learned_per_row": percentiles(self._learned),
            "histogram": histogram(self._totals),
        }
        if self.limits.per_row is not None:
            said |= {"row_limit": self.limits.per_row, "rows_over_limit": self._over}
        return {"tokens": said}


def percentiles(times: Times[int]) -> dict[str, int | float]:
    """Return least, mean, percentiles (nearest rank) and most of counted numbers."""
    count = times.total()
    ordered = sorted(times.items())
    said: dict[str, int | float] = {
        "min": ordered[0][0],
        "mean": round(sum(n * t for n, t in ordered) / count, 1),
    }
    waiting = [(f"p{p}", -(-count * p // 100)) for p in PERCENTILES]
    seen = 0
    for number, more in ordered:
        seen += more
        while waiting and seen >= waiting[0][1]:
            said[waiting.pop(0)[0]] = number
    said["max"] = ordered[-1][0]
    return said


def histogram(times: Times[int], bars: int = MAX_BARS) -> list[dict[str, int]]:
    """Return bars ``{"from": , "to": , "rows": }``, ``to`` excluded, all of one round width.

    The last one alone may be wider: it takes what is beyond the 99th percentile, so that one row
    of a book's length does not press all others into one bar.
    """
    most = max(times)
    usual = int(percentiles(times)["p99"])
    steps = (base * 10**power for power in range(12) for base in (1, 2, 5))
    width = next(step for step in steps if step * bars > usual)
    last = usual // width
    counted = [0] * (last + 1)
    beyond = 0
    for number, more in times.items():
        if number // width > last:
            beyond += more
        else:
            counted[number // width] += more
    first = next(at for at, rows in enumerate(counted) if rows)
    drawn = [
        {"from": at * width, "to": (at + 1) * width, "rows": counted[at]}
        for at in range(first, last + 1)
    ]
    rest = {"from": (last + 1) * width, "to": most + 1, "rows": beyond}
    return [*drawn, rest] if beyond else drawn
