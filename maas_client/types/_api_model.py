"""The base classes of the public types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import RLock
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

_PYDANTIC_V1_METHODS = frozenset(
    {
        "construct",
        "copy",
        "dict",
        "from_orm",
        "json",
        "parse_file",
        "parse_obj",
        "parse_raw",
        "schema",
        "schema_json",
        "update_forward_refs",
        "validate",
    }
)
"""Deprecated methods of ``BaseModel``, which ``dir()`` and completion do not list."""


_rebuild_lock = RLock()


class FrozenModel(BaseModel):
    """An immutable value with a short ``repr``. Its validation errors never show input values.

    Validators are built when they are first needed: building those of a report takes longer than validating
    a small file.
    """

    model_config = ConfigDict(
        frozen=True, hide_input_in_errors=True, protected_namespaces=(), defer_build=True
    )

    _REPR_FIELDS: ClassVar[tuple[str, ...]] = ()
    """The fields that ``repr`` shows, unless they are None; all fields if empty."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        if not self._REPR_FIELDS:
            yield from super().__repr_args__()
            return
        for name in self._REPR_FIELDS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the validator; pydantic before 2.14 must not do that in two threads at once."""
        with _rebuild_lock:
            return super().model_rebuild(**options)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _PYDANTIC_V1_METHODS]


class ApiModel(FrozenModel):
    """A resource or response of the service. Fields that Azure adds later are kept.

    Attributes:
        raw: The service's response, unchanged, with everything that has no field here.
    """

    model_config = ConfigDict(extra="allow")

    raw: dict[str, Any] = Field(default_factory=dict, repr=False)


class SimulatableModel(ApiModel):
    """A resource that the instant engine of a local server may have simulated; its ``repr`` says so."""

    @property
    def simulated(self) -> bool:
        """True if the local server's instant engine simulated it: nothing was trained, and no model answers."""
        properties: dict[str, Any] = getattr(self, "properties", {})
        tags = properties.get("tags")
        return "true" in (
            properties.get("simulated"),
            tags.get("simulated") if isinstance(tags, dict) else None,
        )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield from super().__repr_args__()
        if self.simulated:
            yield "simulated", True


def html_table(
    rows: Iterable[Sequence[object]], *, caption: str = "", head: Sequence[str] = ()
) -> str:
    """Return an HTML table for notebooks.

    Args:
        rows: The values of each row. Without ``head`` the first is the name of the second. Rows whose last
            value is None or empty text are left out.
        caption: A title above the table.
        head: The names of the columns.
    """
    from html import escape

    def row(values: Sequence[object], first_tag: str, tag: str) -> str:
        tags = [first_tag, *[tag] * (len(values) - 1)]
        cells = "".join(
            f"<{tag} style='text-align:left'>{escape(str(value))}</{tag}>"
            for tag, value in zip(tags, values, strict=True)
        )
        return f"<tr>{cells}</tr>"

    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = row(head, "th", "th") if head else ""
    listed = (values for values in rows if values[-1] not in (None, ""))
    body = "".join(row(values, "td" if head else "th", "td") for values in listed)
    return f"<table>{title}{top}{body}</table>"
