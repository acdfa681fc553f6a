"""``delete_after``: the tag that is sent, and what ``delete_overdue`` deletes."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from maas_client._client import AsyncDeployments, Deployments
from maas_client.errors import ConfigError, NotFoundError, ServiceError
from maas_client.flows import deployments
from maas_client.wire import parsing
from maas_client.wire.operation import Response
from tests.unit.fake_port import FakePort, Sent
from tests.unit.flows.fake_workspace import workspace
from tests.unit.flows.test_deployments import MODEL, endpoint, reply

PAST, FUTURE = "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


class Workspace(FakePort):
    """Endpoints in a dict."""

    def __init__(self, **deletion_times: str) -> None:
        super().__init__()
        workspace(self)
        self.endpoints = {
            name: tagged(name, delete_at) for name, delete_at in deletion_times.items()
        }
        self.on("endpoints.keys", {"primaryKey": "K1", "secondaryKey": "K2"})
        self.on("endpoints.get", lambda sent: self.find(sent))
        self.on("endpoints.list", lambda sent: {"value": list(self.endpoints.values())})
        self.on("endpoints.create", lambda sent: self.put(sent))
        self.on("endpoints.patch", lambda sent: self.find(sent).update(sent.body))
        self.on("endpoints.delete", lambda sent: self.endpoints.pop(sent.path["endpoint"], None))
        self.on("chat.complete", reply())

    def find(self, sent: Sent) -> dict[str, Any]:
        if sent.path["endpoint"] not in self.endpoints:
            raise NotFoundError("none", status=404)
        return self.endpoints[sent.path["endpoint"]]

    def put(self, sent: Sent) -> Response[Any]:
        name = sent.path["endpoint"]
        self.endpoints[name] = tagged(name, "") | {"tags": sent.body.get("tags", {})}
        return Response(self.endpoints[name], 200)


def tagged(name: str, delete_at: str) -> dict[str, Any]:
    tags = {"team": "support"} | ({parsing.DELETE_AT_TAG: delete_at} if delete_at else {})
    return endpoint() | {"name": name, "tags": tags}


@pytest.mark.parametrize(
    ("lifetime_value", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1d12h", 129600), ("1h30m5s", 5405), (" 45S ", 45), (60, 60),
     (0.5, 0.5), (timedelta(hours=1), 3600)],
)  # fmt: skip
def test_lifetime_as_text_number_and_timedelta(lifetime_value: Any, seconds: float) -> None:
    assert deployments.lifetime_seconds(lifetime_value) == seconds


@pytest.mark.parametrize(
    "lifetime_value", ["", "2", "h", "2h later", "-1h", "1.5h", "0s", "367d", 0, -5, float("nan"),
             float("inf"), timedelta(0), True, None, [60]],
)  # fmt: skip
def test_invalid_lifetime_is_refused(lifetime_value: Any) -> None:
    with pytest.raises(ConfigError, match="delete_after"):
        deployments.lifetime_seconds(lifetime_value)


@pytest.mark.parametrize(
    "tags",
    [None, {}, {parsing.DELETE_AT_TAG: "soon"},
     {parsing.DELETE_AT_TAG: "2026-01-01"}, ["x"], {parsing.DELETE_AT_TAG: 5}]
)  # fmt: skip
def test_invalid_delete_at_tag_is_ignored(tags: Any) -> None:
    assert parsing.read_delete_at(tags) is None


def test_delete_at_tag_round_trip() -> None:
    delete_at = datetime(2026, 11, 24, 10, 0, 0, 250_000, tzinfo=UTC)
    assert (
        parsing.read_delete_at({parsing.DELETE_AT_TAG: parsing.format_delete_at(delete_at)})
        == delete_at
    )


async def test_create_stores_the_deletion_time() -> None:
    port = Workspace()
    before = datetime.now(UTC).replace(microsecond=0)
    deployment = await deployments.create(port, "tickets", MODEL, delete_after="2h")
    assert deployment.delete_at is not None
    assert timedelta(0) <= deployment.delete_at - before - timedelta(hours=2) < timedelta(minutes=1)
    sent = port.asked("endpoints.create")[0].body
    assert parsing.read_delete_at(sent["tags"]) == deployment.delete_at
    await deployments.create(port, "bare", MODEL)
    assert "tags" not in port.asked("endpoints.create")[1].body


async def test_existing_deployment_gets_the_new_time_and_keeps_its_tags() -> None:
    port = Workspace(tickets=PAST)
    deployment = await deployments.create(port, "tickets", MODEL, delete_after=60)
    assert deployment.delete_at is not None
    assert deployment.delete_at > datetime.now(UTC)
    assert deployment.properties["team"] == "support"
    assert port.asked("endpoints.create") == []


async def test_invalid_lifetime_sends_nothing() -> None:
    port = Workspace()
    with pytest.raises(ConfigError):
        await deployments.create(port, "tickets", MODEL, delete_after="soon")
    assert port.sent == []


async def test_deployment_that_is_not_ready_before_its_deletion() -> None:
    port = Workspace()
    port.on("chat.complete", NotFoundError("there is no such endpoint", status=404))
    port.elapsed = lambda: datetime.now(UTC).timestamp()  # type: ignore[method-assign]  # real time
    with pytest.raises(ServiceError, match=r"did not answer before its deletion after 0\.2 s"):
        await deployments.create(port, "tickets", MODEL, delete_after=0.2)


async def test_delete_overdue_deletes_only_overdue_deployments() -> None:
    port = Workspace(old=PAST, young=FUTURE, plain="", odd="soon")
    deleted = await deployments.delete_overdue(port)
    assert [each.name for each in deleted] == ["old"]
    assert sorted(port.endpoints) == ["odd", "plain", "young"]
    assert await deployments.delete_overdue(port, "young") == []
    assert await deployments.delete_overdue(port) == []


async def test_delete_overdue_ignores_deployments_deleted_meanwhile() -> None:
    port = Workspace(old=PAST)
    port.on("endpoints.delete", NotFoundError("gone", status=404))
    assert len(await deployments.delete_overdue(port)) == 1


def test_client_starts_no_thread_for_delete_after() -> None:
    port = Workspace()
    threads = threading.enumerate()
    deployment = Deployments(port).create("tickets", MODEL, delete_after=0.3)
    assert deployment.delete_at is not None
    assert threading.enumerate() == threads


async def test_async_client_starts_no_task_for_delete_after() -> None:
    port = Workspace()
    tasks = asyncio.all_tasks()
    deployment = await AsyncDeployments(port).create("tickets", MODEL, delete_after=3600)
    assert deployment.delete_at is not None
    assert asyncio.all_tasks() == tasks
