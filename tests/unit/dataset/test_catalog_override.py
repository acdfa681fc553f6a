"""The user's own catalog file applies to validation, to ``fix`` and to the trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maas_client.dataset import validate
from maas_client.dataset.edit.fix import fix
from maas_client.dataset.rows import read_rows
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.scanners.token_counting import load_token_counter
from maas_client.errors import ConfigError
from tests.unit.dataset.corpus import USER, VALID_LINES, file, message, row

CONTOSO = {"template": "phi3", "context_length": 2048, "registry": "contoso", "version": "1"}
OTHER = row(USER, message("assistant", "It writes <|im_start|> first."))
PHI3 = row(USER, message("assistant", "It writes <|end|> at the end."))


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalog.json"
    path.write_text(
        json.dumps(
            {
                "models": {"contoso-7b": CONTOSO},
                "limits": {"local": {"rows_min": 1}},
            }
        )
    )
    monkeypatch.setenv("MAAS_CATALOG", str(path))
    return path


def test_model_of_the_override_file_is_checked_alike_everywhere(
    catalog: Path, tmp_path: Path
) -> None:
    data = tmp_path / "train.jsonl"
    data.write_bytes(file(*VALID_LINES, OTHER, PHI3))
    report = validate(data, model="contoso-7b", target="local").files[0]
    assert report.counts["CHAT_CONTROL_TOKEN"] == report.counts["CHAT_FOREIGN_TOKEN"] == 1
    assert report.examples == 13
    assert len(list(read_rows(data, model="contoso-7b"))) == 13
    result = fix(data, tmp_path / "out.jsonl", target="local", model="contoso-7b")
    assert [unfixed.line for unfixed in result.unfixed_lines] == [14]
    assert build_context("azureml", "contoso-7b").max_tokens == 2048
    assert load_token_counter("contoso-7b").name == load_token_counter(None).name


def test_changed_override_file_is_read_again(catalog: Path) -> None:
    assert build_context("local", "contoso-7b").max_tokens == 2048
    catalog.write_text(json.dumps({"models": {"contoso-7b": {"context_length": 512}}}))
    assert build_context("local", "contoso-7b").max_tokens == 512
    catalog.unlink()
    with pytest.raises(ConfigError):
        build_context("local", "contoso-7b")


@pytest.mark.parametrize("model", [None, "Phi-3-mini-4k-instruct", "Phi-4-mini-instruct"])
def test_trainer_reads_the_rows_that_validate_counts(tmp_path: Path, model: str | None) -> None:
    data = tmp_path / "train.jsonl"
    data.write_bytes(file(*VALID_LINES, OTHER, PHI3, b"{", row(USER)))
    report = validate(data, model=model, target="local").files[0]
    assert len(list(read_rows(data, model=model))) == report.examples


def test_worker_process_gets_the_override_file(catalog: Path) -> None:
    from maas_client.local.machine.child_processes import worker_environment

    assert worker_environment(1)["MAAS_CATALOG"] == str(catalog)


def test_local_server_trains_a_model_of_the_override_file(catalog: Path, tmp_path: Path) -> None:
    from maas_client.local import serve

    data = tmp_path / "train.jsonl"
    data.write_bytes(file(*VALID_LINES))
    with serve(engine="instant") as server, server.client() as client:
        assert client.jobs.wait(
            client.jobs.create(model="contoso-7b", training_data=data)
        ).succeeded
