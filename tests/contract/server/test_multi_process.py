"""A job in two processes on this machine: same losses as in one, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.contract.server.conftest import chats
from tests.contract.server.test_restart import points, wait_for_exit, worker_pids
from tests.contract.server.test_restart import start as start  # the fixture
from tests.contract.server.test_restart import state as state  # the fixture

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="process groups are posix"),
]
RECIPE = {"num_train_epochs": "2", "learning_rate": "0.001"}


def losses(azure, name: str) -> list[float]:
    response = azure.metric(name, "full", {"metricName": "loss"}).json()
    return [v["data"]["loss"] for v in response["value"]]


def test_two_processes_give_same_losses_as_one(state, start):
    azure = start(state, engine="peft").azure
    train = azure.upload(chats(12), "t.jsonl")
    single = {**RECIPE, "per_device_train_batch_size": "4"}
    two = {**RECIPE, "per_device_train_batch_size": "2"}
    azure.submit("one", train, details={"hyperParameters": single})
    azure.submit("two", train, details={"hyperParameters": two}, resources={"instanceCount": 2})
    assert azure.wait("one", seconds=200) == "Completed"
    assert azure.wait("two", seconds=200) == "Completed", azure.error("two")
    assert len(losses(azure, "one")) == 6
    assert losses(azure, "two") == pytest.approx(losses(azure, "one"), abs=1e-4)


def running_ranks(azure, state: Path, server_pid: int) -> list[int]:
    deadline = time.monotonic() + 200
    while points(azure, "long") < 2:
        assert time.monotonic() < deadline, azure.status("long")
        time.sleep(0.05)
    (job_id,) = [p.name for p in (state / "runs").iterdir()]
    log = str(state / "runs" / job_id / "log.txt")
    ranks = []
    for pid in worker_pids(state):
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        if log in links and pid != server_pid:
            ranks.append(pid)
    return sorted(ranks)


def test_crashed_rank_ends_worker_and_cancel_ends_all_ranks(state, start):
    server = start(state, engine="peft")
    azure = server.azure
    recipe = {**RECIPE, "num_train_epochs": "900", "processes": "2"}
    train = azure.upload(chats(12), "t.jsonl")
    assert azure.submit("long", train, details={"hyperParameters": recipe}).status_code == 201
    ranks = running_ranks(azure, state, server.child.pid)
    assert len(ranks) == 2
    os.kill(ranks[-1], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not azure.history("GET", "/runs/long").json()["warnings"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    azure.wait("long", "Running", seconds=200)
    azure.arm("POST", "/jobs/long/cancel")
    assert azure.wait("long", seconds=30) == "Canceled"
    server.stop()
    assert wait_for_exit(state)
