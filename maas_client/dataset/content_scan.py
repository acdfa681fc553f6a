"""The content scanners of one file: run them on the valid rows, and locate what they find.

A scanner returns issues with a line number, a path and perhaps a character; here they are counted and
become problems with a place in the file. For issues found at the end of the pass the lines are read
again, as far as the report has room for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from maas_client.dataset.block_validator import ValidRows
from maas_client.dataset.codes import Severity
from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.lines import Line, LineIndex
from maas_client.dataset.report import ProblemCollector, file_problem, row_problems
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.scanners import Scanner
from maas_client.dataset.scanners.duplicates import DuplicateScanner, RepeatedLineScanner
from maas_client.dataset.scanners.near_duplicates import NearDuplicateScanner, make_row_reader
from maas_client.dataset.scanners.pii import PiiScanner
from maas_client.dataset.scanners.quality import NulScanner, QualityScanner
from maas_client.dataset.scanners.secrets import SecretScanner
from maas_client.dataset.scanners.split_order import SplitOrderScanner
from maas_client.dataset.scanners.token_counting import load_token_counter
from maas_client.dataset.scanners.tokens import (
    PreferenceTokenScanner,
    TokenLimits,
    TokenScanner,
)


def make_scanners(
    context: RuleContext,
    *,
    full: bool,
    epochs: float | None = None,
    training_scanners: Sequence[Scanner] = (),
    has_validation_file: bool = True,
    service_splits: bool = False,
    duplicates_process: Scanner | None = None,
) -> list[Scanner]:
    """Return new scanners for one file.

    Args:
        context: the target and the model of the check.
        full: every scanner; False: only the one for repeated lines.
        epochs: for the limit on tokens times epochs.
        training_scanners: for a validation file, the finished scanners of the training files.
        has_validation_file: a validation file will be compared with these rows.
        service_splits: the service takes its validation rows from this file.
        duplicates_process: takes the place of the scanners for duplicates and near duplicates.
    """
    if not full:
        return [RepeatedLineScanner()]
    max_tokens = None if training_scanners else context.limits.get_int("tokens_times_epochs_max")
    model = context.model.name if context.model else None
    token_limits = TokenLimits(per_row=context.max_tokens, per_file=max_tokens, epochs=epochs or 1)
    if context.method == "DPO":
        counter = PreferenceTokenScanner(load_token_counter(model), token_limits)
        return [RepeatedLineScanner(), SecretScanner(), PiiScanner(), NulScanner(), counter]
    share = context.limits.get_float("validation_split") if service_splits else None
    return [
        *(
            [duplicates_process]
            if duplicates_process
            else _duplicate_scanners(training_scanners, has_validation_file=has_validation_file)
        ),
        SecretScanner(),
        PiiScanner(),
        QualityScanner(),
        NulScanner(),
        TokenScanner(load_token_counter(model), token_limits),
        *([SplitOrderScanner(share)] if share else []),
    ]


def _duplicate_scanners(
    training_scanners: Sequence[Scanner], *, has_validation_file: bool
) -> list[Scanner]:
    exact = DuplicateScanner(
        [scanner for scanner in training_scanners if isinstance(scanner, DuplicateScanner)]
    )
    near = NearDuplicateScanner(
        exact,
        training=[
            scanner for scanner in training_scanners if isinstance(scanner, NearDuplicateScanner)
        ],
        keep_pieces=has_validation_file and not training_scanners,
    )
    return [exact, near]


class ContentScan:
    """The scanners of one file, and the counting and locating of their issues."""

    def __init__(
        self, scanners: Sequence[Scanner], collector: ProblemCollector, index: LineIndex
    ) -> None:
        self.scanners = scanners
        self.collector = collector
        self.index = index
        self.lines_with_errors: set[int] = set()
        """Rows in which a scanner found an error, although their format is valid."""

    def feed(self, valid: ValidRows) -> None:
        """Give some valid rows to every scanner."""
        if not valid.numbers:
            return
        for scanner in self.scanners:
            issues = list(scanner.feed(valid.numbers, valid.lines, valid.rows))
            for number, row_issues in groupby(self._count(issues), key=attrgetter("line")):
                self._add_row(list(row_issues), valid.get_line(number))

    def finish(self, path: str) -> dict[str, Any]:
        """Add the issues that only the whole file shows; return the scanners' figures."""
        listed: list[Issue] = []
        for scanner in self.scanners:
            if isinstance(scanner, NearDuplicateScanner):
                scanner.read_rows = make_row_reader(self.index, path)
            listed += self._count(scanner.finish())
        by_line: dict[int, list[Issue]] = {}
        for issue in listed:
            if issue.line:
                by_line.setdefault(issue.line, []).append(issue)
            elif severity := self.collector.listed_severity(issue.code):
                self.collector.add(file_problem(issue, severity))
        for line in self.index.read_lines(path, by_line):
            self._add_row(by_line[line.number], line)
        stats: dict[str, Any] = {}
        for scanner in self.scanners:
            stats |= scanner.stats()
        return stats

    def _count(self, issues: Iterable[Issue]) -> list[Issue]:
        """Count issues; return those that the report has room for."""
        listed: list[Issue] = []
        per_code: dict[str, int] = {}
        for issue in issues:
            if severity := self.collector.count(issue.code):
                if severity == "error" and issue.line:
                    self.lines_with_errors.add(issue.line)
                count = per_code.get(issue.code, 0)
                if self.collector.remaining(issue.code) > count:
                    per_code[issue.code] = count + 1
                    listed.append(issue)
        return listed

    def _add_row(self, issues: list[Issue], line: Line) -> None:
        """Add the problems of one row, locating all of its issues in one scan of the line."""
        listed: list[tuple[Issue, Severity]] = []
        for issue in issues:
            if severity := self.collector.listed_severity(issue.code):
                listed.append((issue, severity))
        for problem in row_problems(listed, line) if listed else ():
            if self.collector.has_room(problem.code):
                self.collector.add(problem)
