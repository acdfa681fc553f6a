"""Read the valid rows of a file: the same rows for ``validate``, training and evaluation.

``read_rows`` validates while it reads. ``check_rows`` validates once and records which lines are valid;
``read_validated_rows`` reads those lines any number of times without validating them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from maas_client.dataset.block_validator import BlockValidator
from maas_client.dataset.file_validator import FileValidator
from maas_client.dataset.issues import Issue
from maas_client.dataset.model_report import report_for_model
from maas_client.dataset.parsing.lines import Line, read_blocks, read_lines
from maas_client.dataset.report import ProblemCollector
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.rules.row_features import RowFeatures
from maas_client.dataset.rules.service import ServiceRules
from maas_client.dataset.scanners.duplicates import RepeatedLineScanner
from maas_client.dataset.sources import DataFile, DataSource, open_source, to_file
from maas_client.types.report import FileReport


def read_rows(
    source: DataSource | DataFile,
    *,
    target: str = "local",
    model: str | None = None,
    method: str | None = None,
) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Yield every valid row of a chat file with its line, in order.

    These are exactly the rows that ``validate`` counts as examples for the same target and model.
    Blank and invalid lines are skipped; ``validate`` reports them.

    Args:
        source: A JSON Lines file, or what else ``maas_client.validate`` takes.
        target: ``azureml``, ``foundry`` or ``local`` (the default).
        model: Validate for this model; without it only general rules apply.
        method: ``DPO`` for rows of preferences; else rows are chats.

    Yields:
        The line, with its number and offset, and the row as a dictionary.

    Raises:
        OSError: The file cannot be read.
        ConfigError: The target or the model is unknown.
    """
    context = build_context(target, model, method=method)
    validator = BlockValidator(context, ProblemCollector(context), ServiceRules(context))
    with open_source(source) as data, open(data.path, "rb", buffering=0) as file:
        for block in read_blocks(file):
            valid = validator.validate(block)
            yield from zip(valid.get_lines(), valid.rows, strict=True)


LineRange = tuple[int, int]
"""The first and the last line number of consecutive valid lines."""


@dataclass(frozen=True, slots=True)
class ValidatedFile:
    """The report of a file, which of its lines are valid rows, and what its rows use."""

    report: FileReport
    valid_lines: tuple[LineRange, ...]
    features: RowFeatures


def validate_file_once(
    path: str | PathLike[str],
    *,
    target: str = "local",
    model: str | None = None,
    method: str | None = None,
) -> ValidatedFile:
    """Validate a file in one pass, without its content scanners, and note its valid lines.

    Raises ``ConfigError`` for an unknown target or model; whatever the file contains, the result is a report.
    """
    context = build_context(target, model, method=method)
    recorder = _ValidLineRecorder()
    check = FileValidator(
        to_file(path),
        ProblemCollector(context),
        ServiceRules(context, service_splits=True),
        [RepeatedLineScanner(), recorder],
    )
    return ValidatedFile(check.run(), tuple(recorder.ranges), check.features)


def checked_rows_for_model(
    checked: ValidatedFile, *, target: str, model: str
) -> ValidatedFile | None:
    """Return what ``check_rows`` returns for a model, derived from its result without a model.

    Returns None if the file has to be validated for the model.
    """
    report = report_for_model(checked.report, checked.features, target=target, model=model)
    return None if report is None else replace(checked, report=report)


def read_validated_rows(
    path: str | PathLike[str], valid_lines: Iterable[LineRange]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and row of the lines that ``check_rows`` found valid. Raises ``OSError``."""
    ranges = iter(valid_lines)
    first, last = next(ranges, (0, 0))
    if not last:
        return
    for line in read_lines(path):
        if line.number >= first:
            yield line.number, json.loads(line.data)
        if line.number == last:
            first, last = next(ranges, (0, 0))
            if not last:
                return


@dataclass(slots=True)
class _ValidLineRecorder:
    """A scanner that reports nothing and records the numbers of valid lines."""

    ranges: list[LineRange] = field(default_factory=list)

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[dict[str, Any]]
    ) -> Iterable[Issue]:
        if isinstance(numbers, range):
            self._add(numbers[0], numbers[-1])
        else:
            for number in numbers:
                self._add(number, number)
        return ()

    def _add(self, first: int, last: int) -> None:
        if self.ranges and self.ranges[-1][1] == first - 1:
            self.ranges[-1] = (self.ranges[-1][0], last)
        else:
            self.ranges.append((first, last))

    def finish(self) -> Iterable[Issue]:
        return ()

    def stats(self) -> dict[str, Any]:
        return {}
