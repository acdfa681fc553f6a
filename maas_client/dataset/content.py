"""What is looked at in rows that are good: scanners, fed from the one pass, and their findings.

A scanner tells a line, a JSON pointer and perhaps a character; here it gets its place in the file.
What is told at the end of the pass is looked up again in the file, as far as it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from maas_client.dataset.codes import Severity
from maas_client.dataset.duplicates import Duplicates
from maas_client.dataset.explain import about_file, about_row
from maas_client.dataset.fault import Fault, path_of
from maas_client.dataset.finding import Finding, Scanner
from maas_client.dataset.index import LineIndex
from maas_client.dataset.judge import Good
from maas_client.dataset.near import NearDuplicates
from maas_client.dataset.nul import Nuls
from maas_client.dataset.order import Order
from maas_client.dataset.pii import Pii
from maas_client.dataset.quality import Quality
from maas_client.dataset.read import Line
from maas_client.dataset.repeats import Repeats
from maas_client.dataset.rulebook import Rulebook
from maas_client.dataset.secrets import Secrets
from maas_client.dataset.tally import Tally
from maas_client.dataset.tokens import Ceiling, Tokens, tokenizer_for


def scanners(
    book: Rulebook,
    *,
    everything: bool,
    epochs: float | None = None,
    training: Sequence[Scanner] = (),
    split: bool = False,
) -> list[Scanner]:
    """Return fresh scanners for one file. Not ``everything``: lines that repeat, and no more.

    ``training`` are the scanners of the training files, finished, for a validation file; ``split``
    says that the service makes its own validation file of this one.
    """
    if not everything:
        return [Repeats()]
    total = None if training else book.limits.int_of("tokens_times_epochs_max")
    model = book.facts.name if book.facts else None
    ceiling = Ceiling(row=book.max_tokens, total=total, epochs=epochs or 1)
    share = book.limits.float_of("validation_split") if split else None
    exact = Duplicates([each for each in training if isinstance(each, Duplicates)])
    near = [each for each in training if isinstance(each, NearDuplicates)]
    return [
        exact,
        NearDuplicates(exact, training=near),
        Secrets(),
        Pii(),
        Quality(),
        Nuls(),
        Tokens(tokenizer_for(model), ceiling),
        *([Order(share)] if share else []),
    ]


class Content:
    """The scanners of one file, and what they found."""

    def __init__(self, scanners: Sequence[Scanner], tally: Tally, index: LineIndex) -> None:
        self.scanners = scanners
        self.tally = tally
        self.index = index

    def feed(self, good: Good) -> None:
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
        for line in self.index.lines(path, of_rows):
            self._keep(of_rows[line.no], line)
        stats: dict[str, Any] = {}
        for scanner in self.scanners:
            stats |= scanner.stats()
        return stats

    def _count(self, found: Iterable[Finding]) -> list[Finding]:
        """Count findings; return those that are still to be shown."""
        wanted = []
        asked: dict[str, int] = {}
        for finding in found:
            if self.tally.count(finding.code):
                more = asked.get(finding.code, 0)
                if self.tally.room(finding.code) > more:
                    asked[finding.code] = more + 1
                    wanted.append(finding)
        return wanted

    def _place(self, found: list[Finding], good: Good) -> None:
        for number, of_row in groupby(found, key=attrgetter("line")):
            self._keep(list(of_row), good.line(number))

    def _keep_about_file(self, finding: Finding) -> None:
        if severity := self.tally.shown(finding.code):
            self.tally.keep(about_file(finding.code, severity, finding.detail))

    def _keep(self, found: list[Finding], line: Line) -> None:
        """Place the findings of one row, in one look at it however many they are."""
        chosen: list[tuple[Fault, Severity]] = []
        for finding in found:
            if severity := self.tally.shown(finding.code):
                path = path_of(finding.pointer)
                fault = Fault(finding.code, path, finding.detail, finding.key, finding.at)
                chosen.append((fault, severity))
        for problem in about_row(chosen, line) if chosen else ():
            if self.tally.wanted(problem.code):
                self.tally.keep(problem)
