"""One pass over each file: hash, split, accept fast, explain slow, count.

blocks -> judge: accept (whole blocks, in C) -> refused lines only: check -> explain -> tally
                   `-> good rows ride on to the scanners (secrets, duplicates, tokens, ...)
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from math import inf
from os import PathLike
from typing import Any

from maas_client.dataset.block_check import BlockValidator
from maas_client.dataset.codes import resolve_codes
from maas_client.dataset.content_check import ContentCheck, make_scanners
from maas_client.dataset.cost import TokenRange, billed_tokens
from maas_client.dataset.index import LineIndex
from maas_client.dataset.parsing.file_type import HEAD_BYTES, detect_wrong_format
from maas_client.dataset.parsing.lines import BOM, read_blocks
from maas_client.dataset.progress import ProgressCallback, ProgressThrottle
from maas_client.dataset.report.collector import ProblemCollector
from maas_client.dataset.report.locate import file_problem
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.rules.service import ServiceRules
from maas_client.dataset.scanners.scanner import Scanner
from maas_client.errors import ConfigError
from maas_client.types.report import FileReport, ValidationReport


@dataclass(frozen=True, slots=True)
class ValidateOptions:
    """What ``maas_client.validate`` was asked, see there."""

    model: str | None = None
    target: str | None = None
    ignore: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()
    epochs: float | None = None
    content: bool = True
    progress: ProgressCallback | None = None


def validate_files(
    paths: Sequence[str | PathLike[str]],
    validation: str | PathLike[str] | None,
    options: ValidateOptions,
) -> ValidationReport:
    """Check files one after the other. Raises ``ConfigError``, and nothing for any bytes."""
    if not paths and validation is None:
        raise ConfigError("no file to check", hint="Name at least one JSON Lines file.")
    if options.epochs is not None and not 0 < options.epochs < inf:
        raise ConfigError(f"epochs must be a number above 0, not {options.epochs:g}")
    book = build_context(options.target, options.model)
    ignore, warn = resolve_codes(options.ignore), resolve_codes(options.warn)
    reports = []
    trained: list[Scanner] = []
    files = [(path, False) for path in paths]
    files += [(validation, True)] if validation is not None else []
    for path, held_out in files:
        service = ServiceRules(book, is_validation_file=held_out, service_splits=validation is None)
        tally = ProblemCollector(book, ignore, warn, share=1 / len(files))
        check = FileCheck(os.fsdecode(path), tally, service)
        check.content_check.scanners = make_scanners(
            book,
            full=options.content,
            epochs=options.epochs,
            training_scanners=trained if held_out else (),
            service_splits=service.service_splits,
        )
        reports.append(check.run(options.progress))
        trained += check.content_check.scanners
    if options.content:
        _bill(reports, held_out=validation is not None, epochs=options.epochs or 1)
    return ValidationReport(ok=all(report.ok for report in reports), files=tuple(reports))


def _bill(reports: list[FileReport], *, held_out: bool, epochs: float) -> None:
    """Add what a job on these files is billed for to the first one's figures."""
    counted = [
        TokenRange.from_stats(report.stats) for report in reports if "tokens" in report.stats
    ]
    if len(counted) < len(reports):
        return
    trained = counted[: len(counted) - held_out]
    if trained:
        train = sum(trained[1:], trained[0])
        billed = billed_tokens(train, counted[-1] if held_out else None, epochs)
        reports[0].stats["billed_tokens"] = {**asdict(billed), "epochs": epochs}


def _state(kind: os.stat_result) -> tuple[int, ...]:
    """Return what is another one once a file is written to, or another takes its place."""
    return kind.st_dev, kind.st_ino, kind.st_size, kind.st_mtime_ns


class FileCheck:
    """One file on its way from bytes to a report."""

    def __init__(self, path: str, collector: ProblemCollector, service_rules: ServiceRules) -> None:
        self.path = path
        self.display_path = path.encode("utf-8", "backslashreplace").decode()
        self.collector = collector
        self.service_rules = service_rules
        self.block_validator = BlockValidator(collector.context, collector, service_rules)
        self.index = LineIndex()
        self.content_check = ContentCheck([], collector, self.index)
        self.digest = hashlib.sha256()
        self.size = self.lines = self.examples = 0
        self.stats: dict[str, Any] = {}
        self.notes: list[str] = []
        self.is_wrong_format = False
        """The file as a whole is no JSON Lines: its lines are counted, not judged."""

    def run(self, progress: ProgressCallback | None = None) -> FileReport:
        """Read the file and return what is to be said about it."""
        try:
            self._check(progress)
        except (FileNotFoundError, UnicodeEncodeError):
            if self.path == "-":
                self._about_file("FILE_NOT_REGULAR", "standard input; write it to a file first")
            else:
                address = "://" in self.path
                self._about_file(
                    "FILE_NOT_FOUND",
                    "an address, not a path; fetch the file first" if address else "",
                )
        except OSError as problem:
            self._about_file("FILE_UNREADABLE", problem.strerror or type(problem).__name__)
        problems = self.collector.problems()
        return FileReport(
            path=self.display_path,
            bytes=self.size,
            sha256=self.digest.hexdigest(),
            lines=self.lines,
            examples=self.examples,
            ok=self.collector.errors == 0,
            counts=dict(sorted(self.collector.counts.items())),
            problems=problems,
            stats=self.stats
            | self.collector.stats(problems)
            | ({"notes": self.notes} if self.notes else {}),
        )

    def _check(self, progress: ProgressCallback | None) -> None:
        if "\0" in self.path:
            raise FileNotFoundError(self.path)
        kind = os.stat(self.path)
        if not stat.S_ISREG(kind.st_mode):  # a pipe would be waited for, a device may never end
            folder = stat.S_ISDIR(kind.st_mode)
            self._about_file(
                "FILE_NOT_REGULAR",
                "a folder" if folder else "a pipe or a device; write it to a file first",
            )
            return
        with open(self.path, "rb", buffering=0) as file:
            self._look(file, kind.st_size)
            self._read(file, ProgressThrottle(progress, kind.st_size))
        if self.size != kind.st_size or _state(kind) != _state(os.stat(self.path)):
            self._about_file("FILE_CHANGED")
        if not self.is_wrong_format:
            self.stats |= self.content_check.finish(self.path)
            for code, detail in self.service_rules.finish(size=self.size, examples=self.examples):
                self._about_file(code, detail)
            self.stats["service"] = self.service_rules.stats(size=self.size, examples=self.examples)
            if self.block_validator.ignored_keys:
                keys = ", ".join(sorted(self.block_validator.ignored_keys))
                self.notes.append(f"keys beside messages and tools are ignored: {keys}")

    def _look(self, file: FileIO, size: int) -> None:
        """Judge the file by its name and its beginning."""
        if not self.path.casefold().endswith(".jsonl"):
            self._about_file("FILE_EXTENSION")
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if said := detect_wrong_format(head, is_complete=len(head) >= size):
            self.is_wrong_format = True
            self._about_file(*said)
        if head.startswith(BOM):
            self.notes.append("the file begins with a byte order mark, which every target accepts")
        if b"\r\n" in head:
            self.notes.append("lines end in CRLF, which every target accepts")

    def _read(self, file: FileIO, meter: ProgressThrottle) -> None:
        """The pass: every byte is hashed, every line counted and judged."""
        for block in read_blocks(file):
            self.digest.update(block.raw)
            self.size += len(block.raw)
            meter.update(self.size)
            if not block.lines:
                continue
            self.lines += len(block.lines)
            if self.is_wrong_format:
                continue
            self.index.add(block.first_line, block.offset)
            good = self.block_validator.validate(block)
            self.examples += len(good.numbers)
            self.content_check.feed(good)
        meter.close(self.size)

    def _about_file(self, name: str, detail: str = "") -> None:
        severity = self.collector.count(name)
        if severity and self.collector.has_room(name):
            self.collector.add(file_problem(name, severity, detail))
