"""A job over two processes of this machine: the numbers of one, and nothing left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.contract.server.conftest import chats
from tests.contract.server.test_restart import gone, points, workers
from tests.contract.server.test_restart import start as start  # the fixture
from tests.contract.server.test_restart import state as state  # the fixture

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="process groups are posix"),
]
RECIPE = {"num_train_epochs": "2", "learning_rate": "0.001"}


def losses(azure, name: str) -> list[float]:
    answer = azure.metric(name, "full", {"metricName": "loss"}).json()
    return [v["data"]["loss"] for v in answer["value"]]


def test_two_processes_give_the_losses_of_one(state, start):
    azure = start(state, engine="peft").azure
    train = azure.upload(chats(12), "t.jsonl")
    one = {**RECIPE, "per_device_train_batch_size": "4"}
    two = {**RECIPE, "per_device_train_batch_size": "2"}
    azure.submit("one", train, details={"hyperParameters": one})
    azure.submit("two", train, details={"hyperParameters": two}, resources={"instanceCount": 2})
    assert azure.wait("one", seconds=200) == "Completed"
    assert azure.wait("two", seconds=200) == "Completed", azure.error("two")
    assert len(losses(azure, "one")) == 6
    assert losses(azure, "two") == pytest.approx(losses(azure, "one"), abs=1e-4)


def running_ranks(azure, state: Path, server_pid: int) -> list[int]:
    end = time.monotonic() + 200
    while points(azure, "long") < 2:
        assert time.monotonic() < end, azure.status("long")
        time.sleep(0.05)
    (own,) = [p.name for p in (state / "runs").iterdir()]
    log = str(state / "runs" / own / "log.txt")
    ranks = []
    for pid in workers(state):
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        if log in links and pid != server_pid:
            ranks.append(pid)
    return sorted(ranks)


def test_a_rank_that_dies_is_a_worker_that_dies_and_cancel_ends_both(state, start):
    server = start(state, engine="peft")
    azure = server.azure
    recipe = {**RECIPE, "num_train_epochs": "900", "processes": "2"}
    train = azure.upload(chats(12), "t.jsonl")
    assert azure.submit("long", train, details={"hyperParameters": recipe}).status_code == 201
    ranks = running_ranks(azure, state, server.child.pid)
    assert len(ranks) == 2
    os.kill(ranks[-1], signal.SIGKILL)
    end = time.monotonic() + 60
    while not azure.history("GET", "/runs/long").json()["warnings"]:
        assert time.monotonic() < end
        time.sleep(0.05)
    azure.wait("long", "Running", seconds=200)
    azure.arm("POST", "/jobs/long/cancel")
    assert azure.wait("long", seconds=30) == "Canceled"
    server.stop()
    assert gone(state)
