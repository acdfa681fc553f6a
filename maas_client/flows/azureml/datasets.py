"""Data assets of a workspace: a blob with a content-addressed path, and a version that names it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

from maas_client.errors import NotFoundError
from maas_client.flows import _pages
from maas_client.flows._backend import UploadRequest
from maas_client.flows._io import IO
from maas_client.flows.azureml import blob_upload as blobs
from maas_client.flows.azureml.workspace import get_datastore
from maas_client.types import Dataset
from maas_client.wire import azureml as ops
from maas_client.wire.azureml_models import DataVersion

_BYTES = "bytes"
"""The property in which an upload notes the file's size."""

_ARM_ID = re.compile(r"(?i)/data/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?$")


async def upload(io: IO, order: UploadRequest) -> Dataset:
    """Upload the bytes and register a version named after their hash: a stale one is never met.

    A data version tells neither hash nor size, so both are noted among its own properties.
    """
    size = order.path.stat().st_size
    path, already = await blobs.upload_file(io, order)
    store = await get_datastore(io)
    uri = f"azureml://datastores/{store.name}/paths/{path}"
    body = {
        "properties": {
            "dataType": "uri_file",
            "dataUri": uri,
            "description": "",
            "isAnonymous": False,
            "isArchived": False,
            "tags": {},
            "properties": {"sha256": order.sha256, _BYTES: str(size)},
        }
    }
    version = order.sha256[:16]
    answer = await io.send(ops.DATA_VERSION_CREATE, body, name=order.name, version=version)
    made = to_dataset(answer.value, order.name, version)
    return made.model_copy(
        update={
            "sha256": order.sha256,
            "filename": order.path.name,
            "bytes": size,
            "already_there": already,
        }
    )


async def get(io: IO, dataset: str) -> Dataset:
    """Return one data set by name, ``name:version``, or ARM id; without a version, the newest."""
    name, version = _parts(dataset)
    if version is None:
        held = (await io.send(ops.DATA_GET, name=name)).value
        version = str(held.get("properties", {}).get("latestVersion") or "")
        if not version:
            version = await _newest(io, name)
    value = (await io.send(ops.DATA_VERSION_GET, name=name, version=version)).value
    return to_dataset(value, name, version)


async def _newest(io: IO, name: str) -> str:
    found = [v async for v in _pages.list_items(io, ops.DATA_VERSION_LIST, name=name)]
    if not found:
        raise NotFoundError(f"data set {name!r} has no version", status=404, operation="data.get")
    found.sort(key=lambda v: str((v.get("systemData") or {}).get("createdAt") or ""))
    return str(found[-1]["name"])


async def list_all(io: IO) -> AsyncGenerator[Dataset, None]:
    """Yield every version of every data set of the workspace."""
    async for held in _pages.list_items(io, ops.DATA_LIST):
        name = str(held.get("name"))
        async for value in _pages.list_items(io, ops.DATA_VERSION_LIST, name=name):
            yield to_dataset(DataVersion.model_validate(value), name, str(value.get("name")))


async def delete(io: IO, dataset: str) -> None:
    """Delete one version; without a version, all of them. The bytes stay in the datastore."""
    name, version = _parts(dataset)
    if version is not None:
        # ARM answers 204 for what was never there: a mistyped name must not read as deleted.
        await io.send(ops.DATA_VERSION_GET, name=name, version=version)
        await io.send(ops.DATA_VERSION_DELETE, name=name, version=version)
        return
    versions = [
        str(v["name"]) async for v in _pages.list_items(io, ops.DATA_VERSION_LIST, name=name)
    ]
    if not versions:
        raise NotFoundError(f"there is no data set {name!r}", status=404, operation="data.delete")
    for one in versions:
        await io.send(ops.DATA_VERSION_DELETE, name=name, version=one)


def _parts(dataset: str) -> tuple[str, str | None]:
    found = _ARM_ID.search(dataset)
    if found:
        return found["name"], found["version"]
    name, _, version = dataset.partition(":")
    return name, version or None


def to_dataset(value: DataVersion, name: str, version: str) -> Dataset:
    """Return the public noun for a data version."""
    raw: dict[str, Any] = value.dump()
    size = value.properties.properties.get(_BYTES, "")
    return Dataset(
        id=value.id or value.properties.data_uri,
        name=name,
        version=version,
        uri=value.properties.data_uri,
        filename=value.properties.data_uri.rsplit("/", 1)[-1],
        sha256=value.properties.properties.get("sha256"),
        bytes=int(size) if size.isascii() and size.isdigit() else None,
        created_at=value.system_data.created_at if value.system_data else None,
        raw=raw,
    )
