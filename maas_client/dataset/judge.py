"""A block of lines, judged: good rows out, everything else counted and explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from typing import Any

from maas_client.dataset.accept import Acceptor, Rows
from maas_client.dataset.check import Checker, Verdict
from maas_client.dataset.codes import Severity
from maas_client.dataset.explain import about_json, about_line, about_row
from maas_client.dataset.fault import Fault, shown
from maas_client.dataset.finding import texts_of
from maas_client.dataset.read import Block, Line, blocks, line_of
from maas_client.dataset.rulebook import Rulebook, rulebook
from maas_client.dataset.service import Service
from maas_client.dataset.tally import Tally

Row = dict[str, Any]
_READ = {"messages", "tools", "parallel_tool_calls"}
_KEYS = 20
"""Ignored keys that are named."""


@dataclass(slots=True)
class Good:
    """Rows that may be trained on, with their line numbers and bytes; in the order of the file."""

    block: Block
    numbers: Sequence[int]
    lines: Sequence[bytes]
    rows: Sequence[Row]

    def line(self, number: int) -> Line:
        """Return one of the lines with its place in the file."""
        return next(_lines(self.block, [number - self.block.no]))


class Judge:
    """Accepts what it can at once, and sends the rest to the full rules."""

    def __init__(self, book: Rulebook, tally: Tally, service: Service) -> None:
        self.tally = tally
        self.service = service
        self.ignored_keys: set[str] = set()
        """Keys of good rows beside those that are read; only names that may be shown."""
        self.acceptor = Acceptor(book)
        self.checker = Checker(book=book)

    def block(self, block: Block) -> Good:
        """Judge a block and return what is good in it."""
        if block.cut:
            self._look_at(block, [0])
            return Good(block, (), (), ())
        taken = self.acceptor.take(block.lines)
        self.service.accepted(len(taken.accepted))
        if taken.merged:
            self._merged(block, taken.merged)
        if not taken.refused:
            numbers = range(block.no, block.no + len(block.lines))
            return Good(block, numbers, block.lines, taken.rows)
        mended = self._look_at(block, taken.refused)
        return _together(block, taken.accepted, taken.rows, mended)

    def _merged(self, block: Block, indices: list[int]) -> None:
        """Say once that the template has no system message, and count how often it matters."""
        counted = self.tally.count("CHAT_SYSTEM_MERGED", len(indices))
        if counted and self.tally.wanted("CHAT_SYSTEM_MERGED"):
            line = next(_lines(block, indices))
            self._keep(line, self.checker.judge(line))

    def _look_at(self, block: Block, indices: list[int]) -> dict[int, Row]:
        """Judge some lines in full; return the good rows among them by their index."""
        good: dict[int, Row] = {}
        for at, line in zip(indices, _lines(block, indices), strict=True):
            verdict = self.checker.judge(line)
            dropped = self.service.judged(verdict)
            self._count(line, verdict, dropped=dropped)
            if verdict.row is not None:
                good[at] = verdict.row
                self._beside(verdict.row)
        return good

    def _beside(self, row: Row) -> None:
        """Remember keys that every service ignores."""
        if len(row) > 1 and len(self.ignored_keys) < _KEYS:
            self.ignored_keys.update(shown(key) or "(others)" for key in row.keys() - _READ)

    def _count(self, line: Line, verdict: Verdict, *, dropped: bool) -> None:
        if verdict.blank:
            self._line(line, "JSON_BLANK_LINE")
        if dropped:
            self._line(line, "SERVICE_ROW_DROPPED")
        wanted = False
        names = [bad.code for bad in verdict.json_faults] + [f.code for f in verdict.faults]
        for name in names:
            if self.tally.count(name):
                wanted = wanted or self.tally.wanted(name)
        if wanted:
            self._keep(line, verdict)

    def _line(self, line: Line, name: str) -> None:
        severity = self.tally.count(name)
        if severity and self.tally.wanted(name):
            self.tally.keep(about_line(name, severity, line))

    def _keep(self, line: Line, verdict: Verdict) -> None:
        """Explain what was counted, as far as it is wanted."""
        for bad in verdict.json_faults:
            severity = self.tally.shown(bad.code)
            if severity:
                self.tally.keep(about_json(bad, severity, line))
        chosen: list[tuple[Fault, Severity]] = []
        more: Counter[str] = Counter()
        for fault in verdict.faults:
            severity = self.tally.shown(fault.code)
            if severity and more[fault.code] < self.tally.room(fault.code):
                more[fault.code] += 1
                chosen.append((fault, severity))
        for problem in about_row(chosen, line) if chosen else ():
            if self.tally.wanted(problem.code):
                self.tally.keep(problem)


class Values(list[Row]):
    """Rows that were looked at one by one. Their texts are made once for all scanners."""

    def __init__(self, rows: Iterable[Row]) -> None:
        super().__init__(rows)
        self._texts: Sequence[list[str] | None] | None = None

    def texts(self) -> Sequence[list[str] | None]:
        """Return what ``finding.texts_of`` does."""
        if self._texts is None:
            self._texts = texts_of(list(self))
        return self._texts


def good_rows(
    path: str | PathLike[str], *, target: str, model: str | None = None
) -> Iterator[tuple[Line, Row]]:
    """Yield every row of a file that may be trained on at ``target``. Raises ``OSError``."""
    book = rulebook(target, model)
    judge = Judge(book, Tally(book), Service(book))
    with open(path, "rb", buffering=0) as file:
        for block in blocks(file):
            good = judge.block(block)
            lines = _lines(block, [number - block.no for number in good.numbers])
            yield from zip(lines, good.rows, strict=True)


def _lines(block: Block, indices: Iterable[int]) -> Iterator[Line]:
    """Yield some lines of a block with their places in the file."""
    starts = list(accumulate(map(len, block.lines), initial=block.offset))
    for at in indices:
        yield line_of(block.no + at, starts[at], block.lines[at], cut=block.cut)


def _together(block: Block, accepted: Sequence[int], rows: Rows, mended: dict[int, Row]) -> Good:
    """Put rows accepted at once and rows found good later into the order of the file."""
    if not mended:
        numbers = [block.no + at for at in accepted]
        return Good(block, numbers, [block.lines[at] for at in accepted], rows)
    found: dict[int, Row] = dict(zip(accepted, rows, strict=True)) | mended
    order = sorted(found)
    return Good(
        block,
        [block.no + at for at in order],
        [block.lines[at] for at in order],
        Values([found[at] for at in order]),
    )
