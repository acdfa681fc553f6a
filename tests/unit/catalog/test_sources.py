"""No fact without a source and a date."""

import json
import re
from dataclasses import fields
from importlib.resources import files
from typing import Any

import pytest

from maas_client import catalog
from maas_client.catalog import ModelInfo

DATED = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-([0-2]\d|3[01]))?")
DERIVED_OR_NAME = {"name", "sources"}


def shelf(name: str) -> dict[str, Any]:
    return json.loads(files("maas_client.catalog").joinpath(name).read_text(encoding="utf-8"))


def statements(name: str) -> list[tuple[str, dict[str, Any]]]:
    data = shelf(name)
    found = []
    for kind in ("models", "machines", "presets"):
        for thing, said in data.get(kind, {}).items():
            found += [(thing, statement) for statement in said]
    for target, held in data.get("limits", {}).items():
        found += [(f"{target}.{limit}", said) for limit, said in held.items()]
    assert found
    return found


FILES = ("models.json", "limits.json", "machines.json")


@pytest.mark.parametrize("name", FILES)
def test_every_statement_has_a_known_source_and_a_date(name: str) -> None:
    sources = shelf(name)["sources"]
    for thing, said in statements(name):
        assert said["source"] in sources, thing
        assert DATED.fullmatch(said["as_of"]), thing


@pytest.mark.parametrize("name", FILES)
def test_every_source_is_complete_and_used(name: str) -> None:
    data = shelf(name)
    used = {said["source"] for _, said in statements(name)}
    for key, source in data["sources"].items():
        assert source["title"]
        assert source["url"].startswith("https://") or source["url"].startswith("docs/")
        assert key in used, f"{key} is cited nowhere"


@pytest.mark.parametrize("facts", catalog.load_models().values(), ids=lambda f: f.name)
def test_every_model_field_has_a_source(facts: ModelInfo) -> None:
    for field in fields(facts):
        if field.name in DERIVED_OR_NAME or getattr(facts, field.name) in (
            None,
            (),
            frozenset(),
            {},
        ):
            continue
        source = facts.get_source(field.name)
        assert source is not None, f"nobody says {field.name}"
        assert source.title
        assert DATED.fullmatch(source.as_of)


def test_each_fact_is_stated_once() -> None:
    """Two statements about one fact would hide which of them holds."""
    for model, said in shelf("models.json")["models"].items():
        facts = [fact for one in said for fact in one["says"] if fact != "offers"]
        assert len(facts) == len(set(facts)), f"{model}: {sorted(facts)}"


def test_statements_use_known_fields_only() -> None:
    known = {field.name for field in fields(ModelInfo)} | {"local"}
    for model, said in shelf("models.json")["models"].items():
        for statement in said:
            assert set(statement["says"]) <= known, model


@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
def test_every_limit_has_a_unit_and_a_source(target: Any) -> None:
    for name, limit in catalog.load_limits(target).items():
        assert limit.name == name
        assert limit.unit
        assert limit.source.title


def test_every_machine_and_preset_has_a_source() -> None:
    for thing in (*catalog.load_machines().values(), *catalog.load_kaito_presets().values()):
        assert thing.source.title
