"""``client.deployments``: models that answer under a name, and their deletion after a set time."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Protocol

from maas_client import catalog
from maas_client._display.interrupts import explain_interrupt
from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError, MaasError, NotFoundError, ServiceError
from maas_client.flows import identifiers
from maas_client.flows._arm import READY_TIMEOUT_S
from maas_client.flows._io import IO, Coro
from maas_client.flows._requests import (
    DeploymentRequest,
    catalog_override,
    is_foundry,
    service_model_id,
    validation_target,
)
from maas_client.flows.foundry.models import base_model_name
from maas_client.flows.models import deployable_model_id
from maas_client.types import Deployment, Job, Keys, Model

_log = logging.getLogger("maas_client")

Lifetime = timedelta | float | str
"""Seconds, a ``timedelta``, or a text such as ``2h``, ``90m`` or ``1d12h``."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_LIFETIME = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,7})s)?", re.ASCII)
_MAX_LIFETIME_S = 366 * 86400.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,50}[A-Za-z0-9]|[A-Za-z0-9]")


class DeploymentBackend(Protocol):
    """What a backend's module for deployments must have."""

    def check_request(self, io: IO, request: DeploymentRequest) -> None:
        """Raise for what this backend does not support. Nothing is sent."""

    def create(self, io: IO, request: DeploymentRequest) -> Coro[Deployment]: ...
    def get(self, io: IO, deployment: str) -> Coro[Deployment]: ...
    def list_all(self, io: IO) -> AsyncGenerator[Deployment, None]: ...
    def delete(self, io: IO, deployment: str) -> Coro[None]: ...
    def keys(self, io: IO, deployment: str, regenerate: str | None) -> Coro[Keys]: ...


def _backend(io: IO) -> DeploymentBackend:
    if is_foundry(io):
        from maas_client.flows.foundry import deployments as foundry_deployments

        return foundry_deployments
    from maas_client.flows.azureml import deployments as azureml_deployments

    return azureml_deployments


async def create(
    io: IO,
    name: str,
    model: Model | Job | str,
    *,
    sku: str | None = None,
    capacity: int | None = None,
    allow_retired: bool = False,
    delete_after: Lifetime | None = None,
) -> Deployment:
    """Deploy a model and return once it has answered a request.

    A deployment with this name and model is returned as it is. On Azure a deployment may cost money by
    the hour, used or not. Use the result in a ``with`` block to delete it at the block's end.

    Args:
        name: The deployment's name: up to 52 letters, digits and hyphens.
        model: A job that succeeded (also an object from before its end, or the job's name), its
            ``fine_tuned_model``, a ``Model``, or a base model's name.
        sku: The deployment type (foundry only): ``GlobalStandard``, ``DataZoneStandard``, ``Standard``,
            ``DeveloperTier`` (Azure deletes it after 24 hours), ``ProvisionedManaged``,
            ``GlobalProvisionedManaged`` or ``DataZoneProvisionedManaged``. Default: the first that Azure
            offers for the model, most often ``GlobalStandard``.
        capacity: The quota it takes (foundry only), in units of 1,000 tokens a minute, or in provisioned
            throughput units. Default: 100.
        allow_retired: Accept a model that is retired on this backend; default: False.
        delete_after: When the deployment is to be deleted, counted from this call: seconds, a
            ``timedelta``, or a text such as ``"2h"``, ``"90m"`` or ``"1d12h"``; at most 366 days. The
            time is stored with the deployment as a tag; it replaces an earlier one. The local server
            deletes the deployment in time. Azure does not: run ``deployments.delete_overdue`` on a
            schedule. Default: no deletion.

    Returns:
        The deployment, with ``ready=True``.

    Raises:
        ConfigError: The name, model or ``delete_after`` is invalid, or the job has no model yet.
        ModelRetiredError: The model is retired on this backend.
        UnsupportedError: The backend or model has no such ``sku`` or ``capacity``.
        ConflictError: A deployment with this name has another model, or another ``sku`` or ``capacity``
            than the given one.
        NotFoundError: There is no such model.
        ServiceError: The deployment failed, or did not answer within 30 minutes or ``delete_after``.

    Example:
        >>> with client.deployments.create("tickets", job, delete_after="2h") as deployment:
        ...     reply = client.chat.complete(deployment, [{"role": "user", "content": "Hello"}])
    """
    check_name(name)
    lifetime_s = None if delete_after is None else lifetime_seconds(delete_after)
    model_id = await deployable_model_id(io, model)
    base = base_model_name(model_id) if is_foundry(io) else model_id
    info = catalog.find_model(base, override=catalog_override(io))
    if info is not None and not catalog.is_asset_uri(model_id):
        catalog.check_retirement(
            info,
            validation_target(io),
            await io.call(date.today),
            allow_retired=allow_retired,
            use="base deployment" if base == model_id else "tuned deployment",
        )
        model_id = service_model_id(io, info) if base == model_id else model_id
    request = DeploymentRequest(name, model_id, sku=sku, capacity=capacity)
    _backend(io).check_request(io, request)
    _log.info("deploying %s as %s; waiting until it answers", model_id, name)
    with explain_interrupt(lambda: _interrupt_note(name)):
        deployment = await _create(io, request, lifetime_s)
    _log.info("deployment %s is ready", name)
    return deployment


def _interrupt_note(name: str) -> str:
    return (
        f"interrupted: deployment {name} starts up without this program if it was created; the same call waits "
        "until it answers"
    )


async def _create(io: IO, request: DeploymentRequest, lifetime_s: float | None) -> Deployment:
    if lifetime_s is None:
        return await _backend(io).create(io, request)
    delete_at = await io.call(utc_now) + timedelta(seconds=lifetime_s)
    request = replace(
        request, delete_at=delete_at, ready_timeout_s=min(lifetime_s, READY_TIMEOUT_S)
    )
    try:
        return await _backend(io).create(io, request)
    except MaasError as error:
        if await io.call(utc_now) < delete_at:
            raise
        raise ServiceError(
            f"deployment {request.name!r} did not answer before its deletion after {lifetime_s:g} s",
            operation="deployments.create",
            hint=Text.format("Set a longer time: {}.", Argument("delete_after")),
        ) from error


def check_options(io: IO, base_model: str, sku: str | None, capacity: int | None) -> None:
    """Raise for options with which a model that is yet to be tuned cannot be deployed. Nothing is sent."""
    model = f"{base_model}.ft-0" if is_foundry(io) else base_model
    _backend(io).check_request(io, DeploymentRequest("tuned", model, sku=sku, capacity=capacity))


def check_name(name: str) -> None:
    """Raise ``ConfigError`` for a text that cannot be a deployment's name. Nothing is sent."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a valid deployment name",
            hint="Use up to 52 letters, digits and hyphens; the first and last must not be a hyphen.",
        )


async def get(io: IO, deployment: Deployment | str) -> Deployment:
    """Return the current state of a deployment.

    Args:
        deployment: A deployment or its name.

    Returns:
        The deployment. It can be used in a ``with`` block, which deletes it at the end.

    Raises:
        NotFoundError: There is no such deployment.

    Example:
        >>> client.deployments.get("tickets").status
        'Succeeded'
    """
    return await _backend(io).get(io, identifiers.deployment_id(deployment))


async def list_all(io: IO) -> AsyncGenerator[Deployment, None]:
    """Iterate over all deployments. Further pages are requested as needed.

    Yields:
        The deployments of the workspace or account.

    Example:
        >>> [deployment.name for deployment in client.deployments.list()]
        ['tickets']
    """
    async for deployment in _backend(io).list_all(io):
        yield deployment


async def delete(io: IO, deployment: Deployment | str) -> None:
    """Delete a deployment and return when it is gone.

    Args:
        deployment: A deployment or its name.

    Raises:
        NotFoundError: There is no such deployment.

    Example:
        >>> client.deployments.delete("tickets")
    """
    await _backend(io).delete(io, identifiers.deployment_id(deployment))


async def delete_overdue(io: IO, deployment: Deployment | str | None = None) -> list[Deployment]:
    """Delete deployments whose ``delete_after`` has passed.

    Azure does not delete them by itself: run this on a schedule, or at the end of a pipeline.

    Args:
        deployment: Check only this deployment, given as an object or a name; default: all.

    Returns:
        The deployments that were deleted.

    Raises:
        NotFoundError: ``deployment`` is given and does not exist.

    Example:
        >>> [deployment.name for deployment in client.deployments.delete_overdue()]
        ['tickets']
    """
    if deployment is None:
        candidates = [each async for each in list_all(io) if each.delete_at]
    else:
        candidates = [await get(io, deployment)]
    now = await io.call(utc_now)
    overdue = [each for each in candidates if each.delete_at and each.delete_at <= now]
    for each in overdue:
        with suppress(NotFoundError):  # deleted by another process
            await delete(io, each.name)
    return overdue


async def keys(
    io: IO,
    deployment: Deployment | str,
    *,
    regenerate: Literal["primary", "secondary"] | None = None,
) -> Keys:
    """Return the keys of a deployment.

    Args:
        deployment: A deployment or its name.
        regenerate: Replace this key first: ``"primary"`` or ``"secondary"`` (azureml dialect only).
            Default: none.

    Returns:
        Both keys. ``keys.primary.get_secret_value()`` is the text of one.

    Raises:
        NotFoundError: There is no such deployment.
        UnsupportedError: ``regenerate`` on foundry, whose deployments share the account's keys.

    Example:
        >>> keys = client.deployments.keys("tickets", regenerate="secondary")
    """
    return await _backend(io).keys(io, identifiers.deployment_id(deployment), regenerate)


def lifetime_seconds(lifetime: Lifetime) -> float:
    """Return a lifetime in seconds. Raises ``ConfigError`` if it is invalid or longer than 366 days."""
    if isinstance(lifetime, timedelta):
        seconds = lifetime.total_seconds()
    elif isinstance(lifetime, str):
        seconds = _parse_lifetime(lifetime)
    elif isinstance(lifetime, int | float) and not isinstance(lifetime, bool):
        seconds = float(lifetime)
    else:
        seconds = math.nan
    if not 0 < seconds <= _MAX_LIFETIME_S:
        raise ConfigError(
            Text.format("invalid {}: {!r}", Argument("delete_after"), lifetime),
            hint="Use a time up to 366 days, such as 2h, 90m or 1d12h, or a number of seconds.",
        )
    return seconds


def _parse_lifetime(text: str) -> float:
    match = _LIFETIME.fullmatch(text.strip().lower())
    if not match or not any(match.groups()):
        return math.nan
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    return float(sum(int(number) * unit for number, unit in parts if number))


def utc_now() -> datetime:
    """Return the current time. Flows call it through ``io.call``, so that tests can replace it."""
    return datetime.now(UTC)
