"""Every verb, through Client and AsyncClient, against the local server over a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embed import LocalServer
from maas_client.local.state.store import MetricPoint


async def listed(series: Any) -> list[Any]:
    return [item async for item in series]


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
    chunks = await listed(
        client.chat.stream("road", [{"role": "user", "content": "What is the colour of box 3?"}])
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == reply.choices[0].message.content
    again = await client.fine_tune(train, model="Phi-3-mini", deploy="road")
    assert again.job.attached
    assert again.dataset.already_there
    assert again.deployment.id == result.deployment.id
    await client.deployments.delete("road")


async def test_datasets(client: Any, train: Path) -> None:
    made = await client.datasets.upload(train, name="boxes")
    assert (await client.datasets.get(made)).uri == made.uri
    assert (await client.datasets.get("boxes")).version == made.version
    (told,) = [d for d in await listed(client.datasets.list()) if d.id == made.id]
    assert (told.bytes, told.sha256) == (made.bytes, made.sha256)
    await client.datasets.delete(made)
    with pytest.raises(maas.NotFoundError):
        await client.datasets.get(made.id)


async def test_jobs(client: Any, train: Path) -> None:
    job = await client.jobs.create(
        model="Phi-3-medium", training_data=train, hyperparameters={"epochs": 2}
    )
    assert not job.attached
    events = await listed(client.jobs.events(job))
    assert events[-1].key == "status:Completed"
    assert [e.step for e in events if e.type == "metrics"] == sorted(
        e.step for e in events if e.type == "metrics"
    )
    assert any("train_loss" in e.metrics for e in events)
    assert len({e.key for e in events}) == len(events)
    done = await client.jobs.wait(job.name, timeout=60)
    assert done.succeeded
    named = {j.name: j.fine_tuned_model for j in await listed(client.jobs.list())}
    assert named[done.name] == done.fine_tuned_model
    assert await client.jobs.logs(job)
    model = await client.models.get(done)
    assert model.job == job.name
    assert model.id == done.fine_tuned_model
    assert model.id in [m.id for m in await listed(client.models.list())]
    with pytest.raises(maas.UnsupportedError, match="foundry"):
        await listed(client.jobs.checkpoints(job))
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
    (own,) = [f.body["id"] for f in services.store.read.all("job") if f.body["name"] == job.name]
    at = [f"2100-01-01T00:00:00.{n:06}Z" for n in range(5)]
    points = [MetricPoint("train_loss", step, at[step - 70], 1.5) for step in (70, 72, 74)]
    told = [{"kind": "message", "message": m, "at": t} for m, t in (("b", at[1]), ("d", at[3]))]
    services.jobs.record_progress(own, points, told)
    events = await listed(client.jobs.events(job))
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
    made = await client.deployments.create(name="keyed", model=job)
    assert (await client.deployments.get("keyed")).model == job.fine_tuned_model
    assert "keyed" in [d.name for d in await listed(client.deployments.list())]
    keys = await client.deployments.keys(made)
    fresh = await client.deployments.keys(made, regenerate="primary")
    assert fresh.primary != keys.primary
    assert fresh.secondary == keys.secondary
    assert keys.primary.get_secret_value() not in repr((made, keys))
    answer = await client.chat.complete(made, [{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content, "a regenerated key is fetched again"
    with pytest.raises(maas.MaasError):
        await client.models.delete(job.fine_tuned_model)
    await client.deployments.delete(made)
    with pytest.raises(maas.NotFoundError):
        await client.deployments.get("keyed")


async def test_base_model_is_deployed_by_name(client: Any) -> None:
    made = await client.deployments.create(name="bare", model="Phi-3-mini")
    reply = await client.chat.complete(made, [{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content
    await client.deployments.delete(made)


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
        await listed(client.chat.stream("nobody", [{"role": "user", "content": "hi"}]))


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
    assert "bad" not in [d.name for d in await listed(client.datasets.list())]


async def test_large_file_is_uploaded_in_blocks(client: Any, tmp_path: Path) -> None:
    row = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "ok then."}]}\n'
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for i in range(2300):
            file.write(row % (f"{i} word " * 800))
    assert path.stat().st_size > 2 * 8 * 2**20
    told: list[tuple[int, int]] = []
    made = await client.datasets.upload(path, progress=lambda a, b: told.append((a, b)))
    assert made.sha256
    if not made.already_there:
        assert told[-1] == (path.stat().st_size, path.stat().st_size)


async def test_with_block_deletes_the_deployment(server: Any, train: Path) -> None:
    with server.client() as blocking:
        with blocking.deployments.create(name="gone", model="Phi-3-mini") as made:
            assert made.ready
        with pytest.raises(maas.NotFoundError):
            blocking.deployments.get("gone")
    async with server.async_client() as awaiting:
        async with await awaiting.deployments.create(name="gone", model="Phi-3-mini") as made:
            assert made.ready
        with pytest.raises(maas.NotFoundError):
            await awaiting.deployments.get("gone")


async def test_with_block_deletes_deployments_from_every_verb(server: Any, train: Path) -> None:
    with server.client() as blocking:
        with blocking.fine_tune(train, "Phi-3-mini", deploy="tuned").deployment as made:
            assert made.ready
        assert "tuned" not in [one.name for one in blocking.deployments.list()]
        for way in ("got", "listed"):
            made = blocking.deployments.create(way, "Phi-3-mini")
            again = next(one for one in blocking.deployments.list() if one.name == way)
            with blocking.deployments.get(way) if way == "got" else again:
                pass
            assert way not in [one.name for one in blocking.deployments.list()]
        with pytest.raises(maas.ConfigError, match="has no AsyncClient"):
            async with made:
                pass
    async with server.async_client() as awaiting:
        result = await awaiting.fine_tune(train, "Phi-3-mini", deploy="tuned")
        async with result.deployment as made:
            assert made.ready
        assert "tuned" not in [one.name async for one in awaiting.deployments.list()]
        with pytest.raises(maas.ConfigError, match="has no Client"), made:
            pass


async def test_sync_client_works_inside_a_running_event_loop(server: Any) -> None:
    with server.client() as blocking:
        assert blocking.models.list() is not None
        assert list(blocking.jobs.list()) is not None
