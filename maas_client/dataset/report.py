"""Locate issues in a file, and collect them as the problems of its report.

First each issue becomes a ``Problem`` with line, column, byte offset, JSON pointer and message. Then the
collector counts all problems of a file and lists as many as a report has room for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from maas_client.dataset.codes import Severity, get_code
from maas_client.dataset.issues import Issue, KeyPath, is_format_word
from maas_client.dataset.parsing.json_scan import JsonDocument, JsonError, byte_offset, scan_json
from maas_client.dataset.parsing.lines import Line
from maas_client.dataset.rules.context import RuleContext
from maas_client.types.report import Problem

_PARAMETER_NAME = re.compile(r"[$A-Za-z_][A-Za-z0-9_-]{0,63}")


def format_message(code: str, detail: str) -> str:
    """Return a problem's message: the code's own message, then what differs from case to case."""
    message = get_code(code).message
    return f"{message}: {detail}" if detail else message


def file_problem(issue: Issue, severity: Severity) -> Problem:
    """Return a problem of the file as a whole."""
    return Problem.model_construct(
        code=issue.code,
        severity=severity,
        line=0,
        column=0,
        offset=0,
        pointer="",
        message=format_message(issue.code, issue.detail),
        hint=issue.hint or get_code(issue.code).hint,
    )


def json_problem(error: JsonError, severity: Severity, line: Line) -> Problem:
    """Return a problem of a line that is not strict JSON."""
    issue = Issue(error.code, error.path, error.message)
    return _to_problem(issue, severity, line, error.byte_column - 1)


def line_problem(code: str, severity: Severity, line: Line) -> Problem:
    """Return a problem of a line, placed at its first byte."""
    return _to_problem(Issue(code), severity, line, 0)


def row_problems(issues: Sequence[tuple[Issue, Severity]], line: Line) -> Iterator[Problem]:
    """Yield the problems of one row, each at the key, value or character that it is about."""
    document = scan_json(line.data, [issue.path for issue, _ in issues])
    positions = [_position(issue, document, line.data) for issue, _ in issues]
    columns = _columns(line.data, positions)
    for (issue, severity), position in zip(issues, positions, strict=True):
        yield _to_problem(issue, severity, line, position, columns[position])


def to_pointer(path: KeyPath) -> str:
    """Return a path as a JSON pointer (RFC 6901), safe to print.

    It ends before the first key that may be text of the row, so it can point to the object that has the key.
    Keys of a tool's declaration are names of parameters, and stay.
    """
    is_declaration = path[:1] in (("tools",), ("functions",))
    steps = []
    for step in path:
        if isinstance(step, str):
            is_name = is_declaration and _PARAMETER_NAME.fullmatch(step) is not None
            if not is_name and not is_format_word(step):
                break
            if is_name:
                from maas_client.dataset.scanners.secrets import (
                    mask_secrets,  # late: costly patterns
                )

                step = mask_secrets(step)
        steps.append(f"/{step}")
    return "".join(steps)


def _columns(data: bytes, positions: Sequence[int]) -> dict[int, int]:
    """Return the column (from 1) of each byte position, in one pass over a line of any length."""
    columns: dict[int, int] = {}
    column, previous = 1, 0
    for position in sorted(set(positions)):
        column += len(data[previous:position].decode("utf-8", "replace"))
        columns[position], previous = column, position
    return columns


def _position(issue: Issue, document: JsonDocument, data: bytes) -> int:
    """Return the byte position of an issue within its line.

    The first that exists of: the key or the character in it, the character in the value, the value,
    the nearest container of the value.
    """
    path = issue.path
    if issue.in_key and path in document.key_offsets:
        start = document.key_offsets[path]
        return start if issue.char_offset is None else byte_offset(data, start, issue.char_offset)
    if issue.char_offset is not None and path in document.spans:
        return byte_offset(data, document.spans[path][0], issue.char_offset)
    while path not in document.spans and path:
        path = path[:-1]
    return document.spans.get(path, (0, 0))[0]


def _to_problem(
    issue: Issue, severity: Severity, line: Line, position: int, column: int | None = None
) -> Problem:
    return Problem.model_construct(
        code=issue.code,
        severity=severity,
        line=line.number,
        column=column or _columns(line.data, [position])[position],
        offset=line.offset + position,
        pointer=to_pointer(issue.path),
        message=format_message(issue.code, issue.detail),
        hint=issue.hint or get_code(issue.code).hint,
    )


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


def first_per_code(problems: Iterable[Problem]) -> list[Problem]:
    """Return the first problems of each code, for lists that people read."""
    seen: Counter[str] = Counter()
    first = []
    for problem in problems:
        seen[problem.code] += 1
        if seen[problem.code] <= MAX_PER_CODE:
            first.append(problem)
    return first


def _order(problem: Problem) -> tuple[int, int, str]:
    return problem.line, problem.offset, problem.code


def _json_size(problem: Problem) -> int:
    """Return about how many bytes a problem takes as JSON."""
    text = problem.message + problem.hint + problem.pointer
    size = len(text.encode("utf-8", "replace")) + text.count('"') + text.count("\\")
    return size + _OVERHEAD_BYTES
