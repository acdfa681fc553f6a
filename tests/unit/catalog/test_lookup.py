"""Find models by the names that people use."""

import pytest

from maas_client import catalog, chat
from maas_client.errors import ConfigError

REGISTRY = "azureml://registries/azureml/models"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Phi-3-mini", "Phi-3-mini-4k-instruct"),
        ("Phi-3-medium", "Phi-3-medium-4k-instruct"),
        ("Phi-3-small", "Phi-3-small-8k-instruct"),
        ("phi-3-MINI-4K-instruct", "Phi-3-mini-4k-instruct"),
        ("Phi-3-mini-128k", "Phi-3-mini-128k-instruct"),
        ("phi3-mini", "Phi-3-mini-4k-instruct"),
        (" phi_3_medium ", "Phi-3-medium-4k-instruct"),
        ("microsoft/Phi-3-small-128k-instruct", "Phi-3-small-128k-instruct"),
        ("microsoft/Phi-4-mini-instruct", "Phi-4-mini-instruct"),
        ("microsoft/phi-4", "Phi-4"),
        ("phi4", "Phi-4"),
        ("Phi-4-mini", "Phi-4-mini-instruct"),
        ("Phi-3.5-mini", "Phi-3.5-mini-instruct"),
        ("Phi-3.5-moe", "Phi-3.5-MoE-instruct"),
        ("qwen/qwen3-32b", "Qwen3-32B"),
        ("Qwen-32B", "Qwen3-32B"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("meta-llama/Llama-3.3-70B-Instruct", "Llama-3.3-70B-Instruct"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m"),
        (f"{REGISTRY}/Phi-4/labels/latest", "Phi-4"),
        (f"{REGISTRY}/Phi-4", "Phi-4"),
        (f"{REGISTRY}/phi-4-MINI-instruct/versions/1", "Phi-4-mini-instruct"),
    ],
)
def test_find_model_accepts_every_spelling(name: str, expected: str) -> None:
    model = catalog.find_model(name)
    assert model is not None
    assert model.name == expected


def test_names_and_aliases_are_unique() -> None:
    seen: dict[str, str] = {}
    for model in catalog.load_models().values():
        names = {
            model.name,
            model.huggingface_id or model.name,
            *model.aliases,
            *model.former_names,
        }
        for name in names:
            assert catalog.get_model(name) is model
            assert catalog.get_model(name.upper()) is model
            assert seen.setdefault(name.casefold(), model.name) == model.name


@pytest.mark.parametrize(
    "name",
    [
        "Phi-5",
        "",
        "gpt-4.2",
        "Phi-3",
        "azureml://locations/eastus2/workspaces/0000/models/Phi-4/versions/1",
        "azureml:Phi-4:3",
        "azureml://registries/azureml-meta/models/Phi-4/versions/8",
        f"{REGISTRY}/Phi-4/versions/",
    ],
)
def test_unknown_model_is_none(name: str) -> None:
    assert catalog.find_model(name) is None


def test_registry_uri_keeps_its_version() -> None:
    address = f"{REGISTRY}/Phi-3-mini-4k-instruct/versions/14"
    model = catalog.find_model(address)
    assert model is not None
    assert (model.version, model.uri) == ("14", address)
    assert catalog.get_model("Phi-3-mini").version == "15"


def test_unknown_name_error_suggests_similar_names() -> None:
    with pytest.raises(ConfigError, match=r"Phi-4-mini-instruct") as caught:
        catalog.get_model("Phi-4-minni-instruct")
    assert "'Phi-4-minni-instruct'" in str(caught.value)


def test_former_name_is_accepted_with_a_notice() -> None:
    model = catalog.get_model("qwen-32B")
    assert model.name == "Qwen3-32B"
    notice = catalog.name_notice(model, "qwen-32B")
    assert notice == "qwen-32B is a former name: Azure calls the model Qwen3-32B (as of 2026-10-06)"
    assert catalog.name_notice(model, "Qwen3-32B") is None


def test_unknown_name_error_without_similar_names() -> None:
    with pytest.raises(ConfigError, match="models list") as caught:
        catalog.get_model("zzz")
    assert "Did you mean" not in str(caught.value)


def test_asset_uris_and_registry_uris() -> None:
    assert catalog.is_asset_uri("azureml:my-model:1")
    assert catalog.is_asset_uri("AZUREML://registries/azureml/models/Phi-4")
    assert catalog.is_asset_uri("/subscriptions/0/resourceGroups/rg/models/m/versions/1")
    assert not catalog.is_asset_uri("microsoft/Phi-4")
    assert catalog.registry_uri(catalog.get_model("Phi-4")) == f"{REGISTRY}/Phi-4/versions/8"
    with pytest.raises(ConfigError, match="gpt-oss-20b"):
        catalog.registry_uri(catalog.get_model("gpt-oss-20b"))


def test_every_model_has_a_known_template() -> None:
    for model in catalog.load_models().values():
        assert model.template in chat.TEMPLATES, model.name
