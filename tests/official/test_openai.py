"""OpenAI's own client, unmodified: files, uploads, jobs, events, checkpoints, lists, chat, streams."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.official.conftest import Served, rows

MODEL = "Ministral-3B"
TIER = {"trainingType": "globalStandard"}
FLAVOURS = ["v1", "project", "dated"]


def _client(served: Served, flavour: str) -> openai.OpenAI:
    if flavour == "dated":
        return openai.AzureOpenAI(
            azure_endpoint=served.url, api_key="K", api_version="2025-04-01-preview"
        )
    lead = "/api/projects/p1" if flavour == "project" else ""
    return openai.OpenAI(base_url=f"{served.url}{lead}/openai/v1", api_key="K")


@pytest.fixture(params=FLAVOURS)
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with _client(served, request.param) as made:
        yield made


@pytest.fixture
def v1(served: Served) -> Iterator[openai.OpenAI]:
    with _client(served, "v1") as made:
        yield made


@pytest.fixture
def azure(served: Served) -> Iterator[openai.OpenAI]:
    with _client(served, "dated") as made:
        yield made


def upload(client: openai.OpenAI, data: bytes, name: str = "t.jsonl") -> str:
    file = client.files.create(file=(name, data), purpose="fine-tune")
    assert file.status == "pending"
    return client.files.wait_for_processing(file.id, poll_interval=0.05).id


def ended(client: openai.OpenAI, job: str) -> Any:
    end = time.monotonic() + 60
    while (now := client.fine_tuning.jobs.retrieve(job)).status not in (
        "succeeded", "failed", "cancelled",
    ):  # fmt: skip
        assert time.monotonic() < end
        time.sleep(0.05)
    return now


def start(client: openai.OpenAI, file: str, **rest: Any) -> Any:
    given = {
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}},
        },
        "extra_body": TIER,
        **rest,
    }
    return client.fine_tuning.jobs.create(model=MODEL, training_file=file, **given)


def test_a_file_comes_back_byte_for_byte(client: openai.OpenAI) -> None:
    file = upload(client, rows())
    known = client.files.retrieve(file)
    assert (known.filename, known.bytes, known.purpose) == ("t.jsonl", len(rows()), "fine-tune")
    assert client.files.content(file).read() == rows()
    assert file in [f.id for f in client.files.list(purpose="fine-tune")]
    assert client.files.delete(file).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        client.files.retrieve(file)
    assert gone.value.code == "notFound"
    assert gone.value.request_id


def test_files_that_are_paths_and_expiry(v1: openai.OpenAI, train: Path) -> None:
    file = v1.files.create(
        file=train, purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 1209600}
    )
    assert file.filename == "train.jsonl"
    assert file.expires_at == file.created_at + 1209600


@pytest.mark.parametrize(
    ("data", "told"), [(b"{", "several lines"), (rows()[:-20] + b"\n", "line 12"), (b"\n", "jsonl")]
)
def test_what_is_no_jsonl_is_an_error_of_the_file(
    v1: openai.OpenAI, data: bytes, told: str
) -> None:
    file = v1.files.create(file=("t.jsonl", data), purpose="fine-tune")
    known = v1.files.wait_for_processing(file.id, poll_interval=0.05)
    assert known.status == "error"
    assert told in (known.status_details or "")
    with pytest.raises(openai.BadRequestError, match="not usable"):
        start(v1, file.id)


def test_lists_page_by_themselves(client: openai.OpenAI) -> None:
    made = [upload(client, rows(), f"f{i}.jsonl") for i in range(5)]
    seen = [f.id for f in client.files.list(limit=2, order="desc")]
    assert [i for i in seen if i in made] == made[::-1]
    assert len(seen) == len(set(seen))
    first = client.files.list(limit=2)
    assert first.has_more
    assert len(first.data) == 2


def test_an_upload_in_parts_is_one_file(azure: openai.OpenAI) -> None:
    data = rows(200)
    made = azure.uploads.create(
        filename="t.jsonl", purpose="fine-tune", bytes=len(data), mime_type="application/jsonl"
    )
    assert (made.status, made.expires_at) == ("pending", made.created_at + 3600)
    cut = len(data) // 2
    second = azure.uploads.parts.create(made.id, data=data[cut:])
    first = azure.uploads.parts.create(made.id, data=data[:cut])
    assert first.upload_id == made.id
    done = azure.uploads.complete(
        made.id, part_ids=[first.id, second.id], md5=hashlib.md5(data).hexdigest()
    )
    assert done.status == "completed"
    assert done.file is not None
    assert azure.files.content(done.file.id).read() == data
    with pytest.raises(openai.ConflictError):
        azure.uploads.complete(made.id, part_ids=[first.id])


def test_the_sdks_own_chunked_upload(azure: openai.OpenAI, train: Path) -> None:
    done = azure.uploads.upload_file_chunked(
        file=train, mime_type="application/jsonl", purpose="fine-tune", part_size=500
    )
    assert done.file is not None
    assert azure.files.content(done.file.id).read() == train.read_bytes()


def test_uploads_that_do_not_add_up(azure: openai.OpenAI) -> None:
    made = azure.uploads.create(
        filename="t.jsonl", purpose="fine-tune", bytes=10, mime_type="application/jsonl"
    )
    part = azure.uploads.parts.create(made.id, data=b"12345")
    with pytest.raises(openai.BadRequestError, match="add up"):
        azure.uploads.complete(made.id, part_ids=[part.id])
    with pytest.raises(openai.BadRequestError, match="part_ids"):
        azure.uploads.complete(made.id, part_ids=["part_of_nobody"])
    assert azure.uploads.cancel(made.id).status == "cancelled"


@pytest.mark.parametrize("flavour", ["v1", "project"])
def test_uploads_are_404_on_v1(served: Served, flavour: str) -> None:
    with _client(served, flavour) as client, pytest.raises(openai.NotFoundError):
        client.uploads.create(
            filename="t.jsonl", purpose="fine-tune", bytes=1, mime_type="application/jsonl"
        )


def test_a_whole_job(client: openai.OpenAI) -> None:
    train, valid = upload(client, rows()), upload(client, rows(5), "v.jsonl")
    job = start(client, train, validation_file=valid, suffix="tickets", seed=105)
    assert job.status == "pending"
    assert (job.organization_id, job.result_files, job.fine_tuned_model) == (None, None, None)
    done = ended(client, job.id)
    assert done.status == "succeeded"
    assert done.fine_tuned_model.startswith(f"{MODEL}.ft-")
    assert done.fine_tuned_model.endswith("-tickets")
    assert (done.seed, done.training_file, done.validation_file) == (105, train, valid)
    assert done.trained_tokens > 0
    assert done.finished_at >= done.created_at
    assert done.method.supervised.hyperparameters.n_epochs == 2
    assert done.metadata["simulated"] == "true"
    _story(client, job.id)
    _results(client, done.result_files)
    assert job.id in [j.id for j in client.fine_tuning.jobs.list(limit=1)]
    assert done.fine_tuned_model in [m.id for m in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def _story(client: openai.OpenAI, job: str) -> None:
    told = list(client.fine_tuning.jobs.list_events(job, limit=3))
    messages = [e.message for e in told][::-1]
    assert messages[0] == "Job enqueued. Waiting for jobs ahead to complete."
    assert messages[-1] == "Job succeeded."
    assert "Job started." in messages
    assert len({e.id for e in told}) == len(told)
    metrics = [e.data for e in told if e.type == "metrics"]
    assert all("step" in m for m in metrics)
    assert any("train_loss" in m for m in metrics)
    assert any("full_valid_loss" in m for m in metrics)
    kept = list(client.fine_tuning.jobs.checkpoints.list(job))
    assert kept[0].fine_tuned_model_checkpoint.endswith(f":ckpt-step-{kept[0].step_number}")
    assert kept[0].metrics.train_loss


def _results(client: openai.OpenAI, files: list[str]) -> None:
    (file,) = files
    assert client.files.retrieve(file).purpose == "fine-tune-results"
    lines = client.files.content(file).text.splitlines()
    assert lines[0] == (
        "step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,"
        "full_valid_loss,full_valid_mean_token_accuracy"
    )
    assert len(lines) > 3
    assert "-1" in lines[1].split(",")


def test_codes_of_creation(v1: openai.OpenAI, azure: openai.OpenAI) -> None:
    file = upload(v1, rows())
    raw = v1.fine_tuning.jobs.with_raw_response.create(
        model=MODEL, training_file=file, extra_body=TIER
    )
    assert (raw.status_code, raw.headers.get("location")) == (200, None)
    raw = azure.fine_tuning.jobs.with_raw_response.create(
        model=MODEL, training_file=file, extra_body=TIER
    )
    assert raw.status_code == 201
    assert f"/openai/fine_tuning/jobs/{raw.parse().id}?" in raw.headers["location"]
    assert raw.headers["apim-request-id"]


def test_left_out_the_tier_is_complained_of_as_there(client: openai.OpenAI) -> None:
    file = upload(client, rows())
    with pytest.raises(openai.BadRequestError, match="base model does not support fine-tuning"):
        client.fine_tuning.jobs.create(model=MODEL, training_file=file)
    with pytest.raises(openai.BadRequestError, match="with Standard TrainingType"):
        start(client, file, extra_body={"trainingType": "Standard"})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"extra_body": {**TIER, "colour": 1}}, "colour"),
        ({"training_file": "file-none"}, "training_file"),
        ({"validation_file": "file-none"}, "validation_file"),
        ({"suffix": "a" * 41}, "suffix"),
        ({"suffix": "no blanks"}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"method": {"type": "dpo"}}, "method"),
        ({"hyperparameters": {"n_epochs": 51}}, "n_epochs"),
        ({"hyperparameters": {"batch_size": 0}}, "batch_size"),
        ({"hyperparameters": {"lora_r": 8}}, "hyperparameters"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters"),
        ({"model": "nobody-knows-this"}, "model"),
    ],
)
def test_what_a_job_cannot_be_is_refused_by_name(
    v1: openai.OpenAI, changes: dict[str, Any], param: str
) -> None:
    file = upload(v1, rows())
    given = {"model": MODEL, "training_file": file, "extra_body": TIER, **changes}
    with pytest.raises(openai.BadRequestError) as refused:
        v1.fine_tuning.jobs.create(**given)
    assert refused.value.param == param
    assert refused.value.code == "invalidPayload"


def test_auto_and_minus_one_leave_it_to_the_service(v1: openai.OpenAI) -> None:
    file = upload(v1, rows())
    job = start(
        v1, file, method=openai.omit, hyperparameters={"n_epochs": "auto", "batch_size": -1}
    )
    assert ended(v1, job.id).status == "succeeded"


def test_a_bad_row_fails_the_job_and_says_where(client: openai.OpenAI) -> None:
    bad = rows(11) + json.dumps({"messages": [{"role": "robot", "content": "hi"}]}).encode() + b"\n"
    job = ended(client, start(client, upload(client, bad)).id)
    assert job.status == "failed"
    assert job.error.param == "training_file"
    assert job.error.code == "jsonlValidationFailed"
    assert "line 12" in job.error.message
    last = next(iter(client.fine_tuning.jobs.list_events(job.id)))
    assert last.level == "error"


def test_cancelling(v1: openai.OpenAI) -> None:
    job = start(v1, upload(v1, rows(4000)), hyperparameters={"n_epochs": 20}, method=openai.omit)
    assert v1.fine_tuning.jobs.cancel(job.id).status in ("cancelled", "succeeded")
    assert ended(v1, job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        v1.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError, match="running job can be paused: it is cancelled"):
        v1.fine_tuning.jobs.pause(job.id)
    with pytest.raises(openai.BadRequestError, match="paused job can be resumed: it is cancelled"):
        v1.fine_tuning.jobs.resume(job.id)


def test_a_job_outlives_its_file_and_is_deleted_on_the_dated_base(
    azure: openai.OpenAI, v1: openai.OpenAI
) -> None:
    file = upload(azure, rows())
    job = start(azure, file)
    azure.files.delete(file)
    assert ended(azure, job.id).status == "succeeded"
    path = f"/fine_tuning/jobs/{job.id}"
    with pytest.raises(openai.APIStatusError) as refused:
        v1.delete(path, cast_to=object)
    assert refused.value.status_code == 405
    azure.delete(path, cast_to=object)
    with pytest.raises(openai.NotFoundError):
        azure.fine_tuning.jobs.retrieve(job.id)


def test_nothing_is_fetched_from_elsewhere(azure: openai.OpenAI) -> None:
    body = {
        "purpose": "fine-tune",
        "filename": "t.jsonl",
        "content_url": "http://169.254.169.254/x",
    }
    with pytest.raises(openai.BadRequestError) as refused:
        azure.post("/files/import", body=body, cast_to=object)
    assert refused.value.code == "fileImportFailed"


def test_no_credential_is_401(served: Served) -> None:
    nothing = {"Authorization": openai.omit}
    with (
        openai.OpenAI(base_url=f"{served.url}/openai/v1", api_key="K") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list(extra_headers=nothing)


def test_an_unknown_newer_version_is_taken_and_rubbish_is_refused(served: Served) -> None:
    newer = openai.AzureOpenAI(
        azure_endpoint=served.url, api_key="K", api_version="2031-01-01-preview"
    )
    with newer:
        raw = newer.models.with_raw_response.list()
        assert "newer" in raw.headers["warning"]
    rubbish = openai.AzureOpenAI(azure_endpoint=served.url, api_key="K", api_version="soon")
    with rubbish, pytest.raises(openai.BadRequestError):
        rubbish.models.list()


async def test_async_from_file_to_job(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/openai/v1", api_key="K") as client:
        file = await client.files.create(file=("t.jsonl", rows()), purpose="fine-tune")
        file = await client.files.wait_for_processing(file.id, poll_interval=0.05)
        job = await client.fine_tuning.jobs.create(
            model=MODEL, training_file=file.id, extra_body=TIER
        )
        assert job.status == "pending"
        told = [e.message async for e in client.fine_tuning.jobs.list_events(job.id)]
        assert told
