"""``delete_after`` on the local server: the server holds the moment, whoever has died."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embed import LocalServer, serve

MODEL = {"azureml": "Phi-3-mini", "foundry": "Ministral-3B"}


@pytest.fixture(params=["azureml", "foundry"])
def dialect(request: pytest.FixtureRequest) -> Any:
    return request.param


def until_gone(client: maas.Client, name: str, seconds: float = 60) -> None:
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
        made = client.deployments.create("short", MODEL[dialect], delete_after=6)
        assert made.ready
        assert made.delete_at is not None
        assert client.deployments.get("short").delete_at == made.delete_at
        kept = client.deployments.create("long", MODEL[dialect], delete_after=timedelta(days=1))
        until_gone(client, "short")
        assert datetime.now(UTC) >= made.delete_at
        assert client.deployments.delete_overdue() == []
        client.deployments.delete(kept)


async def test_async_client_takes_the_same_arguments(server: LocalServer, dialect: Any) -> None:
    async with server.async_client(dialect=dialect) as client:
        made = await client.deployments.create("awaited", MODEL[dialect], delete_after="1h")
        assert made.delete_at is not None
        assert await client.deployments.delete_overdue(made) == []
        await client.deployments.delete(made)


def test_new_time_replaces_the_earlier_one(server: LocalServer, dialect: Any) -> None:
    with server.client(dialect=dialect) as client:
        first = client.deployments.create("again", MODEL[dialect], delete_after="2h")
        second = client.deployments.create("again", MODEL[dialect], delete_after=4)
        assert first.delete_at
        assert second.delete_at
        assert second.delete_at < first.delete_at
        until_gone(client, "again")


def test_deletion_time_survives_client_and_server(tmp_path: Path) -> None:
    with serve(engine="instant", state_dir=tmp_path) as server, server.client() as client:
        made = client.deployments.create("forgotten", "Phi-3-mini", delete_after=4)
    assert made.delete_at is not None
    while datetime.now(UTC) < made.delete_at:
        time.sleep(0.05)
    with serve(engine="instant", state_dir=tmp_path) as server, server.client() as client:
        until_gone(client, "forgotten")
