"""``client.deployments``: a model that answers under a name."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import date, timedelta
from typing import Literal

from maas_client import catalog
from maas_client.errors import ConfigError, MaasError, NotFoundError, ServiceError
from maas_client.flows import _backend, _lifetime, identifiers
from maas_client.flows._backend import DeploymentRequest
from maas_client.flows._io import IO
from maas_client.flows._lifetime import Lifetime
from maas_client.flows._ready import READY_TIMEOUT_S
from maas_client.types import Deployment, Job, Keys, Model


async def create(
    io: IO,
    name: str,
    model: Model | Job | str,
    *,
    allow_retired: bool = False,
    delete_after: Lifetime | None = None,
) -> Deployment:
    """Deploy a model and return once it has answered a request, not merely ``Succeeded``.

    ``model`` is a job that succeeded, its ``fine_tuned_model``, a model, or a base model's name. A
    deployment of this name with this model is returned as it is. It costs by the hour on Azure, idle or
    not: ``with client.deployments.create(...) as d:`` deletes it on the way out.

    ``delete_after`` (seconds, a ``timedelta``, or ``"2h"``, counted from this call) writes the moment on
    the deployment, as a tag that every machine can read; on one that exists it replaces the old moment.
    The local server then deletes it by itself, also when this program has ended. Azure knows no expiry:
    this client deletes it there while it is open, and when the program has died nobody does, until
    somebody runs ``deployments.delete_overdue()`` (``maas-client deployments delete --overdue``).
    Raises ``ConfigError``, ``ModelRetiredError``, ``ConflictError``, ``ServiceError``.
    """
    check_name(name)
    lifetime_s = None if delete_after is None else _lifetime.lifetime_seconds(delete_after)
    wanted = identifiers.model_id(model)
    facts = catalog.find_model(wanted, override=identifiers.catalog_override(io))
    if facts is not None and not catalog.is_asset_uri(wanted):
        today = await io.call(date.today)
        catalog.check_retirement(
            facts, identifiers.validation_target(io), today, allow_retired=allow_retired
        )
        wanted = _backend.backend_for(io).model_id(facts)
    if lifetime_s is None:
        return await _backend.backend_for(io).deploy(io, DeploymentRequest(name, wanted))
    moment = await io.call(_lifetime.utc_now) + timedelta(seconds=lifetime_s)
    order = DeploymentRequest(name, wanted, moment, min(lifetime_s, READY_TIMEOUT_S))
    try:
        return await _backend.backend_for(io).deploy(io, order)
    except MaasError as error:
        if await io.call(_lifetime.utc_now) < moment:
            raise
        raise ServiceError(
            f"deployment {name!r} was to be deleted after {lifetime_s:g} s, and had not answered by then",
            operation="deployments.create",
            hint="Give it longer: delete_after=.",
        ) from error


def check_name(name: str) -> None:
    """Raise ``ConfigError`` for what cannot be a deployment's name; nothing is sent."""
    rule = r"[A-Za-z0-9][A-Za-z0-9-]{0,50}[A-Za-z0-9]|[A-Za-z0-9]"
    if not isinstance(name, str) or not re.fullmatch(rule, name):
        raise ConfigError(
            f"{name!r} cannot be a deployment's name",
            hint="It takes up to 52 letters, digits and hyphens, and begins and ends without one.",
        )


async def get(io: IO, deployment: Deployment | str) -> Deployment:
    """Return a deployment by name."""
    return await _backend.backend_for(io).deployment(io, identifiers.deployment_id(deployment))


async def list_all(io: IO) -> AsyncGenerator[Deployment, None]:
    """Iterate over all deployments; pages by itself."""
    async for one in _backend.backend_for(io).deployments(io):
        yield one


async def delete(io: IO, deployment: Deployment | str) -> None:
    """Delete a deployment and return when it is gone."""
    await _backend.backend_for(io).delete_deployment(io, identifiers.deployment_id(deployment))


async def delete_overdue(io: IO, deployment: Deployment | str | None = None) -> list[Deployment]:
    """Delete every deployment whose ``delete_after`` has passed and return them; with ``deployment``, that
    one alone, and only if it is overdue.

    On Azure nobody else does: run it by hand, or at the end of a pipeline.
    """
    if deployment is None:
        held = [one async for one in list_all(io) if one.delete_at]
    else:
        held = [await get(io, deployment)]
    moment = await io.call(_lifetime.utc_now)
    gone = [one for one in held if one.delete_at and one.delete_at <= moment]
    for one in gone:
        with suppress(NotFoundError):  # somebody was quicker
            await delete(io, one.name)
    return gone


async def keys(
    io: IO,
    deployment: Deployment | str,
    *,
    regenerate: Literal["primary", "secondary"] | None = None,
) -> Keys:
    """Return the deployment's keys; ``regenerate`` makes one of them new first."""
    return await _backend.backend_for(io).keys(
        io, identifiers.deployment_id(deployment), regenerate
    )
