"""A user's own facts, laid over the catalog: a JSON file of schemas/catalog_override.schema.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from maas_client._package_data import read_schema
from maas_client.catalog.model_info import Source
from maas_client.errors import ConfigError

SCHEMA = "catalog_override.schema.json"
_NOBODY = Source(id="override", title="", url="", as_of="")


@dataclass(frozen=True, slots=True)
class Override:
    """What the file says: facts by model, numbers by target."""

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Source = _NOBODY


def read_override(path: Path) -> Override:
    """Read and check an override file.

    Raises ``ConfigError`` that names the file and every place in it that is wrong.
    """
    said = _parse(path)
    wrong = _complaints(said)
    if wrong:
        raise ConfigError(
            f"the catalog override {path} is not valid: {'; '.join(wrong)}",
            hint=f"schemas/{SCHEMA} says what it may hold.",
        )
    source = Source(
        id="override",
        title=said.get("source", f"catalog override {path.name}"),
        url=str(path),
        as_of=said.get("as_of", ""),
    )
    return Override(said.get("models", {}), said.get("limits", {}), source)


def _parse(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as problem:
        raise ConfigError(
            f"the catalog override {path} cannot be read: {problem.strerror or problem}",
            hint="MAAS_CATALOG names it; correct the path or unset it.",
        ) from problem
    except ValueError as problem:
        raise ConfigError(
            f"the catalog override {path} is not JSON: {problem}",
            hint=f"schemas/{SCHEMA} says what it may hold.",
        ) from problem
    if not isinstance(said, dict):
        raise ConfigError(
            f"the catalog override {path} holds no JSON object",
            hint='It looks like {"models": {"Phi-4": {"version": "9"}}}.',
        )
    return said


def _complaints(said: Mapping[str, Any]) -> list[str]:
    """Return what is wrong, place by place; at most five."""
    from jsonschema import Draft202012Validator

    checker = Draft202012Validator(json.loads(read_schema(SCHEMA)))
    errors = sorted(
        checker.iter_errors(said), key=lambda e: [str(part) for part in e.absolute_path]
    )
    wrong = [f"{_place(error.absolute_path)}: {error.message}" for error in errors[:5]]
    return wrong or _impossible_dates(said)


def _impossible_dates(said: Mapping[str, Any]) -> list[str]:
    """The schema knows the form of a date; the calendar knows whether there is such a day."""
    wrong = []
    for name, facts in said.get("models", {}).items():
        days = {k: v for k, v in facts.items() if k.endswith("_on") and v}
        for n, offer in enumerate(facts.get("offers", ())):
            days |= {f"offers/{n}/{k}": offer[k] for k in ("from", "to") if offer.get(k)}
        for where, day in days.items():
            try:
                date.fromisoformat(day)
            except ValueError as problem:
                wrong.append(f"/models/{name}/{where}: {day!r}: {problem}")
    return wrong


def _place(path: Any) -> str:
    return "/" + "/".join(str(part) for part in path)
