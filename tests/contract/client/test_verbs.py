"""Every verb, through Client and AsyncClient, against the local server over a socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.dataset.rows import read_rows
from maas_client.local.embedded_server import LocalServer
from maas_client.local.state.store import MetricPoint


async def collect(values: Any) -> list[Any]:
    return [item async for item in values]


async def test_fine_tune_deploy_and_chat(client: Any, train: Path) -> None:
    result = await client.fine_tune(train, model="Phi-3-mini", deploy="road")
    assert result.report.ok
    assert result.job.succeeded
    assert result.job.status == "Completed"
    assert result.job.fine_tuned_model.startswith("azureml://locations/")
    assert result.deployment.ready
    reply = await client.chat.complete(
        result.deployment, [{"role": "user", "content": "What is the colour of box 3?"}]
    )
    assert "black" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    chunks = await collect(
        client.chat.stream("road", [{"role": "user", "content": "What is the colour of box 3?"}])
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == reply.choices[0].message.content
    again = await client.fine_tune(train, model="Phi-3-mini", deploy="road")
    assert again.job.attached
    assert again.dataset.attached
    assert again.deployment.id == result.deployment.id
    await client.deployments.delete("road")


async def test_what_the_instant_engine_simulated_says_so(client: Any, train: Path) -> None:
    result = await client.fine_tune(train, model="Phi-3-mini", deploy="marked")
    for value in (result, result.job, result.deployment):
        assert "simulated=True" in repr(value)
    assert "simulated" not in repr(result.dataset)
    found = [
        *[job async for job in client.jobs.list()],
        *[model async for model in client.models.list()],
        *[deployment async for deployment in client.deployments.list()],
        await client.models.get(result.job.fine_tuned_model),
    ]
    assert {type(each).__name__ for each in found} == {"Job", "Model", "Deployment"}
    assert all(each.simulated and "simulated=True" in repr(each) for each in found)
    await client.deployments.delete("marked")


async def test_foundry_says_under_which_name_a_file_is_stored(
    server: LocalServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"q{i}"},
                {"role": "assistant", "content": f"a{i}"},
            ]
        }
        for i in range(12)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with maas.Client.local(url=server.url, dialect="foundry") as client:
        first = client.datasets.upload(path, name="v1.0", ignore=("SERVICE_*", "QUALITY_*"))
        assert (first.name, client.datasets.get("v1.0").id, caplog.messages) == (
            "v1.0",
            first.id,
            [],
        )
        again = client.datasets.upload(path, name="other", ignore=("SERVICE_*", "QUALITY_*"))
    assert (again.id, again.name) == (first.id, "v1.0")
    assert "x.jsonl is stored under the name v1.0, not other" in caplog.text


async def test_datasets(client: Any, train: Path) -> None:
    deployment = await client.datasets.upload(train, name="boxes")
    assert (await client.datasets.get(deployment)).uri == deployment.uri
    assert (await client.datasets.get("boxes")).version == deployment.version
    (progress,) = [d for d in await collect(client.datasets.list()) if d.id == deployment.id]
    assert (progress.bytes, progress.sha256) == (deployment.bytes, deployment.sha256)
    await client.datasets.delete(deployment)
    with pytest.raises(maas.NotFoundError):
        await client.datasets.get(deployment.id)


async def test_jobs(client: Any, train: Path) -> None:
    job = await client.jobs.create(
        model="Phi-3-medium", training_data=train, hyperparameters={"epochs": 2}
    )
    assert not job.attached
    events = await collect(client.jobs.events(job))
    assert events[-1].key == "status:Completed"
    assert [e.step for e in events if e.type == "metrics"] == sorted(
        e.step for e in events if e.type == "metrics"
    )
    assert any("train_loss" in e.metrics for e in events)
    assert len({e.key for e in events}) == len(events)
    done = await client.jobs.wait(job.name, timeout=60)
    assert done.succeeded
    named = {j.name: j.fine_tuned_model for j in await collect(client.jobs.list())}
    assert named[done.name] == done.fine_tuned_model
    assert await client.jobs.logs(job)
    model = await client.models.get(done)
    assert model.job == job.name
    assert model.id == done.fine_tuned_model
    assert model.id in [m.id for m in await collect(client.models.list())]
    [checkpoint, *_] = await collect(client.jobs.checkpoints(job))
    assert checkpoint.step == int(done.properties["maas_client.steps"])
    assert checkpoint.metrics["train_loss"] > 0
    assert checkpoint.fine_tuned_model is None
    assert checkpoint.created_at is not None
    await client.jobs.delete(job)
    with pytest.raises(maas.NotFoundError):
        await client.jobs.get(job)
    await client.models.delete(model)


async def test_events_of_a_finished_job_are_in_order(
    client: Any, server: LocalServer, train: Path
) -> None:
    job = await client.jobs.create(model="Phi-4", training_data=train, name=f"story-{id(client)}")
    await client.jobs.wait(job)
    services = server._server.services
    (job_id,) = [f.body["id"] for f in services.store.read.all("job") if f.body["name"] == job.name]
    at = [f"2100-01-01T00:00:00.{n:06}Z" for n in range(5)]
    points = [MetricPoint("train_loss", step, at[step - 70], 1.5) for step in (70, 72, 74)]
    progress = [{"kind": "message", "message": m, "at": t} for m, t in (("b", at[1]), ("d", at[3]))]
    services.jobs.record_progress(job_id, points, progress)
    events = await collect(client.jobs.events(job))
    seen = [e.step or e.message for e in events if e.message in ("b", "d") or (e.step or 0) >= 70]
    assert seen == [70, "b", 72, "d", 74]


async def test_ended_job_cannot_be_paused(client: Any, train: Path) -> None:
    job = await client.jobs.create(model="Phi-3-mini-128k", training_data=train)
    await client.jobs.wait(job, timeout=60)
    with pytest.raises(maas.MaasError, match="Only a running job can be paused: it is Completed"):
        await client.jobs.pause(job)
    with pytest.raises(maas.MaasError, match="Only a paused job can be resumed"):
        await client.jobs.resume(job)


async def test_deployments_and_keys(client: Any, train: Path) -> None:
    job = await client.jobs.create(model="Phi-3-small", training_data=train)
    job = await client.jobs.wait(job, timeout=60)
    deployment = await client.deployments.create(name="keyed", model=job)
    assert (await client.deployments.get("keyed")).model == job.fine_tuned_model
    assert "keyed" in [d.name for d in await collect(client.deployments.list())]
    keys = await client.deployments.keys(deployment)
    new_keys = await client.deployments.keys(deployment, regenerate="primary")
    assert new_keys.primary != keys.primary
    assert new_keys.secondary == keys.secondary
    assert keys.primary.get_secret_value() not in repr((deployment, keys))
    reply = await client.chat.complete(deployment, [{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content, "a regenerated key is fetched again"
    with pytest.raises(maas.MaasError):
        await client.models.delete(job.fine_tuned_model)
    await client.deployments.delete(deployment)
    with pytest.raises(maas.NotFoundError):
        await client.deployments.get("keyed")


async def test_base_model_is_deployed_by_name(client: Any) -> None:
    deployment = await client.deployments.create(name="bare", model="Phi-3-mini")
    reply = await client.chat.complete(deployment, [{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content
    await client.deployments.delete(deployment)


async def test_missing_resources_are_not_found(client: Any) -> None:
    for call in (
        client.jobs.get("nobody"),
        client.jobs.cancel("nobody"),
        client.jobs.logs("nobody"),
        client.models.get("nobody"),
        client.datasets.get("nobody"),
        client.deployments.get("nobody"),
        client.deployments.keys("nobody"),
        client.chat.complete("nobody", [{"role": "user", "content": "hi"}]),
        client.deployments.create(name="x", model="nobody"),
    ):
        with pytest.raises(maas.NotFoundError) as caught:
            await call
        assert caught.value.status == 404
    with pytest.raises(maas.NotFoundError):
        await collect(client.chat.stream("nobody", [{"role": "user", "content": "hi"}]))


async def test_invalid_file_is_not_uploaded(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"messages": [{"role": "wizard", "content": "x"}]}\n{"messages": \n')
    for call in (
        client.datasets.upload(path),
        client.jobs.create(model="Phi-3-mini", training_data=path),
        client.fine_tune(path, model="Phi-3-mini"),
    ):
        with pytest.raises(maas.DatasetError) as caught:
            await call
        assert {p.line for p in caught.value.report.errors} >= {1, 2}
    assert "bad" not in [d.name for d in await collect(client.datasets.list())]


async def test_fine_tune_takes_rows(client: Any, train: Path) -> None:
    rows = [row for _, row in read_rows(train)]
    result = await client.fine_tune(iter(rows), model="Phi-3-mini", validation_data=rows[:10])
    assert result.job.succeeded
    assert result.dataset.sha256 == result.report.files[0].sha256
    assert result.report.files[0].examples == len(rows)
    assert result.report.files[1].examples == 10


async def test_large_file_is_uploaded_in_blocks(client: Any, tmp_path: Path) -> None:
    row = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "ok then."}]}\n'
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for i in range(2300):
            file.write(row % (f"{i} word " * 800))
    assert path.stat().st_size > 2 * 8 * 2**20
    progress: list[tuple[int, int]] = []
    deployment = await client.datasets.upload(path, progress=lambda a, b: progress.append((a, b)))
    assert deployment.sha256
    if not deployment.attached:
        assert progress[-1] == (path.stat().st_size, path.stat().st_size)


async def test_with_block_deletes_the_deployment(server: Any, train: Path) -> None:
    with server.client() as sync_client:
        with sync_client.deployments.create(name="gone", model="Phi-3-mini") as deployment:
            assert deployment.ready
        with pytest.raises(maas.NotFoundError):
            sync_client.deployments.get("gone")
    async with server.async_client() as async_client:
        async with await async_client.deployments.create(
            name="gone", model="Phi-3-mini"
        ) as deployment:
            assert deployment.ready
        with pytest.raises(maas.NotFoundError):
            await async_client.deployments.get("gone")


async def test_with_block_deletes_deployments_from_every_verb(server: Any, train: Path) -> None:
    with server.client() as sync_client:
        with sync_client.fine_tune(train, "Phi-3-mini", deploy="tuned").deployment as deployment:
            assert deployment.ready
        assert "tuned" not in [deployment_.name for deployment_ in sync_client.deployments.list()]
        for name in ("got", "listed"):
            deployment = sync_client.deployments.create(name, "Phi-3-mini")
            again = next(
                deployment_
                for deployment_ in sync_client.deployments.list()
                if deployment_.name == name
            )
            with sync_client.deployments.get(name) if name == "got" else again:
                pass
            assert name not in [deployment_.name for deployment_ in sync_client.deployments.list()]
        with pytest.raises(maas.ConfigError, match="has no AsyncClient"):
            async with deployment:
                pass
    async with server.async_client() as async_client:
        result = await async_client.fine_tune(train, "Phi-3-mini", deploy="tuned")
        async with result.deployment as deployment:
            assert deployment.ready
        assert "tuned" not in [
            deployment_.name async for deployment_ in async_client.deployments.list()
        ]
        with pytest.raises(maas.ConfigError, match="has no Client"), deployment:
            pass


async def test_sync_client_works_inside_a_running_event_loop(server: Any) -> None:
    with server.client() as sync_client:
        assert sync_client.models.list() is not None
        assert list(sync_client.jobs.list()) is not None


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_a_job_stands_for_its_model(server: LocalServer, train: Path, dialect: Any) -> None:
    client = server.client(dialect=dialect)
    early = client.jobs.create("Phi-4", train, name=f"stands-{dialect}")
    assert early.fine_tuned_model is None  # the object from before its end is looked up
    done = client.jobs.wait(early)
    assert client.models.get(early).id == client.models.get(done).id
    assert client.models.get(done.name).id == client.models.get(done).id
    for number, model in enumerate((done.name, early, done.id)):
        deployment = client.deployments.create(f"stands-{dialect}-{number}", model)
        assert deployment.model == done.fine_tuned_model
    for unknown in ("no-such-model", "ftjob-0", "a b"):
        with pytest.raises(maas.MaasError) as caught:
            client.deployments.create("unknown", unknown)
        assert isinstance(
            caught.value, maas.NotFoundError | maas.BadRequestError | maas.ConfigError
        )


def test_a_job_without_a_model_is_named(server: LocalServer, train: Path) -> None:
    client = server.client()
    job = client.jobs.create("Phi-4", train, name="no-model", hyperparameters={"epochs": 900})
    client.jobs.cancel(job)
    ended = client.jobs.wait(job, raise_on_failure=False)
    assert ended.status == "Canceled"
    for model in (job, ended, job.name):
        with pytest.raises(maas.ConfigError, match="no-model has no model: its status is Canceled"):
            client.deployments.create("p1", model)
