"""Creates through a proxy that loses, delays and falsifies answers: one job and one file per call."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve
from tests.faults import Fault, FaultPlan, FaultProxy, create_soak

Dialect = Literal["azureml", "foundry"]
MODELS: dict[Dialect, str] = {"azureml": "Phi-4-mini-instruct", "foundry": "Ministral-3B"}
CREATE: dict[Dialect, dict[str, str]] = {
    "azureml": {"method": "PUT", "path": r"/jobs/[^/?]+\?"},
    "foundry": {"method": "POST", "path": "/fine_tuning/jobs$"},
}
HTML = "<html><body>Sign in to continue</body></html>"
AFTER_ACTING: dict[str, dict[str, Any]] = {
    "503 with Retry-After": {"status": 503, "headers": {"Retry-After": "0"}},
    "503": {"status": 503},
    "500": {"status": 500},
    "502": {"status": 502, "body": HTML},
    "504": {"status": 504},
    "429 with Retry-After": {"status": 429, "headers": {"Retry-After": "0"}},
    "408": {"status": 408},
    "409": {"status": 409},
    "400": {"status": 400},
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "301": {"status": 301, "headers": {"Location": "https://login.example/"}},
    "200 with HTML": {"status": 200, "body": HTML},
    "200 with nothing": {"status": 200, "body": ""},
    "200 with a list": {"status": 200, "body": "[]"},
    "200 with an empty object": {"status": 200, "body": "{}"},
    "200 with cut JSON": {"status": 200, "body": '{"id": "x", "properties": {"jobTy'},
    "cut answer": {"keep_bytes": 20},
    "no answer": {"disconnect": True},
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server on which no job starts: these tests only create them."""
    with serve(engine="instant", max_jobs=0) as local_server:
        yield local_server


@pytest.fixture
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of this test's own: the server is shared."""
    return write(tmp_path / "train.jsonl", request.node.name)


def write(path: Path, name: str, rows: int = 12) -> Path:
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"What is {i} of {name}?"},
                    {"role": "assistant", "content": f"Number {i}."},
                ]
            }
        )
        for i in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def job_ids(server: LocalServer, dialect: Dialect) -> set[str]:
    with server.client(dialect=dialect) as client:
        return {job.id for job in client.jobs.list()}


def dataset_ids(server: LocalServer, dialect: Dialect) -> set[str]:
    with server.client(dialect=dialect) as client:
        return {dataset.id for dataset in client.datasets.list()}


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize("fault", AFTER_ACTING.values(), ids=AFTER_ACTING.keys())
def test_job_of_a_create_with_a_lost_answer_is_returned(
    server: LocalServer,
    proxy: FaultProxy,
    data: Path,
    dialect: Dialect,
    fault: dict[str, Any],
) -> None:
    before = job_ids(server, dialect)
    proxy.plan = FaultPlan([Fault(**CREATE[dialect], times=None, **fault)])
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        job = client.jobs.create(model=MODELS[dialect], training_data=data)
    assert proxy.plan.count == 1, "the look has found the job before another create"
    assert job_ids(server, dialect) - before == {job.id}


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_lost_answer_and_then_a_conflict_is_the_job(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect
) -> None:
    before = job_ids(server, dialect)
    proxy.plan = FaultPlan(
        [
            Fault(**CREATE[dialect], status=502),
            Fault(**CREATE[dialect], status=409, body='{"error": {"code": "Conflict"}}'),
        ]
    )
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        job = client.jobs.create(model=MODELS[dialect], training_data=data)
    assert job_ids(server, dialect) - before == {job.id}


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "headers": {"Retry-After": "0"}},
        {"status": 408},
        {"disconnect": True},
        {"status": 200, "body": HTML},
    ],
    ids=["503", "408", "no answer", "200 with HTML"],
)
def test_outcome_is_unknown_if_the_look_fails(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect, fault: dict[str, Any]
) -> None:
    before = job_ids(server, dialect)
    with maas.Client.local(url=proxy.url, dialect=dialect, max_retries=0) as client:
        dataset = client.datasets.upload(data)
        first_looks = 1  # the search before the create
        look = r"/jobs/[^/?]+\?" if dialect == "azureml" else r"/fine_tuning/jobs\?"
        proxy.plan = FaultPlan(
            [
                Fault(**CREATE[dialect], **fault),
                Fault("GET", look, skip=first_looks, times=None, forward=False, status=500),
            ]
        )
        with pytest.raises(maas.TransportError, match="outcome is unknown") as caught:
            client.jobs.create(model=MODELS[dialect], training_data=dataset)
        assert proxy.plan.applied[0] == 1
        assert "Run the same call again" in str(caught.value)
        created = job_ids(server, dialect) - before
        assert len(created) == 1
        proxy.plan = FaultPlan()
        job = client.jobs.create(model=MODELS[dialect], training_data=dataset)
        assert job.attached
        assert {job.id} == created


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize(
    "fault",
    [{"status": 503}, {"status": 429}, {"status": 408}, {"status": 200, "body": HTML}, {"disconnect": True}],
    ids=["503", "429", "408", "HTML", "no answer"],
)  # fmt: skip
def test_create_that_did_not_arrive_is_sent_again(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect, fault: dict[str, Any]
) -> None:
    before = job_ids(server, dialect)
    proxy.plan = FaultPlan([Fault(**CREATE[dialect], forward=False, **fault)])
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        job = client.jobs.create(model=MODELS[dialect], training_data=data)
    assert proxy.plan.count == 1
    assert job_ids(server, dialect) - before == {job.id}


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_create_that_the_service_may_still_carry_out_is_not_sent_again(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect
) -> None:
    before = job_ids(server, dialect)
    with server.client(dialect=dialect) as client:
        dataset = client.datasets.upload(data)
    with maas.Client.local(url=proxy.url, dialect=dialect, timeout=2) as client:
        proxy.plan = FaultPlan([Fault(**CREATE[dialect], times=None, delay_s=6)])
        with pytest.raises(maas.TransportError, match="outcome is unknown"):
            client.jobs.create(model=MODELS[dialect], training_data=dataset)
    assert proxy.plan.count == 1
    with server.client(dialect=dialect) as client:
        job = client.jobs.create(model=MODELS[dialect], training_data=dataset)
    assert job_ids(server, dialect) - before >= {job.id}


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_refused_create_is_an_error_of_its_status(
    proxy: FaultProxy, data: Path, dialect: Dialect
) -> None:
    body = '{"error": {"code": "UserError", "message": "no such thing"}}'
    fault = Fault(**CREATE[dialect], times=None, forward=False, status=400, body=body)
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        dataset = client.datasets.upload(data)
        proxy.plan = FaultPlan([fault])
        with pytest.raises(maas.BadRequestError, match="no such thing"):
            client.jobs.create(model=MODELS[dialect], training_data=dataset)
    assert proxy.plan.count == 1


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_threads_with_the_same_call_make_one_job_and_one_file(
    server: LocalServer, data: Path, dialect: Dialect
) -> None:
    jobs, datasets = job_ids(server, dialect), dataset_ids(server, dialect)
    start = threading.Barrier(16)
    with server.client(dialect=dialect) as client, ThreadPoolExecutor(16) as pool:

        def create(_: int) -> maas.Job:
            start.wait()
            return client.jobs.create(model=MODELS[dialect], training_data=data)

        created = list(pool.map(create, range(16)))
    assert len({job.id for job in created}) == 1
    assert len(job_ids(server, dialect) - jobs) == 1
    assert len(dataset_ids(server, dialect) - datasets) == 1


async def test_tasks_with_the_same_call_make_one_job_and_one_file(
    server: LocalServer, data: Path
) -> None:
    jobs, datasets = job_ids(server, "foundry"), dataset_ids(server, "foundry")
    async with server.async_client(dialect="foundry") as client:
        created = await asyncio.gather(
            *(client.jobs.create(model="Ministral-3B", training_data=data) for _ in range(16))
        )
    assert len({job.id for job in created}) == 1
    assert len(job_ids(server, "foundry") - jobs) == 1
    assert len(dataset_ids(server, "foundry") - datasets) == 1


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_processes_with_the_same_call_make_one_job_and_one_file(
    server: LocalServer, data: Path, dialect: Dialect
) -> None:
    jobs, datasets = job_ids(server, dialect), dataset_ids(server, dialect)
    program = (
        "import sys, maas_client as maas\n"
        "url, dialect, model, path = sys.argv[1:]\n"
        "sys.stdin.readline()\n"
        "with maas.Client.local(url=url, dialect=dialect) as client:\n"
        "    print(client.jobs.create(model=model, training_data=path).id)\n"
    )
    command = [sys.executable, "-c", program, server.url, dialect, MODELS[dialect], str(data)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ids = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(ids) == 1
    assert job_ids(server, dialect) - jobs == ids
    assert len(dataset_ids(server, dialect) - datasets) == 1


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize("fault", AFTER_ACTING.values(), ids=AFTER_ACTING.keys())
def test_dataset_of_an_upload_with_a_lost_answer_is_returned(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect, fault: dict[str, Any]
) -> None:
    before = dataset_ids(server, dialect)
    create = {
        "azureml": {"method": "PUT", "path": r"/data/[^/]+/versions/"},
        "foundry": {"method": "POST", "path": "/files$"},
    }
    proxy.plan = FaultPlan([Fault(**create[dialect], times=None, **fault)])
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        dataset = client.datasets.upload(data)
    assert proxy.plan.count == 1
    assert dataset_ids(server, dialect) - before == {dataset.id}


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 409}, {"disconnect": True}], ids=["503", "409", "cut"]
)
def test_deployment_of_a_create_with_a_lost_answer_is_returned(
    server: LocalServer,
    proxy: FaultProxy,
    dialect: Dialect,
    fault: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    path = "/serverlessEndpoints/" if dialect == "azureml" else "/deployments/"
    proxy.plan = FaultPlan([Fault("PUT", path, times=None, **fault)])
    name = f"lost-{dialect}-{next(iter(fault.values()))}".lower()
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        deployment = client.deployments.create(name=name, model=MODELS[dialect])
        assert deployment.ready
        client.deployments.delete(deployment)
    assert proxy.plan.count == 1


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_many_creates_make_exactly_as_many_jobs(dialect: Dialect) -> None:
    """Bounded; ``python -m tests.faults.create_soak --creates 10000`` is the full run."""
    counts = create_soak.run(60, dialect, seed=7)
    assert counts["faults"] > 10
    assert (counts["doubled"], counts["missing"]) == (0, 0)
    assert counts["jobs"] == 60
