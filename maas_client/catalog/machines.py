"""Azure GPU sizes and KAITO's presets, for planning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from maas_client.catalog.load import get_source, read_json
from maas_client.catalog.model_info import KaitoPreset, Machine, Source


@lru_cache(maxsize=1)
def load_machines() -> Mapping[str, Machine]:
    """Return the GPU sizes by their Azure names."""
    found = {}
    for name, source, said in _entries("machines"):
        said.setdefault("vcpus", None)
        said.setdefault("memory_gib", None)
        found[name] = Machine(name=name, source=source, **said)
    return MappingProxyType(found)


def find_machine(name: str) -> Machine | None:
    """Return an Azure GPU size by name, in any case, or None."""
    folded = name.strip().casefold()
    return next((m for m in load_machines().values() if m.name.casefold() == folded), None)


@lru_cache(maxsize=1)
def load_kaito_presets() -> Mapping[str, KaitoPreset]:
    """Return KAITO's presets of models in this catalog, by KAITO's names."""
    return MappingProxyType(
        {
            name: KaitoPreset(name=name, source=source, **said)
            for name, source, said in _entries("presets")
        }
    )


def _entries(shelf: str) -> list[tuple[str, Source, dict[str, Any]]]:
    """Each entry with its first source and everything its statements say."""
    data = read_json("machines.json")
    found = []
    for name, statements in data[shelf].items():
        said: dict[str, Any] = {}
        for statement in statements:
            said |= statement["says"]
        first = statements[0]
        found.append((name, get_source(data, first["source"], first["as_of"]), said))
    return found
