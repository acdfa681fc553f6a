"""No request causes a 500, and every error has the format of its API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas_client.local import serve
from maas_client.local.embedded_server import LocalServer
from maas_client.local.http.routes import azureml, foundry, login
from tests.contract.server.conftest import PLAIN_HTTP
from tests.official.conftest import training_rows

OPERATIONS = [
    (table.prefix, op)
    for table in (*azureml.TABLES, *foundry.TABLES, *login.TABLES)
    for op in table.operations
]

WORDS = [
    "properties", "model", "training_file", "messages", "modelSettings", "modelId", "fineTuningDetails",
    "jobType", "FineTuning", "purpose", "fine-tune", "bytes", "filename", "part_ids", "hyperparameters",
    "method", "supervised", "trainingType", "globalStandard", "role", "user", "content", "stream", "sku",
    "name", "format", "dataUri", "keyType", "Primary", "tags", "suffix", "seed", "tools", "max_tokens",
    "Phi-4-mini-instruct", "mime_type", "runId", "metricName", "continuationToken", "trainingData", "uri",
]  # fmt: skip
"""Names that mean something to some operation, so that random bodies get past the first check."""

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.sampled_from(WORDS)
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=12,
)
names = st.sampled_from(["tickets", "file-0", "ftjob-1", "..", "a%00b", "1"]) | st.text(
    min_size=1, max_size=30
)
queries = st.dictionaries(
    st.sampled_from(["api-version", "$skip", "limit", "after", "order", "purpose", "comp", "restype",
                     "blockid", "marker", "maxresults", "listViewType", "tag"]),
    st.sampled_from(["2024-10-01-preview", "v1.0", "1", "-1", "x", "block", "list", "s5", "desc"])
    | st.text(max_size=12),
    max_size=3,
)  # fmt: skip
SETTINGS = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as running:
        yield running


@pytest.fixture(scope="module")
def http(server: LocalServer) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=server.url, headers={"api-key": "k"}, **PLAIN_HTTP, timeout=20
    ) as client:
        yield client


def path_of(prefix: str, path: str, draw: Any) -> str:
    def fill(match: re.Match[str]) -> str:
        return quote(draw(names), safe="" if not match[2] else "/")

    return re.sub(r"\{(\w+)(:path)?\}", fill, prefix + path)


def check(response: httpx.Response) -> None:
    assert response.status_code < 500 or response.status_code in (501, 503), response.text
    if response.status_code < 400 or response.request.method == "HEAD":
        return
    assert response.headers.get("x-ms-request-id")
    if "xml" in response.headers["content-type"]:
        assert "<Error><Code>" in response.text
        return
    body = response.json()
    if isinstance(body["error"], str):  # format of the login
        assert body["error_description"]
    else:
        assert body["error"]["code"]
        assert body["error"]["message"]


@SETTINGS
@given(data=st.data())
def test_random_json_never_causes_500(http: httpx.Client, data: st.DataObject) -> None:
    prefix, op = data.draw(st.sampled_from(OPERATIONS))
    query = {**op.query, **data.draw(queries)}
    path = path_of(prefix, op.path, data.draw)
    body = json.dumps(data.draw(values)).encode()
    check(http.request(op.method, path, params=query, content=body,
                       headers={"content-type": "application/json"}))  # fmt: skip


@SETTINGS
@given(data=st.data())
def test_random_bytes_never_cause_500(http: httpx.Client, data: st.DataObject) -> None:
    prefix, op = data.draw(st.sampled_from([r for r in OPERATIONS if r[1].method != "GET"]))
    kind = data.draw(
        st.sampled_from(
            ["multipart/form-data; boundary=x", "multipart/form-data", "text/plain", ""]
        )
    )
    body = data.draw(st.binary(max_size=200))
    if data.draw(st.booleans()):
        body = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            + body
            + b"\r\n--x--"
        )
    path = path_of(prefix, op.path, data.draw)
    check(http.request(op.method, path, params=dict(op.query), content=body,
                       headers={"content-type": kind}))  # fmt: skip


JOB = {
    "model": "Phi-4-mini-instruct",
    "trainingType": "globalStandard",
    "suffix": "s",
    "seed": 1,
    "hyperparameters": {"n_epochs": 1},
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 1}}},
}


@SETTINGS
@given(data=st.data())
def test_job_with_one_random_field(http: httpx.Client, data: st.DataObject) -> None:
    form = {"file": ("t.jsonl", training_rows())}
    file = http.post("/openai/v1/files", data={"purpose": "fine-tune"}, files=form).json()["id"]
    body = {
        **JOB,
        "training_file": file,
        data.draw(st.sampled_from(sorted(JOB))): data.draw(values),
    }
    response = http.post("/openai/v1/fine_tuning/jobs", json=body)
    check(response)
    assert response.status_code in (200, 400)


@SETTINGS
@given(data=st.data())
def test_deployment_with_one_random_field(http: httpx.Client, data: st.DataObject) -> None:
    model = {"format": "Microsoft", "name": "Phi-4-mini-instruct", "version": "1"}
    model |= {data.draw(st.sampled_from(sorted(model))): data.draw(values)}
    body = {"properties": {"model": model}, "sku": data.draw(st.none() | values)}
    prefix, op = next(r for r in OPERATIONS if r[1].name == "deployments.create")
    path = path_of(prefix, op.path, lambda _: "x")
    response = http.put(path, params=dict(op.query), json=body)
    check(response)
    assert response.status_code in (200, 201, 400, 409)


@SETTINGS
@given(data=st.data())
def test_chat_with_one_random_field(http: httpx.Client, data: st.DataObject) -> None:
    body = {
        "model": "rubbish",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3,
        data.draw(st.sampled_from(WORDS)): data.draw(values),
    }
    prefix, op = next(r for r in OPERATIONS if r[1].name == "deployments.create")
    path = path_of(prefix, op.path, lambda _: "rubbish")
    created = {"properties": {"model": {"format": "Microsoft", "name": "Phi-4"}}}
    http.put(path, params=dict(op.query), json=created)
    for chat in ("/openai/v1/chat/completions", "/models/chat/completions"):
        check(http.post(chat, json=body))
