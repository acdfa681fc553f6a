"""The table of problem codes that ``validate`` reports: severity per target, message, hint, page.

A code is never renamed after its release. Its prefix names its group: ``FILE_`` is about the file as a
whole, ``JSON_`` about a line that is not strict JSON in UTF-8, ``CHAT_`` and ``TOOL_`` about a row that
is not a valid conversation, ``SERVICE_`` about what the target does with the file, and ``QUALITY_``,
``SECRET_`` and ``PII_`` about the text of the rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from maas_client.catalog.model_info import Target
from maas_client.errors import ConfigError

__all__ = [
    "ERROR",
    "WARNING",
    "Code",
    "Severity",
    "SeverityByTarget",
    "Target",
    "all_codes",
    "get_code",
    "resolve_codes",
]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class SeverityByTarget:
    """The severity of a code for each target; None where the code is not reported."""

    azureml: Severity | None
    foundry: Severity | None
    local: Severity | None


ERROR = SeverityByTarget("error", "error", "error")
WARNING = SeverityByTarget("warning", "warning", "warning")


@dataclass(frozen=True, slots=True)
class Code:
    """One problem code. A problem's message is ``message``, followed by the detail of the case."""

    name: str
    severities: SeverityByTarget
    message: str
    """What is wrong, in lower case and without a full stop."""
    hint: str
    """What to do about it: an imperative sentence."""
    explanation: str
    """For the code's page: what it means, why it matters, and what the services do."""
    example: str
    """For the code's page: data that gets this code."""
    fixed_example: str = ""
    """For the code's page: the same data, corrected."""
    not_in_schema: bool = False
    """True if ``schemas/chat_line.schema.json`` cannot express the rule."""
    is_policy: bool = False
    """True if the format is valid and the client stops only to avoid a cost or a risk. The local trainer
    trains such a row."""

    def severity_for(self, target: Target) -> Severity | None:
        """Return the severity for a target; None if the code is not reported there."""
        severity: Severity | None = getattr(self.severities, target)
        return severity

    def to_dict(self) -> dict[str, Any]:
        """Return the code and its texts, ready for JSON."""
        return {
            "code": self.name,
            "severity": asdict(self.severities),
            "message": self.message,
            "hint": self.hint,
            "explanation": self.explanation,
            "example": self.example,
            "fixed_example": self.fixed_example or None,
            "policy": self.is_policy,
        }


@lru_cache(maxsize=1)
def all_codes() -> dict[str, Code]:
    """Return every code by its name, in the order of the documentation."""
    from maas_client.dataset.codes import _chat, _file, _json, _policy, _service, _tool

    tables = (_file, _json, _chat, _tool, _service, _policy)
    return {code.name: code for table in tables for code in table.CODES}


def get_code(name: str) -> Code:
    """Return a code by its exact name. Raises ``KeyError``: an unknown name is a bug in the caller."""
    return all_codes()[name]


def resolve_codes(names: Iterable[str]) -> frozenset[str]:
    """Return the names of the codes that ``names`` select.

    Args:
        names: Code names in any case. A name that ends in ``*`` or ``_`` selects every code with that prefix.

    Raises:
        ConfigError: A name selects no code. The hint suggests the nearest names.
    """
    codes, selected = all_codes(), set()
    for name in names:
        upper = name.strip().upper()
        prefix = upper.rstrip("*")
        if upper in codes:
            selected.add(upper)
        elif prefix != upper or prefix.endswith("_"):
            members = {code for code in codes if prefix and code.startswith(prefix)}
            if not members:
                raise _unknown(name)
            selected |= members
        else:
            raise _unknown(name)
    return frozenset(selected)


def _unknown(name: str) -> ConfigError:
    word = name.strip().upper()
    prefix = f"{word.rstrip('_*')}_"
    if any(code.startswith(prefix) for code in all_codes()):
        matches = [f"{prefix}*"]
    else:
        matches = difflib.get_close_matches(word, all_codes(), n=2, cutoff=0.5)
    suggestion = f"Did you mean {' or '.join(matches)}? " if matches else ""
    return ConfigError(
        f"{name!r} is not a code of validate",
        hint=f"{suggestion}List all codes with: maas-client validate --explain all",
    )
