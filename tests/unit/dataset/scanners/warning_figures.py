"""Measure the precision and recall of two warnings against labelled files.

``python -m tests.unit.dataset.scanners.warning_figures`` prints the table of docs/explanation/warnings.md.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from maas_client.dataset.scanners import Scanner
from maas_client.dataset.scanners.duplicates import DuplicateScanner
from maas_client.dataset.scanners.near_duplicates import NearDuplicateScanner
from maas_client.dataset.scanners.quality import QualityScanner
from tests.unit.dataset.scanners import labelled_duplicates, labelled_endings

Row = dict[str, Any]


@dataclass
class Figures:
    """Counts of rows over all files."""

    rows: int = 0
    right: int = 0
    false: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.false)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.right + self.missed)

    def add(self, lines: set[int], labels: Sequence[bool]) -> None:
        """Count the rows of one file; ``found`` has line numbers."""
        labelled_lines = {line for line, label in enumerate(labels, 1) if label}
        self.rows += len(labels)
        self.right += len(lines & labelled_lines)
        self.false += len(lines - labelled_lines)
        self.missed += len(labelled_lines - lines)


def scan(scanners: Sequence[Scanner], rows: Sequence[Row], code: str) -> dict[int, str]:
    """Return the details of a code's issues by line."""
    issues = []
    for start in range(0, len(rows), 50):
        block = rows[start : start + 50]
        lines = [json.dumps(row).encode() for row in block]
        for scanner in scanners:
            issues += scanner.feed(range(start + 1, start + 1 + len(block)), lines, block)
    for scanner in scanners:
        issues += scanner.finish()
    return {issue.line: issue.detail for issue in issues if issue.code == code}


def find_cut_off(rows: Sequence[Row]) -> dict[int, str]:
    return scan([QualityScanner()], rows, "QUALITY_CUT_OFF")


def find_near_duplicates(rows: Sequence[Row]) -> dict[int, str]:
    exact = DuplicateScanner()
    near = NearDuplicateScanner(exact)
    near.read_rows = lambda numbers: [(number, rows[number - 1]) for number in set(numbers)]
    return scan([exact, near], rows, "QUALITY_NEAR_DUPLICATE")


def make_answers(rng: random.Random) -> tuple[list[Row], list[bool]]:
    return labelled_endings.make_file(rng, rng.choice([40, 120, 400]))


def measure(
    find: Callable[[Sequence[Row]], dict[int, str]],
    make: Callable[[random.Random], tuple[list[Row], list[bool]]],
    files: int,
) -> Figures:
    """Return the figures of a warning over some files."""
    figures = Figures()
    for seed in range(files):
        rows, labels = make(random.Random(seed))
        figures.add(set(find(rows)), labels)
    return figures


def main() -> None:
    """Print the figures as a Markdown table."""
    print("| warning | files | rows | reported | precision | recall |")
    print("|---|---|---|---|---|---|")
    for name, find, make in (
        ("QUALITY_CUT_OFF", find_cut_off, make_answers),
        ("QUALITY_NEAR_DUPLICATE", find_near_duplicates, labelled_duplicates.make_file),
    ):
        figures = measure(find, make, 200)
        reported = figures.right + figures.false
        print(
            f"| {name} | 200 | {figures.rows:,} | {reported:,} | {figures.precision:.3f} | "
            f"{figures.recall:.2f} |"
        )


if __name__ == "__main__":
    main()
