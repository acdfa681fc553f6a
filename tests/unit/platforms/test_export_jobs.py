"""Export existing jobs, and files from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml

from maas_client.cli import main
from maas_client.errors import ConfigError
from maas_client.flows.export import export, to_export_spec
from maas_client.platforms import Places
from maas_client.types import Job
from tests.unit.fake_port import FakePort


def make_job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": "/subscriptions/s/jobs/tickets",
        "name": "tickets",
        "status": "Completed",
        "done": True,
        "succeeded": True,
        "model": "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1",
        "training_data": "azureml://locations/x/workspaces/g/data/d/versions/1",
        "hyperparameters": {
            "num_train_epochs": "2", "learning_rate": "0.00002", "lora_r": "16", "method": "QLoRA",
            "target_modules": "qkv_proj,o_proj", "some_new_name": "7",
        },
    }  # fmt: skip
    return Job(**{**fields, **changes})


def test_wire_names_become_hyperparameters() -> None:
    spec = to_export_spec(make_job())
    assert spec.model == "Phi-4-mini-instruct"
    assert spec.method == "QLoRA"
    hyperparameters = spec.hyperparameters
    assert (hyperparameters.epochs, hyperparameters.learning_rate, hyperparameters.lora_r) == (
        2,
        2e-5,
        16,
    )
    assert hyperparameters.target_modules == ("qkv_proj", "o_proj")
    assert hyperparameters.extra == {"some_new_name": "7"}


async def test_job_exports_to_kaito_with_its_hyperparameters() -> None:
    places = Places(input_url="https://example.com/t.jsonl", output_pvc="out")
    files = await export(FakePort(), make_job(), "kaito", training_data="t.jsonl", places=places)
    config, workspace = pyyaml.safe_load_all(files["workspace.yaml"])
    training = pyyaml.safe_load(config["data"]["training_config.yaml"])["training_config"]
    assert workspace["tuning"]["method"] == "qlora"
    assert training["LoraConfig"]["target_modules"] == ["qkv_proj", "o_proj"]
    assert training["TrainingArguments"]["num_train_epochs"] == 2


async def test_workspace_uri_is_refused_on_other_platforms() -> None:
    with pytest.raises(ConfigError, match="in its workspace"):
        await export(FakePort(), make_job(), "olive")
    job = make_job(hyperparameters={"num_train_epochs": "2"})
    text = (await export(FakePort(), job, "azureml"))["job.yaml"]
    assert pyyaml.safe_load(text)["training_data"]["path"] == job.training_data


CHATS = "".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"What is box {n}?"},
                {"role": "assistant", "content": f"Box {n} is the {n}th of twelve."},
            ]
        }
    )
    + "\n"
    for n in range(12)
)


def test_invalid_file_is_not_exported_and_retired_model_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text(CHATS + '{"messages": [\n')
    assert main(["export", "bad.jsonl", "--model", "Phi-4", "--to", "azureml", "--out", "job"]) == 3
    assert "line 13" in capsys.readouterr().err
    assert not Path("job").exists()
    Path("good.jsonl").write_text(CHATS)
    assert main(["export", "good.jsonl", "--model", "Phi-3-mini", "--to", "azureml"]) == 0
    assert "2025-08-30" in capsys.readouterr().err
    compute = ["--compute", "gpu-cluster"]
    assert main(["export", "good.jsonl", "--model", "Phi-3-mini", "--to", "azureml", *compute]) == 0
    assert "2025-08-30" not in capsys.readouterr().err


def test_export_file_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text(CHATS)
    command = ["export", "train.jsonl", "--model", "phi-4-mini", "--epochs", "2"]
    assert main([*command, "--to", "azureml"]) == 0
    assert pyyaml.safe_load(capsys.readouterr().out)["hyperparameters"] == {"num_train_epochs": "2"}
    assert main([*command, "--to", "accelerate", "--out", "go", "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert sorted(fields["files"]) == sorted(path.name for path in Path("go").iterdir())
    assert main([*command, "--to", "kaito", "--input-pvc", "a", "--output-pvc", "b"]) == 0
    assert len(list(pyyaml.safe_load_all(capsys.readouterr().out))) == 2
    assert main([*command, "--to", "cluster", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] is None
    assert Path("go/train.sh").stat().st_mode & 0o111
    assert main([*command, "--to", "cluster", "--out", "go"]) == 1
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--to", "cluster", "--out", "train.jsonl/go"]) == 1
    assert "the folder train.jsonl/go cannot be created" in capsys.readouterr().err
    assert main([*command, "--to", "kaito"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["go", "train.jsonl"]
    assert main(["export", "train.jsonl", "--to", "olive"]) == 1
    assert "--model" in capsys.readouterr().err
    assert main(["export", "some-job", "--to", "olive", "--epochs", "2"]) == 1
    assert "an existing job has its own model and settings" in capsys.readouterr().err
    assert main(["export", "some-model", "--to", "merged", "--backend", "azureml"]) == 1
    assert "stay on Azure" in capsys.readouterr().err
    for option, kind in (
        ("--beta=0.2", "the method DPO"),
        ("--adapter=DoRA", "the method DPO"),
        ("--lora-r=4", "adapters"),
    ):
        assert main([*command, "--to", "cluster", "--method", "Full", option]) == 1
        assert f"is an option of {kind}" in capsys.readouterr().err
    trackers = ["--report-to", "wandb", "--set", "report_to=mlflow"]
    assert main([*command, "--to", "cluster", *trackers]) == 1
    assert "--report-to is given twice" in capsys.readouterr().err
    for form in ("adapter", "cluster"):  # not the model in the current folder
        assert main(["export", " ", "--to", form]) == 1
        assert "TARGET is empty" in capsys.readouterr().err
