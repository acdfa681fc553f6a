"""A job in two processes on this machine: same losses as in one, and no process left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.contract.server.conftest import chats
from tests.contract.server.processes.test_restart import points, wait_for_exit, worker_pids
from tests.contract.server.processes.test_restart import start as start  # the fixture
from tests.contract.server.processes.test_restart import state as state  # the fixture

pytest.importorskip("torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="process groups are posix"),
]
RECIPE = {"num_train_epochs": "900", "learning_rate": "0.001"}


def losses(azure, name: str) -> list[float]:
    """Wait for the first six steps of a job and return their losses."""
    wait_for_points(azure, name, 6)
    response = azure.metric(name, "full", {"metricName": "loss"}).json()
    return [v["data"]["loss"] for v in response["value"]][:6]


def wait_for_points(azure, name: str, count: int) -> None:
    deadline = time.monotonic() + 200
    while points(azure, name) < count:
        assert time.monotonic() < deadline, azure.status(name)
        time.sleep(0.05)


def running_ranks(state: Path, server_pid: int) -> list[int]:
    """Return the processes that write to the log of a job."""
    ranks = []
    for pid in worker_pids(state):
        links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        if pid != server_pid and any(link.endswith("/log.txt") for link in links):
            ranks.append(pid)
    return sorted(ranks)


def test_two_processes_give_same_losses_as_one_and_end_together(state, start):
    server = start(state, engine="peft")
    azure = server.azure
    train = azure.upload(chats(12), "t.jsonl")
    single = {**RECIPE, "per_device_train_batch_size": "4"}
    azure.submit("one", train, details={"hyperParameters": single})
    expected = losses(azure, "one")
    azure.arm("POST", "/jobs/one/cancel")
    assert azure.wait("one", seconds=30) == "Canceled"

    two = {**RECIPE, "per_device_train_batch_size": "2"}
    azure.submit("two", train, details={"hyperParameters": two}, resources={"instanceCount": 2})
    assert losses(azure, "two") == pytest.approx(expected, abs=1e-4)
    ranks = running_ranks(state, server.child.pid)
    assert len(ranks) == 2
    os.kill(ranks[-1], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while "The worker crashed" not in azure.history("GET", "/runs/two").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not set(ranks) & set(running_ranks(state, server.child.pid)), "the other one ended too"
    azure.arm("POST", "/jobs/two/cancel")  # ends the second attempt
    assert azure.wait("two", seconds=30) == "Canceled"
    server.stop()
    assert wait_for_exit(state)
