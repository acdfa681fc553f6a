"""``client.models``: the models the backend holds for us."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from os import PathLike, fspath
from pathlib import Path

from maas_client import catalog
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.flows import _backend, identifiers
from maas_client.flows._backend import ModelUploadRequest, ProgressCallback
from maas_client.flows._io import IO
from maas_client.types import Job, Model


async def get(io: IO, model: Model | Job | str) -> Model:
    """Return a model by id, or by name (its newest version)."""
    return await _backend.backend_for(io).model(io, identifiers.model_id(model))


async def list_all(io: IO) -> AsyncGenerator[Model, None]:
    """Iterate over all models; pages by itself."""
    async for one in _backend.backend_for(io).models(io):
        yield one


async def upload(
    io: IO,
    folder: str | PathLike[str],
    *,
    base_model: str,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> Model:
    """Register a model that was trained elsewhere, so that it can be deployed.

    ``folder`` holds what PEFT's or transformers' ``save_pretrained`` writes: an adapter of
    ``base_model``, or a whole model of its family. Safetensors only; no code of it is ever run. ``name``
    is the folder's if left out. Raises ``ConfigError``, ``UnsupportedError``, ``BadRequestError``.
    """
    place = await io.call(lambda: _weights(Path(fspath(folder))))
    take = _backend.backend_for(io).upload_model
    if take is None:
        raise UnsupportedError(
            f"{io.scope.dialect} takes no weights from elsewhere",
            hint="The local server does, in the azureml dialect.",
        )
    facts = catalog.get_model(base_model, override=identifiers.catalog_override(io))
    called = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", place.name).strip("-.") or "model"
    return await take(io, ModelUploadRequest(place, called, facts.name, progress))


def _weights(folder: Path) -> Path:
    """Return the folder's whole path. Raises ``ConfigError`` for one without weights."""
    place = folder.expanduser().resolve()
    if not place.is_dir():
        raise ConfigError(f"there is no folder {folder}", hint="Name the folder of the weights.")
    if not any(place.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} holds no *.safetensors",
            hint="It is the folder that save_pretrained() of PEFT or transformers writes.",
        )
    return place


async def delete(io: IO, model: Model | str) -> None:
    """Delete a model. The service refuses while a deployment holds it."""
    await _backend.backend_for(io).delete_model(io, identifiers.model_id(model))
