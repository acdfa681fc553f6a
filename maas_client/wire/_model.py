"""The base of wire models: Azure's camelCase names, and room for fields it adds later."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """Unknown fields are kept and sent back; values never appear in error texts."""

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    def dump(self) -> dict[str, Any]:
        """Return the JSON-ready body; what was never set stays away."""
        return self.model_dump(by_alias=True, exclude_unset=True, mode="json")
