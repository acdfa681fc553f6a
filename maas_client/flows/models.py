"""``client.models``: fine-tuned models, and models that were trained elsewhere."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from os import PathLike, fspath
from pathlib import Path
from typing import Protocol

from maas_client import catalog
from maas_client._display.interrupts import explain_interrupt
from maas_client._display.progress import ProgressCallback, show_progress
from maas_client.errors import BadRequestError, ConfigError, NotFoundError
from maas_client.flows import identifiers
from maas_client.flows._file_parts import absolute_path
from maas_client.flows._io import IO, Coro
from maas_client.flows._requests import (
    ModelUploadRequest,
    catalog_override,
    is_foundry,
)
from maas_client.flows.datasets import INTERRUPTED_UPLOAD
from maas_client.flows.jobs import job_backend
from maas_client.types import Job, Model


class ModelBackend(Protocol):
    """What a backend's module for models must have."""

    def upload(self, io: IO, request: ModelUploadRequest) -> Coro[Model]: ...
    def get(self, io: IO, model: str) -> Coro[Model]: ...
    def list_all(self, io: IO) -> AsyncGenerator[Model, None]: ...
    def delete(self, io: IO, model: str) -> Coro[None]: ...


def _backend(io: IO) -> ModelBackend:
    if is_foundry(io):
        from maas_client.flows.foundry import models as foundry_models

        return foundry_models
    from maas_client.flows.azureml import models as azureml_models

    return azureml_models


async def get(io: IO, model: Model | Job | str) -> Model:
    """Return a registered model.

    Args:
        model: A model, a job that produced one (or its name), an id, or a name (the newest version). On
            azureml also ``name:version``. A job is looked up, so it may be an object from before its end.

    Returns:
        The model.

    Raises:
        NotFoundError: There is no such model.
        ConfigError: The job has no model yet.

    Example:
        >>> client.models.get(job).name
        'tickets-3f2a-model'
    """
    if isinstance(model, Job):
        model = await job_model_id(io, model)
    text = identifiers.model_id(model)
    try:
        return await _backend(io).get(io, text)
    except (NotFoundError, ConfigError):
        job_model = None if isinstance(model, Model) else await _find_job_model(io, text)
        if job_model is None:
            raise
        return await _backend(io).get(io, job_model)


async def job_model_id(io: IO, job: Job) -> str:
    """Return the id of a job's model. A job from before its end is looked up."""
    if not job.fine_tuned_model:
        job = await job_backend(io).get(io, job.id)
    return identifiers.model_id(job)


async def _find_job_model(io: IO, name: str) -> str | None:
    """Return the id of the model of a job with this name; None if there is no such job."""
    if _is_model_uri(name):
        return None
    try:
        job = await job_backend(io).get(io, name)
    except (NotFoundError, BadRequestError, ConfigError):  # also for what cannot be a job's name
        return None
    return identifiers.model_id(job)


def _is_model_uri(text: str) -> bool:
    """Return whether a text is the address of a model; a job's id is none."""
    return catalog.is_asset_uri(text) and "/jobs/" not in text


async def deployable_model_id(io: IO, model: Model | Job | str) -> str:
    """Return the id of a model to deploy: of a model, a job or its name, or a base model's name."""
    if isinstance(model, Job):
        return await job_model_id(io, model)
    text = identifiers.model_id(model)
    base = text.partition(".ft-")[0] if is_foundry(io) else text
    is_known = isinstance(model, Model) or _is_model_uri(text)
    if is_known or catalog.find_model(base, override=catalog_override(io)) is not None:
        return text
    try:
        await _backend(io).get(io, text)
    except (NotFoundError, ConfigError):  # or it cannot be a model's name: the id of a job
        return await _find_job_model(io, text) or text
    return text


async def list_all(io: IO) -> AsyncGenerator[Model, None]:
    """Iterate over all registered models. Further pages are requested as needed.

    The base models that can be fine-tuned are in ``maas_client.catalog``.

    Yields:
        The models, on azureml every version of each.

    Example:
        >>> [model.name for model in client.models.list()]
        ['tickets-3f2a-model']
    """
    async for model in _backend(io).list_all(io):
        yield model


async def upload(
    io: IO,
    folder: str | PathLike[str],
    *,
    base_model: str,
    name: str | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Model:
    """Register a model that was trained elsewhere, so that it can be deployed (local server only).

    Args:
        folder: The folder that ``save_pretrained`` of PEFT or transformers writes: an adapter, or a
            whole model. Only safetensors files are loaded, and no code in the folder is run. Hidden files in it
            (``.gitattributes``, ``.cache``) are not uploaded.
        base_model: The base model of the adapter, or a model of the same family, by its catalog name.
        name: The model's name; default: the folder's name.
        progress: True shows the upload on stderr or in the notebook, False shows nothing; a function is
            called as ``progress(sent, total)`` with numbers of bytes, for each file. Default: True in a
            terminal or notebook.

    Returns:
        The registered model. The same files again are the same version.

    Raises:
        ConfigError: The folder does not exist or has no ``*.safetensors``, or the base model is unknown.
        UnsupportedError: The backend is not the local server in the azureml dialect.
        BadRequestError: The server cannot load the weights.

    Example:
        >>> model = client.models.upload("out/adapter", base_model="Phi-4-mini-instruct")
        >>> client.deployments.create("mine", model)
    """
    identifiers.check_new_name(name)
    path = await io.call(lambda: _weights_folder(Path(fspath(folder))))
    info = catalog.get_model(base_model, override=catalog_override(io))
    model_name = name or re.sub(r"[^A-Za-z0-9_.-]+", "-", path.name).strip("-.") or "model"
    with (
        explain_interrupt(lambda: INTERRUPTED_UPLOAD),
        show_progress(progress, f"uploading {path.name}") as display,
    ):
        request = ModelUploadRequest(path, model_name, info.name, display.on_upload)
        return await _backend(io).upload(io, request)


async def delete(io: IO, model: Model | str) -> None:
    """Delete a registered model.

    Args:
        model: A model, its id or its name. On azureml a name without a version deletes the newest
            version.

    Raises:
        NotFoundError: There is no such model.
        ConflictError: A deployment uses the model.
        UnsupportedError: foundry documents no such operation.

    Example:
        >>> client.models.delete("tickets-3f2a-model")
    """
    await _backend(io).delete(io, identifiers.model_id(model))


def _weights_folder(folder: Path) -> Path:
    """Return the folder's absolute path. Raises ``ConfigError`` for a folder without weights."""
    path = Path(absolute_path(folder)).resolve()
    if not path.is_dir():
        raise ConfigError(f"folder not found: {folder}", hint="Pass the folder of the weights.")
    if not any(path.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} has no *.safetensors files",
            hint="Pass the folder that save_pretrained() of PEFT or transformers writes.",
        )
    return path
