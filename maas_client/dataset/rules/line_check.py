"""Validate one line with the full rules: slower than the fast path, and decisive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.json_scan import JsonDocument, JsonError
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES, Line
from maas_client.dataset.parsing.strict_json import parse_strict
from maas_client.dataset.rules.chat import row_issues
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.rules.row_features import RowFeatures

_SPACE = b" \t\r"


@dataclass(slots=True)
class LineResult:
    """Everything found on one line. Blank and truncated lines have no document."""

    row: dict[str, Any] | None = None
    """The row; None unless it can be trained on."""
    json_errors: list[JsonError] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    document: JsonDocument | None = None
    is_blank: bool = False


class LineValidator:
    """Validates lines for one target and model."""

    def __init__(self, context: RuleContext, features: RowFeatures | None = None) -> None:
        """``features``: where to note what the rows use."""
        self.context = context
        self.features = features or RowFeatures()

    def validate(self, line: Line) -> LineResult:
        """Return everything that is wrong with a line, and its row if it is valid."""
        if line.truncated:
            return LineResult(
                json_errors=[JsonError("JSON_LINE_TOO_LONG", 1, f"{MAX_LINE_BYTES >> 20} MiB")]
            )
        if not line.data.strip(_SPACE):
            return LineResult(is_blank=True)
        document = parse_strict(line.data)
        result = LineResult(json_errors=document.errors, document=document)
        if document.aborted or document.has_duplicate_keys:
            return result
        result.issues = row_issues(document.value, self.context)
        self.features.add_row(document.value, has_issues=bool(result.issues))
        if not document.errors and not any(map(self.blocks_training, result.issues)):
            result.row = document.value
        return result

    def blocks_training(self, issue: Issue) -> bool:
        """Return whether an issue is an error at this target, so that its row is not trained on."""
        return self.context.severity(issue.code) == "error"
