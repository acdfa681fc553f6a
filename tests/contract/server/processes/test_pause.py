"""A paused job survives restarts until it is resumed or cancelled; every step is reported exactly once."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client import Client
from tests.contract.server.conftest import chats
from tests.contract.server.processes.test_restart import Process, points, wait_for_exit, worker_pids
from tests.contract.server.processes.test_restart import start as start  # the fixture
from tests.contract.server.processes.test_restart import state as state  # the fixture

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are posix")


def until(
    client: Client, job: str, expected: Callable[[maas.Job], bool], seconds: float = 200
) -> maas.Job:
    deadline = time.monotonic() + seconds
    while not expected(now := client.jobs.get(job)):
        assert time.monotonic() < deadline, now
        assert not now.done or expected(now), now
        time.sleep(0.05)
    return now


def is_(*words: str) -> Callable[[maas.Job], bool]:
    return lambda job: job.status.lower() in words


@pytest.fixture(params=["azureml", "foundry"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(chats(60))
    return path


def client_of(server: Process, dialect: str) -> Client:
    return Client.local(url=server.azure.url, dialect=dialect)


def running(client: Client, dialect: str, data: Path) -> maas.Job:
    model = "Phi-3-mini" if dialect == "azureml" else "Ministral-3B"
    job = client.jobs.create(model=model, training_data=data)
    return until(client, job.id, is_("running"))


def no_worker_left(state: Path, server: Process, seconds: float = 30) -> bool:
    """Return whether no worker is left besides the server."""
    deadline = time.monotonic() + seconds
    while (
        remaining := set(worker_pids(state)) - {server.child.pid}
    ) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not remaining


def test_paused_job_survives_restart_and_completes(
    state: Path, start: Callable[..., Process], dialect: str, data: Path
) -> None:
    server = start(state)
    with client_of(server, dialect) as client:
        job = running(client, dialect, data)
        pausing = client.jobs.pause(job)
        assert pausing.status in ("Running", "pausing", "Paused", "paused")
        assert not pausing.done
        until(client, job.id, is_("paused"))
        assert no_worker_left(state, server), "its worker gave back the memory"
    server.kill()
    server = start(state)
    with client_of(server, dialect) as client:
        assert client.jobs.get(job).status.lower() == "paused"
        with pytest.raises(maas.JobTimeoutError):
            client.jobs.wait(job, timeout=0.5)
        resumed = client.jobs.resume(job)
        assert not is_("paused")(resumed)
        done = client.jobs.wait(job, timeout=120)
        assert done.succeeded
        steps = [e.step for e in client.jobs.events(job) if "train_loss" in e.metrics]
        assert steps == sorted(set(steps)), "each step is reported once"
        assert len(steps) == 60
    server.stop()


def test_cancel_paused_job(
    state: Path, start: Callable[..., Process], dialect: str, data: Path
) -> None:
    server = start(state)
    with client_of(server, dialect) as client:
        job = running(client, dialect, data)
        client.jobs.pause(job)
        until(client, job.id, is_("paused"))
        assert client.jobs.cancel(job).status.lower() in ("canceled", "cancelled")
        with pytest.raises(maas.MaasError, match="Only a paused job can be resumed, or"):
            client.jobs.resume(job)
        client.jobs.delete(job)
    server.stop()


def test_instant_engine_has_no_checkpoints(
    state: Path, start: Callable[..., Process], dialect: str, data: Path
) -> None:
    server = start(state)
    with client_of(server, dialect) as client:
        job = running(client, dialect, data)
        assert not client.jobs.save_checkpoint(job).done
        messages = (
            event for event in client.jobs.events(job) if "writes no checkpoints" in event.message
        )
        assert next(messages)
        client.jobs.cancel(job)
        until(client, job.id, is_("canceled", "cancelled"))
        with pytest.raises(
            maas.MaasError, match="Only a running job can write a checkpoint: it is"
        ):
            client.jobs.save_checkpoint(job)
    server.stop()


@pytest.fixture
def adapters(state: Path) -> Callable[[], Iterator[Path]]:
    return lambda: (state / "runs").glob("*/out/adapter/adapter_model.safetensors")


@pytest.mark.slow
def test_training_continues_after_a_killed_server(
    state: Path,
    start: Callable[..., Process],
    adapters: Callable[[], Iterator[Path]],
    tmp_path: Path,
) -> None:
    """A paused job and a running one with a checkpoint: no step runs again before the pause or checkpoint."""
    pytest.importorskip("torch")
    server = start(state, engine="peft", step_delay_s=0)
    azure = server.azure
    train = azure.upload(chats(20), "real.jsonl")
    hyperparameters = {"num_train_epochs": "6", "learning_rate": "0.001", "seed": "7"}
    spec: dict[str, Any] = {"details": {"hyperParameters": hyperparameters}}
    azure.submit("whole", train, **spec)
    assert azure.wait("whole", seconds=200) == "Completed"
    (whole,) = adapters()

    azure.submit("paused-job", train, **spec)
    deadline = time.monotonic() + 200
    while points(azure, "paused-job") < 3:
        assert time.monotonic() < deadline, azure.status("paused-job")
        time.sleep(0.02)
    assert azure.arm("POST", "/jobs/paused-job/pause").status_code == 200
    assert azure.wait("paused-job", "Paused", seconds=60) == "Paused"
    reached = points(azure, "paused-job")
    assert reached < 120

    (tmp_path / "rows.jsonl").write_bytes(chats(200))
    with client_of(server, "foundry") as client:
        job = client.jobs.create(
            model="Ministral-3B",
            training_data=tmp_path / "rows.jsonl",
            hyperparameters={"epochs": 2},
        )
        until(client, job.id, is_("running"))
        client.jobs.save_checkpoint(job)
        deadline = time.monotonic() + 60
        while not (checkpoints := list(client.jobs.checkpoints(job))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        saved_at = checkpoints[0].step
        assert saved_at % 200, "in the middle of an epoch"
        assert client.jobs.get(job).status == "running"
        server.kill()
    assert wait_for_exit(state)

    server = start(state, engine="peft", step_delay_s=0)
    azure = server.azure
    with client_of(server, "foundry") as client:
        done = client.jobs.wait(job, timeout=200)
        assert done.succeeded
        events = list(client.jobs.events(job))
        messages = " ".join(event.message for event in events)
        resumed_at = re.search(r"Resumed after step (\d+) of 400\.", messages)
        assert resumed_at is not None
        assert int(resumed_at[1]) >= saved_at  # a slow machine may have finished the first epoch
        steps = [event.step for event in events if "train_loss" in event.metrics]
        assert len(steps) == len(set(steps)) == 400
        with client.deployments.create("resumed", done) as deployment:
            question = [{"role": "user", "content": "what is 7 plus 7"}]
            assert client.chat.complete(deployment, question, max_tokens=5).choices

    before = set(adapters())
    assert azure.status("paused-job") == "Paused"
    assert azure.arm("POST", "/jobs/paused-job/resume").status_code == 200
    assert azure.wait("paused-job", seconds=200) == "Completed"
    warnings = json.dumps(azure.history("GET", "/runs/paused-job/details").json()["warnings"])
    assert f"Resumed after step {reached} of 120." in warnings
    assert points(azure, "paused-job") == 120
    (resumed,) = set(adapters()) - before
    assert resumed.read_bytes() == whole.read_bytes()
    assert server.stop() == 0
    assert wait_for_exit(state)
