"""Training files of a Foundry resource: by size in one request or in parts, and never twice."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

from maas_client import catalog
from maas_client.errors import DatasetError, NotFoundError, ServiceError
from maas_client.flows import identifiers
from maas_client.flows._arm import poll_intervals
from maas_client.flows._backend import UploadRequest
from maas_client.flows._io import IO
from maas_client.flows.foundry import create_once, marks, multipart_upload
from maas_client.types import Dataset
from maas_client.wire import foundry as ops
from maas_client.wire.foundry_models import File

PURPOSE = "fine-tune"
PROCESSING_TIMEOUT_S = 3600.0
"""How long the service may take to look through a file."""
_LOST = frozenset({"error", "deleted", "deleting"})


async def upload(io: IO, order: UploadRequest) -> Dataset:
    """Upload the bytes unless they lie there, wait until the service has looked them through.

    Raises ``DatasetError`` with the service's own text when it refuses the file.
    """
    size = order.path.stat().st_size
    kept_as = marks.fingerprinted_filename(order)

    async def look() -> File | None:
        return await _held(io, kept_as, size)

    async def send() -> File:
        if size >= (limits.get_int("upload_threshold_bytes") or 100 * 2**20):
            return await multipart_upload.upload_in_parts(io, order, kept_as, size)
        return await _post(io, order, kept_as)

    limits = catalog.load_limits("foundry", override=identifiers.catalog_override(io))
    _fits(order.path, size, limits.get_int("upload_bytes_max"))
    found = await look()
    there = found if found is not None else await create_once.create_once(io, send, look)
    return to_dataset(await wait_until_processed(io, there)).model_copy(
        update={
            "name": order.name,
            "sha256": order.sha256,
            "bytes": size,
            "already_there": found is not None,
        }
    )


def _fits(path: Path, size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise DatasetError(
            f"{path} has {size / 2**30:.1f} GiB, more than the {most / 2**30:.0f} GiB foundry takes",
            hint="Split it: maas-client datasets split.",
        )


async def _held(io: IO, name: str, size: int) -> File | None:
    """Return the file with our mark and size, if the resource holds one that was not refused."""
    mark = marks.filename_fingerprint(name)
    async for item in create_once.list_items(io, ops.FILE_LIST, query={"purpose": PURPOSE}):
        file = File.model_validate(item)
        known = file.bytes in (None, 0, size) and marks.filename_fingerprint(file.filename) == mark
        if known and file.status not in _LOST:
            return file
    return None


async def _post(io: IO, order: UploadRequest, name: str) -> File:
    data = await io.call(order.path.read_bytes)
    if hashlib.sha256(data).hexdigest() != order.sha256:
        raise multipart_upload.file_changed_error(order.path)
    form = [("purpose", (None, PURPOSE)), ("file", (name, data, "application/jsonl"))]
    deadline_s = multipart_upload.upload_timeout_s(len(data))
    made = (await io.send(ops.FILE_CREATE, form, deadline_s=deadline_s)).value
    if order.progress is not None:
        order.progress(len(data), len(data))
    return made


async def wait_until_processed(io: IO, file: File) -> File:
    """Wait until the service has looked the file through (docs/azure-http.md section 4.5)."""
    end = io.elapsed() + PROCESSING_TIMEOUT_S
    for pause in poll_intervals(io):
        status = (file.status or "processed").lower()
        if status in ("processed", "uploaded"):
            return file
        if status == "error":
            raise DatasetError(
                f"foundry refused {file.filename}: {file.status_details or 'without a reason'}",
                hint="Check the file: maas-client validate FILE --target foundry.",
            )
        if status in _LOST:
            raise NotFoundError(f"{file.filename} was deleted meanwhile", operation="files.get")
        if io.elapsed() > end:
            raise ServiceError(
                f"{file.filename} is still {file.status} after {PROCESSING_TIMEOUT_S / 60:.0f} minutes",
                operation="files.get",
            )
        await io.sleep(pause)
        file = (await io.send(ops.FILE_GET, file=file.id)).value
    raise AssertionError("pauses never end")


async def get(io: IO, dataset: str) -> Dataset:
    """Return one file by id, or by name: the newest with it."""
    return to_dataset(await _find(io, dataset))


async def _find(io: IO, dataset: str) -> File:
    if dataset.startswith(("file-", "assistant-")):
        return (await io.send(ops.FILE_GET, file=dataset)).value
    found = [f async for f in _files(io) if dataset in (f.filename, _name(f), f.id)]
    if not found:
        raise NotFoundError(f"there is no file {dataset!r}", status=404, operation="files.list")
    return max(found, key=lambda f: f.created_at or 0)


async def _files(io: IO) -> AsyncGenerator[File, None]:
    async for item in create_once.list_items(io, ops.FILE_LIST, query={"purpose": PURPOSE}):
        file = File.model_validate(item)
        if file.status not in ("deleted", "deleting"):
            yield file


async def list_all(io: IO) -> AsyncGenerator[Dataset, None]:
    """Yield the resource's training files."""
    async for file in _files(io):
        yield to_dataset(file)


async def delete(io: IO, dataset: str) -> None:
    """Delete one file. The service allows it also while a job names it."""
    await io.send(ops.FILE_DELETE, file=(await _find(io, dataset)).id)


def _name(file: File) -> str:
    """Return the name a file was given: without the mark."""
    stem = file.filename.removesuffix(".jsonl")
    mark = marks.filename_fingerprint(file.filename)
    return stem.removesuffix(f"-{mark}") if mark else stem


def to_dataset(file: File) -> Dataset:
    """Return the public noun for a file."""
    born = create_once.to_datetime(file.created_at)
    return Dataset(
        id=file.id,
        name=_name(file) or file.id,
        filename=file.filename,
        bytes=file.bytes,
        status=file.status,
        created_at=born.isoformat() if born else None,
        raw=file.dump(),
    )
