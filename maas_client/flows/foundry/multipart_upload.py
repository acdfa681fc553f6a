"""Upload large files in parts (docs/azure-http.md section 4.2).

Files below 100 MB are sent in one request. A single request of more than about 150 MB is accepted, and the
job fails later. Each part is compared with the validated bytes while it is sent, and the final request
carries the MD5 of the whole file. A journal on this machine names the parts that the service has, so that
an interrupted upload is continued by the same call.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from maas_client.errors import MaasError, ServiceError, StatusError
from maas_client.flows._arm import is_transient
from maas_client.flows._create_once import create_once
from maas_client.flows._file_parts import FileSlice, file_changed_error, reading
from maas_client.flows._io import IO
from maas_client.flows._requests import UploadRequest
from maas_client.flows.foundry.fingerprints import dated_base_url
from maas_client.flows.foundry.upload_journal import UploadJournal
from maas_client.wire import foundry as ops
from maas_client.wire.foundry_models import File

_log = logging.getLogger("maas_client")
PART_BYTES = 16 * 2**20
"""The service allows 64 MB. After an interruption at most ``MAX_PARALLEL`` parts are sent again."""
MAX_PARALLEL = 4
_MAX_ATTEMPTS = 3
_CHUNK_BYTES = 2**20
UNKNOWN_HINT = "Run the same call again: it looks for the file first, and never stores it twice."


@dataclass(frozen=True, slots=True)
class _Checksums:
    md5: str
    """Of the whole file, in hexadecimal."""
    parts: tuple[str, ...]
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
    checksums = await io.call(lambda: _compute_checksums(request))
    journal = UploadJournal(io, f"{name} {request.sha256} {PART_BYTES}")
    await io.call(journal.load)
    if journal.has_expired:
        _log.warning("an earlier upload of %s has expired: all of it is sent again", request.path)
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        is_continued = journal.upload is not None
        try:
            file = await _upload(io, request, journal, checksums, name, size, find)
        except MaasError as error:
            if is_transient(error):
                raise  # the same call continues the upload
            await _cancel(io, journal)
            is_repeatable = is_continued or _is_damaged(error)
            if attempt == _MAX_ATTEMPTS or not isinstance(error, StatusError) or not is_repeatable:
                raise
            _log.warning("%s is sent again from its start: %s", request.path, error.message)
        else:
            await io.call(journal.delete)
            return file
    raise AssertionError("the last attempt returns or raises")


def _is_damaged(error: MaasError) -> bool:
    """Return whether the service compared the MD5 and found other bytes."""
    return isinstance(error, StatusError) and "md5" in f"{error.target} {error.message}".lower()


async def _cancel(io: IO, journal: UploadJournal) -> None:
    upload = journal.upload
    await io.call(journal.delete)
    if upload is not None:
        with suppress(MaasError):  # the service ends an incomplete upload within an hour
            await io.send(ops.UPLOAD_CANCEL, base_url=dated_base_url(io), upload=upload)


async def _upload(
    io: IO,
    request: UploadRequest,
    journal: UploadJournal,
    checksums: _Checksums,
    name: str,
    size: int,
    find: Callable[[], Awaitable[File | None]],
) -> File:
    base_url = dated_base_url(io)
    if journal.upload is None:
        body = {
            "filename": name,
            "purpose": "fine-tune",
            "bytes": size,
            "mime_type": "application/jsonl",
        }
        created = (await io.send(ops.UPLOAD_CREATE, body, base_url=base_url)).value
        await io.call(lambda: journal.start(created.id, created.expires_at))
    await _send_parts(io, request, journal, checksums, size)
    upload = journal.upload or ""
    part_ids = [journal.parts[index] for index in range(len(checksums.parts))]

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
    io: IO, request: UploadRequest, journal: UploadJournal, checksums: _Checksums, size: int
) -> None:
    """Send the parts that the service does not have yet."""
    base_url = dated_base_url(io)

    def part(index: int) -> FileSlice:
        start = index * PART_BYTES
        length = min(PART_BYTES, size - start)
        return FileSlice(request.path, start, length, checksums.parts[index], "md5")

    indexes = range(len(checksums.parts))
    started, warned = io.elapsed(), [False]
    sent = [sum(len(part(index)) for index in journal.parts if index in indexes)]
    sent_before = sent[0]
    if sent[0] and request.progress is not None:
        request.progress(sent[0], size)

    async def send(index: int) -> None:
        data = part(index)
        form = [("data", ("upload", data, "application/octet-stream"))]
        response = await io.send(
            ops.UPLOAD_PART,
            form,
            base_url=base_url,
            upload=journal.upload or "",
            deadline_s=upload_timeout_s(len(data)),
        )
        await io.call(lambda: journal.add(index, response.value.id))
        sent[0] += len(data)
        if not warned[0]:
            warned[0] = _warn_of_expiry(
                journal, sent[0] - sent_before, size - sent[0], io.elapsed() - started
            )
        if request.progress is not None:
            request.progress(sent[0], size)

    await io.parallel(send, [i for i in indexes if i not in journal.parts], MAX_PARALLEL)


def _warn_of_expiry(journal: UploadJournal, sent: int, remaining: int, elapsed_s: float) -> bool:
    """Log, and return True, if the upload will expire before all of it is sent at the speed so far."""
    needed_s, left_s = remaining * elapsed_s / sent, journal.expires_at - time.time()
    if needed_s <= left_s:
        return False
    _log.warning(
        "the upload needs about %.0f more minutes, but the service ends it in %.0f. Then all of it is sent "
        "again. Use a faster connection, or a smaller file.",
        needed_s / 60, max(0.0, left_s / 60),
    )  # fmt: skip
    return True


def _compute_checksums(request: UploadRequest) -> _Checksums:
    """Read the file once. Raises ``DatasetError`` if its bytes are not the validated ones."""
    sha256, md5, parts = hashlib.sha256(), hashlib.md5(usedforsecurity=False), []
    with reading(request.path), request.path.open("rb") as file:
        part, remaining = hashlib.md5(usedforsecurity=False), PART_BYTES
        while chunk := file.read(min(_CHUNK_BYTES, remaining)):
            for digest in (sha256, md5, part):
                digest.update(chunk)
            remaining -= len(chunk)
            if not remaining:
                parts.append(part.hexdigest())
                part, remaining = hashlib.md5(usedforsecurity=False), PART_BYTES
        if remaining < PART_BYTES:
            parts.append(part.hexdigest())
    if sha256.hexdigest() != request.sha256:
        raise file_changed_error(request.path)
    return _Checksums(md5.hexdigest(), tuple(parts))


def upload_timeout_s(size: int) -> float:
    """Return the time to allow for a request body: a minute, plus the time at 100 kB/s."""
    return 60.0 + size / 100_000
