"""Odd items of a list: an error where the list is the result, skipped where something is looked for in it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from maas_client import Client, errors
from tests.unit.transport.conftest import ScriptedServer, http_response

ODD: list[Any] = [
    None,
    "x",
    [],
    {},
    {"id": 7},
    {"id": "ftjob-9", "status": 3, "suffix": 5},
    {"id": "file-9", "filename": None, "bytes": "many", "created_at": "2026-11-24T00:00:00Z"},
    {"id": "ftjob-9", "metadata": "text", "method": [], "created_at": {}},
]


def answer(*bodies: object) -> list[Any]:
    return [http_response(200, json.dumps(body).encode()) for body in bodies]


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize("item", ODD)
def test_list_never_raises_a_foreign_exception(
    server: ScriptedServer, dialect: Any, item: object
) -> None:
    server.script = answer({"data": [item], "value": [item]})
    with Client.local(url=server.url, dialect=dialect, max_retries=0) as client:
        for verb in (client.jobs, client.datasets, client.models, client.deployments):
            try:
                list(verb.list())
            except errors.ServiceError:
                continue


@pytest.mark.parametrize("item", ODD)
def test_odd_item_does_not_prevent_an_upload(
    server: ScriptedServer, item: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "train.jsonl"
    row = {
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    }
    path.write_text(f"{json.dumps(row)}\n" * 10, "utf-8")
    uploaded = {"id": "file-1", "filename": "train.jsonl", "status": "processed"}
    content = http_response(200, path.read_bytes())  # the stored file is compared with the sent one
    server.script = [*answer({"data": [item]}, uploaded), content]
    with Client.local(url=server.url, dialect="foundry", max_retries=0) as client:
        assert client.datasets.upload(path).id == "file-1"
    assert "skipped" in caplog.text


def test_null_tags_are_no_tags(server: ScriptedServer) -> None:
    body = {
        "id": "/x",
        "name": "j",
        "properties": {
            "jobType": "FineTuning",
            "status": "Running",
            "tags": None,
            "properties": None,
            "outputs": None,
            "services": None,
            "fineTuningDetails": {
                "modelProvider": "Custom",
                "taskType": "ChatCompletion",
                "model": {"jobInputType": "mlflow_model", "uri": "m"},
                "trainingData": {"jobInputType": "uri_file", "uri": "d"},
            },
        },
    }
    server.script = answer(body, {"value": [body]})
    with Client.local(url=server.url) as client:
        assert client.jobs.get("j").status == "Running"
        assert [job.name for job in client.jobs.list()] == ["j"]


@pytest.mark.parametrize(
    ("created", "year"),
    [
        (1_764_000_000, 2025),
        (1_764_000_000_000, 2025),
        (0, 1970),
        (10**30, None),
        (-(10**30), None),
        (None, None),
    ],
)
def test_created_at_of_foundry_in_seconds_or_milliseconds(
    server: ScriptedServer, created: int | None, year: int | None
) -> None:
    server.script = answer({"id": "ftjob-1", "status": "running", "created_at": created})
    with Client.local(url=server.url, dialect="foundry") as client:
        job = client.jobs.get("ftjob-1")
    assert (job.created_at.year if job.created_at else None) == year


def test_message_of_an_odd_item_does_not_contain_its_values(server: ScriptedServer) -> None:
    server.script = answer({"data": [{"id": ["CANARY"], "status": "CANARY"}]})
    with (
        Client.local(url=server.url, dialect="foundry") as client,
        pytest.raises(errors.ServiceError) as caught,
    ):
        list(client.jobs.list())
    assert "CANARY" not in f"{caught.value!s}{caught.value!r}{vars(caught.value)}"
