"""Requests that fail on purpose: ``serve(faults=…)``, ``serve --faults`` and the plans as data."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve
from maas_client.testing import Fault, FaultPlan
from tests.contract.server.conftest import PLAIN_HTTP, Azure, chats
from tests.contract.server.processes.test_serve_command import fails, serving


@contextmanager
def server_with(*faults: Fault) -> Iterator[tuple[LocalServer, httpx.Client]]:
    with (
        serve(engine="instant", max_jobs=0, faults=FaultPlan(faults)) as server,
        httpx.Client(base_url=server.url, **PLAIN_HTTP) as http_client,
    ):
        yield server, http_client


def test_answer_is_replaced_before_and_after_the_server_acted() -> None:
    for forward, exists in ((True, 200), (False, 404)):
        plan = FaultPlan(
            [
                Fault(
                    "PUT", r"/jobs/\w+\?", forward=forward, status=503, headers={"Retry-After": "7"}
                )
            ]
        )
        with serve(engine="instant", max_jobs=0, faults=plan) as server:
            azure = Azure(server.url)
            data = azure.upload(chats(), "d.jsonl")
            lost = azure.submit("j", data)
            assert (lost.status_code, lost.headers["retry-after"], lost.text) == (503, "7", "")
            assert azure.arm("GET", "/jobs/j").status_code == exists
            assert azure.submit("j", data).status_code in (200, 201), "the fault applies once"
            assert plan.count == 1
            assert server.faults is plan
            azure.http.close()


@pytest.mark.parametrize("forward", [True, False])
def test_connection_is_closed_without_an_answer(forward: bool) -> None:
    with server_with(Fault("GET", "/discovery", forward=forward, disconnect=True)) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/discovery")
        assert client.get("/discovery").status_code == 200


def test_answer_is_cut_delayed_and_changed() -> None:
    faults = (
        Fault("GET", "/discovery", keep_bytes=5),
        Fault("GET", "/discovery", body='{"id": '),
        Fault("GET", "/discovery", delay_s=0.2, stall_s=0.2),
    )
    with server_with(*faults) as (server, client):
        host, port = server.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/discovery")
        with pytest.raises(http.client.IncompleteRead) as cut:
            connection.getresponse().read()
        assert len(cut.value.partial) == 5
        connection.close()
        changed = client.get("/discovery")
        assert (changed.status_code, changed.text) == (200, '{"id": ')
        start = time.monotonic()
        assert client.get("/discovery").json()
        assert time.monotonic() - start > 0.4


def test_flipped_bit_of_a_body_is_noticed_by_the_hash() -> None:
    fault = Fault("PUT", "comp=block&|comp=block$", flip_bit=0.5)
    with serve(engine="instant", faults=FaultPlan([fault])) as server:
        azure = Azure(server.url)
        headers = {"Content-MD5": "kAFQmDzST7DWlj99KOF/cg=="}  # of b"abc"
        sent = azure.blob("PUT", "b", "comp=block&blockid=AAAA", content=b"abc", headers=headers)
        assert (sent.status_code, sent.headers["x-ms-error-code"]) == (400, "Md5Mismatch")
        sent = azure.blob("PUT", "b", "comp=block&blockid=AAAA", content=b"abc", headers=headers)
        assert sent.status_code == 201
        azure.http.close()


def test_skip_times_and_probability() -> None:
    plan = FaultPlan([Fault("GET", "/a", skip=2, times=2, status=500)])
    seen = [plan.next_fault("GET", "/a") is not None for _ in range(6)]
    assert seen == [False, False, True, True, False, False]
    for seed in (1, 2):
        runs = []
        for _ in range(2):
            plan = FaultPlan([Fault(times=None, probability=0.3)], seed=seed)
            runs.append([plan.next_fault("GET", "/") is not None for _ in range(200)])
        assert runs[0] == runs[1]
        assert 30 < sum(runs[0]) < 90


def test_a_method_matches_in_any_case() -> None:
    assert Fault("post").matches("POST", "/jobs")
    assert not Fault("post").matches("PUT", "/jobs")


def test_plan_is_data() -> None:
    plan = FaultPlan([Fault("PUT", "/jobs", status=503, headers={"A": "b"}), Fault(stall_s=1.5)])
    assert FaultPlan.from_json(plan.to_json()).faults == plan.faults


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "list of objects"),
        ("[1]", "list of objects"),
        ('[{}, {"metod": "PUT"}]', "fault 2 of the plan has the unknown field 'metod'"),
        ('[{"method": 1}]', "fault 1 of the plan: method of a fault must be a text"),
        ('[{"path": "("}]', "path of a fault must be a regular expression"),
        ('[{"status": 99}]', "status of a fault must be a status from 200 to 599"),
        ('[{"status": "503"}]', "status of a fault"),
        ('[{"times": -1}]', "times of a fault"),
        ('[{"skip": true}]', "skip of a fault"),
        ('[{"probability": 1.5}]', "probability of a fault"),
        ('[{"probability": NaN}]', "probability of a fault"),
        ('[{"forward": 1}]', "forward of a fault must be true or false"),
        ('[{"disconnect": "yes"}]', "disconnect of a fault"),
        ('[{"headers": {"A": 1}}]', "headers of a fault"),
        ('[{"headers": {"A": "x\\r\\nB: c"}}]', "headers of a fault"),
        ('[{"headers": {"A b": "x"}}]', "headers of a fault"),
        ('[{"body": {}}]', "body of a fault"),
        ('[{"status": 204, "body": "x"}]', "must be left out with status 204"),
        ('[{"keep_bytes": -1}]', "keep_bytes of a fault"),
        ('[{"stall_s": 1e9}]', "stall_s of a fault"),
        ('[{"delay_s": "1"}]', "delay_s of a fault"),
        ('[{"flip_bit": 2}]', "flip_bit of a fault"),
    ],
)
def test_invalid_plan_is_a_clear_error(text: str, message: str) -> None:
    with pytest.raises(maas.ConfigError, match=message.replace("(", r"\(")):
        FaultPlan.from_json(text)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_a_plan_without_an_end_is_refused() -> None:
    with pytest.raises(maas.ConfigError, match="cannot be read: it is larger than 16 MiB"):
        FaultPlan.from_file("/dev/zero")


def test_serve_command_takes_a_plan(tmp_path: Any) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([{"path": "^/discovery$", "status": 502, "body": "<html>"}]))
    with serving(tmp_path, "--faults", plan) as (info, _):
        answers = [httpx.get(info["url"] + "/discovery", **PLAIN_HTTP) for _ in range(2)]
        assert [(a.status_code, a.text[:6]) for a in answers] == [(502, "<html>"), (200, '{"api"')]
    code, text = fails("--port", 0, "--state-dir", tmp_path / "s", "--faults", tmp_path / "no")
    assert (code, "cannot be read: No such file" in text) == (1, True)
    plan.write_text('[{"statu": 1}]')
    code, text = fails("--port", 0, "--state-dir", tmp_path / "s", "--faults", plan)
    assert (code, "unknown field 'statu'" in text) == (1, True)
    plan.write_text("[]")
    wide = ("--host", "0.0.0.0", "--api-key", "k" * 20)
    code, text = fails("--port", 0, "--state-dir", tmp_path / "s", "--faults", plan, *wide)
    assert (code, "needs a loopback address" in text) == (1, True)


def test_requests_cannot_switch_faults_on() -> None:
    """Without a plan nothing in a request makes it fail (headers of other emulators included)."""
    names = ("x-goog-emulator-instructions", "x-maas-fault", "x-fault", "x-ms-fault")
    with serve(engine="instant") as server:
        for name in names:
            reply = httpx.get(f"{server.url}/discovery", headers={name: "return-503"}, **PLAIN_HTTP)
            assert reply.status_code == 200
