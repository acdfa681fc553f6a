"""Serverless endpoints: a registered model that answers under a name, with keys of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from maas_client.errors import NotFoundError, ServiceError
from maas_client.flows import _pages, _ready, identifiers
from maas_client.flows._arm import wait_for_operation
from maas_client.flows._backend import DeploymentRequest
from maas_client.flows._io import IO
from maas_client.flows.azureml import models
from maas_client.flows.azureml.workspace import get_workspace
from maas_client.types import Deployment, Keys
from maas_client.wire import azureml as ops
from maas_client.wire import chat, lifetime
from maas_client.wire.azureml_models import Endpoint


async def create(io: IO, order: DeploymentRequest) -> Deployment:
    """Create the endpoint and return it once it has answered a request.

    An endpoint of this name with this model is returned as it is; with another, ``ConflictError``.
    """
    here, name = await get_workspace(io), order.name
    wanted = await _model_id(io, order.model)
    try:
        there = (await io.send(ops.ENDPOINT_GET, endpoint=name)).value
    except NotFoundError:
        there = None
    if there is None:
        body = {
            "location": here.location,
            "sku": {"name": "Consumption"},
            "properties": {"modelSettings": {"modelId": wanted}, "authMode": "Key"},
            **order.tags,
        }
        answer = await io.send(ops.ENDPOINT_CREATE, body, endpoint=name)
        await wait_for_operation(io, answer, operation="deployments.create")
    elif there.properties.model_settings.get("modelId") != wanted:
        raise _ready.name_conflict(name)
    elif order.delete_at:
        await _delete_at(io, name, order.delete_at)
    await _settled(io, name, order.ready_timeout_s)
    return (await get(io, name)).model_copy(update={"ready": True})


async def _model_id(io: IO, model: str) -> str:
    """Return the id as an endpoint wants it: a workspace asset with its version, a registry model
    without one ("always the latest", docs/azure-http.md section 3.2)."""
    if model.lower().startswith("azureml://registries/"):
        return model.split("/versions/")[0].split("/labels/")[0]
    if model.lower().startswith("azureml://"):
        return model
    return (await models.get(io, model)).id


async def _settled(io: IO, name: str, within_s: float) -> None:
    """Wait until ARM has made it, and then until it has answered with a token."""

    async def look() -> tuple[str, str | None]:
        held = (await io.send(ops.ENDPOINT_GET, endpoint=name)).value.properties
        return held.provisioning_state or "Unknown", held.endpoint_state

    async def ask() -> None:
        url, key = await endpoint_address(io, name)
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        await io.send(chat.CHAT_COMPLETE, body, base_url=url, key=key, deadline_s=300)

    await _ready.wait_until_provisioned(io, name, look, within_s)
    await _ready.wait_until_ready(io, ask, timeout_s=within_s)


async def _delete_at(io: IO, name: str, moment: datetime) -> None:
    """Write on an endpoint when it is to go; its other tags stay."""
    tags = (await io.send(ops.ENDPOINT_GET, endpoint=name)).value.tags
    body = {"tags": {**tags, lifetime.DELETE_AT_TAG: lifetime.format_delete_at(moment)}}
    answer = await io.send(ops.ENDPOINT_PATCH, body, endpoint=name)
    await wait_for_operation(io, answer, operation="deployments.create")


async def endpoint_address(io: IO, name: str, *, refresh: bool = False) -> tuple[str, str]:
    """Return where the deployment answers, and its key; looked up once per client."""
    slot = f"endpoint:{name}"
    held = io.scope.cache.get(slot)
    if isinstance(held, tuple) and not refresh:
        return held
    value = (await io.send(ops.ENDPOINT_GET, endpoint=name)).value
    url = (value.properties.inference_endpoint or {}).get("uri")
    if not url:
        raise ServiceError(
            f"deployment {name!r} has no address yet ({value.properties.provisioning_state})",
            operation="deployments.get",
        )
    key = (await io.send(ops.ENDPOINT_KEYS, endpoint=name)).value.primary_key
    io.scope.cache[slot] = (str(url), key)
    return str(url), key


async def get(io: IO, deployment: str) -> Deployment:
    """Return the deployment by name or ARM id."""
    name = identifiers.arm_name(deployment)
    return _noun((await io.send(ops.ENDPOINT_GET, endpoint=name)).value, name)


async def list_all(io: IO) -> AsyncGenerator[Deployment, None]:
    """Yield the workspace's serverless endpoints."""
    async for item in _pages.list_items(io, ops.ENDPOINT_LIST):
        yield _noun(Endpoint.model_validate(item), str(item.get("name")))


async def delete(io: IO, deployment: str) -> None:
    """Delete the deployment and wait until it is gone: its name is free and it costs nothing more."""
    name = identifiers.arm_name(deployment)
    io.scope.cache.pop(f"endpoint:{name}", None)
    # ARM answers 204 for what was never there: a mistyped name must not read as deleted.
    await io.send(ops.ENDPOINT_GET, endpoint=name)
    answer = await io.send(ops.ENDPOINT_DELETE, endpoint=name)
    await wait_for_operation(io, answer, operation="deployments.delete", timeout_s=1800)


async def keys(io: IO, deployment: str, regenerate: str | None) -> Keys:
    """Return both keys; ``regenerate`` (primary or secondary) makes that one new first."""
    name = identifiers.arm_name(deployment)
    if regenerate is not None:
        body = {"keyType": regenerate.capitalize()}
        answer = await io.send(ops.ENDPOINT_REGENERATE, body, endpoint=name)
        await wait_for_operation(io, answer, operation="deployments.keys", timeout_s=600)
        io.scope.cache.pop(f"endpoint:{name}", None)
    value = (await io.send(ops.ENDPOINT_KEYS, endpoint=name)).value
    return Keys(primary=SecretStr(value.primary_key), secondary=SecretStr(value.secondary_key))


def _noun(value: Endpoint, name: str) -> Deployment:
    held = value.properties
    url: Any = (held.inference_endpoint or {}).get("uri")
    state = held.provisioning_state or "Unknown"
    return Deployment(
        id=value.id or name,
        name=value.name or name,
        model=held.model_settings.get("modelId"),
        status=state,
        ready=state.lower() == "succeeded" and (held.endpoint_state or "").lower() == "online",
        url=url,
        delete_at=lifetime.read_delete_at(value.tags),
        properties=dict(value.tags),
        raw=value.dump(),
    )
