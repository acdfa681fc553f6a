"""Models registered in a workspace."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator
from pathlib import Path

from maas_client.errors import ConfigError, NotFoundError, UnsupportedError
from maas_client.flows import _pages
from maas_client.flows._backend import ModelUploadRequest, UploadRequest
from maas_client.flows._io import IO
from maas_client.flows.azureml import blob_upload as blobs
from maas_client.flows.azureml.workspace import get_datastore, get_workspace
from maas_client.types import Model
from maas_client.wire import azureml as ops
from maas_client.wire.azureml_models import ModelVersion

_LOAD_S = 900.0
"""The server loads the weights before it answers."""
_ID = re.compile(r"(?i)/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?$")


def split_model_id(model: str) -> tuple[str, str | None]:
    """Return name and version in a name, ``name:version``, an ARM id or an asset id."""
    found = _ID.search(model)
    if found:
        return found["name"], found["version"]
    name, _, version = model.partition(":")
    return name, version or None


async def asset_id(io: IO, name: str, version: str) -> str:
    """Return what an endpoint names: region, the workspace's GUID, name and version (section 3.2)."""
    here = await get_workspace(io)
    return (
        f"azureml://locations/{here.location}/workspaces/{here.properties.workspace_id}"
        f"/models/{name}/versions/{version}"
    )


async def get(io: IO, model: str) -> Model:
    """Return one model; without a version, the newest."""
    name, version = split_model_id(model)
    if version is None:
        found = [v async for v in _pages.list_items(io, ops.MODEL_VERSION_LIST, name=name)]
        if not found:
            raise NotFoundError(f"there is no model {name!r}", status=404, operation="models.get")
        found.sort(key=lambda v: str((v.get("systemData") or {}).get("createdAt") or ""))
        return await _noun(io, ModelVersion.model_validate(found[-1]), name)
    value = (await io.send(ops.MODEL_VERSION_GET, name=name, version=version)).value
    return await _noun(io, value, name)


async def list_all(io: IO) -> AsyncGenerator[Model, None]:
    """Yield every version of every model registered in the workspace."""
    async for held in _pages.list_items(io, ops.MODEL_LIST):
        name = str(held.get("name"))
        async for value in _pages.list_items(io, ops.MODEL_VERSION_LIST, name=name):
            yield await _noun(io, ModelVersion.model_validate(value), name)


async def delete(io: IO, model: str) -> None:
    """Delete one version (the newest when none is named). Refused while it is deployed."""
    name, version = split_model_id(model)
    if version is None:
        version = (await get(io, name)).version or "1"
    # ARM answers 204 for what was never there: a mistyped name must not read as deleted.
    await io.send(ops.MODEL_VERSION_GET, name=name, version=version)
    await io.send(ops.MODEL_VERSION_DELETE, name=name, version=version)


async def upload(io: IO, order: ModelUploadRequest) -> Model:
    """Upload a folder of weights and register it; the same files again are the same version."""
    if not io.scope.local:
        raise UnsupportedError(
            "Azure's serverless endpoints answer only from models that its own jobs made",
            hint="Client.local() takes models from elsewhere.",
        )
    held = await io.call(lambda: _hashed(order.folder))
    mark = hashlib.sha256("".join(f"{n}\0{h}\n" for n, h in held.items()).encode()).hexdigest()
    home = f"LocalUpload/{mark}/{order.name}"
    for name, sha256 in held.items():
        one = UploadRequest(order.folder / name, sha256, order.name, order.progress)
        await blobs.upload_file(io, one, blob_path=f"{home}/{name}")
    store = await get_datastore(io)
    body = {
        "properties": {
            "modelType": "custom_model",
            "modelUri": f"azureml://datastores/{store.name}/paths/{home}",
            "description": "",
            "isAnonymous": False,
            "isArchived": False,
            "tags": {},
            "properties": {"baseModelId": order.base_model},
        }
    }
    answer = await io.send(
        ops.MODEL_VERSION_CREATE, body, name=order.name, version=mark[:16], deadline_s=_LOAD_S
    )
    return await _noun(io, answer.value, order.name)


def _hashed(folder: Path) -> dict[str, str]:
    """Return the folder's files by name, with their sha256. Links are not followed."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ConfigError(f"{path} is a link", hint="Copy the file itself into the folder.")
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


async def _noun(io: IO, value: ModelVersion, name: str) -> Model:
    version = value.id.rsplit("/", 1)[-1]
    held = value.properties
    base = held.properties.get("baseModelId") or held.tags.get("baseModelId")
    return Model(
        id=await asset_id(io, name, version),
        name=name,
        version=version,
        job=held.job_name,
        base_model=str(base) if base else None,
        created_at=value.system_data.created_at if value.system_data else None,
        properties={**held.tags, **held.properties},
        raw=value.dump(),
    )
