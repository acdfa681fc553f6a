"""One line, judged in full: the slow way, which has the last word on what a row is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.json_scan import JsonDocument, JsonError
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES, Line
from maas_client.dataset.parsing.strict_json import parse_strict
from maas_client.dataset.rules.chat import row_issues
from maas_client.dataset.rules.context import RuleContext, build_context

_SPACE = b" \t\r"


@dataclass(slots=True)
class LineResult:
    """What one line is. ``blank`` and ``cut`` lines have no document."""

    row: dict[str, Any] | None = None
    """The row; None unless it may be trained on."""
    json_errors: list[JsonError] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    document: JsonDocument | None = None
    is_blank: bool = False


class LineValidator:
    """Judges lines by one rulebook."""

    def __init__(
        self,
        *,
        target: str | None = None,
        model: str | None = None,
        context: RuleContext | None = None,
    ) -> None:
        self.context = context or build_context(target, model)

    def validate(self, line: Line) -> LineResult:
        """Return everything that is wrong with a line."""
        if line.truncated:
            return LineResult(
                json_errors=[JsonError("JSON_LINE_TOO_LONG", 1, f"{MAX_LINE_BYTES >> 20} MiB")]
            )
        if not line.data.strip(_SPACE):
            return LineResult(is_blank=True)
        document = parse_strict(line.data)
        verdict = LineResult(json_errors=document.errors, document=document)
        if document.aborted or document.has_duplicate_keys:
            return verdict
        verdict.issues = row_issues(document.value, self.context)
        if not document.errors and not any(map(self.blocks_training, verdict.issues)):
            verdict.row = document.value
        return verdict

    def blocks_training(self, fault: Issue) -> bool:
        """Return whether a fault keeps its row from being trained on here."""
        return self.context.severity(fault.code) == "error"

    def to_row(self, line: Line) -> dict[str, Any] | None:
        """Return a line's row if it may be trained on, else None."""
        return self.validate(line).row
