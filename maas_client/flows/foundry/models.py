"""Models of a Foundry resource, by the names that jobs and deployments use."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

from maas_client._messages import Constructor, Text
from maas_client.errors import UnsupportedError
from maas_client.flows._io import IO
from maas_client.flows._requests import ModelUploadRequest
from maas_client.flows.foundry import fingerprints
from maas_client.types import Model
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m
from maas_client.wire.parsing import parse_item, to_datetime, translate_parse_errors

_FINE_TUNED = re.compile(r"(?P<base>.+?)\.ft-[0-9a-f]+")
"""``base-model.ft-{job}``, with a suffix or a checkpoint after it (docs/azure-http.md section 4.5)."""


def base_model_name(model: str) -> str:
    """Return the base model's name from a fine-tuned model's; any other name unchanged."""
    match = _FINE_TUNED.match(model)
    return match["base"] if match else model


async def get(io: IO, model: str) -> Model:
    """Return a fine-tuned or base model by name."""
    return _to_model((await io.send(ops.MODEL_GET, model=model)).value)


async def list_all(io: IO) -> AsyncGenerator[Model, None]:
    """Yield the resource's fine-tuned models; base models are in the catalog."""
    async for item in fingerprints.list_items(io, ops.MODEL_LIST):
        value = parse_item(ops.MODEL_LIST, m.Model, item)
        if value.model or base_model_name(value.id) != value.id:
            yield _to_model(value)


async def upload(io: IO, request: ModelUploadRequest) -> Model:
    """Raise ``UnsupportedError``: foundry takes no weights that were trained elsewhere."""
    raise UnsupportedError(
        "foundry does not take weights that were trained elsewhere",
        hint=Text.format(
            "The local server does, in the azureml dialect: {}.", Constructor("local")
        ),
    )


async def delete(io: IO, model: str) -> None:
    """Raise ``UnsupportedError``: no api-version of foundry documents this operation."""
    raise UnsupportedError(
        f"{model} cannot be deleted: foundry documents no operation for it",
        hint="Delete it in the portal. azureml and the local server (dialect azureml) can delete models.",
    )


@translate_parse_errors("models.get")
def _to_model(value: m.Model) -> Model:
    base = value.model or base_model_name(value.id)
    return Model(
        id=value.id,
        name=value.id,
        base_model=base if base != value.id else None,
        created_at=to_datetime(value.created_at or value.created),
        properties=value.metadata or {},
        raw=value.dump(),
    )
