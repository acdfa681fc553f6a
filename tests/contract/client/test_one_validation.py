"""An uploaded file is validated once: by the client at the upload, and by the server before training."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset.file_validator import FileValidator
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
