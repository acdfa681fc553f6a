"""One line, judged in full: the slow way, which has the last word on what a row is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maas_client.dataset.fault import Fault
from maas_client.dataset.read import LINE_BYTES, Line
from maas_client.dataset.rulebook import Rulebook, rulebook
from maas_client.dataset.rules import row_faults
from maas_client.dataset.scan import BadJson, Document
from maas_client.dataset.strict import read

_SPACE = b" \t\r"


@dataclass(slots=True)
class Verdict:
    """What one line is. ``blank`` and ``cut`` lines have no document."""

    row: dict[str, Any] | None = None
    """The row; None unless it may be trained on."""
    json_faults: list[BadJson] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    document: Document | None = None
    blank: bool = False


class Checker:
    """Judges lines by one rulebook."""

    def __init__(
        self,
        *,
        target: str | None = None,
        model: str | None = None,
        book: Rulebook | None = None,
    ) -> None:
        self.book = book or rulebook(target, model)

    def judge(self, line: Line) -> Verdict:
        """Return everything that is wrong with a line."""
        if line.cut:
            return Verdict(
                json_faults=[BadJson("JSON_LINE_TOO_LONG", 1, f"{LINE_BYTES >> 20} MiB")]
            )
        if not line.data.strip(_SPACE):
            return Verdict(blank=True)
        document = read(line.data)
        verdict = Verdict(json_faults=document.faults, document=document)
        if document.broken or document.ambiguous:
            return verdict
        verdict.faults = row_faults(document.value, self.book)
        if not document.faults and not any(map(self.stops, verdict.faults)):
            verdict.row = document.value
        return verdict

    def stops(self, fault: Fault) -> bool:
        """Return whether a fault keeps its row from being trained on here."""
        return self.book.severity(fault.code) == "error"

    def row(self, line: Line) -> dict[str, Any] | None:
        """Return a line's row if it may be trained on, else None."""
        return self.judge(line).row
