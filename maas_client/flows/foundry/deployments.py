"""Deployments of a Foundry account over ARM (docs/azure-http.md section 4.6); ready later than ARM says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from maas_client import catalog
from maas_client.errors import (
    ConfigError,
    NotFoundError,
    StatusError,
    UnsupportedError,
)
from maas_client.flows import _pages, _ready, identifiers
from maas_client.flows._arm import wait_for_operation
from maas_client.flows._backend import DeploymentRequest
from maas_client.flows._io import IO
from maas_client.flows.foundry.models import base_model_name
from maas_client.types import Deployment, Keys
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m
from maas_client.wire import lifetime
from maas_client.wire.op import Plane

_NOT_YET = ("deploymentnotready", "deploymentnotfound", "failed to load lora")


def _account(io: IO) -> None:
    if not io.scope.values.get("account"):
        raise ConfigError(
            "deployments are made through ARM, and no account is named",
            hint="Pass account_id= or set MAAS_FOUNDRY_ACCOUNT_ID: "
            "/subscriptions/.../providers/Microsoft.CognitiveServices/accounts/NAME.",
        )


async def create(io: IO, order: DeploymentRequest) -> Deployment:
    """Create the deployment and return it once it has answered a request.

    A deployment of this name with this model is returned as it is; with another, ``ConflictError``.
    """
    _account(io)
    name = order.name
    body = _body(io, order.model) | order.tags
    try:
        there = (await io.send(ops.DEPLOYMENT_GET, deployment=name)).value
    except NotFoundError:
        answer = await io.send(ops.DEPLOYMENT_CREATE, body, deployment=name)
        await wait_for_operation(io, answer, operation="deployments.create")
    else:
        if there.properties.model.name != order.model:
            raise _ready.name_conflict(name)
        if order.delete_at:
            await _delete_at(io, name, order.delete_at)
    await _settled(io, name, order.ready_timeout_s)
    return (await get(io, name)).model_copy(update={"ready": True})


def _body(io: IO, model: str) -> dict[str, Any]:
    """Return what ARM wants to know. The format is each provider's own word, case and all; a wrong one
    is answered with a 500 that says nothing."""
    facts = catalog.find_model(base_model_name(model), override=identifiers.catalog_override(io))
    limits = catalog.load_limits("foundry", override=identifiers.catalog_override(io))
    form = facts.deployment_format if facts else None
    if form is None and facts is not None and facts.publisher == "Microsoft":
        form = "Microsoft"
    if form is None and base_model_name(model).startswith(("gpt-", "o1", "o3", "o4")):
        form = "OpenAI"
    if form is None:
        raise ConfigError(
            f"the deployment format of {base_model_name(model)} is not known",
            hint="Name it in a catalog override file (MAAS_CATALOG): deployment_format.",
        )
    sku = (facts.deployment_sku if facts else None) or "GlobalStandard"
    return {
        "sku": {"name": sku, "capacity": limits.get_int("deployment_capacity_advised") or 100},
        "properties": {
            "model": {"format": form, "name": model, "version": "1"},
            "versionUpgradeOption": "NoAutoUpgrade",
        },
    }


async def _settled(io: IO, name: str, within_s: float) -> None:
    """Wait until ARM has made it, and then until it has answered with a token: minutes lie between."""

    async def look() -> tuple[str, str | None]:
        held = (await io.send(ops.DEPLOYMENT_GET, deployment=name)).value.properties
        return held.provisioning_state or "Unknown", None

    async def ask() -> None:
        body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        await io.send(ops.CHAT, body, deadline_s=300)

    await _ready.wait_until_provisioned(io, name, look, within_s)
    await _ready.wait_until_ready(io, ask, _comes, within_s)


async def _delete_at(io: IO, name: str, moment: datetime) -> None:
    """Write on a deployment when it is to go; its other tags stay."""
    tags = (await io.send(ops.DEPLOYMENT_GET, deployment=name)).value.tags or {}
    body = {"tags": {**tags, lifetime.DELETE_AT_TAG: lifetime.format_delete_at(moment)}}
    answer = await io.send(ops.DEPLOYMENT_PATCH, body, deployment=name)
    await wait_for_operation(io, answer, operation="deployments.create")


def _comes(error: StatusError) -> bool:
    said = f"{error.code} {error.message}".lower()
    return any(word in said for word in _NOT_YET)


async def get(io: IO, deployment: str) -> Deployment:
    """Return the deployment by name or ARM id."""
    _account(io)
    name = deployment.rsplit("/", 1)[-1]
    return _noun(io, (await io.send(ops.DEPLOYMENT_GET, deployment=name)).value, name)


async def list_all(io: IO) -> AsyncGenerator[Deployment, None]:
    """Yield the account's deployments."""
    _account(io)
    async for item in _pages.list_items(io, ops.DEPLOYMENT_LIST):
        yield _noun(io, m.Deployment.model_validate(item), str(item.get("name")))


async def delete(io: IO, deployment: str) -> None:
    """Delete the deployment and wait until it is gone: its name is free and it costs nothing more."""
    _account(io)
    name = deployment.rsplit("/", 1)[-1]
    # ARM answers 204 for what was never there: a mistyped name must not read as deleted.
    await io.send(ops.DEPLOYMENT_GET, deployment=name)
    answer = await io.send(ops.DEPLOYMENT_DELETE, deployment=name)
    await wait_for_operation(io, answer, operation="deployments.delete", timeout_s=1800)


async def keys(io: IO, deployment: str, regenerate: str | None) -> Keys:
    """Return the account's keys: a deployment has none of its own."""
    _account(io)
    if regenerate is not None:
        raise UnsupportedError(
            "a foundry deployment has no key of its own, and a new account key would lock out every "
            "other user of the account",
            hint="az cognitiveservices account keys regenerate; azureml endpoints have keys of their own.",
        )
    await get(io, deployment)
    value = (await io.send(ops.ACCOUNT_KEYS)).value
    return Keys(primary=SecretStr(value.key1), secondary=SecretStr(value.key2))


def _noun(io: IO, value: m.Deployment, name: str) -> Deployment:
    state = value.properties.provisioning_state or "Unknown"
    return Deployment(
        id=value.id or name,
        name=value.name or name,
        model=value.properties.model.name or None,
        status=state,
        ready=state.lower() == "succeeded",
        url=f"{io.scope.base_urls[Plane.FOUNDRY.value]}/v1",
        delete_at=lifetime.read_delete_at(value.tags),
        properties={"sku": dict(value.sku), "format": value.properties.model.format},
        raw=value.dump(),
    )
