"""The one base of the public nouns."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ApiModel(BaseModel):
    """Frozen, tolerant of fields that Azure adds later, and silent about values in its errors."""

    model_config = ConfigDict(
        frozen=True, extra="allow", hide_input_in_errors=True, protected_namespaces=()
    )

    raw: dict[str, Any] = Field(default_factory=dict, repr=False)
    """The service's own answer, verbatim; the place for what this library does not name."""
