"""Watching a job through outages and through a laptop's sleep; final statuses in every spelling."""

from __future__ import annotations

import time

import pytest

from maas_client._transport import SyncHttpClient
from maas_client.errors import JobFailedError, ServiceError, TransportError
from maas_client.flows import job_events
from maas_client.flows._arm import MAX_OUTAGE_S, wait_for_operation, wait_until_provisioned
from maas_client.flows.azureml import jobs as azureml_jobs
from maas_client.flows.foundry import jobs as foundry_jobs
from maas_client.wire import azureml_models, foundry_models
from maas_client.wire.operation import Response
from tests.unit.fake_port import FakePort
from tests.unit.flows.foundry.fake_resource import Resource
from tests.unit.transport.conftest import make_transport

JOB = {"id": "ftjob-1", "status": "running"}


class Laptop(Resource):
    """Sleeps for ``asleep_s`` whenever the program waits, with the network down when it wakes up."""

    def __init__(self, asleep_s: float) -> None:
        super().__init__()
        self._asleep_s = asleep_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds + self._asleep_s)


async def test_sleep_during_an_outage_does_not_end_the_wait() -> None:
    laptop = Laptop(asleep_s=8 * 3600)
    lost = TransportError("no network")
    laptop.on("fine_tuning.get", JOB, lost, lost, lost, JOB | {"status": "succeeded"})
    assert (await job_events.wait(laptop, "ftjob-1")).succeeded


async def test_outage_of_more_than_half_an_hour_awake_ends_the_wait() -> None:
    io = Resource()
    io.on("fine_tuning.get", JOB, TransportError("no network"))
    with pytest.raises(TransportError):
        await job_events.wait(io, "ftjob-1")
    assert MAX_OUTAGE_S < sum(io.slept) < MAX_OUTAGE_S + 60


async def test_timeout_counts_sleep() -> None:
    laptop = Laptop(asleep_s=8 * 3600)
    laptop.on("fine_tuning.get", JOB)
    with pytest.raises(TimeoutError):
        await job_events.wait(laptop, "ftjob-1", timeout=3600)
    assert len(laptop.slept) == 1


SPELLINGS = {
    "success": [
        "Completed",
        "completed",
        "COMPLETED",
        "succeeded",
        "Succeeded",
        "SUCCEEDED",
        " completed ",
    ],
    "failure": ["Failed", "failed", "Canceled", "Cancelled", "cancelled", "CANCELED"],
    "live": [
        "Running",
        "NotResponding",
        "CancelRequested",
        "finalizing",
        "Paused",
        "complete?",
        "",
        "x",
    ],
}


@pytest.mark.parametrize("status", SPELLINGS["success"] + SPELLINGS["failure"] + SPELLINGS["live"])
def test_final_status_is_recognized_in_every_spelling(status: str) -> None:
    details = {
        "modelProvider": "Custom",
        "taskType": "ChatCompletion",
        "model": {"jobInputType": "mlflow_model", "uri": "m"},
        "trainingData": {"jobInputType": "uri_file", "uri": "d"},
    }
    body = {"properties": {"jobType": "FineTuning", "status": status, "fineTuningDetails": details}}
    for job in (
        foundry_jobs.to_job(foundry_models.Job(id="j", status=status)),
        azureml_jobs._to_job(azureml_models.Job.model_validate(body), "j"),
    ):
        assert job.done == (status not in SPELLINGS["live"])
        assert job.succeeded == (status in SPELLINGS["success"])


@pytest.mark.parametrize("status", SPELLINGS["failure"])
async def test_failed_job_of_either_spelling_raises(status: str) -> None:
    io = Resource()
    io.on("fine_tuning.get", JOB | {"status": status})
    with pytest.raises(JobFailedError):
        await job_events.wait(io, "ftjob-1")


@pytest.mark.parametrize("status", SPELLINGS["failure"])
async def test_failed_operation_of_either_spelling_raises(status: str) -> None:
    io = FakePort()
    io.on("arm.operation", {"status": status})
    io._answers = {name: [{"status": status}] for name in ("operations.status", "operations.get")}
    started = Response({}, 202, {"azure-asyncoperation": "https://management.azure.com/x"})

    async def state() -> tuple[str, str | None]:
        return status, None

    with pytest.raises(ServiceError, match=status.strip()):
        await wait_until_provisioned(io, "d", state)
    with pytest.raises(ServiceError):
        await wait_for_operation(io, started, operation="x", timeout_s=60)
    assert len(io.slept) == 1


def test_change_of_the_date_does_not_end_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    http = SyncHttpClient()
    transport = make_transport("http://127.0.0.1:1", http)
    before, now = transport.elapsed(), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 365 * 86400)
    assert 0 <= transport.elapsed() - before < 60
    http.close()
