"""Load the catalog's models, GPU machines and KAITO presets, once.

An override file, in which users correct or add facts, is applied to them. Its format is
``schemas/catalog_override.schema.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maas_client._files.package_data import PACKAGE, read_schema
from maas_client._files.small_file import read_small_file
from maas_client.catalog.model_info import (
    Architecture,
    HyperparameterRange,
    KaitoPreset,
    Machine,
    ModelInfo,
    Offer,
    Source,
)
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
        content = json.loads(read_small_file(path).decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the catalog override {path}: {error.strerror or error}",
            hint="Correct the path in MAAS_CATALOG, or unset it.",
        ) from error
    except (ValueError, RecursionError) as error:
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


_DERIVED_FIELDS = frozenset({"name", "uri", "tunable_on", "sources"})
_STATED_FIELDS = frozenset(field.name for field in fields(ModelInfo)) - _DERIVED_FIELDS
"""The fields that are read from statements in models.json."""
_LIST_FIELDS = frozenset(
    {
        *("modalities", "compute_sizes", "aliases", "former_names"),
        *(
            "response_formats",
            "tuning_methods",
            "training_types",
            "deployment_options",
            "deployment_skus",
        ),
    }
)


@lru_cache(maxsize=8)
def read_json(name: str) -> dict[str, Any]:
    """Return one of the catalog's files, parsed."""
    text = (PACKAGE / "catalog" / name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def get_source(data: Mapping[str, Any], source: str, as_of: str) -> Source:
    """Return a source of a catalog file.

    Args:
        data: The parsed file.
        source: The source's key.
        as_of: The date of the statement that cites it.
    """
    record = data["sources"][source]
    return Source(id=source, title=record["title"], url=record["url"], as_of=as_of)


def load_models(override: Path | None = None) -> Mapping[str, ModelInfo]:
    """Return all models by name.

    Args:
        override: A catalog override file, whose facts take precedence.

    Raises:
        ConfigError: The override file is missing or invalid.
    """
    if override is None:
        return _default_models()
    return _build_models(read_override(override))


@lru_cache(maxsize=1)
def _default_models() -> Mapping[str, ModelInfo]:
    return _build_models(Override())


def _build_models(override: Override) -> Mapping[str, ModelInfo]:
    data = read_json("models.json")
    models: dict[str, ModelInfo] = {}
    added = [name for name in override.models if name not in data["models"]]
    for name in [*data["models"], *added]:
        values, sources = _collect_statements(data, name)
        for fact, value in override.models.get(name, {}).items():
            values[fact] = _merge(values.get(fact), value)
            sources[fact] = override.source
            if fact == "offers":
                values[fact] = [{**offer, "source": override.source} for offer in value]
        models[name] = _build_model(name, values, sources)
    return MappingProxyType(models)


def _collect_statements(
    data: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, Source]]:
    """Return the values that the statements about a model give, and the source of each."""
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for statement in data["models"].get(name, ()):
        source = get_source(data, statement["source"], statement["as_of"])
        for fact, value in statement["says"].items():
            sources[fact] = source
            if fact == "offers":  # the one fact that several sources add to
                value = [*values.get(fact, ()), *({**offer, "source": source} for offer in value)]
            values[fact] = value
    return values, sources


def _merge(old: Any, new: Any) -> Any:
    """Merge objects key by key; replace everything else."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: _merge(old.get(k), v) for k, v in new.items()}}
    return new


def _build_model(name: str, values: Mapping[str, Any], sources: Mapping[str, Source]) -> ModelInfo:
    stated = {field: _convert(field, values.get(field)) for field in _STATED_FIELDS}
    uri = None
    if stated["registry"]:
        uri = f"azureml://registries/{stated['registry']}/models/{name}"
        uri += f"/versions/{stated['version']}" if stated["version"] else "/labels/latest"
    sources = dict(sources)
    for derived, origin in (("uri", "registry"), ("tunable_on", "offers")):
        if origin in sources:
            sources[derived] = sources[origin]
    tunable_on = {offer.target for offer in stated["offers"]}
    tunable_on |= {"local"} if values.get("local", True) else set()
    stated["family"] = stated["family"] or name
    stated["template"] = stated["template"] or "chatml"
    return ModelInfo(
        name=name,
        uri=uri,
        tunable_on=frozenset(tunable_on),
        sources=MappingProxyType(sources),
        **stated,
    )


def _convert(field: str, value: Any) -> Any:
    """Convert a JSON value to the type of its field."""
    if field.endswith("_on"):
        return date.fromisoformat(value) if value else None
    if field.endswith("_regions"):
        return frozenset(value or ())
    if field in _LIST_FIELDS:
        return tuple(value or ())
    if field == "unknown":
        return MappingProxyType(dict(value or {}))
    if field == "offers":
        return tuple(_to_offer(record) for record in value or ())
    if field == "hyperparameters":
        return MappingProxyType({k: HyperparameterRange(**v) for k, v in (value or {}).items()})
    if field == "architecture":
        return Architecture(**value) if value else None
    return value


def _to_offer(record: Mapping[str, Any]) -> Offer:
    start, end = (date.fromisoformat(record[k]) if record.get(k) else None for k in ("from", "to"))
    return Offer(target=record["target"], start_date=start, end_date=end, source=record["source"])


@lru_cache(maxsize=1)
def load_machines() -> Mapping[str, Machine]:
    """Return the GPU machines by their Azure names."""
    machines = {}
    for name, source, values in _read_entries("machines"):
        for optional in ("vcpus", "memory_gib", "tflops"):
            values.setdefault(optional, None)
        machines[name] = Machine(name=name, source=source, **values)
    return MappingProxyType(machines)


def find_machine(name: str) -> Machine | None:
    """Return a GPU machine by its Azure name, in any case and also without ``Standard_``, or None."""
    folded = f"standard_{name.strip().casefold().removeprefix('standard_')}"
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
