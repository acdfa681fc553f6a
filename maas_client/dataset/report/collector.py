"""What was found in one file: counts that are complete, problems up to a cap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from maas_client.dataset.codes import Severity
from maas_client.dataset.rules.context import RuleContext
from maas_client.types.report import Problem

MAX_PER_CODE = 25
"""Problems of one code that are listed before any code has more."""
MAX_PROBLEMS = 2000
"""Problems listed of all files of a check."""
MAX_REPORT_BYTES = 850_000
"""What those may take, as JSON with indents: a report is less than a megabyte."""
_AROUND_BYTES = 330
"""Of a problem as JSON: its fields' names, numbers and indents."""
ONCE_PER_FILE = frozenset(("CHAT_SYSTEM_MERGED", "SERVICE_SPLIT"))
"""Said once per file: it holds for row after row in the same way."""


class ProblemCollector:
    """Counts by code. ``wanted`` says whether a problem is still worth its words and its place."""

    def __init__(
        self,
        context: RuleContext,
        ignore: Collection[str] = (),
        warn: Collection[str] = (),
        *,
        share: float = 1,
    ) -> None:
        """``share``: of the room that a report has, as it may be about several files."""
        self.context = context
        self.max_problems = max(MAX_PER_CODE, int(MAX_PROBLEMS * share))
        self.max_bytes = int(MAX_REPORT_BYTES * share)
        self.ignore = frozenset(ignore)
        self.warn = frozenset(warn)
        self.counts: Counter[str] = Counter()
        self.suppressed: Counter[str] = Counter()
        self.downgraded: Counter[str] = Counter()
        self.errors = 0
        self._kept: Counter[str] = Counter()
        self._more = 0
        """Problems kept beyond ``MAX_PER_CODE`` of their code."""
        self._problems: list[tuple[int, Problem]] = []
        """Each with its rank among those of its code."""
        self._severities: dict[str, Severity | None] = {}

    def severity(self, name: str) -> Severity | None:
        """Return how bad a code is for this check; None where it is not reported."""
        if name not in self._severities:
            severity = self.context.severity(name)
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
        if name in self.warn and self.context.severity(name) == "error":
            self.downgraded[name] += times
        self.counts[name] += times
        self.errors += times * (severity == "error")
        return severity

    def remaining(self, name: str) -> int:
        """Return how many more problems of this code are kept."""
        kept = self._kept[name]
        if name in ONCE_PER_FILE:
            return 1 - kept
        return max(MAX_PER_CODE - kept, self.max_problems - self._more, 0)

    def has_room(self, name: str) -> bool:
        """Return whether another problem of this code is kept."""
        return self.remaining(name) > 0

    def listed_severity(self, name: str) -> Severity | None:
        """Return the severity of a code whose next problem is reported and wanted, else None."""
        return self.severity(name) if name not in self.ignore and self.has_room(name) else None

    def add(self, problem: Problem) -> None:
        """Keep a problem that was counted and is wanted."""
        rank = self._kept[problem.code]
        self._kept[problem.code] += 1
        self._more += rank >= MAX_PER_CODE
        self._problems.append((min(rank, MAX_PER_CODE), problem))

    def problems(self) -> tuple[Problem, ...]:
        """Return what there is room for, in the order of the file.

        The first of every code (always), the second of every code, and so on up to ``MAX_PER_CODE``;
        then what stands first in the file.
        """
        chosen: list[Problem] = []
        left = self.max_bytes
        for rank, problem in sorted(self._problems, key=lambda kept: (kept[0], *_place(kept[1]))):
            left -= _size(problem)
            if rank and (left < 0 or len(chosen) >= self.max_problems):
                break
            chosen.append(problem)
        return tuple(sorted(chosen, key=_place))

    def stats(self, problems: Iterable[Problem]) -> dict[str, Any]:
        """Return what was counted and is not among the problems listed, by code."""
        shown = Counter(problem.code for problem in problems)
        more = {name: n - shown[name] for name, n in sorted(self.counts.items())}
        figures = {
            "suppressed": dict(sorted(self.suppressed.items())),
            "lowered_to_warning": dict(sorted(self.downgraded.items())),
            "not_shown": {name: n for name, n in more.items() if n},
        }
        return {name: counted for name, counted in figures.items() if counted}


def first_per_code(problems: Iterable[Problem], limit: int = MAX_PER_CODE) -> list[Problem]:
    """Return the first problems of each code: what a list for people shows."""
    met: Counter[str] = Counter()
    first = []
    for problem in problems:
        met[problem.code] += 1
        if met[problem.code] <= limit:
            first.append(problem)
    return first


def _place(problem: Problem) -> tuple[int, int, str]:
    return problem.line, problem.offset, problem.code


def _size(problem: Problem) -> int:
    """Return about how many bytes a problem takes as JSON."""
    said = problem.message + problem.hint + problem.pointer
    return len(said.encode("utf-8", "replace")) + said.count('"') + said.count("\\") + _AROUND_BYTES
