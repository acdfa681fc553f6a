"""The answering process behind the chat routes: streams, errors, crash and restart. Needs torch."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from maas_client import cli
from maas_client.local.embedded_server import LocalServer, serve
from tests.contract.server.conftest import Azure
from tests.contract.server.routes.test_chat import frames

pytest.importorskip("torch")
pytestmark = pytest.mark.slow
BASE = "azureml://registries/azureml/models/Phi-3-mini-4k-instruct"


@pytest.fixture(scope="module")
def real() -> Iterator[LocalServer]:
    with serve(engine="peft", base="tiny", threads=1) as server:
        yield server


@pytest.fixture(scope="module")
def azure(real: LocalServer) -> Iterator[Azure]:
    client = Azure(real.url)
    client.http.timeout = 120
    yield client
    client.http.close()


@pytest.fixture(scope="module")
def uri(azure: Azure) -> str:
    return azure.deploy("base", BASE)


def test_stream_equals_complete_response(azure: Azure, uri):
    options = {"temperature": 0, "max_tokens": 12}
    whole = azure.chat(uri, "hello", **options).json()
    chunks = frames(azure.chat(uri, "hello", stream=True, **options))
    text = "".join(f["choices"][0]["delta"].get("content") or "" for f in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert whole["choices"][0]["finish_reason"] in ("length", "stop")
    assert whole["usage"]["completion_tokens"] <= 12
    assert whole["system_fingerprint"] is None or "simulated" not in whole["system_fingerprint"]


def test_seed_makes_answers_repeatable(azure: Azure, uri):
    def chat(**kwargs):
        return azure.chat(uri, "hello", max_tokens=12, **kwargs).json()["choices"][0]["message"][
            "content"
        ]

    assert chat(seed=7) == chat(seed=7)
    assert len({chat() for _ in range(4)}) > 1


def test_too_long_prompt_is_400(azure: Azure, uri):
    response = azure.chat(uri, "word " * 20_000)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    streamed = azure.chat(uri, "word " * 20_000, stream=True)
    assert streamed.status_code == 400


def test_concurrent_chats(azure: Azure, uri):
    answers = []

    def ask(n: int) -> None:
        answers.append(azure.chat(uri, f"number {n}", max_tokens=8, temperature=0).status_code)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12


def test_too_many_chats_are_429(azure: Azure, uri, monkeypatch):
    from maas_client.local.services import chat_engines

    monkeypatch.setattr(chat_engines, "_MAX_PENDING_CHATS", 0)
    refused = azure.chat(uri, "hello")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


def test_dead_process_is_replaced(azure: Azure, uri, real):
    child = real._server.services.chat_engine._child
    os.kill(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while child.is_running:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert azure.chat(uri, "hello", max_tokens=4).status_code == 200
    assert real._server.services.chat_engine._child is not child


def long_prompt(azure: Azure, uri: str) -> str:
    """Return a prompt whose answer, at temperature 0, takes some tenths of a second."""
    for text in ("Tell me all.", "go on", "hello", "a b c", "x", "Continue.", "What else?"):
        reply = azure.chat(uri, text, temperature=0, max_tokens=800).json()
        if reply["choices"][0]["finish_reason"] == "length":
            return text
    pytest.fail("no prompt has a long answer")


def test_chat_in_progress_fails_when_process_dies(azure: Azure, uri, real):
    messages = [{"role": "user", "content": long_prompt(azure, uri)}]
    body = {"messages": messages, "stream": True, "max_tokens": 3000, "temperature": 0}
    child = real._server.services.chat_engine._child
    with azure.http.stream("POST", f"{uri}/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        os.kill(child.pid, signal.SIGKILL)
        remaining = [line for line in lines if line]
    assert "data: [DONE]" not in remaining
    assert json.loads(remaining[-1].removeprefix("data: "))["error"]["code"] == "internal_error"


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_disconnects_ends_an_answer_without_chunks(azure: Azure, real, stream):
    """The calls of tools are sent when they are complete."""
    uri = azure.deploy(
        f"calls-{stream:d}", "azureml://registries/azureml-mistral/models/Ministral-3B"
    )
    texts = {"type": "array", "minItems": 200, "items": {"type": "string", "minLength": 10}}
    parameters = {"type": "object", "properties": {"texts": texts}, "required": ["texts"]}
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        "tool_choice": "required",
        "stream": stream,
    }
    chats = real._server.services.chat_engine._queues
    with pytest.raises(httpx.ReadTimeout):
        azure.http.post(f"{uri}/v1/chat/completions", json=body, timeout=0.5)
    deadline = time.monotonic() + 5
    while chats:
        assert time.monotonic() < deadline, "it takes 20 s if it is not cancelled"
        time.sleep(0.02)


def test_int8_server_says_so_where_it_answers(caplog, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAAS_STATE_DIR", str(tmp_path))
    with serve(base="tiny", threads=1, precision="int8", state_dir=tmp_path) as server:
        monkeypatch.setenv("MAAS_URL", server.url)
        cli.main(["doctor"])
        assert f"answers at {server.url} with int8 weights" in capsys.readouterr().out
        azure = Azure(server.url)
        azure.http.timeout = 120
        uri = azure.deploy("base", BASE)
        response = azure.chat(uri, "hello", max_tokens=4, temperature=0)
        assert response.headers["x-maas-precision"] == "int8"
        assert response.json()["system_fingerprint"] == "int8"
        assert "(int8)" in azure.http.get(f"{uri}/info").json()["model_provider_name"]
        for dialect in ("azureml", "foundry"):
            with server.client(dialect=dialect) as client:
                client.deployments.create("shown", "Phi-3-mini-4k-instruct")
                assert "int8" in str(client.deployments.get("shown").properties)
        azure.http.close()
    (notice,) = (r.getMessage() for r in caplog.records if "int8 weights" in r.getMessage())
    assert "nats per token" in notice
