"""Azure VM sizes with GPUs, and KAITO's presets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from maas_client.catalog.load import get_source, read_json
from maas_client.catalog.model_info import KaitoPreset, Machine, Source


@lru_cache(maxsize=1)
def load_machines() -> Mapping[str, Machine]:
    """Return the GPU machines by their Azure names."""
    machines = {}
    for name, source, values in _read_entries("machines"):
        values.setdefault("vcpus", None)
        values.setdefault("memory_gib", None)
        machines[name] = Machine(name=name, source=source, **values)
    return MappingProxyType(machines)


def find_machine(name: str) -> Machine | None:
    """Return a GPU machine by its Azure name, in any case, or None."""
    folded = name.strip().casefold()
    return next((m for m in load_machines().values() if m.name.casefold() == folded), None)


@lru_cache(maxsize=1)
def load_kaito_presets() -> Mapping[str, KaitoPreset]:
    """Return KAITO's presets for models of this catalog, by KAITO's names."""
    return MappingProxyType(
        {
            name: KaitoPreset(name=name, source=source, **values)
            for name, source, values in _read_entries("presets")
        }
    )


def _read_entries(section: str) -> list[tuple[str, Source, dict[str, Any]]]:
    """Return each entry's name, its first source and the values of all its statements."""
    data = read_json("machines.json")
    entries = []
    for name, statements in data[section].items():
        values: dict[str, Any] = {}
        for statement in statements:
            values |= statement["says"]
        first = statements[0]
        entries.append((name, get_source(data, first["source"], first["as_of"]), values))
    return entries
