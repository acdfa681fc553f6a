"""Reading the catalog's files: once, when first asked, and with a user's override on top."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maas_client.catalog.model_info import (
    Architecture,
    HyperparameterRange,
    ModelInfo,
    Offer,
    Source,
)
from maas_client.catalog.override import Override, read_override

_OWN_FIELDS = frozenset(f.name for f in fields(ModelInfo)) - {
    "name",
    "uri",
    "tunable_on",
    "sources",
}


@lru_cache(maxsize=8)
def read_json(name: str) -> dict[str, Any]:
    """Return one of the catalog's own files, parsed."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def get_source(data: Mapping[str, Any], source: str, as_of: str) -> Source:
    """Return the source ``source`` of a catalog file, as of a date."""
    said = data["sources"][source]
    return Source(id=source, title=said["title"], url=said["url"], as_of=as_of)


def load_models(override: Path | None = None) -> Mapping[str, ModelInfo]:
    """Return all models by their names, with the override file's facts on top.

    Raises ``ConfigError`` for an override that is missing, not JSON or not of its schema.
    """
    if override is None:
        return _own_models()
    return _models(read_override(override))


@lru_cache(maxsize=1)
def _own_models() -> Mapping[str, ModelInfo]:
    return _models(Override())


def _models(over: Override) -> Mapping[str, ModelInfo]:
    data = read_json("models.json")
    found: dict[str, ModelInfo] = {}
    for name in [*data["models"], *(n for n in over.models if n not in data["models"])]:
        facts, said_by = _collect(data, name)
        for fact, value in over.models.get(name, {}).items():
            facts[fact] = _merge(facts.get(fact), value)
            said_by[fact] = over.source
            if fact == "offers":
                facts[fact] = [{**offer, "source": over.source} for offer in value]
        found[name] = _build(name, facts, said_by)
    return MappingProxyType(found)


def _collect(data: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Source]]:
    facts: dict[str, Any] = {}
    said_by: dict[str, Source] = {}
    for statement in data["models"].get(name, ()):
        source = get_source(data, statement["source"], statement["as_of"])
        for fact, value in statement["says"].items():
            said_by[fact] = source
            if fact == "offers":  # the one fact that several sources add to
                value = [*facts.get(fact, ()), *({**offer, "source": source} for offer in value)]
            facts[fact] = value
    return facts, said_by


def _merge(old: Any, new: Any) -> Any:
    """Objects merge by key, everything else is replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: _merge(old.get(k), v) for k, v in new.items()}}
    return new


def _build(name: str, facts: Mapping[str, Any], said_by: Mapping[str, Source]) -> ModelInfo:
    said = {fact: _shape(fact, facts.get(fact)) for fact in _OWN_FIELDS}
    uri = None
    if said["registry"]:
        uri = f"azureml://registries/{said['registry']}/models/{name}"
        uri += f"/versions/{said['version']}" if said["version"] else "/labels/latest"
    said_by = dict(said_by)
    for derived, origin in (("uri", "registry"), ("tunable_on", "offers")):
        if origin in said_by:
            said_by[derived] = said_by[origin]
    tunable = {offer.target for offer in said["offers"]}
    tunable |= {"local"} if facts.get("local", True) else set()
    return ModelInfo(
        name=name,
        uri=uri,
        tunable_on=frozenset(tunable),
        sources=MappingProxyType(said_by),
        **{**said, "family": said["family"] or name, "template": said["template"] or "chatml"},
    )


def _shape(fact: str, value: Any) -> Any:
    """Turn a fact's JSON into what its field holds."""
    if fact in ("legacy_on", "deprecated_on", "retired_on"):
        return date.fromisoformat(value) if value else None
    if fact in ("train_regions", "deploy_regions"):
        return frozenset(value or ())
    if fact in ("modalities", "compute_sizes", "training_types", "aliases"):
        return tuple(value or ())
    if fact == "offers":
        return tuple(_offer(said) for said in value or ())
    if fact == "hyperparameters":
        return MappingProxyType({k: HyperparameterRange(**v) for k, v in (value or {}).items()})
    if fact == "architecture":
        return Architecture(**value) if value else None
    return value


def _offer(said: Mapping[str, Any]) -> Offer:
    began, ended = (date.fromisoformat(said[k]) if said.get(k) else None for k in ("from", "to"))
    return Offer(target=said["target"], start_date=began, end_date=ended, source=said["source"])
