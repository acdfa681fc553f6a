"""The deployment store, which serves serverless endpoints and Foundry deployments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from maas_client.local.resources.assets import FOUNDRY_SCOPE, Assets, Workspace
from maas_client.local.resources.deployments import Deployments, served_model
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_deployments import get_ready, put_deployment
from maas_client.local.resources.serverless_endpoints import put_endpoint
from maas_client.local.state.store import Store
from maas_client.wire.parsing import DELETE_AT_TAG, format_delete_at

WORKSPACE = Workspace("s", "g", "w")
OTHER_WORKSPACE = Workspace("s", "g", "w2")


@pytest.fixture
def deployments(tmp_path: Path) -> Iterator[Deployments]:
    store = Store(tmp_path / "facts.db", durable=False)
    yield Deployments(store, lambda model: {"name": "tiny", "model": model})
    store.close()


def endpoint_request(model: str, tags: dict[str, str] | None = None) -> dict[str, Any]:
    model_id = f"azureml://registries/azureml/models/{model}"
    return {"tags": tags or {}, "properties": {"modelSettings": {"modelId": model_id}}}


def foundry_request(model: str, tags: dict[str, str] | None = None) -> dict[str, Any]:
    return {"tags": tags or {}, "properties": {"model": {"name": model, "format": "Microsoft"}}}


def put(
    deployments: Deployments,
    dialect: str,
    model: str = "Phi-4",
    *,
    name: str = "tickets",
    tags: dict[str, str] | None = None,
) -> tuple[str, str | None]:
    """Create a deployment; return its scope and operation."""
    if dialect == "foundry":
        request = foundry_request(model, tags)
        return FOUNDRY_SCOPE, put_deployment(deployments, name, request)[1]
    assets = Assets(deployments.store, "eastus2")
    request = endpoint_request(model, tags)
    return WORKSPACE.guid, put_endpoint(deployments, assets, WORKSPACE, name, request)[1]


both_dialects = pytest.mark.parametrize("dialect", ["azureml", "foundry"])


@both_dialects
def test_second_put_updates_the_request_and_has_no_operation(
    deployments: Deployments, dialect: str
) -> None:
    scope, operation = put(deployments, dialect)
    assert operation is not None
    assert deployments.get_operation(operation).state == "InProgress"
    assert put(deployments, dialect, name="TICKETS", tags={"a": "b"}) == (scope, None)
    record = deployments.get(scope, "Tickets")
    assert record.body["request"]["tags"] == {"a": "b"}
    assert served_model(record).model == "Phi-4"
    assert [r.key for r in deployments.list_page(scope, None, 9)] == ["tickets"]


@both_dialects
def test_put_with_another_model_is_a_conflict(deployments: Deployments, dialect: str) -> None:
    put(deployments, dialect)
    with pytest.raises(ApiError, match="exists with another model") as error:
        put(deployments, dialect, "Phi-4-mini-instruct")
    assert error.value.status == 409
    assert error.value.code == ("Conflict" if dialect == "foundry" else "UserError")


@both_dialects
def test_provisioning_ends_the_operation(deployments: Deployments, dialect: str) -> None:
    scope, operation = put(deployments, dialect)
    assert deployments.list_creating() == [(scope, "tickets")]
    deployments.finish_provisioning(scope, "tickets", "no memory")
    assert deployments.list_creating() == []
    record = deployments.get_operation(str(operation))
    assert (record.state, record.body["error"]["message"]) == ("Failed", "no memory")
    deployments.finish_provisioning(scope, "tickets", None)  # it ended before
    assert deployments.get(scope, "tickets").state == "Failed"


@both_dialects
def test_delete_returns_a_finished_operation(deployments: Deployments, dialect: str) -> None:
    scope, _ = put(deployments, dialect)
    deleted = deployments.delete(scope, "tickets")
    assert deleted is not None
    assert deployments.get_operation(deleted[1]).state == "Succeeded"
    assert deployments.delete(scope, "tickets") is None
    with pytest.raises(ApiError, match="tickets was not found"):
        deployments.get(scope, "tickets")


@both_dialects
def test_expired_deployments_are_deleted(deployments: Deployments, dialect: str) -> None:
    now = datetime.now(UTC)
    later = now + timedelta(hours=1)
    for name, moment in (("expired", now), ("later", later)):
        put(deployments, dialect, name=name, tags={DELETE_AT_TAG: format_delete_at(moment)})
    scope, _ = put(deployments, dialect, name="permanent")
    deleted, following = deployments.delete_expired(now + timedelta(minutes=1))
    assert [record.key for record in deleted] == ["expired"]
    assert following is not None
    assert abs((following - later).total_seconds()) < 1
    assert [r.key for r in deployments.list_page(scope, None, 9)] == ["permanent", "later"]


def test_only_endpoints_have_a_host_label_and_keys(deployments: Deployments) -> None:
    assets = Assets(deployments.store, "eastus2")
    request = endpoint_request("Phi-4")
    first, _ = put_endpoint(deployments, assets, WORKSPACE, "tickets", request)
    second, _ = put_endpoint(deployments, assets, OTHER_WORKSPACE, "tickets", request)
    assert first.body["label"] == "tickets"
    assert second.body["label"].startswith("tickets-")
    by_label = deployments.find_by_label(second.body["label"].upper())
    assert by_label is not None
    assert by_label.body["scope"] == OTHER_WORKSPACE.guid
    old_keys = first.body["keys"]
    new_keys = deployments.regenerate_key(WORKSPACE.guid, "tickets", "Secondary").body["keys"]
    assert new_keys[0] == old_keys[0]
    assert new_keys[1] != old_keys[1]
    scope, _ = put(deployments, "foundry")
    record = deployments.get(scope, "tickets")
    assert (record.body["label"], record.body["keys"]) == ("", [])


def test_chat_is_refused_until_the_deployment_is_ready(deployments: Deployments) -> None:
    put(deployments, "azureml")
    put(deployments, "foundry")
    with pytest.raises(ApiError, match="The endpoint tickets is not ready yet"):
        deployments.get_by_label("tickets")
    with pytest.raises(ApiError, match="The deployment tickets is not ready yet"):
        get_ready(deployments, "tickets")
    for scope, key in deployments.list_creating():
        deployments.finish_provisioning(scope, key, None)
    assert deployments.get_by_label("tickets").key == get_ready(deployments, "tickets").key
    with pytest.raises(ApiError, match="There is no endpoint"):
        deployments.get_by_label("unknown")
    with pytest.raises(ApiError, match="does not exist"):
        get_ready(deployments, "unknown")
