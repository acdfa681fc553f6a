"""Validate files: one pass over each file hashes, validates, scans and counts it.

read_blocks -> BlockValidator: FastPath accepts ordinary rows, a whole block at a time
                               LineValidator validates all other lines; locate -> ProblemCollector
            -> ContentScan:   the scanners get the valid rows (duplicates, secrets, tokens, ...)
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from math import inf
from typing import Any

from maas_client._messages import Argument, Text
from maas_client.dataset.block_validator import BlockValidator
from maas_client.dataset.codes import resolve_codes
from maas_client.dataset.content_scan import ContentScan, make_scanners
from maas_client.dataset.cost import TokenRange, billed_tokens
from maas_client.dataset.formats.fields import HIDDEN_KEY
from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.file_type import HEAD_BYTES, detect_wrong_format
from maas_client.dataset.parsing.lines import BOM, LineIndex, fingerprint, read_blocks
from maas_client.dataset.report import ProblemCollector, file_problem
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.rules.row_features import RowFeatures
from maas_client.dataset.rules.service import ServiceRules
from maas_client.dataset.scanners import Scanner
from maas_client.dataset.sources import DataFile, DataSource, open_source
from maas_client.errors import ConfigError
from maas_client.types.report import FileReport, ValidationReport

ProgressCallback = Callable[[int, int], None]
"""Called with the bytes read and the bytes of the file."""
_PROGRESS_INTERVAL_S = 0.2
LARGE_FILE_BYTES = 100_000_000
"""Size of a file from which on a second process takes less time than it costs."""
_MAX_IGNORED_KEYS = 20
"""Ignored keys that are named in the report."""


@dataclass(frozen=True, slots=True)
class ValidateOptions:
    """The options of ``maas_client.validate``, which documents them."""

    model: str | None = None
    target: str | None = None
    method: str | None = None
    ignore: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()
    epochs: float | None = None
    content: bool = True
    progress: ProgressCallback | None = None


def validate_files(
    sources: Sequence[DataSource | DataFile],
    validation: DataSource | DataFile | None,
    options: ValidateOptions,
) -> ValidationReport:
    """Validate files, or rows, one after the other.

    Raises ``ConfigError`` for wrong options; whatever the files contain, the result is a report.
    """
    return check_files(sources, validation, options)[0]


def check_files(
    sources: Sequence[DataSource | DataFile],
    validation: DataSource | DataFile | None,
    options: ValidateOptions,
) -> tuple[ValidationReport, list[RowFeatures]]:
    """Validate files as ``validate_files`` does; return the report, and what the rows of each file use."""
    if not sources and validation is None:
        raise ConfigError("no file to check", hint="Name at least one JSON Lines file.")
    if options.epochs is not None and not 0 < options.epochs < inf:
        raise ConfigError(
            Text.format(
                "{} must be a number above 0, not {}", Argument("epochs"), f"{options.epochs:g}"
            )
        )
    context = build_context(options.target, options.model, method=options.method)
    ignore, warn = resolve_codes(options.ignore), resolve_codes(options.warn)
    if both := sorted(ignore & warn):
        raise ConfigError(
            Text.format("{} is in {} and in {}", both[0], Argument("ignore"), Argument("warn")),
            hint="Leave it out of one of them.",
        )
    reports: list[FileReport] = []
    features: list[RowFeatures] = []
    training_scanners: list[Scanner] = []
    files = [(source, False) for source in sources]
    files += [(validation, True)] if validation is not None else []

    def check_file(
        file: DataFile,
        duplicates_process: Scanner | None = None,
        *,
        is_validation_file: bool = False,
    ) -> None:
        service_rules = ServiceRules(
            context, is_validation_file=is_validation_file, service_splits=validation is None
        )
        collector = ProblemCollector(context, ignore, warn, share=1 / len(files))
        scanners = make_scanners(
            context,
            full=options.content,
            epochs=options.epochs,
            training_scanners=training_scanners if is_validation_file else (),
            has_validation_file=validation is not None,
            service_splits=service_rules.service_splits,
            duplicates_process=duplicates_process,
        )
        check = FileValidator(file, collector, service_rules, scanners)
        reports.append(check.run(options.progress))
        features.append(check.features)
        # they read their files again, to compare the validation file
        training_scanners.extend(scanners)

    finds_duplicates = options.content and context.method != "DPO" and validation is None
    with ExitStack() as open_files:
        for source, is_validation_file in files:
            file = open_files.enter_context(open_source(source))
            if not (finds_duplicates and check_with_second_process(file, check_file)):
                check_file(file, is_validation_file=is_validation_file)
    if options.content:
        _add_billed_tokens(
            reports, has_validation_file=validation is not None, epochs=options.epochs or 1
        )
    report = ValidationReport.model_construct(
        ok=all(report.ok for report in reports),
        files=tuple(reports),
        target=context.target,
        model=context.model.name if context.model else None,
    )
    return report, features


def check_with_second_process(
    file: DataFile, check_file: Callable[[DataFile, Scanner], None]
) -> bool:
    """Check a large training file, with a second process for its duplicates.

    Returns whether that was done: another core may be busy, and the process may end early.
    """
    try:
        if os.path.getsize(file.path) < LARGE_FILE_BYTES:
            return False
    except (OSError, ValueError):  # no such file, or not a path: the check reports it
        return False
    # late: validate is started often, and most files are small
    from maas_client.dataset.scanners import duplicates_process

    if duplicates_process.can_start():
        with suppress(duplicates_process.ProcessLostError):
            with duplicates_process.start(file.path) as process:
                check_file(file, process)
            return True
    return False


def _add_billed_tokens(
    reports: list[FileReport], *, has_validation_file: bool, epochs: float
) -> None:
    """Add the tokens that a job on these files is billed for to the first file's figures."""
    counts = [TokenRange.from_stats(report.stats) for report in reports if "tokens" in report.stats]
    if len(counts) < len(reports):
        return
    training = counts[: len(counts) - has_validation_file]
    if training:
        total = sum(training[1:], training[0])
        billed = billed_tokens(total, counts[-1] if has_validation_file else None, epochs)
        reports[0].stats["billed_tokens"] = {**asdict(billed), "epochs": epochs}


class ProgressThrottle:
    """Calls a progress callback at most five times a second, and once at the end."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self._next = time.monotonic() + _PROGRESS_INTERVAL_S

    def update(self, done: int) -> None:
        """Report the bytes read so far if the last report is old enough."""
        if self.progress is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_INTERVAL_S
            self.progress(done, max(done, self.total))

    def close(self, done: int) -> None:
        """Report that the file was read to its end."""
        if self.progress is not None:
            self.progress(done, done)


class FileValidator:
    """The validation of one file, from its bytes to its report."""

    def __init__(
        self,
        file: DataFile,
        collector: ProblemCollector,
        service_rules: ServiceRules,
        scanners: Sequence[Scanner] = (),
    ) -> None:
        self.file = file
        self.path = file.path
        self.collector = collector
        self.service_rules = service_rules
        self.block_validator = BlockValidator(collector.context, collector, service_rules)
        self.features = self.block_validator.features
        self.index = LineIndex()
        self.content_scan = ContentScan(scanners, collector, self.index)
        self.digest = hashlib.sha256()
        self.size = self.lines = self.examples = 0
        self.stats: dict[str, Any] = {}
        self.notes: list[str] = []
        self.is_wrong_format = False
        """The file as a whole is not JSON Lines: its lines are counted but not validated."""

    def run(self, progress: ProgressCallback | None = None) -> FileReport:
        """Read the file and return its report."""
        try:
            self._check(progress)
        except (FileNotFoundError, UnicodeEncodeError):
            if self.path == "-":
                self._add_file_issue(
                    Issue("FILE_NOT_REGULAR", detail="standard input; write it to a file first")
                )
            else:
                is_url = "://" in self.path
                detail = "this is a URL, not a path; download the file first" if is_url else ""
                self._add_file_issue(Issue("FILE_NOT_FOUND", detail=detail))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._add_file_issue(Issue("FILE_UNREADABLE", detail=reason))
        problems = self.collector.problems()
        return FileReport.model_construct(
            path=self.file.name,
            bytes=self.size,
            sha256=self.digest.hexdigest(),
            lines=self.lines,
            examples=self.examples,
            ok=self.collector.errors == 0,
            counts=dict(sorted(self.collector.counts.items())),
            problems=problems,
            stats=self.file.stats()
            | self.stats
            | self.collector.stats(problems)
            | ({"notes": self.notes} if self.notes else {}),
        )

    def _check(self, progress: ProgressCallback | None) -> None:
        if "\0" in self.path:
            raise FileNotFoundError(self.path)
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe blocks, a device may have no end
            is_folder = stat.S_ISDIR(status.st_mode)
            detail = "a folder" if is_folder else "a pipe or a device; write it to a file first"
            self._add_file_issue(Issue("FILE_NOT_REGULAR", detail=detail))
            return
        with open(self.path, "rb", buffering=0) as file:
            self._check_head(file, status.st_size)
            self._read(file, ProgressThrottle(progress, status.st_size))
        changed = fingerprint(status) != fingerprint(os.stat(self.path))
        if changed or self.size != status.st_size:
            self._add_file_issue(Issue("FILE_CHANGED"))
        if not self.is_wrong_format:
            self._finish()

    def _check_head(self, file: FileIO, size: int) -> None:
        """Check the file's name and its first bytes."""
        if not self.path.casefold().endswith(".jsonl") and not self.file.unpack_error:
            self._add_file_issue(Issue("FILE_EXTENSION"))
        head = file.read(HEAD_BYTES)
        file.seek(0)
        issue = detect_wrong_format(head, is_complete=len(head) >= size)
        if self.file.unpack_error:
            issue = Issue("FILE_BINARY", detail=self.file.unpack_error)
        if issue:
            self.is_wrong_format = True
            self._add_file_issue(issue)
        if head.startswith(BOM):
            self.notes.append("the file begins with a byte order mark, which every target accepts")
        if b"\r\n" in head:
            self.notes.append("lines end in CRLF, which every target accepts")

    def _read(self, file: FileIO, progress: ProgressThrottle) -> None:
        """Make the pass: hash every byte, count and validate every line, scan every valid row."""
        for block in read_blocks(file):
            self.digest.update(block.raw)
            self.size += len(block.raw)
            progress.update(self.size)
            if not block.lines:
                continue
            self.lines += len(block.lines)
            if self.is_wrong_format:
                continue
            self.index.add(block.first_line, block.offset)
            valid = self.block_validator.validate(block)
            self.examples += len(valid.numbers)
            self.content_scan.feed(valid)
        progress.close(self.size)

    def _finish(self) -> None:
        """Add the issues and the figures that only the whole file shows."""
        self.stats |= self.content_scan.finish(self.path)
        self.service_rules.content_errors = len(self.content_scan.lines_with_errors)
        for issue in self.service_rules.finish(size=self.size, examples=self.examples):
            self._add_file_issue(issue)
        self.stats["service"] = self.service_rules.stats(size=self.size, examples=self.examples)
        ignored = self.block_validator.ignored_keys.described(self.examples)
        keys = sorted({key for key, _, _ in ignored}, key=lambda key: (key == HIDDEN_KEY, key))
        if keys:
            shown = [key if key == HIDDEN_KEY else f"'{key}'" for key in keys[:_MAX_IGNORED_KEYS]]
            listed = ", ".join(shown)
            self.notes.append(f"keys beside messages and tools are ignored: {listed}")

    def _add_file_issue(self, issue: Issue) -> None:
        severity = self.collector.count(issue.code)
        if severity and self.collector.has_room(issue.code):
            self.collector.add(file_problem(issue, severity))
