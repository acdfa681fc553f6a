"""The catalog's models compared with their sources; regions, limits and machines."""

import re
from pathlib import Path

import pytest

from maas_client import catalog
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.local.bases import tiny
from tests.shared_data import SHARED, needs_shared_data, shared_file

SPECS = SHARED / "specs" / "azureml-assets-phi"


@needs_shared_data
@pytest.mark.parametrize("path", sorted(SPECS.glob("*hi-*.spec.yaml")), ids=lambda p: p.name)
def test_models_match_the_registry_files(path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    about, tags = spec["system_metadata"], spec["tags"]["model_specific_defaults"]
    model = catalog.get_model(spec["name"])
    assert model.version == str(spec["version"])
    assert model.max_output == about["maxOutputTokens"]
    if model.name != "Phi-3-small-8k-instruct":  # whose file says 131072, an evident mistake
        assert model.context_length == about["textContextWindow"]
    assert model.train_length == tags.get("max_seq_length")
    assert sorted(model.compute_sizes) == sorted(about["supportedComputes"]["finetuneComputes"])
    ranges = model.hyperparameters
    assert ranges["epochs"].default == tags["num_train_epochs"]
    assert ranges["batch_size"].default == tags["per_device_train_batch_size"]
    rate = ranges["learning_rate"]
    expected = [tags.get(f"learning_rate{end}") for end in ("", "_min", "_max")]
    assert [rate.default, rate.minimum, rate.maximum] == [w and float(w) for w in expected]
    ends = about.get("deprecation", {}).get("finetuneRetirementDate")
    assert (model.retired_on and model.retired_on.isoformat()) == (ends and ends[:10])


def test_hyperparameter_wire_names() -> None:
    for model in catalog.load_models().values():
        wires = {name: values.wire for name, values in model.hyperparameters.items()}
        if "foundry" in model.tunable_on:
            assert wires == {
                "epochs": "n_epochs",
                "batch_size": "batch_size",
                "learning_rate_multiplier": "learning_rate_multiplier",
            }
        elif model.family.startswith("phi-3") or "azureml" in model.tunable_on:
            assert wires == {
                "epochs": "num_train_epochs",
                "batch_size": "per_device_train_batch_size",
                "learning_rate": "learning_rate",
            }


def test_architecture_matches_published_parameters() -> None:
    """Weights of a dense model, counted from its numbers, against what is published."""
    counted = 0
    for model in catalog.load_models().values():
        shape = model.architecture
        if shape is None or shape.experts > 1 or shape.tied_embeddings is None:
            continue
        assert shape.intermediate_size is not None
        assert shape.vocab_size is not None
        attention = shape.head_dim * 2 * (shape.heads + shape.kv_heads)
        block = shape.hidden_size * (attention + 3 * shape.intermediate_size)
        embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tied_embeddings else 2)
        weights = shape.layers * block + embeddings
        assert weights == pytest.approx(model.parameters, rel=0.06), model.name
        counted += 1
    assert counted >= 12


def test_tiny_architecture_matches_the_local_server() -> None:
    shape = catalog.get_model("tiny").architecture
    assert shape is not None
    assert (shape.hidden_size, shape.layers, shape.heads, shape.kv_heads) == (
        tiny.HIDDEN_SIZE, tiny.NUM_LAYERS, tiny.NUM_HEADS, tiny.NUM_KV_HEADS,
    )  # fmt: skip
    assert (shape.intermediate_size, shape.vocab_size) == (tiny.INTERMEDIATE_SIZE, tiny.VOCAB_SIZE)
    assert catalog.get_model("tiny").context_length == tiny.CONTEXT_LENGTH


def test_foundry_deployment_formats() -> None:
    formats = {
        model.name: model.deployment_format
        for model in catalog.load_models().values()
        if model.deployment_format not in (None, "OpenAI")
    }
    assert formats == {
        "Ministral-3B": "Mistral AI",
        "Qwen3-32B": "Alibaba",
        "Llama-3.3-70B-Instruct": "Meta",
        "gpt-oss-20b": "Microsoft",
    }


TRAINING_TYPES = {
    "global": "GlobalStandard",
    "data zone": "DataZoneStandard",
    "standard": "Standard",
    "developer": "Developer",
}
SKUS = {
    "serverless": {"GlobalStandard", "Standard", "DataZoneStandard", "DeveloperTier"},
    "serverless (Global Standard only)": {"GlobalStandard"},
    "serverless, not Developer": {"GlobalStandard", "Standard", "DataZoneStandard"},
    "serverless, Standard only": {"Standard"},
    "managed compute; Fireworks (provisioned only)": set(),
}


def table_rows() -> list[list[str]]:
    """Return the cells of the table of tunable models in ``azure-2026-11.md``, one row per model."""
    section = shared_file("azure-2026-11.md").read_text(encoding="utf-8").split("## ")[1]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        [name, *rest]
        for models, *rest in cells
        for name in re.findall(r"`([^`]+)`", models.partition("**not**")[0])
    ]


def test_models_match_the_table_of_tunable_models() -> None:
    rows = table_rows()
    assert len(rows) == 18
    models = catalog.load_models()
    for name, methods, interactive, types, deployed in rows:
        model = models[name]
        assert set(model.tuning_methods) == set(re.findall("SFT|DPO|RFT", methods)), name
        assert model.interactive_training == (interactive == "yes"), name
        names = TRAINING_TYPES if types == "all four" else types.split(", ")
        assert set(model.training_types) == {TRAINING_TYPES[word] for word in names}, name
        assert set(model.deployment_skus) == SKUS[deployed], name
        assert model.deployment_options == tuple(
            option
            for option in ("serverless", "managed compute", "Fireworks")
            if option in deployed
        )
    tuned = {model.name for model in models.values() if "foundry" in model.tunable_on}
    assert tuned == {row[0] for row in rows}


def test_global_training_regions() -> None:
    """27 regions, 18 of which leave out the newest open models."""
    models = catalog.load_models()
    union = frozenset[str]().union(*(model.global_train_regions for model in models.values()))
    assert len(union) == 27
    newest = models["Qwen3.8-27B"].global_train_regions
    assert len(union - newest) == 18 - 1  # UAE North trains the newest ones only
    assert "uaenorth" in newest
    assert "uaenorth" not in models["gpt-4.1"].global_train_regions
    assert "polandcentral" not in models["gpt-4.1-nano"].global_train_regions


def test_context_and_template_are_known_or_explained() -> None:
    for model in catalog.load_models().values():
        if "foundry" not in model.tunable_on:
            continue
        assert model.context_length or model.unknown["context_length"], model.name
        assert model.family == "qwen3" or model.unknown["template"], model.name


def test_regions_are_compared_exactly() -> None:
    mini = catalog.get_model("Phi-3-mini")
    assert mini.train_regions == {"eastus2"}
    assert catalog.is_offered_in(mini, "East US 2") is True
    assert catalog.is_offered_in(mini, "eastus") is False
    assert catalog.is_offered_in(catalog.get_model("Phi-3-small"), "eastus") is None
    assert catalog.normalize_region("West US 3") == "westus3"
    with pytest.raises(UnsupportedError, match=r"eastus as of .*eastus2"):
        catalog.check_region(mini, "eastus")
    catalog.check_region(catalog.get_model("Phi-4-mini"), "Sweden Central", "deploy")
    with pytest.raises(UnsupportedError, match="swedencentral"):
        catalog.check_region(catalog.get_model("Phi-4-mini"), "Sweden Central")
    assert catalog.get_model("Llama-3.3-70B").train_regions == {"westus3"}
    with pytest.raises(UnsupportedError, match="usgovvirginia"):
        catalog.check_region(catalog.get_model("Phi-4-mini"), "usgovvirginia")


def test_limits_by_target() -> None:
    azureml, foundry = catalog.load_limits("azureml"), catalog.load_limits("foundry")
    assert azureml.get_int("file_bytes_max") == foundry.get_int("file_bytes_max") == 512 * 2**20
    assert azureml.get_int("rows_min") == foundry.get_int("rows_min") == 10
    assert azureml.get_int("tokens_times_epochs_max") == 2_000_000_000
    assert azureml.get_float("validation_split") == 0.2
    assert azureml["row_keys_kept"].value == ("messages", "tools")
    assert azureml.get_int("deployment_idle_days") == 15
    assert foundry.get_int("upload_threshold_bytes") == 100 * 2**20
    assert foundry.get_int("silent_failure_bytes") == 150 * 2**20
    assert foundry.get_int("resource_bytes_max") == 2**30
    assert catalog.load_limits("local").get_int("file_bytes_max") is None
    with pytest.raises(TypeError, match="row_keys_kept"):
        azureml.get_int("row_keys_kept")
    with pytest.raises(ConfigError, match="azureml, foundry, local"):
        catalog.load_limits("azure")  # type: ignore[arg-type] # the mistake under test


def test_machines_and_kaito_presets() -> None:
    a100 = catalog.find_machine("standard_nc96ads_a100_v4")
    assert a100 is not None
    assert (a100.gpus, a100.gpu_memory_gib, a100.memory_gib) == (4, 80, 880)
    assert catalog.find_machine("Standard_Nothing") is None
    for preset in catalog.load_kaito_presets().values():
        assert catalog.get_model(preset.model).architecture is not None
    for model in catalog.load_models().values():
        for size in model.compute_sizes:
            assert catalog.find_machine(size), size
