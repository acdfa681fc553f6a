"""``client.models``: the models the backend holds for us."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from maas_client.flows import _dialect, names
from maas_client.flows._io import IO
from maas_client.types import Job, Model


async def get(io: IO, model: Model | Job | str) -> Model:
    """Return a model by id, or by name (its newest version)."""
    return await _dialect.of(io).model(io, names.model_id(model))


async def listing(io: IO) -> AsyncGenerator[Model, None]:
    """Iterate over all models; pages by itself."""
    async for one in _dialect.of(io).models(io):
        yield one


async def delete(io: IO, model: Model | str) -> None:
    """Delete a model. The service refuses while a deployment holds it."""
    await _dialect.of(io).delete_model(io, names.model_id(model))
