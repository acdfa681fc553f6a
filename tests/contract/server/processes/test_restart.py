"""Killed servers and workers: what was acknowledged is kept, resumes, and completes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maas_client.local.embedded_server import serve
from tests.contract.server.conftest import Azure, chats
from tests.faults import power_loss

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are posix")

_SERVE = """
import sys
from pathlib import Path
from maas_client.local.config import ServerConfig
from maas_client.local.server import Server
Server(ServerConfig(state_dir=Path(sys.argv[1]), ready_file=Path(sys.argv[2]), engine=sys.argv[3],
                    base="tiny", threads=1, step_delay_s=float(sys.argv[4]), spare_worker_delay_s=60)).run()
"""


class Process:
    """A server in a separate process, as ``maas-client serve`` starts it, with a slower engine."""

    def __init__(self, state: Path, *, engine: str = "instant", step_delay_s: float = 0.05) -> None:
        ready = state.with_name("ready.json")
        ready.unlink(missing_ok=True)
        self.child = subprocess.Popen(
            [sys.executable, "-c", _SERVE, state, ready, engine, str(step_delay_s)]
        )
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert self.child.poll() is None, "the server ended"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        info = json.loads(ready.read_text())
        assert info["pid"] == self.child.pid
        self.azure = Azure(info["url"])

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.azure.http.close()

    def stop(self) -> int:
        self.child.terminate()
        self.azure.http.close()
        return self.child.wait(20)


def worker_pids(state: Path) -> list[int]:
    """Return the processes that have a file of this state directory open."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                links = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
            except OSError:
                continue
            if any(link.startswith(str(state)) for link in links):
                pids.append(int(entry.name))
    return pids


def wait_for_exit(state: Path, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while worker_pids(state) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not worker_pids(state)


@pytest.fixture
def start():
    """Start servers, and end all of them after the test."""
    servers = []

    def go(*args, **kwargs) -> Process:
        servers.append(Process(*args, **kwargs))
        return servers[-1]

    yield go
    for server in servers:
        if server.child.poll() is None:
            server.kill()


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def test_job_survives_killed_server(state, start):
    first = start(state)
    first.azure.submit("long", first.azure.upload(chats(30), "l.jsonl"))
    first.azure.submit("waits", first.azure.upload(chats(10), "w.jsonl"))
    first.azure.wait("long", "Running")
    first.kill()
    assert wait_for_exit(state)
    second = start(state)
    assert second.azure.status("long") in ("Queued", "Starting", "Preparing", "Running")
    assert second.azure.wait("long") == "Completed"
    assert second.azure.wait("waits") == "Completed"
    details = second.azure.history("GET", "/runs/long/details").json()
    assert any("The server ended while this job ran" in w["message"] for w in details["warnings"])
    steps = second.azure.metric("long", "full", {"metricName": "loss"}).json()["value"]
    assert [v["step"] for v in steps] == list(
        range(1, 31)
    )  # steps were repeated, but each is reported once
    uri = second.azure.deploy("e", second.azure.model_id("long"))
    assert second.azure.chat(uri, "what is 7 plus 7").status_code == 200
    assert second.stop() == 0
    assert wait_for_exit(state)
    third = start(state)
    assert third.azure.status("long") == "Completed"
    pids = third.azure.arm("GET", "/serverlessEndpoints/e").json()["properties"]
    assert third.azure.chat(pids["inferenceEndpoint"]["uri"], "what is 7 plus 7").status_code == 200
    assert third.stop() == 0


def test_job_completes_after_five_killed_servers(state, start):
    server = start(state)
    server.azure.submit("often", server.azure.upload(chats(20), "o.jsonl"))
    for _ in range(5):
        server.azure.wait("often", "Running")
        server.kill()
        server = start(state)
    assert server.azure.wait("often") == "Completed"
    server.stop()


def test_sigterm_with_running_job(state, start):
    server = start(state)
    server.azure.submit("long", server.azure.upload(chats(200), "l.jsonl"))
    server.azure.wait("long", "Running")
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 5
    assert wait_for_exit(state)


def points(azure: Azure, name: str) -> int:
    response = azure.metric(name, "full", {"metricName": "loss"})
    return len(response.json().get("value", []))


def kill_worker(server: Process, state: Path) -> None:
    """Kill the worker after it has reported a step."""
    server.azure.wait("poison", "Running")
    before, deadline = points(server.azure, "poison"), time.monotonic() + 20
    while points(server.azure, "poison") <= before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (worker,) = [pid for pid in worker_pids(state) if pid != server.child.pid]
    os.kill(worker, signal.SIGKILL)
    while worker in worker_pids(state):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("times", [1, 3])
def test_crashing_worker_fails_job_after_three_attempts(state, start, times):
    server = start(state)
    server.azure.submit("poison", server.azure.upload(chats(60 if times > 1 else 12), "p.jsonl"))
    for n in range(times):
        kill_worker(server, state)
        deadline = time.monotonic() + 10
        while server.azure.history("GET", "/runs/poison").json()["warnings"][n:] == []:
            if server.azure.status("poison") == "Failed":
                break
            assert time.monotonic() < deadline
    if times < 3:
        assert server.azure.wait("poison") == "Completed"
        return
    assert server.azure.wait("poison") == "Failed"
    message = server.azure.error("poison")["message"]
    for part in ("crashed 3 times", "SIGKILL", "train_loss"):  # the last is from its log
        assert part in message
    assert server.azure.arm("POST", "/jobs/poison/resume").status_code == 200
    assert server.azure.wait("poison") == "Completed"


def test_second_server_on_state_directory_is_refused(state, start):
    first = start(state)
    second = subprocess.run(
        [sys.executable, "-c", _SERVE, state, state.with_name("r2"), "instant", "0"],
        capture_output=True,
        text=True,
    )
    assert second.returncode != 0
    assert f"another server (process {first.child.pid}) already uses" in second.stderr
    first.stop()


def test_acknowledged_jobs_survive_kill(state, start):
    """Create jobs one after another and kill the server in between."""
    acknowledged: list[str] = []
    for round_ in range(3):
        server = start(state, step_delay_s=1)
        train = server.azure.upload(chats(10), "a.jsonl")
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            name = f"r{round_}-{len(acknowledged)}"
            assert server.azure.submit(name, train).status_code == 201
            acknowledged.append(name)
        server.kill()
    server = start(state, step_delay_s=1)
    assert {server.azure.arm("GET", f"/jobs/{n}").status_code for n in acknowledged} == {200}
    server.stop()


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_state_of_an_earlier_version_is_opened(tmp_path, version):
    """The state was written by that version: jobs, models and files are there, and new jobs run."""
    state = tmp_path / "state"
    shutil.copytree(Path(__file__).parents[3] / "fixtures" / "stores" / version, state)
    state.chmod(0o700)
    script = state / "state.sql"
    database = sqlite3.connect(state / "facts.db")
    database.executescript(script.read_text())
    database.close()
    script.unlink()
    for _ in range(2):  # the second start reads what the first has written
        with serve(engine="instant", state_dir=state) as server:
            client = server.client()
            kept = client.jobs.get("kept")
            assert kept.succeeded
            assert client.jobs.wait("kept").name == "kept"
            assert [model.job for model in client.models.list() if model.job] == ["kept"]
            reply = client.chat.complete("chat-kept", [{"role": "user", "content": "Why 3?"}])
            assert reply.choices[0].message.content == "So."
            (old,) = server.client(dialect="foundry").jobs.list()
            assert old.succeeded
            new = client.jobs.create(
                model="Phi-3-mini", training_data=write_rows(tmp_path), name="new"
            )
            assert client.jobs.wait(new, timeout=60).succeeded
            client.jobs.delete("new")
            for model in client.models.list():
                if model.job == "new":
                    client.models.delete(model)


def write_rows(folder: Path) -> Path:
    path = folder / "train.jsonl"
    path.write_bytes(chats())
    return path


@pytest.mark.slow  # four servers
@pytest.mark.skipif(not power_loss.is_available(), reason="needs Linux and a C compiler")
def test_acknowledged_jobs_survive_a_power_loss(tmp_path):
    """Only what was synchronised is left, in a folder that a library in front of fsync writes."""
    library = power_loss.build(tmp_path)
    for name in ("durable", "not-durable"):
        (tmp_path / name).mkdir()
    counts = power_loss.cut(tmp_path / "durable", library, after=4)
    assert counts["acknowledged"] == 4
    assert {name: counts[name] for name in power_loss.BAD if counts[name]} == {}
    counts = power_loss.cut(tmp_path / "not-durable", library, after=4, durable=False)
    assert counts["lost"] == 4, "the library keeps what was not synchronised"
