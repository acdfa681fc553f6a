"""What is looked at in rows that are good: scanners, fed from the one pass, and their findings.

A scanner tells a line, a JSON pointer and perhaps a character; here it gets its place in the file.
What is told at the end of the pass is looked up again in the file, as far as it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from maas_client.dataset.block_check import ValidRows
from maas_client.dataset.codes import Severity
from maas_client.dataset.index import LineIndex
from maas_client.dataset.issues import Issue, from_pointer
from maas_client.dataset.parsing.lines import Line
from maas_client.dataset.report.collector import ProblemCollector
from maas_client.dataset.report.locate import file_problem, row_problems
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.scanners.duplicates import DuplicateScanner, RepeatedLineScanner
from maas_client.dataset.scanners.near_duplicates import NearDuplicateScanner
from maas_client.dataset.scanners.pii import PiiScanner
from maas_client.dataset.scanners.quality import NulScanner, QualityScanner
from maas_client.dataset.scanners.scanner import Finding, Scanner
from maas_client.dataset.scanners.secrets import SecretScanner
from maas_client.dataset.scanners.split_order import SplitOrderScanner
from maas_client.dataset.scanners.tokens import TokenLimits, TokenScanner, load_token_counter


def make_scanners(
    context: RuleContext,
    *,
    full: bool,
    epochs: float | None = None,
    training_scanners: Sequence[Scanner] = (),
    service_splits: bool = False,
) -> list[Scanner]:
    """Return fresh scanners for one file. Not ``everything``: lines that repeat, and no more.

    ``training`` are the scanners of the training files, finished, for a validation file; ``split``
    says that the service makes its own validation file of this one.
    """
    if not full:
        return [RepeatedLineScanner()]
    total = None if training_scanners else context.limits.get_int("tokens_times_epochs_max")
    model = context.model.name if context.model else None
    ceiling = TokenLimits(per_row=context.max_tokens, per_file=total, epochs=epochs or 1)
    share = context.limits.get_float("validation_split") if service_splits else None
    exact = DuplicateScanner(
        [each for each in training_scanners if isinstance(each, DuplicateScanner)]
    )
    near = [each for each in training_scanners if isinstance(each, NearDuplicateScanner)]
    return [
        exact,
        NearDuplicateScanner(exact, training=near),
        SecretScanner(),
        PiiScanner(),
        QualityScanner(),
        NulScanner(),
        TokenScanner(load_token_counter(model), ceiling),
        *([SplitOrderScanner(share)] if share else []),
    ]


class ContentCheck:
    """The scanners of one file, and what they found."""

    def __init__(
        self, scanners: Sequence[Scanner], collector: ProblemCollector, index: LineIndex
    ) -> None:
        self.scanners = scanners
        self.collector = collector
        self.index = index

    def feed(self, good: ValidRows) -> None:
        """Let every scanner look at some good rows."""
        if not good.numbers:
            return
        for scanner in self.scanners:
            found = list(scanner.feed(good.numbers, good.lines, good.rows))
            if wanted := self._count(found):
                self._place(wanted, good)

    def finish(self, path: str) -> dict[str, Any]:
        """Take in what only the whole file shows; return the scanners' figures."""
        late: list[Finding] = []
        for scanner in self.scanners:
            late += self._count(scanner.finish())
        of_rows: dict[int, list[Finding]] = {}
        for finding in late:
            if finding.line:
                of_rows.setdefault(finding.line, []).append(finding)
            else:
                self._keep_about_file(finding)
        for line in self.index.read_lines(path, of_rows):
            self._keep(of_rows[line.number], line)
        stats: dict[str, Any] = {}
        for scanner in self.scanners:
            stats |= scanner.stats()
        return stats

    def _count(self, found: Iterable[Finding]) -> list[Finding]:
        """Count findings; return those that are still to be shown."""
        wanted = []
        asked: dict[str, int] = {}
        for finding in found:
            if self.collector.count(finding.code):
                more = asked.get(finding.code, 0)
                if self.collector.remaining(finding.code) > more:
                    asked[finding.code] = more + 1
                    wanted.append(finding)
        return wanted

    def _place(self, found: list[Finding], good: ValidRows) -> None:
        for number, of_row in groupby(found, key=attrgetter("line")):
            self._keep(list(of_row), good.get_line(number))

    def _keep_about_file(self, finding: Finding) -> None:
        if severity := self.collector.listed_severity(finding.code):
            self.collector.add(file_problem(finding.code, severity, finding.detail))

    def _keep(self, found: list[Finding], line: Line) -> None:
        """Place the findings of one row, in one look at it however many they are."""
        chosen: list[tuple[Issue, Severity]] = []
        for finding in found:
            if severity := self.collector.listed_severity(finding.code):
                path = from_pointer(finding.pointer)
                fault = Issue(
                    finding.code, path, finding.detail, finding.in_key, finding.char_offset
                )
                chosen.append((fault, severity))
        for problem in row_problems(chosen, line) if chosen else ():
            if self.collector.has_room(problem.code):
                self.collector.add(problem)
