"""The base class of request and response bodies: Azure's camelCase names, unknown fields kept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """A body. Unknown fields are kept and sent back; error messages never contain values."""

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    def dump(self) -> dict[str, Any]:
        """Return the body, ready for JSON, without the fields that were not set."""
        return self.model_dump(by_alias=True, exclude_unset=True, mode="json")
