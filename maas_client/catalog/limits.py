"""The limits of the services: sizes, minima, quotas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maas_client.catalog.load import Override, get_source, read_json, read_override
from maas_client.catalog.model_info import Limit, Target
from maas_client.errors import ConfigError


class Limits(Mapping[str, Limit]):
    """The limits of one target, by name."""

    def __init__(self, target: Target, limits: Mapping[str, Limit]) -> None:
        self.target = target
        self._limits = MappingProxyType(dict(limits))

    def __getitem__(self, name: str) -> Limit:
        return self._limits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def get_int(self, name: str) -> int | None:
        """Return a limit as a whole number, or None if the target has no such limit."""
        value = self.get_float(name)
        return None if value is None else int(value)

    def get_float(self, name: str) -> float | None:
        """Return a limit as a number, or None if the target has no such limit.

        Raises:
            TypeError: The limit is not a number.
        """
        limit = self._limits.get(name)
        if limit is None:
            return None
        if not isinstance(limit.value, int | float):
            raise TypeError(f"the limit {name} of {self.target} is {limit.value!r}, not a number")
        return limit.value

    def cite(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return those of the named limits that the target has, with their sources, ready for JSON."""
        return [
            {
                "name": name,
                "value": limit.value,
                "unit": limit.unit,
                "source": limit.source.url,
                "as_of": limit.source.as_of,
            }
            for name in names
            if (limit := self._limits.get(name)) is not None
        ]


def load_limits(target: Target, *, override: Path | None = None) -> Limits:
    """Return the limits of a target.

    Args:
        target: The backend.
        override: A catalog override file, whose limits take precedence.

    Raises:
        ConfigError: The target is unknown, or the override file is invalid.
    """
    data = read_json("limits.json")
    if target not in data["limits"]:
        raise ConfigError(
            f"unknown target {target!r}", hint=f"Use one of {', '.join(data['limits'])}."
        )
    overrides = read_override(override) if override else Override()
    limits = {
        name: _to_limit(data, name, record) for name, record in data["limits"][target].items()
    }
    for name, value in overrides.limits.get(target, {}).items():
        replaced = limits.get(name)
        limits[name] = Limit(name, value, replaced.unit if replaced else "", overrides.source)
    return Limits(target, limits)


def _to_limit(data: Mapping[str, Any], name: str, record: Mapping[str, Any]) -> Limit:
    value = record["value"]
    return Limit(
        name=name,
        value=tuple(value) if isinstance(value, list) else value,
        unit=record["unit"],
        source=get_source(data, record["source"], record["as_of"]),
        note=record.get("note", ""),
    )
