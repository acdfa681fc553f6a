"""Upload large files in parts (docs/azure-http.md section 4.2).

Files below 100 MB are sent in one request. A single request of more than about 150 MB is accepted, and the
job fails later. Each part is compared with the validated bytes before it is sent, and the final request
carries the MD5 of the whole file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from maas_client.errors import DatasetError, MaasError, ServiceError
from maas_client.flows._backend import UploadRequest
from maas_client.flows._create_once import create_once
from maas_client.flows._io import IO
from maas_client.flows.foundry.fingerprints import dated_base_url
from maas_client.wire import foundry as ops
from maas_client.wire.foundry_models import File

PART_BYTES = 16 * 2**20
"""The service allows 64 MB; ``MAX_PARALLEL`` parts are in memory at once."""
MAX_PARALLEL = 4
UNKNOWN_HINT = "Run the same call again: it looks for the file first, and never stores it twice."


@dataclass(frozen=True, slots=True)
class _Checksums:
    md5: str
    """Of the whole file, in hexadecimal."""
    parts: tuple[bytes, ...]
    """MD5 digests of the parts, in order."""


async def upload_in_parts(
    io: IO,
    request: UploadRequest,
    name: str,
    size: int,
    find: Callable[[], Awaitable[File | None]],
) -> File:
    """Upload the file in parts and return it. Nothing is stored if its bytes have changed.

    ``find`` looks for the file after a completion whose outcome is unknown.
    """
    base_url = dated_base_url(io)
    checksums = await io.call(lambda: _compute_checksums(request))
    body = {
        "filename": name,
        "purpose": "fine-tune",
        "bytes": size,
        "mime_type": "application/jsonl",
    }
    upload = (await io.send(ops.UPLOAD_CREATE, body, base_url=base_url)).value.id
    try:
        part_ids = await _send_parts(io, request, checksums, base_url, upload, size)
    except MaasError:
        with suppress(MaasError):  # the service ends an incomplete upload within an hour
            await io.send(ops.UPLOAD_CANCEL, base_url=base_url, upload=upload)
        raise

    async def complete() -> File:
        response = await io.send(
            ops.UPLOAD_COMPLETE,
            {"part_ids": part_ids, "md5": checksums.md5},
            base_url=base_url,
            upload=upload,
            deadline_s=upload_timeout_s(size),
        )
        if response.value.file is None:
            raise ServiceError(
                f"upload {upload} is {response.value.status} and has no file",
                operation=ops.UPLOAD_COMPLETE.name,
            )
        return response.value.file

    return await create_once(
        io, complete, find, operation=ops.UPLOAD_COMPLETE.name, hint=UNKNOWN_HINT
    )


async def _send_parts(
    io: IO, request: UploadRequest, checksums: _Checksums, base_url: str, upload: str, size: int
) -> list[str]:
    sent = [0]

    async def send(index: int) -> str:
        data = await io.call(lambda: _read_part(request.path, index))
        if hashlib.md5(data, usedforsecurity=False).digest() != checksums.parts[index]:
            raise file_changed_error(request.path)
        form = [("data", ("upload", data, "application/octet-stream"))]
        response = await io.send(
            ops.UPLOAD_PART,
            form,
            base_url=base_url,
            upload=upload,
            deadline_s=upload_timeout_s(len(data)),
        )
        sent[0] += len(data)
        if request.progress is not None:
            request.progress(sent[0], size)
        return response.value.id

    return await io.parallel(send, range(len(checksums.parts)), MAX_PARALLEL)


def _compute_checksums(request: UploadRequest) -> _Checksums:
    """Read the file once. Raises ``DatasetError`` if its bytes are not the validated ones."""
    sha256, md5, parts = hashlib.sha256(), hashlib.md5(usedforsecurity=False), []
    with request.path.open("rb") as file:
        while part := file.read(PART_BYTES):
            sha256.update(part)
            md5.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    if sha256.hexdigest() != request.sha256:
        raise file_changed_error(request.path)
    return _Checksums(md5.hexdigest(), tuple(parts))


def _read_part(path: Path, index: int) -> bytes:
    with path.open("rb") as file:
        file.seek(index * PART_BYTES)
        return file.read(PART_BYTES)


def file_changed_error(path: Path) -> DatasetError:
    """Return the error for a file whose bytes are no longer the validated ones."""
    return DatasetError(
        f"{path}: the file changed during the upload; nothing was stored",
        hint="Wait until nothing writes to the file, then run again.",
    )


def upload_timeout_s(size: int) -> float:
    """Return the time to allow for a request body: a minute, plus the time at 100 kB/s."""
    return 60.0 + size / 100_000
