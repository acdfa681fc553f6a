"""Validate a block of lines: return the valid rows, count and locate the problems of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from maas_client.dataset.codes import Severity
from maas_client.dataset.formats.fields import KeyCounts, KeyNote
from maas_client.dataset.formats.preferences import ANSWER_KEYS
from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.lines import Block, Line, make_line
from maas_client.dataset.report import ProblemCollector, json_problem, line_problem, row_problems
from maas_client.dataset.rules.chat import LineResult, LineValidator
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.rules.fast_path import FastPath
from maas_client.dataset.rules.row_features import RowFeatures
from maas_client.dataset.rules.service import ServiceRules
from maas_client.dataset.scanners import message_texts

Row = dict[str, Any]
_USED_KEYS = {"messages", "tools", "parallel_tool_calls", "input", *ANSWER_KEYS}


@dataclass(slots=True)
class ValidRows:
    """Rows that can be trained on, with their line numbers and bytes, in the order of the file."""

    block: Block
    numbers: Sequence[int]
    lines: Sequence[bytes]
    rows: Sequence[Row]

    def get_line(self, number: int) -> Line:
        """Return one of the lines with its offset in the file."""
        return next(_lines(self.block, [number - self.block.first_line]))

    def get_lines(self) -> Iterator[Line]:
        """Yield all of the lines with their offsets in the file."""
        return _lines(self.block, [number - self.block.first_line for number in self.numbers])


class BlockValidator:
    """Accepts ordinary rows with the fast path, and validates the other lines with the full rules."""

    def __init__(
        self, context: RuleContext, collector: ProblemCollector, service_rules: ServiceRules
    ) -> None:
        self.collector = collector
        self.service_rules = service_rules
        self.ignored_keys = KeyCounts()
        """Keys of valid rows that no target uses."""
        self.features = RowFeatures()
        self.fast_path = FastPath(context, self.features)
        self.line_validator = LineValidator(context, self.features)

    def validate(self, block: Block) -> ValidRows:
        """Validate a block's lines and return the valid rows among them."""
        if block.truncated:
            self._validate_lines(block, [0])
            return ValidRows(block, (), (), ())
        if self.line_validator.context.method == "DPO":
            valid = self._validate_lines(block, range(len(block.lines)))
            return _in_file_order(block, (), (), valid)
        result = self.fast_path.partition(block.lines)
        self.service_rules.count_valid(len(result.accepted))
        if result.merged_system:
            self._count_merged_system(block, result.merged_system)
        if not result.undecided:
            numbers = range(block.first_line, block.first_line + len(block.lines))
            return ValidRows(block, numbers, block.lines, result.rows)
        valid = self._validate_lines(block, result.undecided)
        return _in_file_order(block, result.accepted, result.rows, valid)

    def _count_merged_system(self, block: Block, indices: list[int]) -> None:
        """Count rows whose system message the template merges; report the first of a file."""
        severity = self.collector.count("CHAT_SYSTEM_MERGED", len(indices))
        if severity and self.collector.has_room("CHAT_SYSTEM_MERGED"):
            line = next(_lines(block, indices))
            self._add_problems(line, self.line_validator.validate(line))

    def _validate_lines(self, block: Block, indices: Sequence[int]) -> dict[int, Row]:
        """Validate some lines with the full rules; return the valid rows by their index."""
        valid: dict[int, Row] = {}
        for index, line in zip(indices, _lines(block, indices), strict=True):
            result = self.line_validator.validate(line)
            dropped = self.service_rules.count_line(result)
            self._count(line, result, dropped=dropped)
            if result.row is not None:
                valid[index] = result.row
                self._note_ignored_keys(result.row)
        return valid

    def _note_ignored_keys(self, row: Row) -> None:
        if len(row) > 1:
            for key in row.keys() - _USED_KEYS:
                self.ignored_keys.add(KeyNote(key))

    def _count(self, line: Line, result: LineResult, *, dropped: bool) -> None:
        if result.is_blank:
            self._count_line(line, "JSON_BLANK_LINE")
        if dropped:
            self._count_line(line, "SERVICE_ROW_DROPPED")
        has_room = False
        codes = [error.code for error in result.json_errors]
        codes += [issue.code for issue in result.issues]
        for code in codes:
            if self.collector.count(code):
                has_room = has_room or self.collector.has_room(code)
        if has_room:
            self._add_problems(line, result)

    def _count_line(self, line: Line, code: str) -> None:
        severity = self.collector.count(code)
        if severity and self.collector.has_room(code):
            self.collector.add(line_problem(code, severity, line))

    def _add_problems(self, line: Line, result: LineResult) -> None:
        """Locate the issues of a line that were counted, as far as the report has room for them."""
        for error in result.json_errors:
            severity = self.collector.listed_severity(error.code)
            if severity:
                self.collector.add(json_problem(error, severity, line))
        listed: list[tuple[Issue, Severity]] = []
        per_code: Counter[str] = Counter()
        for issue in result.issues:
            severity = self.collector.listed_severity(issue.code)
            if severity and per_code[issue.code] < self.collector.remaining(issue.code):
                per_code[issue.code] += 1
                listed.append((issue, severity))
        for problem in row_problems(listed, line) if listed else ():
            if self.collector.has_room(problem.code):
                self.collector.add(problem)


class RowsWithTexts(list[Row]):
    """Rows of a block that the fast path did not decode alone; caches their texts for all scanners."""

    def __init__(self, rows: Iterable[Row]) -> None:
        super().__init__(rows)
        self._texts: Sequence[list[str] | None] | None = None

    def texts(self) -> Sequence[list[str] | None]:
        """Return the result of ``message_texts`` for these rows."""
        if self._texts is None:
            self._texts = message_texts(list(self))
        return self._texts


def _lines(block: Block, indices: Iterable[int]) -> Iterator[Line]:
    """Yield some lines of a block with their numbers and offsets in the file."""
    offsets = list(accumulate(map(len, block.lines), initial=block.offset))
    for index in indices:
        yield make_line(
            block.first_line + index, offsets[index], block.lines[index], truncated=block.truncated
        )


def _in_file_order(
    block: Block, accepted: Sequence[int], accepted_rows: Sequence[Row], valid: dict[int, Row]
) -> ValidRows:
    """Merge the rows that the fast path accepted and those that the full rules found valid."""
    if not valid:
        numbers = [block.first_line + index for index in accepted]
        return ValidRows(block, numbers, [block.lines[index] for index in accepted], accepted_rows)
    rows: dict[int, Row] = dict(zip(accepted, accepted_rows, strict=True)) | valid
    order = sorted(rows)
    return ValidRows(
        block,
        [block.first_line + index for index in order],
        [block.lines[index] for index in order],
        RowsWithTexts([rows[index] for index in order]),
    )
