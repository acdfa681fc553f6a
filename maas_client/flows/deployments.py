"""``client.deployments``: a model that answers under a name."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import date
from typing import Literal

from maas_client import catalog
from maas_client.errors import ConfigError
from maas_client.flows import _dialect, names
from maas_client.flows._io import IO
from maas_client.types import Deployment, Job, Keys, Model


async def create(
    io: IO, name: str, model: Model | Job | str, *, allow_retired: bool = False
) -> Deployment:
    """Deploy a model and return once it has answered a request, not merely ``Succeeded``.

    ``model`` is a job that succeeded, its ``fine_tuned_model``, a model, or a base model's name. A
    deployment of this name with this model is returned as it is. It costs by the hour on Azure, idle or
    not: ``with client.deployments.create(...) as d:`` deletes it on the way out.
    Raises ``ConfigError``, ``ModelRetiredError``, ``ConflictError``.
    """
    check_name(name)
    wanted = names.model_id(model)
    facts = catalog.find(wanted, override=names.override(io))
    if facts is not None and not catalog.is_asset_uri(wanted):
        today = await io.call(date.today)
        catalog.check_retirement(facts, names.target(io), today, allow=allow_retired)
        wanted = _dialect.of(io).model_id(facts)
    return await _dialect.of(io).deploy(io, name, wanted)


def check_name(name: str) -> None:
    """Raise ``ConfigError`` for what cannot be a deployment's name; nothing is sent."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,50}[A-Za-z0-9]|[A-Za-z0-9]", name):
        raise ConfigError(
            f"{name!r} cannot be a deployment's name",
            hint="It takes up to 52 letters, digits and hyphens, and begins and ends without one.",
        )


async def get(io: IO, deployment: Deployment | str) -> Deployment:
    """Return a deployment by name."""
    return await _dialect.of(io).deployment(io, names.deployment_id(deployment))


async def listing(io: IO) -> AsyncGenerator[Deployment, None]:
    """Iterate over all deployments; pages by itself."""
    async for one in _dialect.of(io).deployments(io):
        yield one


async def delete(io: IO, deployment: Deployment | str) -> None:
    """Delete a deployment and return when it is gone."""
    await _dialect.of(io).delete_deployment(io, names.deployment_id(deployment))


async def keys(
    io: IO,
    deployment: Deployment | str,
    *,
    regenerate: Literal["primary", "secondary"] | None = None,
) -> Keys:
    """Return the deployment's keys; ``regenerate`` makes one of them new first."""
    return await _dialect.of(io).keys(io, names.deployment_id(deployment), regenerate)
