"""Exports to KAITO, checked against the rules of its admission webhook, which are repeated here."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml as pyyaml

from maas_client import catalog
from maas_client.errors import ConfigError, MaasError, UnsupportedError
from maas_client.platforms import ExportSpec, Places, export_job
from tests.unit.platforms.conftest import Make

URL = Places(
    input_url="https://example.com/train.jsonl",
    output_image="registry.azurecr.io/tickets:v1",
    push_secret="registry-secret",
)
SECTIONS = {
    "ModelConfig", "QuantizationConfig", "LoraConfig", "TrainingArguments", "DatasetConfig",
    "DataCollator",
}  # fmt: skip


def export(spec: ExportSpec, places: Places = URL) -> tuple[dict[str, Any], dict[str, Any]]:
    config, workspace = pyyaml.safe_load_all(export_job(spec, "kaito", places)["workspace.yaml"])
    return pyyaml.safe_load(config["data"]["training_config.yaml"])["training_config"], workspace


def broken_rules(config: dict[str, Any], workspace: dict[str, Any]) -> list[str]:
    """Return the rules that an export breaks (workspace_validation.go, tuning_config_validation.go)."""
    tuning, broken = workspace["tuning"], []
    label = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
    broken += [] if re.fullmatch(label, workspace["metadata"]["name"]) else ["name"]
    broken += [] if workspace["resource"]["instanceType"] else ["instanceType"]
    broken += [] if workspace["resource"]["labelSelector"]["matchLabels"] else ["labelSelector"]
    broken += [] if tuning["preset"]["name"] in catalog.load_kaito_presets() else ["preset"]
    broken += [] if tuning["method"] in ("lora", "qlora") else ["method"]
    keys = tuning["input"].keys() & {"urls", "image", "volumeSource"}
    broken += [] if len(keys) == 1 else ["input"]
    keys = tuning["output"].keys() & {"image", "volumeSource"}
    broken += [] if len(keys) == 1 else ["output"]
    if "image" in tuning["output"] and not tuning["output"].get("imagePushSecret"):
        broken.append("imagePushSecret")
    broken += [f"section {name}" for name in config.keys() - SECTIONS]
    quantizations = [
        name
        for name in ("load_in_4bit", "load_in_8bit")
        if config.get("QuantizationConfig", {}).get(name) is True
    ]
    broken += [] if len(quantizations) == (tuning["method"] == "qlora") else ["quantization"]
    broken += (
        [] if config["TrainingArguments"]["output_dir"].startswith("/mnt/") else ["output_dir"]
    )
    return broken


@pytest.mark.parametrize("method", [None, "LoRA", "QLoRA"])
@pytest.mark.parametrize("model", sorted(p.model for p in catalog.load_kaito_presets().values()))
def test_every_preset_and_method_passes_kaitos_rules(
    job: Make, model: str, method: str | None
) -> None:
    config, workspace = export(job(model, method=method))
    assert broken_rules(config, workspace) == []
    assert config["LoraConfig"]["target_modules"] == [
        "qkv_proj", "o_proj", "gate_up_proj", "down_proj",
    ]  # fmt: skip
    assert config["TrainingArguments"]["num_train_epochs"] == 3
    assert config["TrainingArguments"]["learning_rate"] == 2e-5


def test_inputs_and_outputs(job: Make) -> None:
    places = Places(input_pvc="data", output_pvc="results")
    config, workspace = export(job(), places)
    assert broken_rules(config, workspace) == []
    claim_name = workspace["tuning"]["input"]["volumeSource"]["persistentVolumeClaim"]["claimName"]
    assert claim_name == "data"
    places = Places(input_image="docker.io/me/data:1", output_pvc="results")
    assert broken_rules(*export(job(), places)) == []


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (Places(), "exactly one place"),
        (Places(input_url="https://x.com/a", input_pvc="b", output_pvc="c"), "exactly one place"),
        (Places(input_pvc="a"), "writes the adapter to exactly one"),
        (Places(input_pvc="a", output_pvc="b", output_image="x.io/y"), "exactly one"),
        (Places(input_url="http://localhost/a", output_pvc="b"), "does not download"),
        (Places(input_url="http://10.0.0.1/a", output_pvc="b"), "does not download"),
        (Places(input_url="http://169.254.169.254/a", output_pvc="b"), "does not download"),
        (Places(input_url="file:///etc/passwd", output_pvc="b"), "not a URL"),
        (Places(input_image="Not An Image", output_pvc="b"), "not an image"),
    ],
)
def test_invalid_places_are_refused(job: Make, places: Places, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        export_job(job(), "kaito", places)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "DoRA"}, "cannot run DoRA"),
        ({"method": "Full"}, "cannot run Full"),
        ({"validation_data": "v.jsonl"}, "not support a validation file"),
        ({"compute": ("Standard_NC4as_T4_v3",)}, "16 GiB"),
        ({"compute": ("a", "b")}, "one node"),
        ({"hyperparameters": {"max_seq_length": 512}}, "max_seq_length"),
        ({"hyperparameters": {"lora_alpha": 16.5}}, "whole lora_alpha"),
    ],
)
def test_unsupported_options_are_refused(job: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        export_job(job(**changes), "kaito", URL)


def test_model_without_preset_is_refused(job: Make) -> None:
    with pytest.raises(MaasError, match="no tuning preset"):
        export_job(job("Phi-3-small-8k-instruct"), "kaito", URL)


def test_readme_explains_how_to_create_the_push_secret(job: Make) -> None:
    places = Places(input_pvc="data", output_image="registry.azurecr.io/tickets:v1")
    assert broken_rules(*export(job(), places)) == []
    files = export_job(job(), "kaito", places)
    assert "imagePushSecret: tickets-v2-push" in files["workspace.yaml"]
    assert "kubectl create secret docker-registry tickets-v2-push" in files["README.md"]


def test_whole_numbers_are_written_as_integers(job: Make) -> None:
    config, _ = export(job(hyperparameters={"lora_alpha": 32.0, "lora_r": 16}))
    assert repr(config["LoraConfig"]["lora_alpha"]) == "32"


def test_readme_copies_and_imports_the_adapter(job: Make) -> None:
    text = export_job(job(), "kaito", URL)["README.md"]
    assert "docker cp adapter:/data" in text
    assert "maas-client models import ./adapter --base Phi-4-mini-instruct" in text
