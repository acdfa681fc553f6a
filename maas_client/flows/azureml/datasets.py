"""Data assets of a workspace: a blob whose path contains its hash, and a version that refers to it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from maas_client.errors import NotFoundError
from maas_client.flows import _arm
from maas_client.flows._create_once import create_once, machine_lock
from maas_client.flows._file_parts import reading
from maas_client.flows._io import IO
from maas_client.flows._requests import UploadRequest
from maas_client.flows.azureml import blob_upload
from maas_client.flows.azureml.workspace import get_datastore
from maas_client.types import Dataset
from maas_client.wire import azureml as ops
from maas_client.wire.azureml_models import DataVersion, Named
from maas_client.wire.parsing import creation_time, parse_item, parse_time, translate_parse_errors

_BYTES = "bytes"
"""The property in which an upload stores the file's size."""
_FILENAME = "filename"
"""The property in which an upload stores the file's name."""

_ARM_ID = re.compile(r"(?i)/data/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?$")


async def upload(io: IO, request: UploadRequest) -> Dataset:
    """Upload the bytes and register a version that is named after their hash.

    Equal bytes are one data set, whatever their file is called. The service reports neither hash nor size
    of a data version, so both are stored as properties.
    """
    with reading(request.path):
        size = request.path.stat().st_size
    version = request.sha256[:16]
    async with machine_lock(
        io, f"file {request.sha256}", timeout_s=blob_upload.upload_timeout_s(size)
    ):
        return await _upload(io, request, size, version)


async def _upload(io: IO, request: UploadRequest, size: int, version: str) -> Dataset:
    if request.has_default_name and (name := await blob_upload.stored_name(io, request)):
        request = replace(request, name=name)
    existing = await _find(io, request, version)
    path = None if existing is None else _blob_path(existing.properties.data_uri)
    path, attached = await blob_upload.upload_file(io, request, blob_path=path)
    if existing is None:
        existing = await _register(io, request, path, size, version)
    return to_dataset(existing, request.name, version).model_copy(
        update={
            "sha256": request.sha256,
            "filename": request.path.name,
            "bytes": size,
            "attached": attached,
        }
    )


async def _find(io: IO, request: UploadRequest, version: str) -> DataVersion | None:
    """Return the registered version with the same content, if there is one."""
    try:
        value = (await io.send(ops.DATA_VERSION_GET, name=request.name, version=version)).value
    except NotFoundError:
        return None
    return value if value.properties.properties.get("sha256") == request.sha256 else None


async def _register(
    io: IO, request: UploadRequest, path: str, size: int, version: str
) -> DataVersion:
    datastore = await get_datastore(io)
    body = {
        "properties": {
            "dataType": "uri_file",
            "dataUri": f"azureml://datastores/{datastore.name}/paths/{path}",
            "description": "",
            "isAnonymous": False,
            "isArchived": False,
            "tags": {},
            "properties": {
                "sha256": request.sha256,
                _BYTES: str(size),
                _FILENAME: blob_upload.ascii_name(request.path),
            },
        }
    }

    async def create() -> DataVersion:
        response = await io.send(ops.DATA_VERSION_CREATE, body, name=request.name, version=version)
        return response.value

    return await create_once(
        io,
        create,
        lambda: _find(io, request, version),
        operation=ops.DATA_VERSION_CREATE.name,
        hint="Run the same call again: it never registers the same bytes twice.",
    )


def _blob_path(data_uri: str) -> str | None:
    """Return the path in the default datastore that a data version refers to."""
    match = re.search(r"/datastores/workspaceblobstore/paths/(LocalUpload/.+)$", data_uri)
    return match[1] if match else None


async def get(io: IO, dataset: str) -> Dataset:
    """Return a dataset by name, ``name:version`` or ARM id; without a version, the newest."""
    name, version = _split_id(dataset)
    if version is None:
        container = (await io.send(ops.DATA_GET, name=name)).value
        properties = container.get("properties")
        newest = properties.get("latestVersion") if isinstance(properties, dict) else None
        version = str(newest or "")
        if not version:
            version = await _newest_version(io, name)
    value = (await io.send(ops.DATA_VERSION_GET, name=name, version=version)).value
    return to_dataset(value, name, version)


async def _newest_version(io: IO, name: str) -> str:
    versions = [item async for item in _arm.list_items(io, ops.DATA_VERSION_LIST, name=name)]
    if not versions:
        raise NotFoundError(f"dataset {name!r} has no version", status=404, operation="data.get")
    return _item_name(max(versions, key=creation_time))


def _item_name(item: dict[str, Any]) -> str:
    return parse_item(ops.DATA_VERSION_LIST, Named, item).name


async def list_all(io: IO) -> AsyncGenerator[Dataset, None]:
    """Yield every version of every dataset of the workspace."""
    async for container in _arm.list_items(io, ops.DATA_LIST):
        name = str(container.get("name"))
        async for item in _arm.list_items(io, ops.DATA_VERSION_LIST, name=name):
            yield to_dataset(
                parse_item(ops.DATA_VERSION_LIST, DataVersion, item), name, str(item.get("name"))
            )


async def delete(io: IO, dataset: str) -> None:
    """Delete one version, or all without a version. The bytes stay in the datastore."""
    name, version = _split_id(dataset)
    if version is not None:
        # ARM responds 204 for what never existed, so a mistyped name would seem deleted.
        await io.send(ops.DATA_VERSION_GET, name=name, version=version)
        await io.send(ops.DATA_VERSION_DELETE, name=name, version=version)
        return
    versions = [
        _item_name(item) async for item in _arm.list_items(io, ops.DATA_VERSION_LIST, name=name)
    ]
    if not versions:
        raise NotFoundError(f"dataset {name!r} not found", status=404, operation="data.delete")
    for each in versions:
        await io.send(ops.DATA_VERSION_DELETE, name=name, version=each)


def _split_id(dataset: str) -> tuple[str, str | None]:
    match = _ARM_ID.search(dataset)
    if match:
        return match["name"], match["version"]
    name, _, version = dataset.partition(":")
    return name, version or None


@translate_parse_errors("data_versions.get")
def to_dataset(value: DataVersion, name: str, version: str) -> Dataset:
    """Convert a data version to a ``Dataset``."""
    raw: dict[str, Any] = value.dump()
    size = value.properties.properties.get(_BYTES, "")
    return Dataset(
        id=value.id or value.properties.data_uri,
        name=name,
        version=version,
        uri=value.properties.data_uri,
        filename=value.properties.properties.get(_FILENAME)
        or value.properties.data_uri.rsplit("/", 1)[-1],
        sha256=value.properties.properties.get("sha256"),
        bytes=int(size) if re.fullmatch(r"[0-9]{1,18}", size) else None,
        created_at=parse_time(value.system_data.created_at) if value.system_data else None,
        raw=raw,
    )
