"""``delete_after`` on the local server, which deletes the deployment without any client."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve

MODEL = {"azureml": "Phi-3-mini", "foundry": "Ministral-3B"}


@pytest.fixture(params=["azureml", "foundry"])
def dialect(request: pytest.FixtureRequest) -> Any:
    return request.param


def wait_until_deleted(client: maas.Client, name: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            client.deployments.get(name)
        except maas.NotFoundError:
            return
        assert time.monotonic() < end, f"{name} is still there"
        time.sleep(0.02)


def test_server_deletes_the_deployment_in_time(server: LocalServer, dialect: Any) -> None:
    with server.client(dialect=dialect) as client:
        deployment = client.deployments.create("short", MODEL[dialect], delete_after=6)
        assert deployment.ready
        assert deployment.delete_at is not None
        assert client.deployments.get("short").delete_at == deployment.delete_at
        long_lived = client.deployments.create(
            "long", MODEL[dialect], delete_after=timedelta(days=1)
        )
        wait_until_deleted(client, "short")
        assert datetime.now(UTC) >= deployment.delete_at
        assert client.deployments.delete_overdue() == []
        client.deployments.delete(long_lived)


async def test_async_client_takes_the_same_arguments(server: LocalServer, dialect: Any) -> None:
    async with server.async_client(dialect=dialect) as client:
        deployment = await client.deployments.create("awaited", MODEL[dialect], delete_after="1h")
        assert deployment.delete_at is not None
        assert await client.deployments.delete_overdue(deployment) == []
        await client.deployments.delete(deployment)


def test_new_time_replaces_the_earlier_one(server: LocalServer, dialect: Any) -> None:
    with server.client(dialect=dialect) as client:
        first = client.deployments.create("again", MODEL[dialect], delete_after="2h")
        second = client.deployments.create("again", MODEL[dialect], delete_after=4)
        assert first.delete_at
        assert second.delete_at
        assert second.delete_at < first.delete_at
        wait_until_deleted(client, "again")


def test_deletion_time_survives_client_and_server(tmp_path: Path) -> None:
    with serve(engine="instant", state_dir=tmp_path) as server, server.client() as client:
        deployment = client.deployments.create("forgotten", "Phi-3-mini", delete_after=4)
    assert deployment.delete_at is not None
    while datetime.now(UTC) < deployment.delete_at:
        time.sleep(0.05)
    with serve(engine="instant", state_dir=tmp_path) as server, server.client() as client:
        wait_until_deleted(client, "forgotten")
