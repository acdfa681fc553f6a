"""Read a catalog override file, in which users correct or add facts (schemas/catalog_override.schema.json)."""

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
_NO_SOURCE = Source(id="override", title="", url="", as_of="")
_MAX_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Override:
    """The content of an override file.

    Attributes:
        models: Facts by model.
        limits: Values by target and limit.
        source: The source that is shown for them.
    """

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Source = _NO_SOURCE


def read_override(path: Path) -> Override:
    """Read and check an override file.

    Raises:
        ConfigError: The file cannot be read or is invalid; the message names the places.
    """
    content = _parse(path)
    problems = _find_problems(content)
    if problems:
        raise ConfigError(
            f"the catalog override {path} is not valid: {'; '.join(problems)}",
            hint=f"See schemas/{SCHEMA} for its format.",
        )
    source = Source(
        id="override",
        title=content.get("source", f"catalog override {path.name}"),
        url=str(path),
        as_of=content.get("as_of", ""),
    )
    return Override(content.get("models", {}), content.get("limits", {}), source)


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the catalog override {path}: {error.strerror or error}",
            hint="Correct the path in MAAS_CATALOG, or unset it.",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"the catalog override {path} is not JSON: {error}",
            hint=f"See schemas/{SCHEMA} for its format.",
        ) from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"the catalog override {path} is not a JSON object",
            hint='Write an object such as {"models": {"Phi-4": {"version": "9"}}}.',
        )
    return content


def _find_problems(content: Mapping[str, Any]) -> list[str]:
    """Return what is wrong, with the place of each problem."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(read_schema(SCHEMA)))
    errors = sorted(
        validator.iter_errors(content), key=lambda e: [str(part) for part in e.absolute_path]
    )
    problems = [f"{_pointer(e.absolute_path)}: {e.message}" for e in errors[:_MAX_PROBLEMS]]
    return problems or _find_impossible_dates(content)


def _find_impossible_dates(content: Mapping[str, Any]) -> list[str]:
    """Return dates that have the right form but do not exist, such as 2026-02-30."""
    problems = []
    for name, facts in content.get("models", {}).items():
        dates = {k: v for k, v in facts.items() if k.endswith("_on") and v}
        for n, offer in enumerate(facts.get("offers", ())):
            dates |= {f"offers/{n}/{k}": offer[k] for k in ("from", "to") if offer.get(k)}
        for path, text in dates.items():
            try:
                date.fromisoformat(text)
            except ValueError as error:
                problems.append(f"/models/{name}/{path}: {text!r}: {error}")
    return problems


def _pointer(path: Any) -> str:
    return "/" + "/".join(str(part) for part in path)
