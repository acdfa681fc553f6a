"""What the target will do with a file: rows it passes over, ceilings, the split, the route.

Each number is the catalog's, with its source and date; ``stats()`` repeats them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from maas_client.catalog import Limit
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.rules.line_check import LineResult
from maas_client.types.report import FileReport

_FEW_ROWS = 50
_MB = 1024 * 1024


class FileIssue(NamedTuple):
    """Something about the file as a whole."""

    code: str
    detail: str = ""


class ServiceRules:
    """Counts rows as the target counts them."""

    def __init__(
        self, context: RuleContext, *, is_validation_file: bool = False, service_splits: bool = True
    ) -> None:
        self.context = context
        self.is_validation_file = is_validation_file
        """This is the validation file: rules for training files do not hold."""
        self.service_splits = service_splits and not is_validation_file
        """No validation file is given, so the service takes its own from this one."""
        self.rows = 0
        """Rows the target would read and keep."""
        self.skipped = 0
        """Rows it would pass over: not JSON to it, or without messages."""
        self.dropped = 0
        """Rows it would read and drop: fewer than two messages."""
        self.blank_lines = 0

    def count_valid(self, rows: int) -> None:
        """Count rows that have no fault."""
        self.rows += rows

    def count_line(self, verdict: LineResult) -> bool:
        """Count one line that was looked at closely; return whether it would be dropped."""
        if verdict.is_blank:
            self.blank_lines += 1
            return False
        messages = _messages(verdict)
        if messages is None:
            self.skipped += 1
            return False
        few = len(messages) < (self.context.limits.get_int("messages_min") or 0)
        if not few and verdict.row is None and self.context.target == "local":
            self.skipped += 1  # our own trainer takes no row with an error
            return False
        self.dropped += few
        self.rows += not few
        return few

    def finish(self, *, size: int, examples: int) -> Iterator[FileIssue]:
        """Say what the counts and the size lead to."""
        yield from self._size(size)
        facts = self.context.model
        if facts and self.context.target not in facts.tunable_on and not self.is_validation_file:
            where = ", ".join(sorted(facts.tunable_on)) or "nowhere that is known"
            yield FileIssue("SERVICE_MODEL", f"{facts.name} is tuned on: {where}")
        if self.rows == 0 or examples == 0:
            yield FileIssue(
                "SERVICE_NO_ROWS", "none of them is without errors" if self.rows else ""
            )
        elif not self.is_validation_file:
            yield from self._few(examples)
        lost = self.skipped + self.dropped
        if lost:
            parts = [f"{self.skipped} skipped", f"{self.dropped} dropped"]
            left = f"{self.rows} left{self._without_errors(examples)}"
            yield FileIssue("SERVICE_ROWS_SKIPPED", f"{', '.join(parts)}, {left}")

    def _without_errors(self, examples: int) -> str:
        """Say how many of the rows that the service takes have no error, if that is not all."""
        return f", {examples} of them without errors" if examples < self.rows else ""

    def _few(self, examples: int) -> Iterator[FileIssue]:
        least = self.context.limits.get_int("rows_min") or 1
        if self.rows < least:
            yield FileIssue("SERVICE_TOO_FEW_ROWS", f"{self.rows}, at least {least} are needed")
        elif self.rows < (self.context.limits.get_int("rows_advised") or _FEW_ROWS):
            yield FileIssue("SERVICE_FEW_ROWS", f"{self.rows}{self._without_errors(examples)}")

    def _size(self, size: int) -> Iterator[FileIssue]:
        limits = self.context.limits
        most, uploads = limits.get_int("file_bytes_max"), limits.get_int("upload_bytes_max")
        if most is None or size <= most:
            return
        if uploads is not None and size <= uploads:
            said = f"{size / _MB:,.0f} MB, /files takes {most // _MB} MB"
            yield FileIssue("SERVICE_UPLOADS_ONLY", said)
        else:
            yield FileIssue(
                "SERVICE_FILE_TOO_LARGE",
                f"{size / _MB:,.0f} MB, at most {(uploads or most) // _MB:,} MB",
            )

    def stats(self, *, size: int, examples: int) -> dict[str, Any]:
        """Return the prediction, for ``FileReport.stats["service"]``."""
        said: dict[str, Any] = {
            "target": self.context.target,
            "rows": self.rows,
            "rows_with_errors": max(0, self.rows - examples),
            "rows_skipped": self.skipped,
            "rows_dropped": self.dropped,
            "blank_lines": self.blank_lines,
            "route": self._route(size),
            "limits": [_cited(limit) for limit in self._limits()],
        }
        if self.service_splits and (split := self._split()):
            said["validation_split"] = split
        return said

    def _route(self, size: int) -> str:
        threshold = self.context.limits.get_int("upload_threshold_bytes")
        if self.context.target == "foundry" and threshold is not None:
            return "files" if size <= threshold else "uploads"
        return {"azureml": "blob", "foundry": "files", "local": "blob"}[self.context.target]

    def _split(self) -> dict[str, Any] | None:
        share = self.context.limits.get_float("validation_split")
        if not share or self.rows < 2:
            return None
        rows = max(1, round(self.rows * share))
        shuffled = self.context.limits.get("validation_split_shuffled")
        return {
            "rows": rows,
            "first_row": self.rows - rows + 1,
            "shuffled": bool(shuffled and shuffled.value),
        }

    def _limits(self) -> Iterator[Limit]:
        for name in ("rows_min", "messages_min", "file_bytes_max", "upload_threshold_bytes",
                     "upload_bytes_max", "tokens_times_epochs_max", "validation_split"):  # fmt: skip
            if name in self.context.limits:
                yield self.context.limits[name]


def describe_prediction(file: FileReport) -> str:
    """Return in a sentence what the target would do with a file's rows."""
    said: dict[str, Any] = file.stats["service"]
    target, rows, faulty = (
        said.get("target"),
        said.get("rows", 0),
        said.get("rows_with_errors", 0),
    )
    if target == "local" and any(
        problem.severity == "error"
        and problem.code.startswith(("FILE_", "JSON_", "CHAT_", "TOOL_"))
        for problem in file.problems
    ):
        return f"local trains on no file with errors in its format; rows without: {rows:,}"
    if faulty:
        return (
            f"{target} would take {rows:,} rows as they stand: {rows - faulty:,} without errors, "
            f"{faulty:,} with some of the errors above"
        )
    return f"{target} would train on {rows:,} row{'' if rows == 1 else 's'}"


def _messages(verdict: LineResult) -> list[Any] | None:
    """Return the messages as a lenient reader would have them: Python's json takes NaN, duplicate
    keys and lone surrogates."""
    document = verdict.document
    if document is None or document.aborted or not isinstance(document.value, dict):
        return None
    messages = document.value.get("messages")
    return messages if isinstance(messages, list) else None


def _cited(limit: Limit) -> dict[str, Any]:
    return {
        "name": limit.name,
        "value": limit.value,
        "unit": limit.unit,
        "source": limit.source.url,
        "as_of": limit.source.as_of,
    }
