"""A program that mypy checks with the package (``files`` in pyproject.toml). It is never run.

It holds that the public API has the types its documentation says. ``warn_unused_ignores`` is on, so a line with
``type: ignore`` fails the check if the call on it becomes valid.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import assert_type

import maas_client as maas


def use_client(client: maas.Client, path: maas.StrPath) -> None:
    dataset = client.datasets.upload(path, progress=lambda sent, total: None)
    assert_type(dataset.report, maas.ValidationReport | None)
    assert_type(client.datasets.list(), Generator[maas.Dataset, None, None])
    job = client.jobs.create("Phi-4", dataset, method="LoRA", force_new=True, tags={"team": "a"})
    assert_type(job, maas.Job)
    client.jobs.create("Phi-4", dataset, force_now=True)  # type: ignore[call-arg]  # no such option
    client.jobs.create("Phi-4", dataset, method="lora")  # type: ignore[arg-type]  # no such method
    result = client.fine_tune(path, "Phi-4", deploy="tickets", max_billed_tokens=10_000)
    assert_type(result.deployment, maas.Deployment | None)
    lifetime: maas.Lifetime = "2h"
    with client.deployments.create("tickets", job, delete_after=lifetime) as deployment:
        messages: maas.Messages = [{"role": "user", "content": "Hello"}]
        assert_type(client.chat.complete(deployment, messages, seed=1), maas.ChatCompletion)
        client.chat.complete(deployment, messages, temprature=1)  # type: ignore[call-arg]  # a typo
    client.jobs.export(job, "kaito", places=maas.Places(input_pvc="data"))


async def use_async_client(client: maas.AsyncClient) -> None:
    assert_type(await client.jobs.get("job"), maas.Job)
    assert_type(client.jobs.list(), AsyncGenerator[maas.Job, None])
    async for event in client.jobs.events("job", after=None):
        assert_type(event, maas.JobEvent)


def use_local_server() -> None:
    with maas.local.serve(base="tiny") as server:
        assert_type(server, maas.local.LocalServer)
        assert_type(server.client(), maas.Client)
    assert_type(maas.Client.from_env(timeout=30), maas.Client)
    assert_type(maas.AsyncClient.local(), maas.AsyncClient)
