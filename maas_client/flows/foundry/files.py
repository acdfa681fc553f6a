"""Training files of a Foundry resource: uploaded once, in one request or in parts, and then processed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from maas_client import catalog
from maas_client.errors import DatasetError, MaasError, NotFoundError, ServiceError, StatusError
from maas_client.flows._arm import poll_intervals
from maas_client.flows._create_once import create_once, machine_lock
from maas_client.flows._file_parts import FileSlice, reading
from maas_client.flows._io import IO
from maas_client.flows._requests import UploadRequest, catalog_override
from maas_client.flows.foundry import fingerprints, multipart_upload, upload_journal
from maas_client.types import Dataset
from maas_client.wire import foundry as ops
from maas_client.wire.foundry_models import File
from maas_client.wire.operation import Operation
from maas_client.wire.parsing import parse_item, parse_or_skip, to_datetime, translate_parse_errors

_log = logging.getLogger("maas_client")
PURPOSE = "fine-tune"
_MAX_ATTEMPTS = 3
"""How often a file is sent that arrives with other bytes."""
PROCESSING_TIMEOUT_S = 3600.0
"""How long the service may take to process a file."""
_UNUSABLE = frozenset({"error", "deleted", "deleting"})


async def upload(io: IO, request: UploadRequest) -> Dataset:
    """Upload the bytes unless they are stored, and wait until the service has processed the file.

    Raises ``DatasetError`` with the service's own text if it rejects the file.
    """
    with reading(request.path):
        size = request.path.stat().st_size
    limits = catalog.load_limits("foundry", override=catalog_override(io))
    multipart_threshold = limits.get_int("upload_threshold_bytes") or 100 * 2**20
    _check_size(request.path, size, limits.get_int("upload_bytes_max"))
    is_multipart = size >= multipart_threshold
    timeout_s = multipart_upload.upload_timeout_s(size)
    async with machine_lock(io, f"file {request.sha256}", timeout_s=timeout_s):
        file, attached = await _store(io, request, size, is_multipart=is_multipart)
    dataset = to_dataset(file)
    if not request.has_default_name and dataset.name != request.name:
        _log.warning(
            "%s is stored under the name %s, not %s: foundry cannot rename files",
            request.path.name,
            dataset.name,
            request.name,
        )
    return dataset.model_copy(
        update={
            "sha256": request.sha256,
            "bytes": size,
            "attached": attached,
        }
    )


async def _store(
    io: IO, request: UploadRequest, size: int, *, is_multipart: bool
) -> tuple[File, bool]:
    """Return the processed file, whose content is the validated one, and whether it was stored already.

    The service compares no checksum of a file that is sent in one request. So the stored content is read
    back, and a file with other bytes is deleted and sent again.
    """
    filename = fingerprints.fingerprinted_filename(request)
    damaged_ids: set[str] = set()

    async def find() -> File | None:
        return await _find_uploaded(io, filename, size, damaged_ids)

    for _ in range(_MAX_ATTEMPTS):
        existing = await find()
        if existing is not None:
            file = existing
        elif is_multipart:
            file = await multipart_upload.upload_in_parts(io, request, filename, size, find)
        else:
            file = await create_once(
                io,
                lambda: _post_file(io, request, filename, size),
                find,
                operation=ops.FILE_CREATE.name,
                hint=multipart_upload.UNKNOWN_HINT,
            )
        rejection: DatasetError | None = None
        try:
            file = await wait_until_processed(io, file)
        except DatasetError as error:
            rejection = error
        if await _has_content(io, file, request, size):
            if rejection is not None:
                raise rejection
            return file, existing is not None
        _log.warning("%s: the stored file %s has other bytes", file.filename, file.id)
        damaged_ids.add(file.id)
        if existing is None:
            with suppress(MaasError):
                await io.send(ops.FILE_DELETE, file=file.id)
    raise ServiceError(
        f"{request.path} arrived with other bytes {_MAX_ATTEMPTS} times",
        operation=ops.FILE_CREATE.name,
        hint="A proxy may change requests. Try again over another network.",
    )


async def _has_content(io: IO, file: File, request: UploadRequest, size: int) -> bool:
    """Return whether the stored file has the validated bytes; True if the service does not show them."""
    name = f"{file.id} {request.sha256}"
    if upload_journal.is_intact(io, name):
        return True
    if file.bytes not in (None, 0, size):
        return False
    sha256 = hashlib.sha256()
    try:
        async with aclosing(io.download(ops.FILE_CONTENT, file=file.id)) as pieces:
            async for piece in pieces:
                sha256.update(piece)
    except StatusError as error:
        _log.warning(
            "%s was not compared with the file that the service stored: %s", request.path, error
        )
        return True
    if sha256.hexdigest() != request.sha256:
        return False
    upload_journal.set_intact(io, name)
    return True


def _check_size(path: Path, size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise DatasetError(
            f"{path} has {size / 2**30:.1f} GiB, more than the limit of foundry, "
            f"{max_bytes / 2**30:.0f} GiB",
            hint="Split it: maas-client datasets split.",
        )


async def _find_uploaded(
    io: IO, filename: str, size: int, damaged_ids: Collection[str]
) -> File | None:
    """Return the stored file with the same fingerprint and size, unless the service rejected it."""
    fingerprint = fingerprints.filename_fingerprint(filename)
    async for item in fingerprints.list_items(io, ops.FILE_LIST, query={"purpose": PURPOSE}):
        has_fingerprint = fingerprints.filename_fingerprint(item.get("filename")) == fingerprint
        file = parse_or_skip(ops.FILE_LIST, File, item, is_wanted=has_fingerprint)
        if file is None:
            continue
        has_size = file.bytes in (None, 0, size)
        is_usable = file.status not in _UNUSABLE and file.id not in damaged_ids
        if has_size and has_fingerprint and is_usable:
            return file
    return None


async def _post_file(io: IO, request: UploadRequest, filename: str, size: int) -> File:
    data = FileSlice(request.path, 0, size, request.sha256, "sha256")
    form = [("purpose", (None, PURPOSE)), ("file", (filename, data, "application/jsonl"))]
    timeout_s = multipart_upload.upload_timeout_s(size)
    file = (await io.send(ops.FILE_CREATE, form, deadline_s=timeout_s)).value
    if request.progress is not None:
        request.progress(size, size)
    return file


async def wait_until_processed(io: IO, file: File) -> File:
    """Wait until the service has processed the file (docs/azure-http.md section 4.5)."""
    end = io.elapsed() + PROCESSING_TIMEOUT_S
    for interval in poll_intervals(io):
        status = (file.status or "processed").lower()
        if status in ("processed", "uploaded"):
            return file
        if status == "error":
            raise DatasetError(
                f"foundry rejected {file.filename}: {file.status_details or 'no reason given'}",
                hint="Check the file: maas-client validate FILE --target foundry.",
            )
        if status in _UNUSABLE:
            raise NotFoundError(
                f"{file.filename} was deleted in the meantime",
                operation="files.get",
                hint="Upload it again.",
            )
        if io.elapsed() > end:
            raise ServiceError(
                f"{file.filename} is still {file.status} after "
                f"{PROCESSING_TIMEOUT_S / 60:.0f} minutes",
                operation="files.get",
            )
        await io.sleep(interval)
        file = (await io.send(ops.FILE_GET, file=file.id)).value
    raise AssertionError("poll_intervals never ends")


async def get(io: IO, dataset: str) -> Dataset:
    """Return a file by id, or the newest with this name."""
    return to_dataset(await _find_file(io, dataset))


async def _find_file(io: IO, dataset: str) -> File:
    if dataset.startswith(("file-", "assistant-")):
        return (await io.send(ops.FILE_GET, file=dataset)).value
    files = [
        file
        async for file in _list_files(io, parse_or_skip)
        if dataset in (file.filename, _name(file), file.id)
    ]
    if not files:
        raise NotFoundError(f"file {dataset!r} not found", status=404, operation="files.list")
    return max(files, key=lambda file: file.created_at or 0)


async def _list_files(
    io: IO, parse: Callable[[Operation[Any], type[File], object], File | None]
) -> AsyncGenerator[File, None]:
    async for item in fingerprints.list_items(io, ops.FILE_LIST, query={"purpose": PURPOSE}):
        file = parse(ops.FILE_LIST, File, item)
        if file is not None and file.status not in ("deleted", "deleting"):
            yield file


async def list_all(io: IO) -> AsyncGenerator[Dataset, None]:
    """Yield the resource's training files."""
    async for file in _list_files(io, parse_item):
        yield to_dataset(file)


async def delete(io: IO, dataset: str) -> None:
    """Delete a file. The service allows this even while a job uses the file."""
    await io.send(ops.FILE_DELETE, file=(await _find_file(io, dataset)).id)


def _name(file: File) -> str:
    """Return the name that the file was uploaded with, without the fingerprint."""
    stem = file.filename.removesuffix(".jsonl")
    fingerprint = fingerprints.filename_fingerprint(file.filename)
    return stem.removesuffix(f"-{fingerprint}") if fingerprint else stem


@translate_parse_errors("files.get")
def to_dataset(file: File) -> Dataset:
    """Convert a file to a ``Dataset``."""
    return Dataset(
        id=file.id,
        name=_name(file) or file.id,
        filename=file.filename,
        bytes=file.bytes,
        status=file.status,
        created_at=to_datetime(file.created_at),
        raw=file.dump(),
    )
