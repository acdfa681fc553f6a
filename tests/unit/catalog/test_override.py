"""Catalog override files."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from maas_client import catalog
from maas_client.errors import ConfigError


def write_override(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_override_replaces_single_facts(tmp_path: Path) -> None:
    path = write_override(
        tmp_path,
        {
            "source": "our Azure contact",
            "as_of": "2026-12-01",
            "models": {
                "Phi-3-mini-4k-instruct": {
                    "retired_on": None,
                    "hyperparameters": {"learning_rate": {"maximum": 1e-3}},
                }
            },
        },
    )
    info = catalog.get_model("Phi-3-mini", override=path)
    catalog.check_retirement(info, "azureml", date(2026, 12, 2))
    rate = info.hyperparameters["learning_rate"]
    assert (rate.wire, rate.minimum, rate.maximum) == ("learning_rate", 5e-7, 1e-3)
    source = info.get_source("retired_on")
    assert source is not None
    assert (source.title, source.as_of) == ("our Azure contact", "2026-12-01")
    assert info.context_length == 4096
    assert catalog.get_model("Phi-3-mini").retired_on == date(2025, 8, 30)


def test_override_adds_a_model(tmp_path: Path) -> None:
    model = {"registry": "contoso", "version": "2", "context_length": 8192, "aliases": ["ours"]}
    path = write_override(tmp_path, {"models": {"contoso-7b": model}})
    info = catalog.get_model("ours", override=path)
    assert info.uri == "azureml://registries/contoso/models/contoso-7b/versions/2"
    assert info.tunable_on == {"local"}
    assert (info.family, info.template) == ("contoso-7b", "chatml")
    assert catalog.find_model("contoso-7b") is None


def test_override_replaces_limits(tmp_path: Path) -> None:
    path = write_override(tmp_path, {"limits": {"azureml": {"rows_min": 1, "new_limit": 7}}})
    limits = catalog.load_limits("azureml", override=path)
    assert (limits.get_int("rows_min"), limits.get_int("new_limit")) == (1, 7)
    assert limits["rows_min"].unit == "rows"
    assert catalog.load_limits("azureml").get_int("rows_min") == 10


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"modells": {}}, "modells"),
        ({}, "mine.json"),
        ({"models": {"Phi-4": {"context": 1}}}, "/models/Phi-4"),
        ({"models": {"Phi-4": {"context_length": "16k"}}}, "/models/Phi-4/context_length"),
        ({"models": {"Phi-4": {"retired_on": "soon"}}}, "/models/Phi-4/retired_on"),
        ({"models": {"Phi-4": {"retired_on": "2026-02-30"}}}, "/models/Phi-4/retired_on"),
        ({"models": {"Phi-4": {"train_regions": ["East US"]}}}, "/models/Phi-4/train_regions/0"),
        ({"models": {"../x": {}}}, "../x"),
        ({"limits": {"azure": {}}}, "/limits"),
        ("[]", "object"),
        ("{", "not JSON"),
    ],
)
def test_invalid_override_error_has_the_place(tmp_path: Path, content: Any, place: str) -> None:
    path = write_override(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        catalog.find_model("Phi-4", override=path)
    assert place in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_override_error_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MAAS_CATALOG"):
        catalog.load_limits("azureml", override=tmp_path / "none.json")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_override_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="it is larger than 16 MiB"):
        catalog.load_limits("azureml", override=Path("/dev/zero"))
