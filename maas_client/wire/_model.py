"""The base class of request and response bodies: Azure's camelCase names, unknown fields kept."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
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

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, body: Any) -> Any:
        """Read null as "not set" where a field has a default: Azure sends ``"tags": null`` for no tags."""
        if not isinstance(body, dict) or None not in body.values():
            return body
        defaults = _names_with_default(cls)
        return {k: value for k, value in body.items() if value is not None or k not in defaults}

    def dump(self) -> dict[str, Any]:
        """Return the body, ready for JSON, without the fields that were not set."""
        return self.model_dump(by_alias=True, exclude_unset=True, mode="json")


@cache
def _names_with_default(model: type[BaseModel]) -> frozenset[str]:
    """Return the names, in Python and in the body, of the fields whose default is not None."""
    return frozenset(
        each
        for name, field in model.model_fields.items()
        if field.default_factory is not None
        or (not field.is_required() and field.default is not None)
        for each in (name, field.alias or name)
    )
