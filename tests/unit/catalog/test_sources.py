"""Every fact in the catalog has a source and a date."""

import json
import re
from dataclasses import fields
from importlib.resources import files
from typing import Any

import pytest

from maas_client import catalog
from maas_client.catalog import ModelInfo

DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-([0-2]\d|3[01]))?")
FIELDS_WITHOUT_SOURCE = {"name", "sources"}
FILES = ("models.json", "limits.json", "machines.json")


def read_catalog(filename: str) -> dict[str, Any]:
    return json.loads(files("maas_client.catalog").joinpath(filename).read_text(encoding="utf-8"))


def read_statements(filename: str) -> list[tuple[str, dict[str, Any]]]:
    """Return every statement of a file with the name of its subject."""
    data = read_catalog(filename)
    pairs = []
    for section in ("models", "machines", "presets"):
        for name, statements in data.get(section, {}).items():
            pairs += [(name, statement) for statement in statements]
    for target, limits in data.get("limits", {}).items():
        pairs += [(f"{target}.{name}", statement) for name, statement in limits.items()]
    assert pairs
    return pairs


@pytest.mark.parametrize("filename", FILES)
def test_every_statement_has_a_known_source_and_a_date(filename: str) -> None:
    sources = read_catalog(filename)["sources"]
    for name, statement in read_statements(filename):
        assert statement["source"] in sources, name
        assert DATE.fullmatch(statement["as_of"]), name


@pytest.mark.parametrize("filename", FILES)
def test_every_source_is_complete_and_used(filename: str) -> None:
    used = {statement["source"] for _, statement in read_statements(filename)}
    for key, source in read_catalog(filename)["sources"].items():
        assert source["title"]
        assert source["url"].startswith("https://") or source["url"].startswith("docs/")
        assert key in used, f"{key} is never cited"


@pytest.mark.parametrize("model", catalog.load_models().values(), ids=lambda model: model.name)
def test_every_model_field_has_a_source(model: ModelInfo) -> None:
    for field in fields(model):
        is_unknown = getattr(model, field.name) in (None, (), frozenset(), {})
        if is_unknown or field.name in FIELDS_WITHOUT_SOURCE:
            continue
        source = model.get_source(field.name)
        assert source is not None, f"{field.name} has no source"
        assert source.title
        assert DATE.fullmatch(source.as_of)


def test_each_fact_is_stated_once() -> None:
    """With two statements about one fact it would be unclear which one applies."""
    for name, statements in read_catalog("models.json")["models"].items():
        stated = [field for statement in statements for field in statement["says"]]
        stated = [field for field in stated if field != "offers"]
        assert len(stated) == len(set(stated)), f"{name}: {sorted(stated)}"


def test_statements_use_known_fields_only() -> None:
    fact_names = {field.name for field in fields(ModelInfo)} | {"local"}
    for name, statements in read_catalog("models.json")["models"].items():
        for statement in statements:
            assert set(statement["says"]) <= fact_names, name


@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
def test_every_limit_has_a_unit_and_a_source(target: Any) -> None:
    for name, limit in catalog.load_limits(target).items():
        assert limit.name == name
        assert limit.unit
        assert limit.source.title


def test_every_machine_and_preset_has_a_source() -> None:
    for record in (*catalog.load_machines().values(), *catalog.load_kaito_presets().values()):
        assert record.source.title
