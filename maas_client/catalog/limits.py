"""Numbers of the services: sizes, minima, quotas, the fixed recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maas_client.catalog.load import get_source, read_json
from maas_client.catalog.model_info import Limit, Target
from maas_client.catalog.override import Override, read_override
from maas_client.errors import ConfigError


class Limits(Mapping[str, Limit]):
    """The limits of one target by name. ``int_of`` and ``float_of`` give a number's value."""

    def __init__(self, target: Target, held: Mapping[str, Limit]) -> None:
        self.target = target
        self._held = MappingProxyType(dict(held))

    def __getitem__(self, name: str) -> Limit:
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def get_int(self, name: str) -> int | None:
        """Return a whole number, or None where the target knows no such limit."""
        value = self.get_float(name)
        return None if value is None else int(value)

    def get_float(self, name: str) -> float | None:
        """Return a number, or None where the target knows no such limit."""
        limit = self._held.get(name)
        if limit is None:
            return None
        if not isinstance(limit.value, int | float):
            raise TypeError(f"the limit {name} of {self.target} is {limit.value!r}, not a number")
        return limit.value


def load_limits(target: Target, *, override: Path | None = None) -> Limits:
    """Return what is known about a target's limits, with the override file's on top.

    Raises ``ConfigError`` for an unknown target.
    """
    data = read_json("limits.json")
    if target not in data["limits"]:
        raise ConfigError(
            f"no target named {target!r}", hint=f"Targets are {', '.join(data['limits'])}."
        )
    over = read_override(override) if override else Override()
    held = {name: _limit(data, name, said) for name, said in data["limits"][target].items()}
    for name, value in over.limits.get(target, {}).items():
        old = held.get(name)
        held[name] = Limit(name, value, old.unit if old else "", over.source)
    return Limits(target, held)


def _limit(data: Mapping[str, Any], name: str, said: Mapping[str, Any]) -> Limit:
    value = said["value"]
    return Limit(
        name=name,
        value=tuple(value) if isinstance(value, list) else value,
        unit=said["unit"],
        source=get_source(data, said["source"], said["as_of"]),
        note=said.get("note", ""),
    )
