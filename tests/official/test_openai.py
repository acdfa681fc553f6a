"""OpenAI's client, unmodified: files, uploads, jobs, events, checkpoints, lists, chat, streams."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.official.conftest import ServerProcess, training_rows

MODEL = "Ministral-3B"
TIER = {"trainingType": "globalStandard"}
FLAVOURS = ["v1", "project", "dated"]


def _client(server_process: ServerProcess, flavour: str) -> openai.OpenAI:
    if flavour == "dated":
        return openai.AzureOpenAI(
            azure_endpoint=server_process.url, api_key="K", api_version="2025-04-01-preview"
        )
    lead = "/api/projects/p1" if flavour == "project" else ""
    return openai.OpenAI(base_url=f"{server_process.url}{lead}/openai/v1", api_key="K")


@pytest.fixture(params=FLAVOURS)
def client(
    server_process: ServerProcess, request: pytest.FixtureRequest
) -> Iterator[openai.OpenAI]:
    with _client(server_process, request.param) as created:
        yield created


@pytest.fixture
def v1(server_process: ServerProcess) -> Iterator[openai.OpenAI]:
    with _client(server_process, "v1") as created:
        yield created


@pytest.fixture
def azure(server_process: ServerProcess) -> Iterator[openai.OpenAI]:
    with _client(server_process, "dated") as created:
        yield created


def upload(client: openai.OpenAI, data: bytes, name: str = "t.jsonl") -> str:
    file = client.files.create(file=(name, data), purpose="fine-tune")
    assert file.status == "pending"
    return client.files.wait_for_processing(file.id, poll_interval=0.05).id


def wait_for_end(client: openai.OpenAI, job: str) -> Any:
    deadline = time.monotonic() + 60
    while (now := client.fine_tuning.jobs.retrieve(job)).status not in (
        "succeeded", "failed", "cancelled",
    ):  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return now


def start(client: openai.OpenAI, file: str, **kwargs: Any) -> Any:
    arguments = {
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}},
        },
        "extra_body": TIER,
        **kwargs,
    }
    return client.fine_tuning.jobs.create(model=MODEL, training_file=file, **arguments)


def preference_rows(count: int = 12) -> bytes:
    return b"".join(
        json.dumps(
            {
                "input": {"messages": [{"role": "user", "content": f"What is {n}?"}]},
                "preferred_output": [{"role": "assistant", "content": f"It is {n}."}],
                "non_preferred_output": [{"role": "assistant", "content": "Who knows?"}],
            }
        ).encode()
        + b"\n"
        for n in range(count)
    )


def test_preference_tuning(client: openai.OpenAI) -> None:
    """The call of Microsoft's page on DPO, and one with every hyperparameter."""
    file = upload(client, preference_rows())
    for method in (
        {"type": "dpo"},
        {
            "type": "dpo",
            "dpo": {
                "hyperparameters": {
                    "beta": 0.2,
                    "n_epochs": 2,
                    "batch_size": 4,
                    "learning_rate_multiplier": 2.0,
                }
            },
        },
    ):
        extra_body = {"trainingType": "GlobalStandard"}
        job = client.fine_tuning.jobs.create(
            model="gpt-4.1-mini",
            training_file=file,
            method=method,  # type: ignore[arg-type]  # as written in the documentation
            extra_body=extra_body,
        )
        assert job.method is not None
        assert job.method.type == "dpo"
        assert wait_for_end(client, job.id).status == "succeeded"
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    events = client.fine_tuning.jobs.list_events(job.id).data
    metrics = [event.data for event in events if event.type == "metrics"]
    assert metrics
    assert all({"train_reward_accuracy", "train_reward_margin"} <= set(each) for each in metrics)  # type: ignore[call-overload]  # an object


def test_preference_tuning_on_chats_fails(v1: openai.OpenAI) -> None:
    file = upload(v1, training_rows())
    job = v1.fine_tuning.jobs.create(
        model="gpt-4.1-mini", training_file=file, method={"type": "dpo"}, extra_body=TIER
    )
    ended = wait_for_end(v1, job.id)
    assert ended.status == "failed"
    assert ended.error.code == "jsonlValidationFailed"
    assert "preference" in ended.error.message
    with pytest.raises(openai.BadRequestError, match="supervised or dpo"):
        start(v1, file, method={"type": "reinforcement"})


def test_file_round_trip(client: openai.OpenAI) -> None:
    file = upload(client, training_rows())
    processed = client.files.retrieve(file)
    assert (processed.filename, processed.bytes, processed.purpose) == (
        "t.jsonl",
        len(training_rows()),
        "fine-tune",
    )
    assert client.files.content(file).read() == training_rows()
    assert file in [f.id for f in client.files.list(purpose="fine-tune")]
    assert client.files.delete(file).deleted
    with pytest.raises(openai.NotFoundError) as deleted:
        client.files.retrieve(file)
    assert deleted.value.code == "notFound"
    assert deleted.value.request_id


def test_file_names_and_expiry(v1: openai.OpenAI, train_file: Path) -> None:
    file = v1.files.create(
        file=train_file,
        purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 1209600},
    )
    assert file.filename == "train.jsonl"
    assert file.expires_at == file.created_at + 1209600


@pytest.mark.parametrize(
    ("data", "messages"),
    [(b"{", "several lines"), (training_rows()[:-20] + b"\n", "line 12"), (b"\n", "jsonl")],
)
def test_invalid_jsonl_is_an_error_of_the_file(
    v1: openai.OpenAI, data: bytes, messages: str
) -> None:
    file = v1.files.create(file=("t.jsonl", data), purpose="fine-tune")
    processed = v1.files.wait_for_processing(file.id, poll_interval=0.05)
    assert processed.status == "error"
    assert messages in (processed.status_details or "")
    with pytest.raises(openai.BadRequestError, match="not usable"):
        start(v1, file.id)


def test_lists_are_paged(client: openai.OpenAI) -> None:
    created = [upload(client, training_rows(), f"f{i}.jsonl") for i in range(5)]
    ids = [f.id for f in client.files.list(limit=2, order="desc")]
    assert [i for i in ids if i in created] == created[::-1]
    assert len(ids) == len(set(ids))
    first = client.files.list(limit=2)
    assert first.has_more
    assert len(first.data) == 2


def test_multipart_upload(azure: openai.OpenAI) -> None:
    data = training_rows(200)
    created = azure.uploads.create(
        filename="t.jsonl", purpose="fine-tune", bytes=len(data), mime_type="application/jsonl"
    )
    assert (created.status, created.expires_at) == ("pending", created.created_at + 3600)
    cut = len(data) // 2
    second = azure.uploads.parts.create(created.id, data=data[cut:])
    first = azure.uploads.parts.create(created.id, data=data[:cut])
    assert first.upload_id == created.id
    done = azure.uploads.complete(
        created.id, part_ids=[first.id, second.id], md5=hashlib.md5(data).hexdigest()
    )
    assert done.status == "completed"
    assert done.file is not None
    assert azure.files.content(done.file.id).read() == data
    with pytest.raises(openai.ConflictError):
        azure.uploads.complete(created.id, part_ids=[first.id])


def test_chunked_upload_of_sdk(azure: openai.OpenAI, train_file: Path) -> None:
    done = azure.uploads.upload_file_chunked(
        file=train_file, mime_type="application/jsonl", purpose="fine-tune", part_size=500
    )
    assert done.file is not None
    assert azure.files.content(done.file.id).read() == train_file.read_bytes()


def test_inconsistent_uploads_are_refused(azure: openai.OpenAI) -> None:
    created = azure.uploads.create(
        filename="t.jsonl", purpose="fine-tune", bytes=10, mime_type="application/jsonl"
    )
    part = azure.uploads.parts.create(created.id, data=b"12345")
    with pytest.raises(openai.BadRequestError, match="do not have the size"):
        azure.uploads.complete(created.id, part_ids=[part.id])
    with pytest.raises(openai.BadRequestError, match="part_ids"):
        azure.uploads.complete(created.id, part_ids=["part_of_nobody"])
    assert azure.uploads.cancel(created.id).status == "cancelled"


@pytest.mark.parametrize("flavour", ["v1", "project"])
def test_uploads_are_404_on_v1(server_process: ServerProcess, flavour: str) -> None:
    with _client(server_process, flavour) as client, pytest.raises(openai.NotFoundError):
        client.uploads.create(
            filename="t.jsonl", purpose="fine-tune", bytes=1, mime_type="application/jsonl"
        )


def test_job_from_creation_to_results(client: openai.OpenAI) -> None:
    train, valid = upload(client, training_rows()), upload(client, training_rows(5), "v.jsonl")
    job = start(client, train, validation_file=valid, suffix="tickets", seed=105)
    assert job.status == "pending"
    assert (job.organization_id, job.result_files, job.fine_tuned_model) == (None, None, None)
    done = wait_for_end(client, job.id)
    assert done.status == "succeeded"
    assert done.fine_tuned_model.startswith(f"{MODEL}.ft-")
    assert done.fine_tuned_model.endswith("-tickets")
    assert (done.seed, done.training_file, done.validation_file) == (105, train, valid)
    assert done.trained_tokens > 0
    assert done.finished_at >= done.created_at
    assert done.method.supervised.hyperparameters.n_epochs == 2
    assert done.metadata["simulated"] == "true"
    _check_events(client, job.id)
    with pytest.raises(openai.InternalServerError) as refused:
        client.files.delete(done.result_files[0])
    assert refused.value.status_code == 501
    _check_results(client, done.result_files)
    assert job.id in [j.id for j in client.fine_tuning.jobs.list(limit=1)]
    assert done.fine_tuned_model in [m.id for m in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def _check_events(client: openai.OpenAI, job: str) -> None:
    events = list(client.fine_tuning.jobs.list_events(job, limit=3))
    messages = [e.message for e in events][::-1]
    assert messages[0] == "Job enqueued. Waiting for jobs ahead to complete."
    assert messages[-1] == "Job succeeded."
    assert "Job started." in messages
    assert len({e.id for e in events}) == len(events)
    metrics = [e.data for e in events if e.type == "metrics"]
    assert all("step" in m for m in metrics)
    assert any("train_loss" in m for m in metrics)
    assert any("full_valid_loss" in m for m in metrics)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job))
    assert checkpoints[0].fine_tuned_model_checkpoint.endswith(
        f":ckpt-step-{checkpoints[0].step_number}"
    )
    assert checkpoints[0].metrics.train_loss


def _check_results(client: openai.OpenAI, files: list[str]) -> None:
    (file,) = files
    assert client.files.retrieve(file).purpose == "fine-tune-results"
    lines = client.files.content(file).text.splitlines()
    assert lines[0] == (
        "step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,"
        "full_valid_loss,full_valid_mean_token_accuracy"
    )
    assert len(lines) > 3
    assert "-1" in lines[1].split(",")


def test_status_codes_of_creation(v1: openai.OpenAI, azure: openai.OpenAI) -> None:
    file = upload(v1, training_rows())
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


def test_missing_training_type_is_standard(client: openai.OpenAI) -> None:
    file = upload(client, training_rows())
    message = (
        r"base model does not support fine-tuning\. .* pass trainingType, such as GlobalStandard"
    )
    with pytest.raises(openai.BadRequestError, match=message):
        client.fine_tuning.jobs.create(model=MODEL, training_file=file)
    job = client.fine_tuning.jobs.create(model="gpt-4.1-mini-2025-04-14", training_file=file)
    assert wait_for_end(client, job.id).status == "succeeded"
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
        ({"method": {"type": "reinforcement"}}, "method"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}}, "hyperparameters"),
        ({"hyperparameters": {"n_epochs": 51}}, "n_epochs"),
        ({"hyperparameters": {"batch_size": 0}}, "batch_size"),
        ({"hyperparameters": {"lora_r": 8}}, "hyperparameters"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "hyperparameters"),
        ({"model": "nobody-knows-this"}, "model"),
    ],
)
def test_invalid_job_names_the_parameter(
    v1: openai.OpenAI, changes: dict[str, Any], param: str
) -> None:
    file = upload(v1, training_rows())
    arguments = {"model": MODEL, "training_file": file, "extra_body": TIER, **changes}
    with pytest.raises(openai.BadRequestError) as refused:
        v1.fine_tuning.jobs.create(**arguments)
    assert refused.value.param == param
    assert refused.value.code == "invalidPayload"


def test_auto_and_minus_one_select_defaults(v1: openai.OpenAI) -> None:
    file = upload(v1, training_rows())
    job = start(
        v1, file, method=openai.omit, hyperparameters={"n_epochs": "auto", "batch_size": -1}
    )
    assert wait_for_end(v1, job.id).status == "succeeded"


def test_invalid_row_fails_job_with_line(client: openai.OpenAI) -> None:
    bad = (
        training_rows(11)
        + json.dumps({"messages": [{"role": "robot", "content": "hi"}]}).encode()
        + b"\n"
    )
    job = wait_for_end(client, start(client, upload(client, bad)).id)
    assert job.status == "failed"
    assert job.error.param == "training_file"
    assert job.error.code == "jsonlValidationFailed"
    assert "line 12" in job.error.message
    last = next(iter(client.fine_tuning.jobs.list_events(job.id)))
    assert last.level == "error"


def test_cancel(v1: openai.OpenAI) -> None:
    job = start(
        v1, upload(v1, training_rows(4000)), hyperparameters={"n_epochs": 20}, method=openai.omit
    )
    assert v1.fine_tuning.jobs.cancel(job.id).status in ("cancelled", "succeeded")
    assert wait_for_end(v1, job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        v1.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError, match="running job can be paused: it is cancelled"):
        v1.fine_tuning.jobs.pause(job.id)
    with pytest.raises(
        openai.BadRequestError, match=r"paused job can be resumed, or .*: it is cancelled"
    ):
        v1.fine_tuning.jobs.resume(job.id)


def test_job_without_its_file_and_deletion_on_dated_version(
    azure: openai.OpenAI, v1: openai.OpenAI
) -> None:
    file = upload(azure, training_rows())
    job = start(azure, file)
    azure.files.delete(file)
    assert wait_for_end(azure, job.id).status == "succeeded"
    path = f"/fine_tuning/jobs/{job.id}"
    with pytest.raises(openai.APIStatusError) as refused:
        v1.delete(path, cast_to=object)
    assert refused.value.status_code == 405
    azure.delete(path, cast_to=object)
    with pytest.raises(openai.NotFoundError):
        azure.fine_tuning.jobs.retrieve(job.id)


def test_import_by_url_is_refused(azure: openai.OpenAI) -> None:
    body = {
        "purpose": "fine-tune",
        "filename": "t.jsonl",
        "content_url": "http://169.254.169.254/x",
    }
    with pytest.raises(openai.BadRequestError) as refused:
        azure.post("/files/import", body=body, cast_to=object)
    assert refused.value.code == "fileImportFailed"


def test_no_credential_is_401(server_process: ServerProcess) -> None:
    nothing = {"Authorization": openai.omit}
    with (
        openai.OpenAI(base_url=f"{server_process.url}/openai/v1", api_key="K") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list(extra_headers=nothing)


def test_newer_and_malformed_api_versions(server_process: ServerProcess) -> None:
    newer = openai.AzureOpenAI(
        azure_endpoint=server_process.url, api_key="K", api_version="2031-01-01-preview"
    )
    with newer:
        raw = newer.models.with_raw_response.list()
        assert "newer" in raw.headers["warning"]
    rubbish = openai.AzureOpenAI(azure_endpoint=server_process.url, api_key="K", api_version="soon")
    with rubbish, pytest.raises(openai.BadRequestError):
        rubbish.models.list()


async def test_async_client(server_process: ServerProcess) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server_process.url}/openai/v1", api_key="K"
    ) as client:
        file = await client.files.create(file=("t.jsonl", training_rows()), purpose="fine-tune")
        file = await client.files.wait_for_processing(file.id, poll_interval=0.05)
        job = await client.fine_tuning.jobs.create(
            model=MODEL, training_file=file.id, extra_body=TIER
        )
        assert job.status == "pending"
        messages = [e.message async for e in client.fine_tuning.jobs.list_events(job.id)]
        assert messages
