"""A file is validated once for a model while it is unchanged, and a changed file is noticed."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset.file_validator import FileValidator
from maas_client.errors import ConfigError, DatasetError, ModelRetiredError
from maas_client.flows import datasets, fine_tune, jobs
from tests.unit.fake_port import FakePort
from tests.unit.flows.fake_workspace import FakeBlobs, FakeJobs, workspace

MODEL = "Phi-4-mini-instruct"
ROW = '{"messages": [{"role": "user", "content": "q%d"}, {"role": "assistant", "content": "%s %d"}]}\n'


@pytest.fixture
def port() -> FakePort:
    port = workspace(FakePort())
    FakeBlobs(port)
    FakeJobs(port)
    port.on(
        "data_versions.create", lambda s: {"id": f"id/data/{s.path['name']}/versions/1", **s.body}
    )
    return port


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Return the files that are parsed, in order, each with the model it is validated for."""
    calls: list[tuple[str, str | None]] = []
    run = FileValidator.run

    def counted(self: FileValidator, *args: Any) -> Any:
        model = self.collector.context.model
        calls.append((Path(self.path).name, model.name if model else None))
        return run(self, *args)

    monkeypatch.setattr(FileValidator, "run", counted)
    return calls


def write(path: Path, answer: str = "a", rows: int = 12) -> Path:
    path.write_text("".join(ROW % (i, answer, i) for i in range(rows)))
    return path


async def test_upload_returns_a_dataset_with_its_report(port: FakePort, tmp_path: Path) -> None:
    dataset = await datasets.upload(port, write(tmp_path / "train.jsonl"))
    assert dataset.report is not None
    assert dataset.report.files[0].examples == 12
    assert dataset.report.files[0].sha256 == dataset.sha256


async def test_job_uses_the_report_of_the_upload(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    path = write(tmp_path / "train.jsonl")
    dataset = await datasets.upload(port, f"{tmp_path}/./{path.name}", model=MODEL)
    path.unlink()  # the uploaded bytes were validated, whatever happens to the file
    await jobs.create(port, MODEL, dataset)
    assert validated == [("train.jsonl", MODEL)]


@pytest.mark.parametrize("as_path", [False, True])
async def test_job_derives_its_report_from_an_upload_without_a_model(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]], as_path: bool
) -> None:
    path = write(tmp_path / "train.jsonl")
    dataset = await datasets.upload(port, path)
    for model in (MODEL, "Phi-3.5-mini-instruct", MODEL):
        await jobs.create(
            port, model, path if as_path else dataset, force_new=True, allow_retired=True
        )
    assert validated == [("train.jsonl", None)]


async def test_upload_without_a_model_is_validated_for_a_model_that_may_not_support_it(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    dataset = await datasets.upload(port, write(tmp_path / "train.jsonl", "<unk>"))
    await jobs.create(port, MODEL, dataset)
    await jobs.create(port, MODEL, dataset, force_new=True)
    assert validated == [("train.jsonl", None), ("train.jsonl", MODEL)]


async def test_problem_for_the_model_is_found_after_an_upload_without_one(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    path = write(tmp_path / "train.jsonl")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    rows = [{**json.loads(line), "tools": [tool]} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = await datasets.upload(port, path)
    await jobs.create(port, MODEL, dataset)
    with pytest.raises(DatasetError, match="CHAT_ROLE_UNSUPPORTED"):
        await jobs.create(port, "Phi-4", dataset)
    assert validated == [("train.jsonl", None), ("train.jsonl", "Phi-4")]
    assert len(port.asked("jobs.create")) == 1


async def test_budget_uses_the_bounds_of_the_upload_or_the_tokenizer_of_the_model(
    port: FakePort,
    tmp_path: Path,
    validated: list[tuple[str, str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = await datasets.upload(port, write(tmp_path / "train.jsonl"))
    assert dataset.report is not None
    at_most = dataset.report.files[0].stats["tokens"]["at_most"]
    await jobs.create(port, MODEL, dataset, max_billed_tokens=at_most)
    with pytest.raises(ConfigError, match=f"{at_most:,} tokens"):
        await jobs.create(port, MODEL, dataset, max_billed_tokens=at_most - 1)
    assert validated == [("train.jsonl", None)]

    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    folder = tmp_path / "cache" / "microsoft--Phi-4-mini-instruct"
    folder.mkdir(parents=True)
    words.save(str(folder / "tokenizer.json"))
    monkeypatch.setenv("MAAS_CACHE_DIR", str(folder.parent))
    await jobs.create(port, MODEL, dataset, max_billed_tokens=12)  # one token per row
    assert validated == [("train.jsonl", None), ("train.jsonl", MODEL)]
    with pytest.raises(ConfigError, match="12 tokens"):
        await jobs.create(port, MODEL, dataset, max_billed_tokens=11)


async def test_model_that_only_the_service_knows_is_not_validated_for(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    model = "azureml://registries/azureml/models/Unknown-7B/versions/1"
    await jobs.create(port, model, write(tmp_path / "train.jsonl"))
    assert validated == [("train.jsonl", None)]


async def test_changed_catalog_override_is_noticed(
    port: FakePort,
    tmp_path: Path,
    validated: list[tuple[str, str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = await datasets.upload(port, write(tmp_path / "train.jsonl"))
    limits = {"azureml": {"rows_min": 13}}
    override = {"source": "this test", "as_of": "2026-11-24", "limits": limits}
    (tmp_path / "catalog.json").write_text(json.dumps(override))
    monkeypatch.setenv("MAAS_CATALOG", str(tmp_path / "catalog.json"))
    with pytest.raises(DatasetError, match="SERVICE_TOO_FEW_ROWS"):
        await jobs.create(port, MODEL, dataset)
    assert len(validated) == 2


async def test_unchanged_file_is_validated_once(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    path = write(tmp_path / "train.jsonl")
    first = await jobs.create(port, MODEL, path)
    assert (await jobs.create(port, MODEL, path)).name == first.name
    assert validated == [("train.jsonl", MODEL)]


async def test_changed_file_of_the_same_size_is_validated_again(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    path = write(tmp_path / "train.jsonl", "a")
    first = await jobs.create(port, MODEL, path)
    write(path, "b")
    os.utime(path, ns=(0, 0))
    second = await jobs.create(port, MODEL, path)
    assert second.name != first.name
    assert len(validated) == 2
    path.write_text('{"messages": 3}\n')
    with pytest.raises(DatasetError):
        await jobs.create(port, MODEL, path)


async def test_file_that_changed_after_the_upload_is_reported(
    port: FakePort,
    tmp_path: Path,
    validated: list[tuple[str, str | None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = write(tmp_path / "train.jsonl", "a")
    dataset = await datasets.upload(port, path)
    write(path, "b")
    await jobs.create(port, MODEL, dataset)
    assert validated == [("train.jsonl", None)], "the new bytes are not the dataset's"
    assert "changed after the upload" in caplog.text


async def test_fine_tune_validates_each_file_once(
    port: FakePort, tmp_path: Path, validated: list[tuple[str, str | None]]
) -> None:
    train, held_out = write(tmp_path / "train.jsonl"), write(tmp_path / "held.jsonl", "b")
    port.on("runs.details", {"runId": "r", "status": "x"})
    port.on("runs.data", {"runMetadata": {}})
    create = port._answers["jobs.create"][0]

    def completed(sent: Any) -> Any:
        response = create(sent)
        response.value["properties"]["status"] = "Completed"
        return response

    port.on("jobs.create", completed)
    result = await fine_tune.fine_tune(port, train, MODEL, validation_data=held_out)
    assert validated == [("train.jsonl", MODEL), ("held.jsonl", MODEL)]
    assert result.job.succeeded
    body = port.asked("jobs.create")[0].body["properties"]["fineTuningDetails"]
    assert body["validationData"]["uri"] == "id/data/held/versions/1"


def rows(answer: str = "a", count: int = 12) -> list[dict[str, Any]]:
    return [json.loads(ROW % (i, answer, i)) for i in range(count)]


async def test_rows_are_uploaded_as_lines_and_nothing_stays_on_disk(
    port: FakePort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dataset = await datasets.upload(port, iter(rows()))
    expected = "".join(json.dumps(row) + "\n" for row in rows())
    assert dataset.sha256 == hashlib.sha256(expected.encode()).hexdigest()
    assert (dataset.name, dataset.filename, dataset.path) == ("data", "data.jsonl", None)
    assert dataset.report is not None
    assert dataset.report.files[0].path == "<rows>"
    assert os.listdir(tmp_path) == []


async def test_gzip_file_is_uploaded_as_its_lines(port: FakePort, tmp_path: Path) -> None:
    plain = write(tmp_path / "train.jsonl")
    packed = tmp_path / "train.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    first, second = await datasets.upload(port, plain), await datasets.upload(port, packed)
    assert second.sha256 == first.sha256
    assert (second.name, second.filename) == ("train", "train.jsonl")


async def test_damaged_gzip_file_is_not_uploaded(port: FakePort, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "train.jsonl").read_bytes())[:-9])
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        await datasets.upload(port, path)
    assert port.sent == []


async def test_rows_are_validated_once_for_a_model(
    port: FakePort, validated: list[tuple[str, str | None]]
) -> None:
    dataset = await datasets.upload(port, rows(), model=MODEL)
    first = await jobs.create(port, MODEL, dataset)
    assert (await jobs.create(port, MODEL, iter(rows()))).name == first.name
    assert (await jobs.create(port, MODEL, rows("b"))).name != first.name
    assert validated == [("data.jsonl", MODEL)] * 2


async def test_job_derives_its_report_from_an_upload_of_rows(
    port: FakePort, validated: list[tuple[str, str | None]]
) -> None:
    dataset = await datasets.upload(port, rows())
    await jobs.create(port, MODEL, dataset, max_billed_tokens=100_000)
    await jobs.create(port, MODEL, rows(), force_new=True)
    assert validated == [("data.jsonl", None)]


async def test_rows_for_a_retired_model_are_not_read(port: FakePort) -> None:
    unread = iter(rows())
    with pytest.raises(ModelRetiredError):
        await jobs.create(port, "Phi-3-mini", unread)
    assert len(list(unread)) == 12


async def test_invalid_row_is_named_by_its_number(port: FakePort) -> None:
    bad = [*rows(), {"messages": 3}]
    for step in (
        datasets.upload(port, bad),
        jobs.create(port, MODEL, bad),
        fine_tune.fine_tune(port, bad, MODEL),
        fine_tune.fine_tune(port, rows(), MODEL, validation_data=bad),
    ):
        with pytest.raises(DatasetError, match="<rows>, row 13: "):
            await step
    assert port.sent == []


async def test_training_and_validation_rows_are_two_datasets(port: FakePort) -> None:
    await jobs.create(port, MODEL, rows(), rows("b"), max_billed_tokens=100_000)
    versions = {sent.path["version"] for sent in port.sent if sent.op == "data_versions.create"}
    assert len(versions) == 2


async def test_fine_tune_refuses_a_stored_dataset(port: FakePort) -> None:
    with pytest.raises(DatasetError, match="tickets is not a file on this machine"):
        await fine_tune.fine_tune(port, "tickets", MODEL)
    with pytest.raises(DatasetError, match="held_out is not a file on this machine"):
        await fine_tune.fine_tune(port, rows(), MODEL, validation_data="held_out")
