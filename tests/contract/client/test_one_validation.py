"""An uploaded file is validated once: by the client at the upload, and by the server before training."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from maas_client import Client, local
from maas_client.dataset.file_validator import FileValidator
from maas_client.errors import BadRequestError, DatasetError
from maas_client.local.embedded_server import LocalServer
from tests.contract.client.conftest import AwaitableClient

MODELS = {"azureml": "Phi-4-mini-instruct", "foundry": "Ministral-3B"}


@pytest.fixture(params=["azureml", "foundry"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sync", "async"])
async def client(
    request: pytest.FixtureRequest, server: LocalServer, dialect: Any
) -> AsyncIterator[Any]:
    if request.param == "sync":
        with server.client(dialect=dialect) as sync_client:
            yield AwaitableClient(sync_client)
    else:
        async with server.async_client(dialect=dialect) as async_client:
            yield async_client


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """The folder and the model of every check in this process, of the client and of the server."""
    seen: list[tuple[str, str | None]] = []
    run = FileValidator.run

    def record(self: FileValidator, *args: Any) -> Any:
        model = self.collector.context.model
        seen.append((Path(self.path).parent.name, model.name if model else None))
        return run(self, *args)

    monkeypatch.setattr(FileValidator, "run", record)
    return seen


@pytest.fixture
def train_with_tokens(train: Path) -> Path:
    """Write rows with a control token of some models; for the others it is text."""
    train.write_text(train.read_text().replace("colour", "<unk> colour"))
    return train


def stored_checks(server: LocalServer) -> set[str]:
    """Return the results of checks that the server's processes have stored, one for each pass."""
    return {entry.name for entry in (server.state_dir / "checks").iterdir()}


async def test_upload_and_job_take_one_pass_in_client_and_server(
    client: Any,
    dialect: str,
    server: LocalServer,
    train: Path,
    passes: list[tuple[str, str | None]],
) -> None:
    before = stored_checks(server)
    dataset = await client.datasets.upload(train)
    job = await client.jobs.create(model=MODELS[dialect], training_data=dataset)
    assert (await client.jobs.wait(job, timeout=60)).succeeded
    assert passes == [(train.parent.name, None)] + [("contents", None)] * (dialect == "foundry")
    assert len(stored_checks(server) - before) == 1


async def test_control_tokens_are_validated_for_the_model(
    client: Any,
    dialect: str,
    server: LocalServer,
    train_with_tokens: Path,
    passes: list[tuple[str, str | None]],
) -> None:
    before = stored_checks(server)
    train = train_with_tokens
    dataset = await client.datasets.upload(train)
    model = MODELS[dialect]
    job = await client.jobs.create(model=model, training_data=dataset)
    assert (await client.jobs.wait(job, timeout=60)).succeeded
    client_passes = [each for each in passes if each[0] != "contents"]
    assert client_passes == [(train.parent.name, None), (train.parent.name, model)]
    assert len(stored_checks(server) - before) == (2 if dialect == "foundry" else 1)


@pytest.fixture
def nine_examples(train: Path) -> Path:
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:9]))
    return train


async def test_job_with_too_few_examples_sends_nothing(
    client: Any, dialect: str, nine_examples: Path
) -> None:
    before = [dataset.id async for dataset in client.datasets.list()]
    with pytest.raises(DatasetError, match="has 9 of the 10 examples that a job needs"):
        await client.jobs.create(MODELS[dialect], training_data=nine_examples)
    with pytest.raises(DatasetError, match="has 9 of the 10 examples that a job needs"):
        await client.fine_tune(nine_examples, model=MODELS[dialect])
    assert [dataset.id async for dataset in client.datasets.list()] == before


def test_server_may_need_fewer_or_more_examples(train: Path) -> None:
    lines = train.read_text().splitlines(keepends=True)
    train.write_text("".join(lines[:11]))
    with local.serve(engine="instant", min_examples=12) as server:
        with pytest.raises(
            BadRequestError, match=r"has 11 examples\. Fine-tuning needs at least 12"
        ):
            server.client().jobs.create("Phi-4-mini-instruct", training_data=train)
        assert list(server.client().jobs.list()) == []
    train.write_text(lines[0])
    with local.serve(engine="instant", min_examples=1) as server:
        assert server.client().fine_tune(train, model="Phi-4-mini-instruct").job.succeeded


def test_server_that_was_restarted_may_need_fewer_examples(train: Path) -> None:
    train.write_text(train.read_text().splitlines(keepends=True)[0])
    with local.serve(engine="instant") as server:
        port, client = urlsplit(server.url).port, Client.local(url=server.url)
        with pytest.raises(DatasetError, match="has 1 of the 10 examples"):
            client.jobs.create("Phi-4-mini-instruct", training_data=train)
    with client, local.serve(engine="instant", port=port or 0, min_examples=1):
        assert client.jobs.create("Phi-4-mini-instruct", training_data=train).name
