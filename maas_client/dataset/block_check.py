"""A block of lines, judged: good rows out, everything else counted and explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from typing import Any

from maas_client.dataset.codes import Severity
from maas_client.dataset.issues import Issue, quote_if_safe
from maas_client.dataset.parsing.lines import Block, Line, make_line, read_blocks
from maas_client.dataset.report.collector import ProblemCollector
from maas_client.dataset.report.locate import json_problem, line_problem, row_problems
from maas_client.dataset.rules.context import RuleContext, build_context
from maas_client.dataset.rules.fast_path import FastPath, LazyRows
from maas_client.dataset.rules.line_check import LineResult, LineValidator
from maas_client.dataset.rules.service import ServiceRules
from maas_client.dataset.scanners.scanner import message_texts

Row = dict[str, Any]
_READ = {"messages", "tools", "parallel_tool_calls"}
_KEYS = 20
"""Ignored keys that are named."""


@dataclass(slots=True)
class ValidRows:
    """Rows that may be trained on, with their line numbers and bytes; in the order of the file."""

    block: Block
    numbers: Sequence[int]
    lines: Sequence[bytes]
    rows: Sequence[Row]

    def get_line(self, number: int) -> Line:
        """Return one of the lines with its place in the file."""
        return next(_lines(self.block, [number - self.block.first_line]))


class BlockValidator:
    """Accepts what it can at once, and sends the rest to the full rules."""

    def __init__(
        self, context: RuleContext, collector: ProblemCollector, service_rules: ServiceRules
    ) -> None:
        self.collector = collector
        self.service_rules = service_rules
        self.ignored_keys: set[str] = set()
        """Keys of good rows beside those that are read; only names that may be shown."""
        self.fast_path = FastPath(context)
        self.line_validator = LineValidator(context=context)

    def validate(self, block: Block) -> ValidRows:
        """Judge a block and return what is good in it."""
        if block.truncated:
            self._look_at(block, [0])
            return ValidRows(block, (), (), ())
        taken = self.fast_path.split(block.lines)
        self.service_rules.count_valid(len(taken.accepted))
        if taken.merged_system:
            self._merged(block, taken.merged_system)
        if not taken.undecided:
            numbers = range(block.first_line, block.first_line + len(block.lines))
            return ValidRows(block, numbers, block.lines, taken.rows)
        mended = self._look_at(block, taken.undecided)
        return _together(block, taken.accepted, taken.rows, mended)

    def _merged(self, block: Block, indices: list[int]) -> None:
        """Say once that the template has no system message, and count how often it matters."""
        counted = self.collector.count("CHAT_SYSTEM_MERGED", len(indices))
        if counted and self.collector.has_room("CHAT_SYSTEM_MERGED"):
            line = next(_lines(block, indices))
            self._keep(line, self.line_validator.validate(line))

    def _look_at(self, block: Block, indices: list[int]) -> dict[int, Row]:
        """Judge some lines in full; return the good rows among them by their index."""
        good: dict[int, Row] = {}
        for at, line in zip(indices, _lines(block, indices), strict=True):
            verdict = self.line_validator.validate(line)
            dropped = self.service_rules.count_line(verdict)
            self._count(line, verdict, dropped=dropped)
            if verdict.row is not None:
                good[at] = verdict.row
                self._beside(verdict.row)
        return good

    def _beside(self, row: Row) -> None:
        """Remember keys that every service ignores."""
        if len(row) > 1 and len(self.ignored_keys) < _KEYS:
            self.ignored_keys.update(quote_if_safe(key) or "(others)" for key in row.keys() - _READ)

    def _count(self, line: Line, verdict: LineResult, *, dropped: bool) -> None:
        if verdict.is_blank:
            self._line(line, "JSON_BLANK_LINE")
        if dropped:
            self._line(line, "SERVICE_ROW_DROPPED")
        wanted = False
        names = [bad.code for bad in verdict.json_errors] + [f.code for f in verdict.issues]
        for name in names:
            if self.collector.count(name):
                wanted = wanted or self.collector.has_room(name)
        if wanted:
            self._keep(line, verdict)

    def _line(self, line: Line, name: str) -> None:
        severity = self.collector.count(name)
        if severity and self.collector.has_room(name):
            self.collector.add(line_problem(name, severity, line))

    def _keep(self, line: Line, verdict: LineResult) -> None:
        """Explain what was counted, as far as it is wanted."""
        for bad in verdict.json_errors:
            severity = self.collector.listed_severity(bad.code)
            if severity:
                self.collector.add(json_problem(bad, severity, line))
        chosen: list[tuple[Issue, Severity]] = []
        more: Counter[str] = Counter()
        for fault in verdict.issues:
            severity = self.collector.listed_severity(fault.code)
            if severity and more[fault.code] < self.collector.remaining(fault.code):
                more[fault.code] += 1
                chosen.append((fault, severity))
        for problem in row_problems(chosen, line) if chosen else ():
            if self.collector.has_room(problem.code):
                self.collector.add(problem)


class CheckedRows(list[Row]):
    """Rows that were looked at one by one. Their texts are made once for all scanners."""

    def __init__(self, rows: Iterable[Row]) -> None:
        super().__init__(rows)
        self._texts: Sequence[list[str] | None] | None = None

    def texts(self) -> Sequence[list[str] | None]:
        """Return what ``finding.texts_of`` does."""
        if self._texts is None:
            self._texts = message_texts(list(self))
        return self._texts


def valid_rows(
    path: str | PathLike[str], *, target: str, model: str | None = None
) -> Iterator[tuple[Line, Row]]:
    """Yield every row of a file that may be trained on at ``target``. Raises ``OSError``."""
    book = build_context(target, model)
    judge = BlockValidator(book, ProblemCollector(book), ServiceRules(book))
    with open(path, "rb", buffering=0) as file:
        for block in read_blocks(file):
            good = judge.validate(block)
            lines = _lines(block, [number - block.first_line for number in good.numbers])
            yield from zip(lines, good.rows, strict=True)


def _lines(block: Block, indices: Iterable[int]) -> Iterator[Line]:
    """Yield some lines of a block with their places in the file."""
    starts = list(accumulate(map(len, block.lines), initial=block.offset))
    for at in indices:
        yield make_line(
            block.first_line + at, starts[at], block.lines[at], truncated=block.truncated
        )


def _together(
    block: Block, accepted: Sequence[int], rows: LazyRows, mended: dict[int, Row]
) -> ValidRows:
    """Put rows accepted at once and rows found good later into the order of the file."""
    if not mended:
        numbers = [block.first_line + at for at in accepted]
        return ValidRows(block, numbers, [block.lines[at] for at in accepted], rows)
    found: dict[int, Row] = dict(zip(accepted, rows, strict=True)) | mended
    order = sorted(found)
    return ValidRows(
        block,
        [block.first_line + at for at in order],
        [block.lines[at] for at in order],
        CheckedRows([found[at] for at in order]),
    )
