"""Models of a Foundry resource, named as its jobs and deployments name them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from maas_client.catalog import ModelInfo
from maas_client.errors import UnsupportedError
from maas_client.flows._io import IO
from maas_client.flows.foundry import create_once
from maas_client.types import Model
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m

_TUNED = re.compile(r"(?P<base>.+?)\.ft-[0-9a-f]+")
"""``base-model.ft-{job}``, with a suffix or a checkpoint behind it (docs/azure-http.md section 4.5)."""


def foundry_name(facts: ModelInfo) -> str:
    """Return the name under which foundry knows a catalog model."""
    return facts.name


def base_model_name(model: str) -> str:
    """Return the base model's name within a tuned model's; any other name as it is."""
    found = _TUNED.match(model)
    return found["base"] if found else model


async def get(io: IO, model: str) -> Model:
    """Return one model, tuned or base, by its name."""
    return _noun((await io.send(ops.MODEL_GET, model=model)).value)


async def list_all(io: IO) -> AsyncGenerator[Model, None]:
    """Yield the tuned models that the resource holds; base models are the catalog's matter."""
    async for item in create_once.list_items(io, ops.MODEL_LIST):
        value = m.Model.model_validate(item)
        if value.model or base_model_name(value.id) != value.id:
            yield _noun(value)


async def delete(io: IO, model: str) -> None:
    """Raise ``UnsupportedError``: neither v1 nor the dated versions document it."""
    raise UnsupportedError(
        f"{model} cannot be deleted: foundry documents no operation for it",
        hint="The portal deletes a tuned model; azureml and the local server (dialect azureml) do too.",
    )


def _noun(value: m.Model) -> Model:
    born = create_once.to_datetime(value.created_at or value.created)
    base = value.model or base_model_name(value.id)
    return Model(
        id=value.id,
        name=value.id,
        base_model=base if base != value.id else None,
        created_at=born.isoformat() if born else None,
        raw=value.dump(),
    )
