"""Large files through the uploads API, in parts (docs/azure-http.md section 4.2).

Below 100 MB one request is right; a single request of more than some 150 MB is accepted and fails the job
later (reliability.md U10). Each part is compared with the bytes that were checked before it is sent, and
``complete`` carries the MD5 of the whole.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from maas_client.errors import DatasetError, MaasError, ServiceError
from maas_client.flows._backend import UploadRequest
from maas_client.flows._io import IO
from maas_client.flows.foundry.create_once import dated_base_url
from maas_client.wire import foundry as ops
from maas_client.wire.foundry_models import File

PART_BYTES = 16 * 2**20
"""At most 64 MB are allowed; four of these are in memory at once."""
MAX_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class _Plan:
    md5: str
    parts: tuple[bytes, ...]
    """MD5 of each part, in order."""


async def upload_in_parts(io: IO, order: UploadRequest, name: str, size: int) -> File:
    """Upload the file in parts and return it. Nothing is committed when its bytes have changed."""
    at = dated_base_url(io)
    plan = await io.call(lambda: _plan(order))
    body = {
        "filename": name,
        "purpose": "fine-tune",
        "bytes": size,
        "mime_type": "application/jsonl",
    }
    upload = (await io.send(ops.UPLOAD_CREATE, body, base_url=at)).value.id
    try:
        ids = await _parts(io, order, plan, at, upload, size)
    except MaasError:
        with suppress(MaasError):  # it would end by itself within the hour
            await io.send(ops.UPLOAD_CANCEL, base_url=at, upload=upload)
        raise
    said = {"part_ids": ids, "md5": plan.md5}
    done = await io.send(
        ops.UPLOAD_COMPLETE, said, base_url=at, upload=upload, deadline_s=upload_timeout_s(size)
    )
    if done.value.file is None:
        raise ServiceError(
            f"upload {upload} is {done.value.status} and names no file",
            operation="uploads.complete",
        )
    return done.value.file


async def _parts(
    io: IO, order: UploadRequest, plan: _Plan, at: str, upload: str, size: int
) -> list[str]:
    sent = [0]

    async def put(index: int) -> str:
        data = await io.call(lambda: _read(order.path, index))
        if hashlib.md5(data, usedforsecurity=False).digest() != plan.parts[index]:
            raise file_changed_error(order.path)
        form = [("data", ("upload", data, "application/octet-stream"))]
        made = await io.send(
            ops.UPLOAD_PART,
            form,
            base_url=at,
            upload=upload,
            deadline_s=upload_timeout_s(len(data)),
        )
        sent[0] += len(data)
        if order.progress is not None:
            order.progress(sent[0], size)
        return made.value.id

    return await io.parallel(put, range(len(plan.parts)), MAX_PARALLEL)


def _plan(order: UploadRequest) -> _Plan:
    """Read the file once; refuse bytes that were not checked."""
    checked, whole, parts = hashlib.sha256(), hashlib.md5(usedforsecurity=False), []
    with order.path.open("rb") as file:
        while piece := file.read(PART_BYTES):
            checked.update(piece)
            whole.update(piece)
            parts.append(hashlib.md5(piece, usedforsecurity=False).digest())
    if checked.hexdigest() != order.sha256:
        raise file_changed_error(order.path)
    return _Plan(whole.hexdigest(), tuple(parts))


def _read(path: Path, index: int) -> bytes:
    with path.open("rb") as file:
        file.seek(index * PART_BYTES)
        return file.read(PART_BYTES)


def file_changed_error(path: Path) -> DatasetError:
    """Return the error for a file that is no longer what was checked."""
    return DatasetError(
        f"{path}: the file changed while it was being uploaded; nothing was committed",
        hint="Wait until whatever writes it has ended, then run again.",
    )


def upload_timeout_s(size: int) -> float:
    """Allow a slow line: one minute, and 100 kB a second."""
    return 60.0 + size / 100_000
