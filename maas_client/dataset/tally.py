"""What was found in one file: counts that are complete, problems up to a cap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from maas_client.dataset.codes import Severity
from maas_client.dataset.rulebook import Rulebook
from maas_client.types.report import Problem

PER_CODE = 25
"""Problems kept of one code."""
IN_ALL = 500
"""Problems kept of a file: some 300 KB as JSON."""
ONCE = frozenset(("CHAT_SYSTEM_MERGED", "SERVICE_SPLIT"))
"""Said once per file: it holds for row after row in the same way."""


class Tally:
    """Counts by code. ``wanted`` says whether a problem is still worth its words and its place."""

    def __init__(
        self,
        book: Rulebook,
        ignore: Collection[str] = (),
        warn: Collection[str] = (),
    ) -> None:
        self.book = book
        self.ignore = frozenset(ignore)
        self.warn = frozenset(warn)
        self.counts: Counter[str] = Counter()
        self.suppressed: Counter[str] = Counter()
        self.lowered: Counter[str] = Counter()
        self.errors = 0
        self._kept: Counter[str] = Counter()
        self._problems: list[Problem] = []
        self._severities: dict[str, Severity | None] = {}

    def severity(self, name: str) -> Severity | None:
        """Return how bad a code is for this check; None where it is not reported."""
        if name not in self._severities:
            severity = self.book.severity(name)
            if severity and name in self.warn:
                severity = "warning"
            self._severities[name] = severity
        return self._severities[name]

    def count(self, name: str, times: int = 1) -> Severity | None:
        """Count a finding; return its severity, or None if it is not to be reported."""
        severity = self.severity(name)
        if severity is None:
            return None
        if name in self.ignore:
            self.suppressed[name] += times
            return None
        if name in self.warn and self.book.severity(name) == "error":
            self.lowered[name] += times
        self.counts[name] += times
        self.errors += times * (severity == "error")
        return severity

    def room(self, name: str) -> int:
        """Return how many more problems of this code are kept; one of each always is."""
        kept = self._kept[name]
        cap = 1 if name in ONCE else PER_CODE
        return min(cap - kept, max(IN_ALL - len(self._problems), kept == 0))

    def wanted(self, name: str) -> bool:
        """Return whether another problem of this code is kept."""
        return self.room(name) > 0

    def shown(self, name: str) -> Severity | None:
        """Return the severity of a code whose next problem is reported and wanted, else None."""
        return self.severity(name) if name not in self.ignore and self.wanted(name) else None

    def keep(self, problem: Problem) -> None:
        """Keep a problem that was counted and is wanted."""
        self._kept[problem.code] += 1
        self._problems.append(problem)

    def problems(self) -> tuple[Problem, ...]:
        """Return what was kept, in the order of the file."""
        return tuple(sorted(self._problems, key=lambda p: (p.line, p.offset, p.code)))

    def stats(self) -> dict[str, Any]:
        """Return what was counted and is not among the problems, by code."""
        more = {name: n - self._kept[name] for name, n in sorted(self.counts.items())}
        figures = {
            "suppressed": dict(sorted(self.suppressed.items())),
            "lowered_to_warning": dict(sorted(self.lowered.items())),
            "not_shown": {name: n for name, n in more.items() if n},
        }
        return {name: counted for name, counted in figures.items() if counted}
