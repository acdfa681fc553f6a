"""Serverless endpoints: deploy a registered model, chat with it, read its keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from pydantic import SecretStr

from maas_client import catalog
from maas_client._messages import Argument, Constructor, Text
from maas_client._secret import Secret
from maas_client.errors import AuthError, NotFoundError, ServiceError, UnsupportedError
from maas_client.flows import _arm
from maas_client.flows._create_once import create_once, name_conflict, unknown_deployment_hint
from maas_client.flows._io import IO
from maas_client.flows._requests import ChatRequest, DeploymentRequest, catalog_override
from maas_client.flows.azureml import models
from maas_client.flows.azureml.workspace import get_workspace
from maas_client.flows.identifiers import arm_name
from maas_client.types import ChatChunk, ChatCompletion, Deployment, Keys
from maas_client.wire import azureml as ops
from maas_client.wire import chat, parsing, statuses
from maas_client.wire.azureml_models import Endpoint
from maas_client.wire.operation import Response
from maas_client.wire.parsing import parse_item, translate_parse_errors

_OPERATIONS = _arm.DeploymentOperations(
    ops.ENDPOINT_GET, ops.ENDPOINT_PATCH, ops.ENDPOINT_DELETE, "endpoint"
)
CHAT_TIMEOUT_S = 600.0
"""Time for a complete answer, which takes long on a small machine."""


def check_request(io: IO, request: DeploymentRequest) -> None:
    """Raise for what serverless endpoints do not have."""
    for name in ("sku", "capacity"):
        if getattr(request, name) is not None:
            raise UnsupportedError(
                Text.format(
                    "serverless endpoints of azureml have the one SKU Consumption and no capacity: {} "
                    "cannot be chosen",
                    Argument(name),
                ),
                hint=Text.format(
                    "Leave out {}. {} supports it.", Argument(name), Constructor("foundry")
                ),
            )


async def create(io: IO, request: DeploymentRequest) -> Deployment:
    """Create the endpoint and return it once it has answered a request.

    An endpoint with this name and model is returned as it is. Raises ``ConflictError`` if it has another
    model.
    """
    workspace, name = await get_workspace(io), request.name
    model_id = await _endpoint_model_id(io, request.model)
    existing = await _find(io, name, model_id)
    response = existing
    if response is None:
        body = {
            "location": workspace.location,
            "sku": {"name": "Consumption"},
            "properties": {"modelSettings": {"modelId": model_id}, "authMode": "Key"},
            **request.tags,
        }
        response = await create_once(
            io,
            lambda: io.send(ops.ENDPOINT_CREATE, body, endpoint=name),
            lambda: _find(io, name, model_id),
            operation="deployments.create",
            hint=lambda: unknown_deployment_hint(name),
        )
    if existing is None:
        await _arm.wait_for_operation(io, response, operation="deployments.create")
    elif request.delete_at:
        await _arm.set_delete_at(io, _OPERATIONS, name, request.delete_at)

    async def probe() -> None:
        url, key = await endpoint_address(io, name)
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        await io.send(chat.CHAT_COMPLETE, body, base_url=url, key=key, deadline_s=300)

    await _arm.wait_until_answering(io, _OPERATIONS, name, probe, timeout_s=request.ready_timeout_s)
    return (await get(io, name)).model_copy(update={"ready": True})


async def _find(io: IO, name: str, model: str) -> Response[Endpoint] | None:
    """Return the deployment, if it exists. Raises ``ConflictError`` if it has another model."""
    try:
        response = await io.send(ops.ENDPOINT_GET, endpoint=name)
    except NotFoundError:
        return None
    if response.value.properties.model_settings.get("modelId") != model:
        raise name_conflict(name)
    return response


async def _endpoint_model_id(io: IO, model: str) -> str:
    """Return the id that an endpoint takes (docs/azure-http.md section 3.2).

    A workspace asset has its version, a registry model has none ("always the latest").
    """
    if model.lower().startswith("azureml://registries/"):
        return model.split("/versions/")[0].split("/labels/")[0]
    if model.lower().startswith("azureml://"):
        return model
    if io.scope.local and catalog.find_model(model, override=catalog_override(io)):
        return model  # a base model that no registry has
    return (await models.get(io, model)).id


async def endpoint_address(io: IO, name: str, *, refresh: bool = False) -> tuple[str, str]:
    """Return the endpoint's inference address and its key; requested once per client."""
    slot = f"endpoint:{name}"
    cached = io.scope.cache.get(slot)
    if isinstance(cached, tuple) and not refresh:
        return cached
    value = (await io.send(ops.ENDPOINT_GET, endpoint=name)).value
    url = (value.properties.inference_endpoint or {}).get("uri")
    if not url:
        raise ServiceError(
            f"deployment {name!r} has no address yet ({value.properties.provisioning_state})",
            operation="deployments.get",
            hint="Wait until the deployment is created, then try again.",
        )
    key = Secret((await io.send(ops.ENDPOINT_KEYS, endpoint=name)).value.primary_key)
    io.scope.cache[slot] = (str(url), key)
    return str(url), key


async def get(io: IO, deployment: str) -> Deployment:
    """Return the deployment by name or ARM id."""
    name = arm_name(deployment)
    return _to_deployment((await io.send(ops.ENDPOINT_GET, endpoint=name)).value, name)


async def list_all(io: IO) -> AsyncGenerator[Deployment, None]:
    """Yield the workspace's serverless endpoints."""
    async for item in _arm.list_items(io, ops.ENDPOINT_LIST):
        yield _to_deployment(parse_item(ops.ENDPOINT_LIST, Endpoint, item), str(item.get("name")))


async def delete(io: IO, deployment: str) -> None:
    """Delete the deployment and wait until it is gone, so that its name is free and it costs nothing."""
    name = arm_name(deployment)
    io.scope.cache.pop(f"endpoint:{name}", None)
    await _arm.delete_deployment(io, _OPERATIONS, name)


async def keys(io: IO, deployment: str, regenerate: str | None) -> Keys:
    """Return both keys; ``regenerate`` (primary or secondary) replaces that one first."""
    name = arm_name(deployment)
    if regenerate is not None:
        body = {"keyType": regenerate.capitalize()}
        response = await io.send(ops.ENDPOINT_REGENERATE, body, endpoint=name)
        await _arm.wait_for_operation(io, response, operation="deployments.keys", timeout_s=600)
        io.scope.cache.pop(f"endpoint:{name}", None)
    value = (await io.send(ops.ENDPOINT_KEYS, endpoint=name)).value
    return Keys(primary=SecretStr(value.primary_key), secondary=SecretStr(value.secondary_key))


async def complete_chat(io: IO, request: ChatRequest) -> ChatCompletion:
    """Return the complete answer. A key that was regenerated in the meantime is requested again once."""
    name = _name(request)
    try:
        body = await _send_chat(io, request, await endpoint_address(io, name))
    except AuthError:
        body = await _send_chat(io, request, await endpoint_address(io, name, refresh=True))
    return chat.parse_completion(body)


async def _send_chat(io: IO, request: ChatRequest, address: tuple[str, str]) -> dict[str, Any]:
    url, key = address
    response = await io.send(
        chat.CHAT_COMPLETE, request.body, base_url=url, key=key, deadline_s=CHAT_TIMEOUT_S
    )
    return response.value


async def stream_chat(io: IO, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
    """Yield the chunks of the answer as they arrive."""
    url, key = await endpoint_address(io, _name(request))
    body: dict[str, Any] = {**request.body, "stream": True}
    lines = io.lines(chat.CHAT_COMPLETE, body, base_url=url, key=key)
    async for chunk in chat.parse_chunks(lines):
        yield chunk


def _name(request: ChatRequest) -> str:
    deployment = request.deployment
    return arm_name(deployment) if isinstance(deployment, str) else deployment.name


@translate_parse_errors("endpoints.get")
def _to_deployment(value: Endpoint, name: str) -> Deployment:
    properties = value.properties
    url: Any = (properties.inference_endpoint or {}).get("uri")
    state = properties.provisioning_state or "Unknown"
    is_online = (properties.endpoint_state or "").lower() == "online"
    return Deployment(
        id=value.id or name,
        name=value.name or name,
        model=properties.model_settings.get("modelId"),
        status=state,
        ready=statuses.is_succeeded(state) and is_online,
        url=url,
        delete_at=parsing.read_delete_at(value.tags),
        properties=dict(value.tags),
        raw=value.dump(),
    )
