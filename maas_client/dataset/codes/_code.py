"""What is known about one code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maas_client.catalog.model_info import Target

Severity = Literal["error", "warning"]

__all__ = ["ERROR", "WARNING", "Code", "Severity", "SeverityByTarget", "Target"]


@dataclass(frozen=True, slots=True)
class SeverityByTarget:
    """The severity per target; None: it is no problem there and is not reported."""

    azureml: Severity | None
    foundry: Severity | None
    local: Severity | None


ERROR = SeverityByTarget("error", "error", "error")
WARNING = SeverityByTarget("warning", "warning", "warning")


@dataclass(frozen=True, slots=True)
class Code:
    """One code. The words of a problem are ``message``, then what differs from case to case."""

    name: str
    severities: SeverityByTarget
    message: str
    """What is wrong, in lower case and without a full stop."""
    hint: str
    """What to do next, a sentence."""
    explanation: str
    """For the code's page: what it means and why it matters, with what the services do."""
    example: str
    """For the code's page: something that is refused."""
    fixed_example: str = ""
    """For the code's page: the same, mended."""
    not_in_schema: bool = False
    """True: schemas/chat_line.schema.json cannot say it."""
    is_policy: bool = False
    """True: stops the client before it pays, but says nothing about the format. The local trainer
    trains such a row."""

    def severity_for(self, target: Target) -> Severity | None:
        """Return how bad it is for a target; None where it is not reported."""
        severity: Severity | None = getattr(self.severities, target)
        return severity
