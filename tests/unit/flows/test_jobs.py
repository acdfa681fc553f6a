"""Jobs: created once, followed through outages, refused before anything is sent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from maas_client.errors import (
    ConfigError,
    ConflictError,
    JobFailedError,
    JobTimeoutError,
    ModelRetiredError,
    ServiceError,
    TransportError,
    UnsupportedError,
)
from maas_client.flows import job_events, jobs
from maas_client.types import Dataset, Hyperparameters
from tests.unit.fake_port import FakePort, collect
from tests.unit.flows.fake_workspace import FakeBlobs, FakeJobs, workspace

DATA = Dataset(id="/subscriptions/x/data/train/versions/1", name="train", sha256="a" * 64)
MODEL = "Phi-4-mini-instruct"


@pytest.fixture
def port() -> FakePort:
    return workspace(FakePort())


@pytest.fixture
def fake_jobs(port: FakePort) -> FakeJobs:
    port.on(
        "runs.data",
        {"runMetadata": {"outputs": {"registered_model": {"assetId": "azureml://m/versions/1"}}}},
    )
    port.on("runs.details", {"runId": "r", "status": "x"})
    port.on("metrics.list", {"value": []})
    return FakeJobs(port)


async def test_same_call_returns_the_same_job(port: FakePort, fake_jobs: FakeJobs) -> None:
    first = await jobs.create(port, MODEL, DATA)
    again = await jobs.create(port, MODEL, DATA)
    assert first.name == again.name
    assert again.attached
    assert not first.attached
    assert len(port.asked("jobs.create")) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"hyperparameters": {"epochs": 2}},
        {"training_data": DATA.model_copy(update={"sha256": "b" * 64})},
        {"validation_data": DATA},
        {"model": "Phi-4"},
    ],
)
async def test_other_inputs_create_another_job(
    port: FakePort, fake_jobs: FakeJobs, changes: dict[str, Any]
) -> None:
    first = await jobs.create(port, MODEL, DATA)
    arguments: dict[str, Any] = {"model": MODEL, "training_data": DATA, **changes}
    assert (await jobs.create(port, **arguments)).name != first.name


@pytest.mark.parametrize("status", ["Failed", "Canceled"])
async def test_job_after_a_failure_is_named_name_2(
    port: FakePort, fake_jobs: FakeJobs, status: str
) -> None:
    first = await jobs.create(port, MODEL, DATA)
    fake_jobs.set_status(first.name, status)
    second = await jobs.create(port, MODEL, DATA)
    assert second.name == f"{first.name}-2"
    assert (await jobs.create(port, MODEL, DATA)).name == second.name


async def test_completed_job_is_returned_with_its_model(
    port: FakePort, fake_jobs: FakeJobs
) -> None:
    first = await jobs.create(port, MODEL, DATA)
    fake_jobs.set_status(first.name, "Completed")
    again = await jobs.create(port, MODEL, DATA)
    assert again.attached
    assert again.fine_tuned_model == "azureml://m/versions/1"


async def test_force_new_always_creates_a_job(port: FakePort, fake_jobs: FakeJobs) -> None:
    names = [(await jobs.create(port, MODEL, DATA, force_new=True)).name for _ in range(3)]
    assert len(set(names)) == 3


async def test_name_with_other_inputs_is_a_conflict(port: FakePort, fake_jobs: FakeJobs) -> None:
    await jobs.create(port, MODEL, DATA, name="mine")
    with pytest.raises(ConflictError, match="other inputs"):
        await jobs.create(port, MODEL, DATA, name="mine", hyperparameters={"epochs": 3})


async def test_request_body_is_as_documented(port: FakePort, fake_jobs: FakeJobs) -> None:
    arguments = Hyperparameters(
        epochs=3, learning_rate=2e-5, extra={"per_device_eval_batch_size": 2}
    )
    await jobs.create(port, MODEL, DATA, validation_data=DATA, hyperparameters=arguments)
    details = port.asked("jobs.create")[0].body["properties"]["fineTuningDetails"]
    assert details["hyperParameters"] == {
        "num_train_epochs": "3",
        "learning_rate": "0.00002",
        "per_device_eval_batch_size": "2",
    }
    assert details["model"]["uri"].startswith(
        "azureml://registries/azureml/models/Phi-4-mini-instruct"
    )
    assert details["trainingData"] == {"jobInputType": "uri_file", "uri": DATA.id}
    assert details["modelProvider"] == "Custom"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "Phi-3-mini-4k-instruct"}, ModelRetiredError, "2025-08-30.*Phi-4-mini-instruct"),
        ({"model": "microsoft/phi-3-mini"}, ModelRetiredError, "2025-08-30"),
        ({"model": "gpt-oss-20b"}, UnsupportedError, "foundry"),
        ({"model": "Phi-5"}, ConfigError, "Did you mean"),
        ({"method": "DoRA"}, UnsupportedError, "compute="),
        ({"method": "LoRAX"}, ConfigError, "LoRA, QLoRA, DoRA, Full"),
        ({"hyperparameters": {"lora_r": 4}}, UnsupportedError, "local server"),
        ({"hyperparameters": {"epoch": 4}}, ConfigError, "epochs"),
        ({"hyperparameters": {"learning_rate": math.nan}}, ConfigError, "rate=: .*finite number$"),
        ({"hyperparameters": {"lora_r": 0}}, ConfigError, "lora_r=: .*equal to 1$"),
        ({"method": "rsLoRA"}, UnsupportedError, "rsLoRA cannot be chosen"),
        ({"hyperparameters": {"learning_rate_multiplier": 1.0}}, UnsupportedError, "foundry"),
        ({"hyperparameters": {"extra": {"report_to": "wandb"}}}, UnsupportedError, "no report_to="),
        ({"name": "a/b"}, ConfigError, "name"),
        (
            {"method": "DPO"},
            UnsupportedError,
            r"Azure does not tune Phi-4-mini-instruct by DPO.*gpt-4\.1.*Client\.local\(\) trains Phi",
        ),
        (
            {"model": "azureml://registries/contoso/models/own/versions/1", "method": "DPO"},
            UnsupportedError,
            "Azure ML tunes no model by DPO",
        ),
        ({"model": "gpt-4.1", "method": "DPO"}, UnsupportedError, "not offered .*azureml"),
        ({"beta": 0.1}, ConfigError, "beta= is an option of the method DPO"),
        (
            {"hyperparameters": {"adapter": "DoRA"}},
            ConfigError,
            "adapter= is an option of the method DPO",
        ),
        (
            {"method": "full", "hyperparameters": {"lora_r": 8}},
            ConfigError,
            "lora_r= is an option of adapters, and method='Full' trains all weights. Leave out lora_r=",
        ),
        (
            {"hyperparameters": {"epochs": 3, "extra": {"num_train_epochs": 5}}},
            ConfigError,
            "epochs= is given twice, with different values",
        ),
        (
            {"hyperparameters": {"lora_r": 8, "extra": {"lora_r": "4"}}},
            ConfigError,
            "lora_r= is given twice",
        ),
        (
            {"beta": 0.1, "hyperparameters": {"extra": {"beta": 0.2}}},
            ConfigError,
            "beta= is given twice",
        ),
        ({"beta": 0.1, "hyperparameters": {"beta": 0.2}}, ConfigError, "beta= is given twice"),
        (
            {"method": "QLoRA", "hyperparameters": {"extra": {"method": "LoRA"}}},
            ConfigError,
            "method= is given twice",
        ),
        (
            {"hyperparameters": {"warmup_steps": 3, "warmup_ratio": 0.1}},
            ConfigError,
            "warmup_ratio= has no effect with warmup_steps=",
        ),
        ({"beta": 3.0, "method": "DPO"}, UnsupportedError, "by DPO"),
        ({"training_type": "Standard"}, UnsupportedError, "no field for the training type"),
    ],
)
async def test_unsupported_requests_are_refused_before_sending(
    port: FakePort, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        await jobs.create(port, **{"model": MODEL, "training_data": DATA, **arguments})
    assert port.sent == []


async def test_retired_models_are_allowed_with_override_compute_uri_and_local(
    port: FakePort, fake_jobs: FakeJobs
) -> None:
    await jobs.create(port, "Phi-3-mini-4k-instruct", DATA, allow_retired=True)
    await jobs.create(port, "Phi-3-mini-4k-instruct", DATA, compute="gpu-cluster")
    await jobs.create(
        port, "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/15", DATA
    )
    port.scope.local = True
    await jobs.create(port, "Phi-3-small", DATA)


async def test_compute_supports_all_options(port: FakePort, fake_jobs: FakeJobs) -> None:
    await jobs.create(
        port, MODEL, DATA, compute="gpu", method="rslora", hyperparameters={"lora_r": 4}
    )
    body = port.asked("jobs.create")[-1].body["properties"]
    assert body["computeId"].endswith("/workspaces/ws/computes/gpu")
    assert body["fineTuningDetails"]["hyperParameters"] == {"method": "rsLoRA", "lora_r": "4"}
    await jobs.create(port, MODEL, DATA, compute=["Standard_NC24ads_A100_v4"])
    body = port.asked("jobs.create")[-1].body["properties"]
    assert body["resources"] == {"instanceTypes": ["Standard_NC24ads_A100_v4"]}


async def test_wait_continues_after_an_outage_and_unknown_status(
    port: FakePort, fake_jobs: FakeJobs, caplog: pytest.LogCaptureFixture
) -> None:
    job = await jobs.create(port, MODEL, DATA)
    body = fake_jobs.jobs[job.name]

    def state(status: str) -> dict[str, Any]:
        return {**body, "properties": {**body["properties"], "status": status}}

    port.on(
        "jobs.get",
        state("Queued"),
        TransportError("gone"),
        ServiceError("bad gateway", status=502),
        state("NotResponding"),
        state("Hibernating"),
        state("Completed"),
    )
    seen: list[str] = []
    last_state = await job_events.wait(port, job, on_event=lambda e: seen.append(e.key))
    assert last_state.succeeded
    assert last_state.fine_tuned_model == "azureml://m/versions/1"
    assert seen == [
        "status:Queued",
        "status:NotResponding",
        "status:Hibernating",
        "status:Completed",
    ]
    assert [r.getMessage() for r in caplog.records if "lost contact" in r.getMessage()] == [
        "lost contact with the job (gone); retrying"
    ]


async def test_wait_ends_after_a_long_outage(port: FakePort, fake_jobs: FakeJobs) -> None:
    job = await jobs.create(port, MODEL, DATA)
    port.on("jobs.get", TransportError("gone"))
    with pytest.raises(TransportError):
        await job_events.wait(port, job)
    assert sum(port.slept) > 1700


async def test_wait_times_out_without_canceling(port: FakePort, fake_jobs: FakeJobs) -> None:
    job = await jobs.create(port, MODEL, DATA)
    with pytest.raises(JobTimeoutError) as error_info:
        await job_events.wait(port, job, timeout=20)
    assert isinstance(error_info.value, TimeoutError)
    assert 20 <= error_info.value.waited < 21
    assert error_info.value.job is not None
    assert port.asked("jobs.cancel") == []


async def test_failure_has_the_services_reason(port: FakePort, fake_jobs: FakeJobs) -> None:
    job = await jobs.create(port, MODEL, DATA)
    fake_jobs.set_status(job.name, "Failed")
    port.on(
        "runs.details",
        {
            "runId": "r",
            "status": "Failed",
            "error": {"error": {"code": "UserError", "message": "line 3 is bad"}},
        },
    )
    with pytest.raises(JobFailedError, match=r"line 3 is bad \[UserError\]") as error_info:
        await job_events.wait(port, job)
    assert error_info.value.job is not None
    assert error_info.value.job.error is not None


async def test_events_are_complete_and_unique(port: FakePort, fake_jobs: FakeJobs) -> None:
    job = await jobs.create(port, MODEL, DATA)
    fake_jobs.set_status(job.name, "Completed")
    port.on(
        "metrics.list",
        {"value": [{"metricKey": {"name": "loss"}}, {"metricKey": {"name": "eval_loss"}}]},
    )

    def values(sent: Any) -> dict[str, Any]:
        name = sent.body["metricName"]
        if sent.body["continuationToken"] is None:
            return {"value": [{"step": 1, "data": {name: 2.0}}], "continuationToken": "next"}
        return {"value": [{"step": 2, "data": {name: 1.0}}], "continuationToken": None}

    port.on("metrics.values", values)
    all_events = await collect(job_events.events(port, job))
    assert [e.key for e in all_events] == [
        "metrics:1:train_loss,valid_loss",
        "metrics:2:train_loss,valid_loss",
        "status:Completed",
    ]
    assert all_events[0].metrics == {"train_loss": 2.0, "valid_loss": 2.0}
    remaining = await collect(
        job_events.events(port, job.name, after="metrics:1:train_loss,valid_loss")
    )
    assert [e.key for e in remaining] == ["metrics:2:train_loss,valid_loss", "status:Completed"]


async def test_missing_file_is_refused_before_sending(port: FakePort, tmp_path: Path) -> None:
    from maas_client.errors import DatasetError

    with pytest.raises(DatasetError, match="file not found"):
        await jobs.create(port, MODEL, tmp_path / "nothing.jsonl")
    with pytest.raises(DatasetError, match="is not a file: a folder"):
        await jobs.create(port, MODEL, tmp_path)
    assert port.sent == []


async def test_file_is_validated_uploaded_and_named(
    port: FakePort, fake_jobs: FakeJobs, tmp_path: Path
) -> None:
    FakeBlobs(port)
    port.on(
        "data_versions.create", lambda s: {"id": f"id/data/{s.path['name']}/versions/1", **s.body}
    )
    row = '{"messages": [{"role": "user", "content": "q%d"}, {"role": "assistant", "content": "a%d"}]}\n'
    path = tmp_path / "train.jsonl"
    path.write_text("".join(row % (i, i) for i in range(12)))
    job = await jobs.create(port, MODEL, str(path))
    assert job.training_data == "id/data/train/versions/1"


async def test_step_is_reported_when_complete(port: FakePort, fake_jobs: FakeJobs) -> None:
    job = await jobs.create(port, MODEL, DATA)
    fake_jobs.set_status(job.name, "Running")
    port.on(
        "metrics.list", {"value": [{"metricKey": {"name": "loss"}}, {"metricKey": {"name": "lr"}}]}
    )
    port.on(
        "metrics.values",
        lambda sent: {
            "value": [
                {"step": step, "data": {sent.body["metricName"]: 1.0}}
                # the second metric is asked for later, when one more step has been written
                for step in range(1, 4 if sent.body["metricName"] == "lr" else 3)
            ]
        },
    )
    running_events = await collect(job_events.events(port, job, follow=False))
    assert [e.step for e in running_events if e.type == "metrics"] == [1, 2]
    assert all(
        set(e.metrics) == {"train_loss", "learning_rate"} for e in running_events if e.metrics
    )
    fake_jobs.set_status(job.name, "Completed")
    final_events = await collect(job_events.events(port, job, follow=False))
    assert [e.step for e in final_events if e.type == "metrics"] == [1, 2, 3]


async def test_metrics_of_a_running_job_are_requested_once(
    port: FakePort, fake_jobs: FakeJobs
) -> None:
    job = await jobs.create(port, MODEL, DATA)
    fake_jobs.set_status(job.name, "Running")
    port.on("metrics.list", {"value": [{"metricKey": {"name": "loss"}}]})
    points = [
        {"step": n, "createdUtc": f"2026-11-24T00:00:{n:02}Z", "data": {"loss": 1.0}}
        for n in range(1, 9)
    ]
    count = 3

    def values(sent: Any) -> dict[str, Any]:
        since = sent.body.get("startTime", "")
        return {"value": [v for v in points[:count] if str(v["createdUtc"]) >= since]}

    port.on("metrics.values", values)
    first = await collect(job_events.events(port, job, follow=False))
    count = 8
    second = await collect(job_events.events(port, job, follow=False))
    assert [e.step for e in first if e.metrics] == [1, 2]
    assert [e.step for e in second if e.metrics] == [1, 2, 3, 4, 5, 6, 7]
    assert port.asked("metrics.values")[1].body["startTime"] == "2026-11-24T00:00:03Z"
    fake_jobs.set_status(job.name, "Completed")
    final_events = await collect(job_events.events(port, job))
    assert [e.step for e in final_events if e.metrics] == list(range(1, 9))
    assert "startTime" not in port.asked("metrics.values")[-1].body, "at the end everything is read"
