"""``maas_client.local.serve``: a server in a program, a notebook or a unit test."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

import maas_client as maas
import maas_client.local
from maas_client.errors import ConfigError, MaasError
from tests.contract.server.conftest import ARM, PLAIN_HTTP, Azure, chats


def test_with_statement_and_client(tmp_path):
    data = tmp_path / "t.jsonl"
    data.write_bytes(chats())
    with maas_client.local.serve(engine="instant") as server:
        result = server.client().fine_tune(data, model="Phi-3-mini-4k-instruct", deploy="d")
        assert result.job.succeeded
        state = server.state_dir
        assert state.exists()
    assert not state.exists()
    with pytest.raises(MaasError, match="not running"):
        _ = server.url


async def test_async_with_statement(tmp_path):
    data = tmp_path / "t.jsonl"
    data.write_bytes(chats())
    async with maas_client.local.serve(engine="instant") as server, server.async_client() as client:
        job = await client.jobs.create(model="Phi-3-mini-4k-instruct", training_data=data)
        assert (await client.jobs.wait(job)).succeeded


def test_given_state_directory_is_kept(tmp_path):
    data = tmp_path / "t.jsonl"
    data.write_bytes(chats())
    state = tmp_path / "state"
    with maas_client.local.serve(engine="instant", state_dir=state) as server:
        job = server.client().jobs.create(model="Phi-3-mini-4k-instruct", training_data=data)
        server.client().jobs.wait(job)
    with maas_client.local.serve(engine="instant", state_dir=str(state)) as server:
        assert server.client().jobs.get(job.name).succeeded
        with pytest.raises(ConfigError, match="already uses"):
            maas_client.local.serve(engine="instant", state_dir=state).start()


@pytest.mark.parametrize("stream", [False, True])
def test_chat_in_progress_when_the_server_stops(monkeypatch, caplog, stream):
    entered, answers = threading.Event(), []

    async def wait(*_):
        entered.set()
        await asyncio.Event().wait()
        yield

    with maas_client.local.serve(engine="instant") as server:
        client = server.client()
        uri = client.deployments.create("a", model="Phi-4").url
        key = client.deployments.keys("a").primary.get_secret_value()
        monkeypatch.setattr(server._server.services.chat_engine, "stream", wait)
        server._server._uvicorn.config.timeout_graceful_shutdown = 0.1
        body = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
        headers = {"Authorization": f"Bearer {key}"}
        ask = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{uri}/v1/chat/completions", json=body, headers=headers, **PLAIN_HTTP)
            )
        )
        ask.start()
        assert entered.wait(20)
    ask.join(20)
    (answer,) = answers
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ServerStopping")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps folders with open files")
@pytest.mark.parametrize("is_replaced", [False, True])
def test_server_ends_without_its_state_directory(tmp_path, is_replaced, caplog):
    """What it accepted would be lost, and a second server could run in the same place."""
    state = tmp_path / "state"
    with maas_client.local.serve(engine="instant", state_dir=state) as server:
        state.rename(tmp_path / "moved")
        if is_replaced:
            with maas_client.local.serve(engine="instant", state_dir=state):
                server._thread.join(20)
                assert (state / "server.json").exists(), "the other server's record"
        server._thread.join(20)
        assert not server._thread.is_alive()
        with pytest.raises(MaasError, match="cannot connect"):
            list(server.client().jobs.list())
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert f"the state directory {state} was deleted, moved or replaced" in record.getMessage()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("not a database", "facts.db is damaged: file is not a database. Restore"),
        ("cut", "facts.db is damaged: database disk image is malformed. Restore"),
        ("pages", "facts.db is damaged: database disk image is malformed. Restore"),
        ("table", "facts.db is damaged: no such table: holds. Restore"),
        ("empty", "facts.db is missing or empty, and .* has files of jobs and models. Restore"),
        ("deleted", "facts.db is missing or empty, and .* has files of jobs and models. Restore"),
    ],
)
def test_damaged_store_is_named_and_no_model_is_deleted(tmp_path, damage, words):
    data, state = tmp_path / "t.jsonl", tmp_path / "state"
    data.write_bytes(chats())
    with maas_client.local.serve(engine="instant", state_dir=state) as server:
        server.client().fine_tune(data, model="Phi-3-mini-4k-instruct")
    store = state / "facts.db"
    content = store.read_bytes()
    if damage == "table":
        with closing(sqlite3.connect(store)) as database:
            database.execute("DROP TABLE holds")
    elif damage == "deleted":
        store.unlink()
    else:
        store.write_bytes(
            {
                "not a database": b"x" * len(content),
                "cut": content[: len(content) // 2],
                "pages": content[:8192] + b"x" * (len(content) - 8192),
                "empty": b"",
            }[damage]
        )
    before = sorted(path for path in state.rglob("*") if "runs" in path.parts)
    with pytest.raises(MaasError, match=words):
        maas_client.local.serve(engine="instant", state_dir=state).start()
    assert sorted(path for path in state.rglob("*") if "runs" in path.parts) == before
    store.write_bytes(content)
    for path in state.glob("facts.db-*"):
        path.unlink()
    with maas_client.local.serve(engine="instant", state_dir=state) as server:
        (job,) = server.client().jobs.list()
        assert job.succeeded


def children(module: str) -> list[str]:
    """Return the ids of the processes that this process has started and that run a module."""
    found = []
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for pid in path.read_text().split():
            with suppress(OSError):  # it has ended
                if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_simulated_jobs_run_in_one_process(tmp_path):
    data = tmp_path / "t.jsonl"
    workers = []
    with maas_client.local.serve(engine="instant") as server, server.client() as client:
        for number in range(3):
            data.write_bytes(chats(12 + number))
            assert client.jobs.wait(client.jobs.create("Phi-3-mini", data)).succeeded
            workers.append(children("maas_client.local.worker"))
        log = "".join(client.jobs.logs(next(iter(client.jobs.list()))))
        assert log.count("done") == 1, "the log of one job"
    assert len(workers[0]) == 1
    assert workers == workers[:1] * 3


def test_simulated_job_is_not_returned_by_a_server_that_trains(tmp_path):
    data = tmp_path / "t.jsonl"
    data.write_bytes(chats())
    dialects = {"azureml": "Phi-3-mini-4k-instruct", "foundry": "gpt-4.1-mini"}
    simulated, deadline = {}, time.monotonic() + 60
    with maas_client.local.serve(engine="instant", state_dir=tmp_path / "state") as server:
        for dialect, model in dialects.items():
            with server.client(dialect=dialect) as client:
                simulated[dialect] = client.jobs.wait(client.jobs.create(model, data))
                assert client.jobs.create(model, data).attached
    with maas_client.local.serve(base="tiny", state_dir=tmp_path / "state") as server:
        assert not children("maas_client.local.generate"), (
            "it starts with the first job or deployment"
        )
        for dialect, model in dialects.items():
            with server.client(dialect=dialect) as client:
                job = client.jobs.create(model, data)
                assert job.id != simulated[dialect].id
                assert not job.attached
                assert client.jobs.create(model, data).id == job.id
                client.jobs.cancel(job)
        while sys.platform == "linux" and not children("maas_client.local.generate"):
            assert time.monotonic() < deadline
        azure = Azure(server.url)
        path = simulated["azureml"].id
        body = azure.http.get(path, params={"api-version": ARM}).json()
        response = azure.http.put(path, params={"api-version": ARM}, json=body)
        assert response.status_code == 409
        assert "was simulated by the instant engine" in response.json()["error"]["message"]
        azure.http.close()


def test_start_and_close_twice():
    server = maas_client.local.serve(engine="instant")
    assert server.start() is server.start()
    assert server.url.startswith("http://127.0.0.1:")
    server.close()
    server.close()


def test_invalid_arguments():
    with pytest.raises(ConfigError, match="unknown engine 'magic'"):
        maas_client.local.serve(engine="magic")
    with pytest.raises(ConfigError, match="unknown precision 'int4'"):
        maas_client.local.serve(precision="int4")
    with pytest.raises(ConfigError, match="no effect with the engine instant"):
        maas_client.local.serve(engine="instant", precision="int8")
    for option in ({"base": "smollm2-135m"}, {"device": "cpu"}, {"threads": 2}):
        with pytest.raises(
            ConfigError, match=f"{next(iter(option))}= has no effect with the engine"
        ):
            maas_client.local.serve(engine="instant", **option)
    with pytest.raises(ConfigError, match="the device is cuda"):
        maas_client.local.serve(precision="int8", device="cuda")
    with (
        maas_client.local.serve(engine="instant") as server,
        pytest.raises(ConfigError, match="cannot listen"),
    ):
        maas_client.local.serve(engine="instant", port=int(server.url.rsplit(":", 1)[1])).start()


def test_close_leaves_no_thread_and_no_file(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = threading.active_count()
    for _ in range(3):
        with maas_client.local.serve(engine="instant") as server, server.client() as client:
            assert list(client.jobs.list()) == []
    assert threading.active_count() <= before + 1
    assert list(Path(tmp_path).iterdir()) == []


def test_api_key(tmp_path):
    with maas_client.local.serve(engine="instant", api_key="k" * 20) as server:
        assert list(server.client().jobs.list()) == []
        with maas.Client.local(url=server.url) as stranger, pytest.raises(maas.AuthError):
            list(stranger.jobs.list())
