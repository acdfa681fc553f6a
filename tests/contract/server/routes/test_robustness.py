"""Unusual traffic: random, slow, aborted, or too much of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas_client.local.embedded_server import serve
from maas_client.local.http import connections, parameters
from maas_client.local.services.chat_engines import ChatChunk
from maas_client.wire import azureml
from maas_client.wire.operation import expand_path
from tests.contract.server.conftest import PLAIN_HTTP, WS, Azure, chats
from tests.contract.server.routes.test_security import IMPLEMENTED, VALUES
from tests.fuzz import parsers

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = ("properties", "jobType", "fineTuningDetails", "trainingData", "uri", "outputs", "registered_model",
        "assetName", "modelSettings", "modelId", "dataUri", "tags", "messages", "role", "content", "stop",
        "runId", "metricName", "continuationToken", "keyType", "hidden", "expireAfterHours", "location",
        "hyperParameters", "model", "taskType", "modelProvider", "sku", "tools", "stream_options")  # fmt: skip
ACCEPTED_FIELDS = tuple(
    sorted({name for each in parameters._BY_HANDLER.values() for name in each.fields or ()})
)
shaped = st.recursive(
    values | st.sampled_from(["FineTuning", "Custom", "chatCompletion", "azureml://x", "Primary"]),
    lambda inner: (
        st.dictionaries(st.sampled_from(KEYS + ACCEPTED_FIELDS), inner, max_size=5)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=12,
)
ACCEPTED_QUERY = sorted({name for each in parameters._BY_HANDLER.values() for name in each.query})
"""Every query parameter that some handler declares; ``ACCEPTED_FIELDS`` likewise."""


@pytest.fixture(scope="module")
def furnished(server) -> Azure:
    """The workspace in ROUTES, with a job, a model, an endpoint, data and blobs."""
    azure = Azure(server.url, expand_path(azureml.WORKSPACE_PATH, VALUES))
    azure.job("j")
    uri = azure.upload(chats(), "b/c")
    for name in ("n", "j"):
        azure.arm("PUT", f"/data/{name}/versions/1", json={"properties": {"dataUri": uri}})
    azure.deploy("e1", azure.model_id("j"))
    azure.http.put("/maaslocal/c1?restype=container")
    azure.http.put("/maaslocal/c1/b/c", content=b"x", headers={"x-ms-blob-type": "BlockBlob"})
    yield azure
    azure.http.close()


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    route=st.sampled_from(sorted(IMPLEMENTED)),
    body=shaped | st.binary(max_size=60),
    query=st.dictionaries(
        st.sampled_from(["api-version", "comp", "restype", *ACCEPTED_QUERY]),
        st.sampled_from(["2024-10-01-preview", "list", "block", "blocklist", "metadata", "1", "-1", "s9",
                         "é\x00"])
        | st.text(max_size=8), max_size=3),
    headers=st.dictionaries(
        st.sampled_from(["If-Match", "If-None-Match", "x-ms-range", "x-ms-blob-type", "Content-MD5",
                         "x-ms-version", "x-ms-meta-a", "extra-parameters", "x-ms-client-request-id"]),
        st.sampled_from(["*", '"a"', "bytes=0-", "BlockBlob", "drop", "x", "bytes=5-2", "2024-11-04"])
        | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=8), max_size=3),
)  # fmt: skip
def test_random_requests_never_cause_500(furnished: Azure, route, body, query, headers):
    method, path = route
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {k: v.strip().encode("latin-1") for k, v in headers.items()}
    response = furnished.http.request(
        method,
        path.replace("/maaslocal/c/", "/maaslocal/c1/"),
        params={"api-version": "2024-10-01-preview", **query},
        content=raw,
        headers=sent,
    )
    assert response.status_code < 500 or response.status_code == 501, (
        route,
        body,
        query,
        headers,
        response.text,
    )
    assert response.headers["x-ms-request-id"]
    if response.status_code >= 400 and method != "HEAD":
        check_error(path, response)


def check_error(path: str, response: httpx.Response) -> None:
    """Check that an error has the content type and the form of the API that was called."""
    kind, text = response.headers["content-type"], response.text
    # The login: RFC 6749, section 5.2
    if re.fullmatch(r"/[^/]+/(oauth2/|(v2.0/)?\.well-known/|discovery/(instance|v2)).*", path):
        assert kind == "application/json", text
        assert {"error", "error_description"} <= response.json().keys(), text
        return
    assert response.headers["x-ms-error-code"]
    if path.startswith("/maaslocal"):
        assert kind == "application/xml", text
        assert re.search(r"<Error><Code>\w+</Code><Message>.+</Message></Error>", text, re.S), text
        return
    assert kind == "application/json", text
    error = response.json()["error"]
    assert isinstance(error["code"], str), text
    assert isinstance(error["message"], str), text
    if "/openai/" in path:
        assert error["type"] in ("invalid_request_error", "server_error")
        assert error["param"] is None or isinstance(error["param"], str)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'"\\ud800"', "surrogate pair"),
        (b'"\xed\xa0\x80"', "surrogate pair"),
        (b"1e999", "too large: 1e999"),
        (b"-1e999", "too large: -1e999"),
        (b"9" * 400 + b".5", "too large: 999"),
        (b"NaN", "not valid JSON"),
        (b'"x", "model": "y"', "the key 'model' twice"),
        (b'{"a": 1, "\\u0061": 1}', "the key 'a' twice"),
        ("1".encode("utf-16"), "not valid JSON"),
    ],
)
def test_what_no_response_could_contain_is_400(server, text, reason):
    """Lists of jobs would fail after a job that was stored with it."""
    for path in ("fine_tuning/jobs", "chat/completions"):
        response = httpx.post(
            f"{server.url}/openai/v1/{path}",
            content=b'{"model": ' + text + b"}",
            headers={"api-key": "any", "Content-Type": "application/json"},
            **PLAIN_HTTP,
        )
        assert (response.status_code, reason in response.text) == (400, True), response.text


# starlette leaves the temporary file of a form that ends too early to the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", parsers.REQUESTS)
def test_random_changes_of_a_request_never_cause_500(name):
    parsers.check_requests([name], count=60, seed=0)


@pytest.mark.parametrize("head", [b"", b"GET /discovery HTTP/1.1\r\nHost: x\r\nA: "])
def test_incomplete_header_closes_connection(monkeypatch, head):
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.3)
    with serve(engine="instant") as server:
        port = int(server.url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(head)
            begin = time.monotonic()
            assert sock.recv(100) == b""
            assert 0.2 < time.monotonic() - begin < 5
        keep = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        keep.request("GET", "/discovery")
        assert keep.getresponse().read()
        keep.sock.sendall(b"GET /disc")  # the header of the second request is incomplete, too
        begin = time.monotonic()
        assert keep.sock.recv(100) == b""
        assert time.monotonic() - begin < 5
        keep.close()


def test_slow_clients_do_not_block_others(server):
    port = int(server.url.rsplit(":", 1)[1])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    try:
        for sock in idle:
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        begin = time.monotonic()
        assert httpx.get(f"{server.url}/discovery", **PLAIN_HTTP).status_code == 200
        assert time.monotonic() - begin < 10
    finally:
        for sock in idle:
            sock.close()


def test_aborted_upload_leaves_nothing(azure: Azure, server):
    base, sas = azure.container()
    path = f"{base.removeprefix(server.url)}/broken?{sas}"
    port = int(server.url.rsplit(":", 1)[1])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-ms-blob-type: BlockBlob\r\n"
            sock.sendall(head.encode() + b"Content-Length: 5000000\r\n\r\n" + b"x" * 100_000)
    deadline = time.monotonic() + 10
    contents = server.state_dir / "contents"
    while [p for p in contents.iterdir() if p.name.startswith(".")]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert azure.blob("HEAD", "broken").status_code == 404


class Endless:
    """An engine that generates forever and records when it is stopped."""

    system_fingerprint = "endless"

    def __init__(self) -> None:
        self.running = 0

    async def stream(self, target, chat):
        self.running += 1
        try:
            while True:
                await asyncio.sleep(0.01)
                yield ChatChunk(text="on and on ")
        finally:
            self.running -= 1

    async def load(self, target) -> None: ...
    async def unload(self, target) -> None: ...
    async def warm_up(self) -> None: ...
    async def close(self) -> None: ...


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_stops_generation(stream):
    with serve(engine="instant") as server:
        azure = Azure(server.url)
        uri = azure.deploy("e", "azureml://registries/azureml/models/Phi-4")
        key = azure.arm("POST", "/serverlessEndpoints/e/listKeys").json()["primaryKey"]
        engine = server._server.services.chat_engine = Endless()
        path = uri.removeprefix(server.url) + "/v1/chat/completions"
        port = int(server.url.rsplit(":", 1)[1])
        body = json.dumps(
            {"messages": [{"role": "user", "content": "x"}], "stream": stream}
        ).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {key}\r\n"
            sock.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if stream:
                assert b"200" in sock.recv(4096)
            deadline = time.monotonic() + 10
            while not engine.running:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        while engine.running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        azure.http.close()


def test_full_disk_is_507_and_server_continues(azure: Azure, server, monkeypatch):
    from maas_client.local.state import files

    def full(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.PendingFile, "write", full)
        response = azure.blob("PUT", "full", content=b"x", headers={"x-ms-blob-type": "BlockBlob"})
        assert (response.status_code, response.headers["x-ms-error-code"]) == (
            507,
            "InsufficientStorage",
        )
    assert (
        azure.blob("PUT", "full", content=b"x", headers={"x-ms-blob-type": "BlockBlob"}).status_code
        == 201
    )


def test_training_rows_and_keys_are_not_in_other_files(server):
    """After a job, only data files in the state directory contain rows."""
    canary = "canary-7f3a-of-the-rows"
    azure = Azure(server.url, WS.replace("proj1", "canary"))
    azure.job("canary", chats().replace(b"dear friend", canary.encode()))
    uri = azure.deploy("canary", azure.model_id("canary"))
    azure.chat(uri, "secret question zebra")
    files = [
        path.relative_to(server.state_dir).as_posix()
        for path in server.state_dir.rglob("*")
        if path.is_file() and canary.encode() in path.read_bytes()
    ]
    assert all(
        name.startswith("contents/") or name.endswith("out/memory.jsonl") for name in files
    ), files
    assert not any(
        b"zebra" in path.read_bytes() for path in server.state_dir.rglob("*") if path.is_file()
    )
    azure.http.close()
