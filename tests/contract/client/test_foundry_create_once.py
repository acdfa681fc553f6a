"""Against a server over a socket: answers that are lost after the server has acted make nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import maas_client as maas
from maas_client.local import serve
from maas_client.local.embedded_server import LocalServer
from tests.contract.server.conftest import PLAIN_HTTP


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as running:
        yield running


@pytest.fixture
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of this test's own: the server is shared."""
    name = request.node.name
    rows = [
        {"messages": [{"role": "user", "content": f"{name} {i}?"}, {"role": "assistant", "content": f"{i}!"}]}
        for i in range(12)
    ]  # fmt: skip
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    return path


class Lossy(httpx.BaseTransport):
    """Loses the answer of the first POSTs to a path, after the server has seen the request whole."""

    def __init__(self, path: str, times: int, status: int | None) -> None:
        self._inner = httpx.HTTPTransport()
        self._path, self._times, self._status = path, times, status
        self.lost = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._inner.handle_request(request)
        hit = request.method == "POST" and request.url.path == self._path
        if not hit or self.lost >= self._times:
            return answer
        answer.read()
        self.lost += 1
        if self._status is None:
            raise httpx.ReadError("the connection broke")
        return httpx.Response(self._status, request=request)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize("status", [None, 502])
@pytest.mark.parametrize("path", ["/openai/v1/files", "/openai/v1/fine_tuning/jobs"])
def test_a_lost_answer_makes_nothing_twice(
    server: LocalServer, data: Path, path: str, status: int | None
) -> None:
    with server.client(dialect="foundry") as plain:
        before = len(list(plain.datasets.list())), len(list(plain.jobs.list()))
        wire = Lossy(path, 1, status)
        with (
            httpx.Client(transport=wire) as http,
            server.client(dialect="foundry", http=http) as client,
        ):
            job = client.jobs.create(model="Ministral-3B", training_data=data)
        assert wire.lost == 1
        after = len(list(plain.datasets.list())), len(list(plain.jobs.list()))
        assert after == (before[0] + 1, before[1] + 1)
        assert plain.jobs.wait(job).succeeded


def test_a_program_that_runs_again_finds_all_of_it(server: LocalServer, data: Path) -> None:
    results = []
    for _ in range(2):
        with server.client(dialect="foundry") as client:
            results.append(client.fine_tune(data, model="Qwen3-32B", deploy="again"))
    first, second = results
    assert second.dataset.id == first.dataset.id
    assert second.job.id == first.job.id
    assert second.job.attached
    assert second.deployment is not None
    with server.client(dialect="foundry") as client:
        second_job = client.jobs.create(
            model="Qwen3-32B", training_data=data, hyperparameters=maas.Hyperparameters(epochs=2)
        )
        assert second_job.id != first.job.id


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize("model", ["gpt-4.1-mini", "Qwen-32B", "CXRReportgen-Premium"])
def test_every_model_of_foundry_runs_on_a_stand_in(
    server: LocalServer, data: Path, dialect: Any, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    with server.client(dialect=dialect) as client:
        result = client.fine_tune(data, model=model, deploy=f"{model[:3]}-{dialect}")
        assert result.job.properties["maas_client.base"] == "instant"
        assert result.job.model == ("Qwen3-32B" if model == "Qwen-32B" else model)
        assert ("Qwen-32B is a former name" in caplog.text) == (model == "Qwen-32B")
        with client.deployments.create(f"{model[:3]}-{dialect}-base", model) as base:
            assert base.ready


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_training_on_preferences(server: LocalServer, tmp_path: Path, dialect: Any) -> None:
    rows = [
        {
            "input": {"messages": [{"role": "user", "content": f"What is {n} plus {n}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"It is {2 * n}."}],
            "non_preferred_output": [{"role": "assistant", "content": f"I do not know {dialect}."}],
        }
        for n in range(12)
    ]
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with server.client(dialect=dialect) as client:
        result = client.fine_tune(
            path, model="Phi-4-mini-instruct", method="DPO", beta=0.2, deploy=f"dpo-{dialect}"
        )
        assert float(result.job.hyperparameters["beta"]) == 0.2
        metrics = [event.metrics for event in client.jobs.events(result.job) if event.metrics]
        assert all(
            {"train_reward_accuracy", "train_reward_margin"} <= each.keys() for each in metrics
        )
        reply = client.chat.complete(
            f"dpo-{dialect}", [{"role": "user", "content": "What is 3 plus 3?"}]
        )
        assert reply.choices[0].message.content == "It is 6."
        dataset = client.datasets.upload(path, method="DPO")
        again = client.jobs.create("Phi-4-mini-instruct", dataset, method="DPO", beta=0.2)
        assert again.attached
        with pytest.raises(maas.DatasetError):
            client.jobs.create("Phi-4-mini-instruct", path)
        del rows[3]["non_preferred_output"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(maas.DatasetError) as caught:
            client.jobs.create("Phi-4-mini-instruct", path, method="DPO")
        assert caught.value.report is not None
        assert caught.value.report.errors[0].code == "CHAT_PREFERENCE_MISSING"
        assert caught.value.report.errors[0].line == 4


def test_sku_and_capacity_of_a_deployment_are_kept(server: LocalServer, data: Path) -> None:
    with server.client(dialect="foundry") as client:
        result = client.fine_tune(
            data,
            model="gpt-4.1-nano",
            training_type="Developer",
            deploy="sku",
            sku="DataZoneStandard",
            capacity=7,
        )
        deployment = client.deployments.get("sku")
        assert deployment.properties["sku"] == {"name": "DataZoneStandard", "capacity": 7}
        with pytest.raises(maas.ConflictError, match="capacity 7, not 8"):
            client.deployments.create("sku", result.job, capacity=8)
        with pytest.raises(maas.UnsupportedError, match="do not deploy with SKU"):
            client.fine_tune(data, model="gpt-5", deploy="sku-2", sku="GlobalStandard")
        with pytest.raises(maas.ConfigError, match="nothing is deployed"):
            client.fine_tune(data, model="gpt-4.1-nano", sku="GlobalStandard")
    with server.client() as client:
        with pytest.raises(maas.UnsupportedError, match="one SKU Consumption"):
            client.deployments.create("sku", "Phi-4-mini-instruct", sku="Standard")
        with pytest.raises(maas.UnsupportedError, match="no field for the training type"):
            client.jobs.create("Phi-4-mini-instruct", data, training_type="Standard")


async def test_two_at_once_end_with_one(server: LocalServer, data: Path) -> None:
    import asyncio

    async def create_job() -> maas.Job:
        async with server.async_client(dialect="foundry") as client:
            return await client.jobs.create(model="gpt-oss-20b", training_data=data)

    jobs = await asyncio.gather(*(create_job() for _ in range(6)))
    with server.client(dialect="foundry") as client:
        names = {job.name for job in jobs}
        assert len(names) == 1
        active = [j for j in client.jobs.list() if j.name in names and j.status != "cancelled"]
        assert len(active) == 1
        assert client.jobs.wait(active[0]).succeeded


def test_a_large_file_goes_in_parts_and_comes_back(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maas_client.flows.foundry import multipart_upload

    monkeypatch.setattr(multipart_upload, "PART_BYTES", 1 << 20)
    rows = [{"role": "user", "content": "x" * 2000}, {"role": "assistant", "content": "y"}]
    path = tmp_path / "large.jsonl"
    path.write_text((json.dumps({"messages": rows}) + "\n") * 2000, "utf-8")
    low = {"upload_threshold_bytes": 1 << 20}
    override = {"source": "this test", "as_of": "2026-11-24", "limits": {"foundry": low}}
    (tmp_path / "catalog.json").write_text(json.dumps(override))
    monkeypatch.setenv("MAAS_CATALOG", str(tmp_path / "catalog.json"))
    sent_bytes: list[int] = []
    with server.client(dialect="foundry") as client:
        dataset = client.datasets.upload(
            path,
            ignore=("QUALITY_*", "SERVICE_*"),
            progress=lambda done, of: sent_bytes.append(done),
        )
    assert max(sent_bytes) == dataset.bytes == path.stat().st_size
    assert len(sent_bytes) > 3
    url = f"{server.url}/openai/v1/files/{dataset.id}/content"
    assert httpx.get(url, headers={"api-key": "k"}, **PLAIN_HTTP).content == path.read_bytes()
