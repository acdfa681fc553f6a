"""Interactive training over HTTP: its header, kill -9 of process and server, and expired sessions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

import maas_client as maas
from maas_client import local
from tests.contract.server.conftest import PLAIN_HTTP
from tests.contract.server.processes.test_restart import wait_for_exit, worker_pids

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals are posix"),
    pytest.mark.skipif(find_spec("torch") is None, reason="sessions need torch"),
]

_SERVE = """
import sys
from pathlib import Path
from maas_client.local.config import ServerConfig
from maas_client.local.server import Server
Server(ServerConfig(state_dir=Path(sys.argv[1]), ready_file=Path(sys.argv[2]), base="tiny", device="cpu",
                    threads=1, spare_worker_delay_s=60, session_idle_s=4)).run()
"""
PREVIEW = {"Foundry-Features": "FineTuningSessions=V1Preview", "api-key": "any"}
BATCH = {
    "data": [
        {
            "model_input": {"chunks": [{"tokens": [5, 9, 30, 31]}]},
            "loss_fn_inputs": {
                "target_tokens": {"data": [9, 30, 31, 7]},
                "weights": {"data": [1.0, 1.0, 1.0, 1.0]},
            },
        }
    ],
    "loss_fn": "cross_entropy",
}


class SessionServer:
    """A server in a separate process, and its sessions API."""

    def __init__(self, state: Path) -> None:
        ready = state.with_name("ready.json")
        ready.unlink(missing_ok=True)
        self.child = subprocess.Popen([sys.executable, "-c", _SERVE, state, ready])
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self.child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.url = json.loads(ready.read_text())["url"]
        self.http = httpx.Client(
            base_url=f"{self.url}/api/projects/p/fine_tuning",
            headers=PREVIEW,
            params={"api-version": "v1"},
            timeout=60,
            **PLAIN_HTTP,
        )

    def create(self, **changes: Any) -> str:
        """Create a session and wait until its model is loaded."""
        body = {"type": "training", "base_model": "Phi-4", "lora_config": {"rank": 4}} | changes
        accepted = self.http.post("/sessions", json=body).json()
        assert self.poll(accepted)["status"] == "completed"
        return str(accepted["session_id"])

    def poll(self, accepted: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a request; each poll waits on the server."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            path = f"/sessions/{accepted['session_id']}/request/{accepted['request_id']}"
            envelope: dict[str, Any] = self.http.get(path).json()
            if envelope["status"] != "pending":
                return envelope
        raise AssertionError("the request has no result")

    def call(self, session: str, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.http.post(f"/sessions/{session}/{operation}", json=body)
        assert response.status_code == 200, response.text
        return self.poll(response.json())

    def logprobs(self, session: str) -> Any:
        result = self.call(session, "forward", {"forward_input": BATCH})["result"]
        return result["loss_fn_outputs"]

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.http.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], SessionServer]]:
    servers: list[SessionServer] = []

    def run() -> SessionServer:
        servers.append(SessionServer(tmp_path / "state"))
        return servers[-1]

    yield run
    for server in servers:
        server.kill()


@pytest.mark.slow
def test_checkpoint_survives_the_death_of_process_and_server(
    start: Callable[[], SessionServer], tmp_path: Path
) -> None:
    """Takes some seconds: two servers start, and a session's process on each."""
    state, server = tmp_path / "state", start()
    session = server.create()
    for _ in range(2):
        server.call(session, "forward_backward", {"forward_backward_input": BATCH})
        server.call(session, "optim_step", {"adam_params": {"learning_rate": 0.01}})
    (shown,) = server.http.get(f"{server.url}/page/api/sessions").json()["sessions"]
    assert (shown["state"], shown["step"], shown["waiting"]) == ("Running", 2, 0)
    assert 0 < shown["loss"] < 10
    (before,) = server.http.get("/sessions").json()["data"]
    saved = server.call(session, "checkpoint", {"path": "two"})
    (after,) = server.http.get("/sessions").json()["data"]
    assert before["last_request_time"] != after["last_request_time"]
    assert saved["result"]["checkpoint_id"] == "two"
    expected = server.logprobs(session)
    (folder,) = state.glob(f"**/{session.removeprefix('session_')}/training")
    half_written = folder / "w" / ".step-00000002.x.draft"  # as after a full disk, or a kill
    half_written.mkdir(parents=True)
    other = folder / "never" / ".step-00000002.x.draft"
    other.mkdir(parents=True)
    batch = {"forward_input": {**BATCH, "data": BATCH["data"] * 500}}
    server.http.post(f"/sessions/{session}/forward", json=batch)  # the saves wait for it
    twice = [
        server.http.post(f"/sessions/{session}/checkpoint", json={"path": "w"}) for _ in range(2)
    ]
    assert [response.status_code for response in twice] == [200, 409]
    assert server.poll(twice[0].json())["status"] == "completed"
    both = server.call(session, "checkpoint_sample", {"path": "w"})  # each kind has its own names
    assert both["result"]["checkpoint_id"] == "w"

    pending = server.http.post(
        f"/sessions/{session}/forward_backward", json={"forward_backward_input": BATCH}
    )
    for worker in worker_pids(state):
        if worker != server.child.pid:
            os.kill(worker, signal.SIGKILL)
    assert server.poll(pending.json())["status"] in ("completed", "failed")
    deadline = time.monotonic() + 20
    while server.http.get(f"/sessions/{session}").json()["status"] != "failed":
        assert time.monotonic() < deadline
        ended = server.http.post(f"/sessions/{session}/forward", json={"forward_input": BATCH})
        assert ended.status_code in (200, 409)
    ended = server.http.post(f"/sessions/{session}/heartbeat")
    assert (ended.status_code, ended.json()["error"]["code"]) == (409, "engine_dead")
    assert "from_checkpoint" in ended.json()["error"]["message"]
    server.kill()
    assert wait_for_exit(state)

    server = start()
    listed = server.http.get(f"/sessions/{session}/checkpoints").json()["checkpoints"]
    saved = [(entry["checkpoint_id"], entry["checkpoint_type"]) for entry in listed]
    assert saved == [("two", "training"), ("w", "training"), ("w", "sampler")]
    assert not half_written.exists()
    assert not other.parent.exists()
    source = {"source_session_id": session, "checkpoint_id": "two"}
    resumed = server.create(from_checkpoint=source)
    assert server.logprobs(resumed) == expected
    step = server.call(resumed, "forward_backward", {"forward_backward_input": BATCH})
    assert step["status"] == "completed"
    step = server.call(resumed, "optim_step", {"adam_params": {}})
    assert step["result"]["step_count"] == 3

    deadline = time.monotonic() + 60
    while server.http.get(f"/sessions/{resumed}").json()["status"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    expired = server.http.post(f"/sessions/{resumed}/optim_step", json={"adam_params": {}})
    assert (expired.status_code, expired.json()["error"]["code"]) == (409, "session_expired")
    assert server.http.delete(f"/sessions/{session}").status_code == 204
    assert server.http.delete(f"/sessions/{session}").status_code == 404
    refused = server.http.post(
        "/sessions",
        json={"base_model": "Phi-4", "lora_config": {"rank": 4}, "from_checkpoint": source},
    )
    assert refused.status_code == 404


def test_preview_header_version_and_engine_are_required() -> None:
    with local.serve(engine="instant") as server:
        url = f"{server.url}/api/projects/p/fine_tuning/sessions"
        without = httpx.get(
            url, params={"api-version": "v1"}, headers={"api-key": "any"}, **PLAIN_HTTP
        )
        assert without.status_code == 403
        assert without.json()["error"]["code"] == "preview_feature_required"
        assert httpx.get(url, headers=PREVIEW, **PLAIN_HTTP).status_code == 400
        body = {"base_model": "Phi-4", "lora_config": {"rank": 4}}
        options: dict[str, Any] = {"params": {"api-version": "v1"}, "headers": PREVIEW}
        simulated = httpx.post(url, json=body, **options)
        assert simulated.status_code == 501
        assert "--engine peft" in simulated.json()["error"]["message"]
        with server.client() as client, pytest.raises(maas.MaasError) as refused:
            client.sessions.create("Phi-4", lora_rank=4)
        assert "Start it with: maas-client serve --engine peft (sessions.create 501" in str(
            refused.value
        )
        assert refused.value.hint is None
        unknown = httpx.post(url, json={**body, "colour": 1}, **options)
        assert unknown.status_code == 400
        assert "colour" in unknown.json()["error"]["message"]
        page = httpx.get(
            url, params={"api-version": "v1", "limit": "0"}, headers=PREVIEW, **PLAIN_HTTP
        )
        assert page.status_code == 400
