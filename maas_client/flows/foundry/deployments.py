"""Deployments of a Foundry account: created over ARM, and ready later than ARM reports; chat; keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic import SecretStr

from maas_client import catalog
from maas_client._messages import AnyOf, Argument, Call, Text
from maas_client.catalog import ModelInfo
from maas_client.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    StatusError,
    UnsupportedError,
)
from maas_client.flows import _arm
from maas_client.flows._create_once import create_once, name_conflict, unknown_deployment_hint
from maas_client.flows._io import IO
from maas_client.flows._requests import ChatRequest, DeploymentRequest, catalog_override
from maas_client.flows.foundry import tiers
from maas_client.flows.foundry.models import base_model_name
from maas_client.types import ChatChunk, ChatCompletion, Deployment, Keys
from maas_client.wire import chat, parsing, statuses
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m
from maas_client.wire.operation import Plane, Response
from maas_client.wire.parsing import parse_item, translate_parse_errors

_OPERATIONS = _arm.DeploymentOperations(
    ops.DEPLOYMENT_GET, ops.DEPLOYMENT_PATCH, ops.DEPLOYMENT_DELETE, "deployment"
)
CHAT_TIMEOUT_S = 600.0
"""Time for a complete answer, which takes long on a small machine."""
_NOT_READY_ERRORS = ("deploymentnotready", "deploymentnotfound", "failed to load lora")


def _check_account(io: IO) -> None:
    if not io.scope.values.get("account"):
        raise ConfigError(
            "deployments are managed through ARM, and no account is set",
            hint=Text.format(
                "Set {}: /subscriptions/.../providers/Microsoft.CognitiveServices/accounts/NAME.",
                AnyOf(Argument("account_id"), "MAAS_FOUNDRY_ACCOUNT_ID"),
            ),
        )


def _base_info(io: IO, model: str) -> ModelInfo | None:
    return catalog.find_model(base_model_name(model), override=catalog_override(io))


def check_request(io: IO, request: DeploymentRequest) -> None:
    """Raise for a SKU or capacity that Azure does not offer for the model. Nothing is sent."""
    info = _base_info(io, request.model)
    is_tuned = base_model_name(request.model) != request.model
    tiers.check_deployment(io, info, request.sku, request.capacity, is_tuned=is_tuned)


async def create(io: IO, request: DeploymentRequest) -> Deployment:
    """Create the deployment and return it once it has answered a request.

    A deployment with this name and model is returned as it is. Raises ``ConflictError`` if it has
    another model, or another SKU or capacity than a given one.
    """
    _check_account(io)
    name = request.name
    body = _body(io, request) | request.tags
    existing = await _find(io, name, request.model)
    response = existing
    if existing is not None:
        _check_sku(name, request, existing.value.sku)
    if response is None:
        await _check_region(io, request.model, body["sku"]["name"])
        response = await create_once(
            io,
            lambda: io.send(ops.DEPLOYMENT_CREATE, body, deployment=name),
            lambda: _find(io, name, request.model),
            operation="deployments.create",
            hint=lambda: unknown_deployment_hint(name),
        )
    if existing is None:
        await _arm.wait_for_operation(io, response, operation="deployments.create")
    elif request.delete_at:
        await _arm.set_delete_at(io, _OPERATIONS, name, request.delete_at)

    async def probe() -> None:
        message = {"role": "user", "content": "hi"}
        chat_body = {"model": name, "messages": [message], "max_tokens": 1}
        await io.send(ops.CHAT, chat_body, deadline_s=300)

    await _arm.wait_until_answering(
        io, _OPERATIONS, name, probe, _is_not_ready, timeout_s=request.ready_timeout_s
    )
    return (await get(io, name)).model_copy(update={"ready": True})


async def _find(io: IO, name: str, model: str) -> Response[m.Deployment] | None:
    """Return the deployment, if it exists. Raises ``ConflictError`` if it has another model."""
    try:
        response = await io.send(ops.DEPLOYMENT_GET, deployment=name)
    except NotFoundError:
        return None
    if response.value.properties.model.name != model:
        raise name_conflict(name)
    return response


def _check_sku(name: str, request: DeploymentRequest, sku: Mapping[str, Any]) -> None:
    """Raise ``ConflictError`` if an existing deployment has another SKU or capacity than requested."""
    requested = {"name": request.sku and tiers.find_sku(request.sku), "capacity": request.capacity}
    for field, value in requested.items():
        actual = sku.get(field)
        if value is not None and str(actual).casefold() != str(value).casefold():
            label = "SKU" if field == "name" else field
            raise ConflictError(
                f"deployment {name!r} exists with {label} {actual}, not {value}",
                operation="deployments.create",
                hint=Text.format(
                    "Delete it first with {}, or use another name.",
                    Call("deployments.delete", repr(name)),
                ),
            )


async def _check_region(io: IO, model: str, sku: str) -> None:
    """Refuse a region in which tuned models cannot be deployed with the SKU."""
    kinds: dict[str, catalog.RegionKind] = {
        "Standard": "standard_deploy",
        "ProvisionedManaged": "provisioned_deploy",
    }
    if sku in kinds and base_model_name(model) != model:
        await tiers.check_region(io, _base_info(io, model), kinds[sku])


def _body(io: IO, request: DeploymentRequest) -> dict[str, Any]:
    """Return the request body.

    ``format`` is spelled as each provider does; to a wrong one the service responds with a 500 without a
    reason.
    """
    model, base = request.model, base_model_name(request.model)
    info = _base_info(io, model)
    limits = catalog.load_limits("foundry", override=catalog_override(io))
    model_format = info.deployment_format if info else None
    if model_format is None and info is not None and info.publisher == "Microsoft":
        model_format = "Microsoft"
    if model_format is None and base.startswith(("gpt-", "o1", "o3", "o4")):
        model_format = "OpenAI"
    if model_format is None and io.scope.local:
        model_format = "Unknown"  # the local server compares it with the known ones only
    if model_format is None:
        raise ConfigError(
            f"the deployment format of {base} is not known",
            hint="Set deployment_format in a catalog override file (MAAS_CATALOG).",
        )
    default_sku = info.deployment_skus[0] if info and info.deployment_skus else "GlobalStandard"
    sku = tiers.find_sku(request.sku) if request.sku else default_sku
    capacity = request.capacity or limits.get_int("deployment_capacity_advised") or 100
    # Outside a registry, the version of a base model is Foundry's own, such as 2025-04-14.
    has_version = model == base and info is not None and info.registry is None
    version = (info.version if info and has_version else None) or "1"
    return {
        "sku": {"name": sku, "capacity": capacity},
        "properties": {
            "model": {"format": model_format, "name": model, "version": version},
            "versionUpgradeOption": "NoAutoUpgrade",
        },
    }


def _is_not_ready(error: StatusError) -> bool:
    text = f"{error.code} {error.message}".lower()
    return any(part in text for part in _NOT_READY_ERRORS)


async def get(io: IO, deployment: str) -> Deployment:
    """Return the deployment by name or ARM id."""
    _check_account(io)
    name = _last_segment(deployment)
    return _to_deployment(io, (await io.send(ops.DEPLOYMENT_GET, deployment=name)).value, name)


async def list_all(io: IO) -> AsyncGenerator[Deployment, None]:
    """Yield the account's deployments."""
    _check_account(io)
    async for item in _arm.list_items(io, ops.DEPLOYMENT_LIST):
        yield _to_deployment(
            io, parse_item(ops.DEPLOYMENT_LIST, m.Deployment, item), str(item.get("name"))
        )


async def delete(io: IO, deployment: str) -> None:
    """Delete the deployment and wait until it is gone, so that its name is free and it costs nothing."""
    _check_account(io)
    await _arm.delete_deployment(io, _OPERATIONS, _last_segment(deployment))


async def keys(io: IO, deployment: str, regenerate: str | None) -> Keys:
    """Return the account's keys: a deployment has none of its own."""
    _check_account(io)
    if regenerate is not None:
        raise UnsupportedError(
            "a foundry deployment has no keys of its own, and a new account key would lock out all "
            "other users of the account",
            hint="Use az cognitiveservices account keys regenerate, or an azureml endpoint, which has "
            "keys of its own.",
        )
    await get(io, deployment)
    value = (await io.send(ops.ACCOUNT_KEYS)).value
    return Keys(primary=SecretStr(value.key1), secondary=SecretStr(value.key2))


async def complete_chat(io: IO, request: ChatRequest) -> ChatCompletion:
    """Return the complete answer."""
    response = await io.send(ops.CHAT, _chat_body(request), deadline_s=CHAT_TIMEOUT_S)
    return chat.parse_completion(response.value)


async def stream_chat(io: IO, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
    """Yield the chunks of the answer as they arrive."""
    body = {**_chat_body(request), "stream": True}
    async for chunk in chat.parse_chunks(io.lines(ops.CHAT, body)):
        yield chunk


def _chat_body(request: ChatRequest) -> dict[str, Any]:
    """Return the body, in which the deployment's name is the ``model``."""
    deployment = request.deployment
    name = _last_segment(deployment) if isinstance(deployment, str) else deployment.name
    return {"model": name, **request.body}


def _last_segment(name_or_id: str) -> str:
    return name_or_id.rsplit("/", 1)[-1]


@translate_parse_errors("deployments.get")
def _to_deployment(io: IO, value: m.Deployment, name: str) -> Deployment:
    state = value.properties.provisioning_state or "Unknown"
    return Deployment(
        id=value.id or name,
        name=value.name or name,
        model=value.properties.model.name or None,
        status=state,
        ready=statuses.is_succeeded(state),
        url=f"{io.scope.base_urls[Plane.FOUNDRY.value]}/v1",
        delete_at=parsing.read_delete_at(value.tags),
        properties={
            "sku": dict(value.sku),
            "format": value.properties.model.format,
            **({"tags": dict(value.tags)} if value.tags else {}),
        },
        raw=value.dump(),
    )
