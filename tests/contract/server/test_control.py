"""``serve(control=True)``: jobs, deployments, faults, time and recorded requests of a server for tests."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve
from tests.contract.server.conftest import PLAIN_HTTP, chats

Dialect = Literal["azureml", "foundry"]
DIALECTS: tuple[Dialect, ...] = ("azureml", "foundry")
MODEL = {"azureml": "Phi-4-mini-instruct", "foundry": "gpt-4.1-mini"}
GET_JOB = {"azureml": "jobs.get", "foundry": "fine_tuning.get"}
CREATE_JOB = {"azureml": "jobs.create", "foundry": "fine_tuning.create"}
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def shared_server() -> Iterator[LocalServer]:
    with serve(engine="instant", control=True, proxy=True) as server:
        yield server


@pytest.fixture
def server(shared_server: LocalServer) -> LocalServer:
    shared_server.control.clear()
    return shared_server


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in chats().splitlines()]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_job_of_three_hours_ends_at_once(
    server: LocalServer, dialect: Dialect, rows: list[dict[str, Any]]
) -> None:
    client = server.client(dialect=dialect)
    server.control.next_job(queued_s=HOUR_S / 2, running_s=3 * HOUR_S)
    server.control.fail(GET_JOB[dialect], status=429, retry_after=30, after_s=HOUR_S)
    job = client.jobs.create(MODEL[dialect], training_data=rows, force_new=True)
    created, start = server.control.now, time.monotonic()
    statuses = [e.status for e in client.jobs.events(job) if e.status]
    job = client.jobs.wait(job)
    assert time.monotonic() - start < 5
    assert statuses[-1] in ("Completed", "succeeded")
    assert {s.lower() for s in statuses} >= {"running"}
    assert job.finished_at is not None
    assert abs((job.finished_at - created).total_seconds() - 3.5 * HOUR_S) < 60
    assert server.faults is not None
    assert server.faults.count == 1


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_async_client_waits_on_the_same_clock(
    server: LocalServer, dialect: Dialect, rows: list[dict[str, Any]]
) -> None:
    server.control.next_job(running_s=3 * HOUR_S, error="The GPU is on fire")
    async with server.async_client(dialect=dialect) as client:
        job = await client.jobs.create(MODEL[dialect], training_data=rows, force_new=True)
        with pytest.raises(maas.JobFailedError, match="The GPU is on fire"):
            await client.jobs.wait(job)


def test_timeout_of_a_wait_counts_virtual_time(server: LocalServer) -> None:
    name = server.control.add_job("Running", progress=0, running_s=3 * HOUR_S)
    with pytest.raises(maas.JobTimeoutError) as error:
        server.client().jobs.wait(name, timeout=HOUR_S)
    assert abs(error.value.waited - HOUR_S) < 5
    assert server.client().jobs.get(name).status == "Running"


def test_wait_does_not_pass_a_change_that_is_overdue(server: LocalServer) -> None:
    """The client is slow: the job's next change has passed before it waits, but no request has made it."""
    name = server.control.add_job("Running", progress=0.9, running_s=1)
    clock = server.control._timetable.clock
    before = clock.offset_s
    clock.advance(1)
    clock.wait(1e7)
    assert clock.offset_s == before + 1
    assert server.client().jobs.get(name).status == "Completed"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("status", "visible"),
    [
        ("Queued", ("Queued", "pending")),
        ("Running", ("Running", "running")),
        ("Paused", ("Paused", "paused")),
        ("Completed", ("Completed", "succeeded")),
        ("Failed", ("Failed", "failed")),
        ("Canceled", ("Canceled", "cancelled")),
    ],
)
def test_job_in_every_state(
    server: LocalServer, dialect: Dialect, status: Any, visible: tuple[str, str]
) -> None:
    name = server.control.add_job(status, dialect=dialect, progress=0.4, error="Bad luck")
    client = server.client(dialect=dialect)
    job = client.jobs.get(name)
    assert job.status == visible[DIALECTS.index(dialect)]
    assert (job.fine_tuned_model is not None) == (status == "Completed")
    assert (job.error is not None and "Bad luck" in str(job.error.message)) == (status == "Failed")
    steps = [e for e in client.jobs.events(job, follow=False) if e.metrics]
    # On azureml the client waits with the newest step of a job that has not ended.
    expected = {"Queued": {0}, "Completed": {12}, "Failed": {12}}.get(status, {3, 4})
    assert len({e.step for e in steps if e.step}) in expected
    if status == "Paused":
        client.jobs.resume(name)
    if not job.done:
        assert client.jobs.wait(name).succeeded


@pytest.mark.parametrize("dialect", DIALECTS)
def test_deployment_in_every_state(server: LocalServer, dialect: Dialect) -> None:
    client, question = server.client(dialect=dialect), [{"role": "user", "content": "5 plus one"}]
    model = server.control.add_model(dialect=dialect)
    for status in ("Creating", "NotReady", "Failed", "Succeeded"):
        name = f"{dialect}-{status.lower()}"
        server.control.add_deployment(name, model=model, status=status, dialect=dialect)
        if status != "Succeeded":
            with pytest.raises(
                maas.ServiceError, match=r"not ready|could not be started"
            ) as caught:
                client.chat.complete(name, question)
            assert ("Delete it, and create it again" in str(caught.value)) is (status == "Failed")
            assert status != "Failed" or "Try again later" not in str(caught.value)
        if status in ("Creating", "NotReady"):
            server.control.advance(HOUR_S)
        if status != "Failed":
            reply = client.chat.complete(name, question)
            assert reply.choices[0].message.content == "5 plus one is 6."
    server.control.next_deployment(creating_s=600, not_ready_s=600)
    assert client.deployments.create(f"{dialect}-new", model).ready
    server.control.next_deployment(error="No capacity")
    with pytest.raises(maas.ServiceError, match=r"No capacity|could not be started"):
        client.deployments.create(f"{dialect}-full", model)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_faults_by_operation_time_and_kind(server: LocalServer, dialect: Dialect) -> None:
    name = server.control.add_job(dialect=dialect)
    operation, control = GET_JOB[dialect], server.control
    client = server.client(dialect=dialect, max_retries=0)
    for fault, expected in (
        ({"status": 429, "retry_after": 7}, maas.RateLimitError),
        ({"status": 500, "error": "Our fault"}, maas.ServiceError),
        ({"expired_token": True}, maas.AuthError),
        ({"disconnect": True}, maas.TransportError),
        ({"keep_bytes": 3}, maas.TransportError),
        ({"status": 503, "after_s": HOUR_S, "duration_s": 60}, None),
    ):
        control.clear()
        control.fail(operation, **fault)
        assert list(client.models.list()) is not None, "another operation"
        if expected is None:
            assert client.jobs.get(name)
            control.advance(HOUR_S)
            expected = maas.ServiceError
        with pytest.raises(expected) as error:
            client.jobs.get(name)
        if "error" in fault:
            assert "Our fault" in str(error.value)
        assert client.jobs.get(name), "once"
    control.fail(operation, status=503, times=None, duration_s=60)
    control.advance(61)
    assert client.jobs.get(name), "the time of the fault is over"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_requests_are_recorded_without_credentials(
    server: LocalServer, dialect: Dialect, rows: list[dict[str, Any]]
) -> None:
    client = server.client(dialect=dialect)
    client.jobs.create(MODEL[dialect], training_data=rows, force_new=True)
    (request,) = server.requests.of(CREATE_JOB[dialect])
    assert MODEL[dialect] in json.dumps(request.json)
    assert request.headers["authorization"] == "[redacted]"
    rows[0]["messages"][0]["content"] += dialect  # not uploaded before
    client.datasets.upload(rows)
    uploads = server.requests.of("blobs.put" if dialect == "azureml" else "files.create")
    assert b"assistant" in uploads[0].body
    texts = repr([r.to_dict() for r in server.requests])
    assert "Bearer local" not in texts
    assert "sig=" not in texts
    assert all(r.query.get("sig", "[redacted]") == "[redacted]" for r in server.requests)
    assert all(r.operation for r in server.requests)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.fail("job.get", status=500), "Did you mean"),
        (lambda c: c.fail("jobs.get"), "fail needs the fault"),
        (lambda c: c.fail("jobs.get", error="x"), "needs status"),
        (lambda c: c.fail("jobs.get", retry_after=1), "needs status"),
        (lambda c: c.fail("jobs.get", status=700), "status"),
        (lambda c: c.fail("jobs.get", status=500, expired_token=True), "401"),
        (lambda c: c.fail("jobs.get", status="500"), "status"),
        (lambda c: c.fail("jobs.get", status=500, error=5), "error"),
        (lambda c: c.fail("jobs.get", status=500, error="\ud800"), "error"),
        (lambda c: c.fail("jobs.get", status=500, duration_s=10**400), "duration_s"),
        (lambda c: c.advance(-1), "seconds"),
        (lambda c: c.advance(True), "seconds"),
        (lambda c: c.next_job(running_s="1"), "running_s"),
        (lambda c: c.next_job(error=5), "error"),
        (lambda c: c.next_job(error_code=None), "error_code"),
        (lambda c: c.next_job(count=0), "count"),
        (lambda c: c.add_job("Runing"), "Did you mean Running"),
        (lambda c: c.add_job(name="a b"), "letters, digits"),
        (lambda c: c.add_job(progress=2), "progress"),
        (lambda c: c.add_job(model="Phi-99"), "Phi-99"),
        (lambda c: c.add_job(training_data="x"), "training_data"),
        (lambda c: c.add_job(training_data=5), "training_data"),
        (lambda c: c.add_job("Failed", error=None), "error"),
        (lambda c: c.add_job(name="x", dialect="foundry"), "name"),
        (lambda c: c.add_deployment("d", model="nothing"), "modelId"),
        (lambda c: c.add_deployment("d", status="Ready"), "status"),
        (lambda c: c.add_deployment(None), "name"),
        (lambda c: c.add_deployment("d", status="Failed", error=None), "error"),
    ],
)
def test_wrong_calls_are_refused(server: LocalServer, call: Any, message: str) -> None:
    with pytest.raises(maas.ConfigError, match=message):
        call(server.control)


def test_names_that_exist_are_refused(server: LocalServer) -> None:
    server.control.add_job(name="taken")
    with pytest.raises(maas.ConfigError, match="exists"):
        server.control.add_job(name="taken")
    server.control.add_deployment("taken")
    with pytest.raises(maas.ConfigError, match="exists"):
        server.control.add_deployment("taken")
    assert server.client().jobs.wait(server.control.add_job("Running")).succeeded, "no plan is left"


def test_server_without_control_says_how_to_get_it() -> None:
    with serve(engine="instant") as server, pytest.raises(maas.MaasError, match="no control"):
        server.control.advance(1)
    for options in ({"engine": "peft"}, {"engine": "instant", "max_jobs": 2}):
        with pytest.raises(maas.MaasError, match=r"simulated jobs. Use engine='instant'|max_jobs"):
            serve(control=True, **options).start()  # type: ignore[arg-type]  # one of two engines


def test_invalid_data_fails_as_without_control(server: LocalServer) -> None:
    client = server.client()
    name = server.control.add_job("Running", training_data=[{"messages": []}] * 12)
    job = client.jobs.get(name)
    assert (job.status, job.error and job.error.code) == ("Failed", "UserError")
    few = server.control.add_job("Running", training_data=[json.loads(chats().splitlines()[0])])
    assert "at least 10" in str(client.jobs.get(few).error)


# -- programs that wait in real time ------------------------------------------------------------------


def test_openai_sdk_polls_in_virtual_time(server: LocalServer) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="local")
    for is_patched in (True, False):
        job = server.control.add_job("Queued", dialect="foundry", running_s=3 * HOUR_S)
        server.control.fail("fine_tuning.get", status=429, retry_after=20, after_s=1.5 * HOUR_S)
        start = time.monotonic()
        if is_patched:
            with server.control.virtual_sleep():
                while client.fine_tuning.jobs.retrieve(job).status not in ("succeeded", "failed"):
                    time.sleep(60)
        else:
            server.control.clear()
            server.control.poll_advance_s = HOUR_S
            while client.fine_tuning.jobs.retrieve(job).status not in ("succeeded", "failed"):
                pass
        assert time.monotonic() - start < 10
    client.close()


def test_azure_sdk_and_credentials_in_virtual_time(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    azure_ml = pytest.importorskip("azure.ai.ml")
    identity = pytest.importorskip("azure.identity")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    zeros = "00000000-0000-0000-0000-000000000000"
    credential = identity.ClientSecretCredential(zeros, zeros, "local")
    name = server.control.add_job("Running", running_s=3 * HOUR_S)
    client = azure_ml.MLClient(credential, zeros, "local", "local")
    with server.control.virtual_sleep():
        client.jobs.stream(name)
    assert client.jobs.get(name).status == "Completed"
    assert "Execution Summary" in capsys.readouterr().out

    # Tokens last an hour on the server's clock, so that one job needs several.
    name = server.control.add_job("Running", running_s=3 * HOUR_S)
    server.control.fail("jobs.get", expired_token=True, after_s=HOUR_S)
    with maas.Client.azureml(
        subscription_id=zeros, resource_group="local", workspace="local", credential=credential
    ) as ours:
        assert ours.jobs.wait(name).succeeded
    assert server.faults is not None
    assert server.faults.count == 1
    token = credential.get_token("https://management.azure.com/.default").token
    address = f"{server.url}/serverless/none/v1/models"
    headers = {"authorization": f"Bearer {token}"}
    server.control.add_deployment("guarded")
    address = f"{server.url}/serverless/guarded/v1/models"
    assert httpx.get(address, headers=headers, **PLAIN_HTTP).status_code == 200
    server.control.advance(HOUR_S)
    assert httpx.get(address, headers=headers, **PLAIN_HTTP).status_code == 401


def test_sleep_of_other_threads_is_not_replaced(server: LocalServer) -> None:
    import threading

    real_sleep, waited = time.sleep, []

    def wait() -> None:
        start = time.monotonic()
        time.sleep(0.05)
        waited.append(time.monotonic() - start)

    with server.control.virtual_sleep():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert waited[0] >= 0.05
    assert time.sleep is real_sleep


# -- over HTTP ------------------------------------------------------------------------------------------


def test_control_over_http(server: LocalServer) -> None:
    def call(action: str, key: str | None = "any", **body: Any) -> httpx.Response:
        headers = {"api-key": key} if key else {}
        address = f"{server.url}/control/{action}"
        return httpx.post(address, json=body, headers=headers, **PLAIN_HTTP)

    assert call("advance", None, seconds=1).status_code == 401
    assert call("add-job", status="Running", name="over-http").json()["result"] == "over-http"
    assert server.client().jobs.get("over-http").status == "Running"
    before = server.control.now
    assert call("advance", seconds=HOUR_S).json()["now"] > before.isoformat()
    assert server.client().jobs.get("over-http").status == "Completed"
    assert call("set_poll_advance", seconds=5).status_code == 200
    assert server.control.poll_advance_s == 5
    assert call("fail", operation="jobs.get", status=429).json()["result"] is None
    with pytest.raises(maas.RateLimitError):
        server.client(max_retries=0).jobs.get("over-http")
    recorded = call("requests", operation="jobs.get").json()["result"]
    assert [r["operation"] for r in recorded] == ["jobs.get"] * 3
    assert recorded[0]["headers"]["authorization"] == "[redacted]"
    assert "virtual_sleep" not in call("nothing").text
    for action, body, status in (
        ("nothing", {}, 404),
        ("virtual_sleep", {}, 404),
        ("record", {}, 404),
        ("advance", {}, 400),
        ("advance", {"seconds": "1"}, 400),
        ("advance", {"minutes": 1}, 400),
        ("add_job", {"status": "Gone"}, 400),
        ("set_poll_advance", {"seconds": None}, 400),
        ("requests", {"operation": 5}, 400),
    ):
        answer = call(action, **body)
        assert answer.status_code == status, (action, answer.text)
    for body in (b"[" * 50_000, b'{"a": NaN}', b'"\\ud800"'):
        headers = {"api-key": "any", "content-type": "application/json"}
        address = f"{server.url}/openai/v1/fine_tuning/jobs"
        httpx.post(address, content=body, headers=headers, **PLAIN_HTTP)
    recorded = call("requests", operation="fine_tuning.create").json()["result"]
    bodies = [request["body"] for request in recorded]
    assert bodies == ["[" * 50_000, '{"a": NaN}', '"\\ud800"']
    assert call("set_poll_advance", seconds=1e11).status_code == 400
    assert call("clear").status_code == 200
    assert call("requests").json()["result"] == []
    with serve(engine="instant") as plain:
        answer = httpx.post(
            f"{plain.url}/control/clear", json={}, headers={"api-key": "k"}, **PLAIN_HTTP
        )
    assert answer.status_code == 404


def test_command_of_the_container_serves(tmp_path: Path) -> None:
    """Its build needs a container engine; its command runs here."""
    lines = (Path(__file__).parents[3] / "Containerfile").read_text().splitlines()
    (command,) = (json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD"))
    program = f"{shlex.quote(sys.executable)} -m maas_client serve --json"
    shell = command[-1].replace("maas-client serve", program)
    key = "a-key-of-16-characters"
    exports = f"export MAAS_STATE_DIR={shlex.quote(str(tmp_path / 'state'))} PORT=0; "
    missing = subprocess.run(
        ["sh", "-c", exports + shell], cwd=tmp_path, capture_output=True, text=True
    )
    assert "MAAS_API_KEY" in missing.stderr
    child = subprocess.Popen(
        ["sh", "-c", f"{exports} export MAAS_API_KEY={key}; {shell}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        port = httpx.URL(json.loads(child.stdout.readline())["url"]).port
        address = f"http://127.0.0.1:{port}/control/clear"
        for sent, status in (("another", 401), (key, 200)):
            headers = {"api-key": sent}
            assert httpx.post(address, json={}, headers=headers, **PLAIN_HTTP).status_code == status
    finally:
        child.kill()
        child.communicate()
