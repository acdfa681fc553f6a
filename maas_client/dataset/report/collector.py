"""Collect the problems of one file: complete counts, and as many problems as a report has room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from maas_client.dataset.codes import Severity
from maas_client.dataset.rules.context import RuleContext
from maas_client.types.report import Problem

MAX_PER_CODE = 25
"""Problems of one code that are listed before any code gets more."""
MAX_PROBLEMS = 2000
"""Problems listed of all files of a check."""
MAX_REPORT_BYTES = 850_000
"""Size of the listed problems as indented JSON: a whole report is smaller than a megabyte."""
_OVERHEAD_BYTES = 330
"""Of a problem as JSON: the names of its fields, numbers and indentation."""
ONCE_PER_FILE = frozenset(("CHAT_SYSTEM_MERGED", "SERVICE_SPLIT"))
"""Listed once per file, because it applies to every row in the same way."""


class ProblemCollector:
    """Counts issues by code, and says whether a problem is still worth locating and listing."""

    def __init__(
        self,
        context: RuleContext,
        ignore: Collection[str] = (),
        warn: Collection[str] = (),
        *,
        share: float = 1,
    ) -> None:
        """``share``: the part of a report's room for this file, as a check can have several."""
        self.context = context
        self.max_problems = max(MAX_PER_CODE, int(MAX_PROBLEMS * share))
        self.max_bytes = int(MAX_REPORT_BYTES * share)
        self.ignore = frozenset(ignore)
        self.warn = frozenset(warn)
        self.counts: Counter[str] = Counter()
        self.suppressed: Counter[str] = Counter()
        self.downgraded: Counter[str] = Counter()
        self.errors = 0
        self._listed: Counter[str] = Counter()
        self._beyond_limit = 0
        """Problems added beyond ``MAX_PER_CODE`` of their code."""
        self._problems: list[tuple[int, Problem]] = []
        """Each with its rank among those of its code."""
        self._severities: dict[str, Severity | None] = {}

    def severity(self, code: str) -> Severity | None:
        """Return the severity of a code in this check; None where it is not reported."""
        if code not in self._severities:
            severity = self.context.severity(code)
            if severity and code in self.warn:
                severity = "warning"
            self._severities[code] = severity
        return self._severities[code]

    def count(self, code: str, times: int = 1) -> Severity | None:
        """Count an issue; return its severity, or None if it is not reported."""
        severity = self.severity(code)
        if severity is None:
            return None
        if code in self.ignore:
            self.suppressed[code] += times
            return None
        if code in self.warn and self.context.severity(code) == "error":
            self.downgraded[code] += times
        self.counts[code] += times
        self.errors += times * (severity == "error")
        return severity

    def remaining(self, code: str) -> int:
        """Return how many more problems of this code can be added."""
        listed = self._listed[code]
        if code in ONCE_PER_FILE:
            return 1 - listed
        return max(MAX_PER_CODE - listed, self.max_problems - self._beyond_limit, 0)

    def has_room(self, code: str) -> bool:
        """Return whether another problem of this code can be added."""
        return self.remaining(code) > 0

    def listed_severity(self, code: str) -> Severity | None:
        """Return the severity of a code if its next problem is reported and has room, else None."""
        return self.severity(code) if code not in self.ignore and self.has_room(code) else None

    def add(self, problem: Problem) -> None:
        """Add a problem that was counted and has room."""
        rank = self._listed[problem.code]
        self._listed[problem.code] += 1
        self._beyond_limit += rank >= MAX_PER_CODE
        self._problems.append((min(rank, MAX_PER_CODE), problem))

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems that fit into the report, in the order of the file.

        The first of every code (always), the second of every code, and so on up to ``MAX_PER_CODE``;
        then the others in the order of the file.
        """
        fitting: list[Problem] = []
        bytes_left = self.max_bytes
        for rank, problem in sorted(self._problems, key=lambda item: (item[0], *_order(item[1]))):
            bytes_left -= _json_size(problem)
            if rank and (bytes_left < 0 or len(fitting) >= self.max_problems):
                break
            fitting.append(problem)
        return tuple(sorted(fitting, key=_order))

    def stats(self, problems: Iterable[Problem]) -> dict[str, Any]:
        """Return the counts of what is not among the listed ``problems``, by reason and code."""
        listed = Counter(problem.code for problem in problems)
        not_shown = {code: n - listed[code] for code, n in sorted(self.counts.items())}
        figures = {
            "suppressed": dict(sorted(self.suppressed.items())),
            "lowered_to_warning": dict(sorted(self.downgraded.items())),
            "not_shown": {code: n for code, n in not_shown.items() if n},
        }
        return {name: counts for name, counts in figures.items() if counts}


def first_per_code(problems: Iterable[Problem], limit: int = MAX_PER_CODE) -> list[Problem]:
    """Return the first ``limit`` problems of each code, for lists that people read."""
    seen: Counter[str] = Counter()
    first = []
    for problem in problems:
        seen[problem.code] += 1
        if seen[problem.code] <= limit:
            first.append(problem)
    return first


def _order(problem: Problem) -> tuple[int, int, str]:
    return problem.line, problem.offset, problem.code


def _json_size(problem: Problem) -> int:
    """Return about how many bytes a problem takes as JSON."""
    text = problem.message + problem.hint + problem.pointer
    size = len(text.encode("utf-8", "replace")) + text.count('"') + text.count("\\")
    return size + _OVERHEAD_BYTES
