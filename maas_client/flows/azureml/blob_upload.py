"""Upload files to the workspace's container, without sending stored bytes again or storing changed ones.

The blob's path is made from the file's sha256, which the validation before the upload has computed, so the
file is read once more, to be sent. (azure-ai-ml uses a salted hash; its path would need another pass.)
Every request has a checksum, with which the service compares the bytes that arrive. The bytes are hashed
before they are sent and compared with the validated ones: a file that changes in between is never committed.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from maas_client.errors import AuthError, ConflictError, NotFoundError, StatusError
from maas_client.flows._file_parts import CHUNK_BYTES, FileSlice, file_changed_error, reading
from maas_client.flows._io import IO
from maas_client.flows._requests import UploadRequest
from maas_client.flows.azureml.workspace import authorized_container_url
from maas_client.wire import blob
from maas_client.wire.operation import Operation

BLOCK_BYTES = 8 * 2**20
MAX_PARALLEL = 4
_MAX_ATTEMPTS = 3
"""How often a body is sent that arrives damaged, or a blob whose blocks another upload has removed."""
SHA256_HEADER = "x-ms-meta-sha256"
"""The digest of the whole file, which shows that the blob at a path is the expected one."""


class _FileReader:
    """Reads a file block by block in order, from several threads, and hashes what it returns."""

    def __init__(self, request: UploadRequest) -> None:
        self.path = request.path
        with reading(self.path):
            self.size = request.path.stat().st_size
        self._expected_sha256 = request.sha256
        self._sha256 = hashlib.sha256()
        self._condition = threading.Condition()
        self._next = 0
        self._failed = False

    def block_indexes(self) -> range:
        return range(-(-self.size // BLOCK_BYTES))

    def read_block(self, index: int) -> FileSlice:
        """Return one block, hashed.

        Waits until other threads have hashed the blocks before it, because the hash of the whole needs them in
        order.
        """
        start = index * BLOCK_BYTES
        size = min(BLOCK_BYTES, self.size - start)
        md5 = hashlib.md5(usedforsecurity=False)
        with self._condition:
            self._condition.wait_for(lambda: self._failed or self._next == index)
            try:
                with reading(self.path), self.path.open("rb", buffering=0) as file:
                    file.seek(start)
                    remaining = size
                    while remaining and not self._failed:
                        chunk = file.read(min(CHUNK_BYTES, remaining))
                        if not chunk:
                            break
                        self._sha256.update(chunk)
                        md5.update(chunk)
                        remaining -= len(chunk)
                if remaining:
                    raise file_changed_error(self.path)
                self._next += 1
            except BaseException:
                self._failed = True
                raise
            finally:
                self._condition.notify_all()
        return FileSlice(self.path, start, size, md5.hexdigest(), None)

    def verify(self) -> None:
        """Raise ``DatasetError`` unless the bytes that were read are the validated ones."""
        with reading(self.path):
            size = self.path.stat().st_size
        if self._sha256.hexdigest() != self._expected_sha256 or size != self.size:
            raise file_changed_error(self.path)

    def is_changed(self) -> bool:
        """Return whether the file has other bytes than the validated ones now."""
        with reading(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != self._expected_sha256

    def abort(self) -> None:
        """End the calls of ``read_block`` that wait for blocks before theirs."""
        with self._condition:
            self._failed = True
            self._condition.notify_all()


async def upload_file(
    io: IO, request: UploadRequest, *, blob_path: str | None = None
) -> tuple[str, bool]:
    """Upload the file and return its path in the container, and whether it was stored already.

    ``blob_path`` is the path to use; default: one that contains the file's hash.
    """
    path = blob_path or _default_path(request)
    error: StatusError | None = None
    for _ in range(_MAX_ATTEMPTS):
        reader = _FileReader(request)
        existing = await _head(io, path)
        if existing is not None and _is_complete(existing, request):
            return path, error is None
        condition = {"if-none-match": "*"} if existing is None else {}
        headers = {
            **condition,
            "x-ms-blob-content-type": "application/octet-stream",
            blob.UPLOAD_STATUS_HEADER: "completed",
            "x-ms-meta-name": request.name,
            "x-ms-meta-version": "1",
            SHA256_HEADER: request.sha256,
        }
        put = _put_blob if reader.size <= BLOCK_BYTES else _put_blocks
        try:
            await put(io, request, reader, path, headers)
        except StatusError as put_error:
            if put_error.code == "Md5Mismatch" and await io.call(reader.is_changed):
                raise file_changed_error(reader.path) from put_error
            if not _may_be_stored(put_error):
                raise
            error = put_error
        else:
            return path, False
        finally:
            reader.abort()
    existing = await _head(io, path)
    if existing is not None and _is_complete(existing, request):
        return path, False
    raise ConflictError(
        "another upload of the same file is in progress",
        status=error.status if error else None,
        code=error.code if error else None,
        operation="blobs.put",
        hint="Wait until it has ended, then run again.",
    ) from error


def _may_be_stored(error: StatusError) -> bool:
    """Return whether the blob may be stored in spite of the error.

    409 and 412 may be the effect of our own first attempt, whose response was lost, or of another upload of
    the same file. When that one commits, the service drops the blocks of this one (``InvalidBlockList``).
    """
    return error.status in (409, 412) or error.code == "InvalidBlockList"


def ascii_name(path: Path) -> str:
    """Return a file's name with ``_`` for everything but ASCII letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", path.name)


def _default_path(request: UploadRequest) -> str:
    """Return a path that depends on the content only, so that equal files are stored once."""
    return f"LocalUpload/{request.sha256}/data.jsonl"


async def stored_name(io: IO, request: UploadRequest) -> str | None:
    """Return the name under which the same bytes were uploaded before; None if they were not."""
    headers = await _head(io, _default_path(request))
    if headers is None or not _is_complete(headers, request):
        return None
    name = headers.get("x-ms-meta-name", "")
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) else None


async def _send_blob(
    io: IO, op: Operation[None], path: str, **options: object
) -> Mapping[str, str]:
    """Send a blob operation and return the response headers.

    An expired SAS is renewed once, and a body that was damaged on its way is sent again: the service
    compares it with its MD5.
    """
    for attempt in range(_MAX_ATTEMPTS):
        try:
            return await _send_authorized(io, op, path, **options)
        except StatusError as error:
            if error.code != "Md5Mismatch" or attempt == _MAX_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _send_authorized(
    io: IO, op: Operation[None], path: str, **options: object
) -> Mapping[str, str]:
    try:
        url = await authorized_container_url(io)
        return (await io.send(op, base_url=url, blob=path, **options)).headers  # type: ignore[arg-type]  # passed on
    except StatusError as error:
        if not isinstance(error, AuthError) and error.status != 403:
            raise
        url = await authorized_container_url(io, refresh=True)
        return (await io.send(op, base_url=url, blob=path, **options)).headers  # type: ignore[arg-type]  # passed on


async def _head(io: IO, path: str) -> Mapping[str, str] | None:
    try:
        return await _send_blob(io, blob.BLOB_HEAD, path)
    except NotFoundError:
        return None


def _is_complete(headers: Mapping[str, str], request: UploadRequest) -> bool:
    is_committed = headers.get(blob.UPLOAD_STATUS_HEADER, "").lower() == "completed"
    return is_committed and headers.get(SHA256_HEADER) == request.sha256


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


async def _put_blob(
    io: IO, request: UploadRequest, reader: _FileReader, path: str, headers: Mapping[str, str]
) -> None:
    """Upload a small file in one request."""
    data = await io.call(lambda: reader.read_block(0))
    await io.call(reader.verify)
    await _send_blob(
        io,
        blob.BLOB_PUT,
        path,
        body=data,
        headers={
            **headers,
            "x-ms-blob-type": "BlockBlob",
            "content-md5": _base64(bytes.fromhex(data.digest)),
        },
        deadline_s=upload_timeout_s(len(data)),
    )
    _report_progress(request, reader.size, reader.size)


async def _put_blocks(
    io: IO, request: UploadRequest, reader: _FileReader, path: str, headers: Mapping[str, str]
) -> None:
    """Upload a large file in blocks and commit them; blocks of an interrupted upload are not sent again."""
    stored_ids = await _uncommitted_block_ids(io, path)
    ids = [""] * len(reader.block_indexes())
    sent = [0]

    async def put(index: int) -> None:
        data = await io.call(lambda: reader.read_block(index))
        digest = bytes.fromhex(data.digest)
        ids[index] = blob.block_id(index, digest)
        if ids[index] not in stored_ids:
            await _send_blob(
                io,
                blob.BLOCK_PUT,
                path,
                body=data,
                query={"blockid": ids[index]},
                headers={"content-md5": _base64(digest)},
                deadline_s=upload_timeout_s(len(data)),
            )
        sent[0] += len(data)
        _report_progress(request, sent[0], reader.size)

    await io.parallel(put, reader.block_indexes(), MAX_PARALLEL)
    await io.call(reader.verify)
    body = blob.block_list_xml(ids)
    md5 = _base64(_md5(body))
    await _send_blob(
        io, blob.BLOCK_LIST_PUT, path, body=body, headers={**headers, "content-md5": md5}
    )


async def _uncommitted_block_ids(io: IO, path: str) -> set[str]:
    """Return the ids of blocks that an interrupted upload has left."""
    try:
        response = await io.send(
            blob.BLOCK_LIST_GET, base_url=await authorized_container_url(io), blob=path
        )
    except NotFoundError:
        return set()
    except StatusError as error:
        if error.status in (401, 403):
            return set()  # the SAS does not allow listing, so all blocks are sent
        raise
    text = response.value.decode("utf-8", "replace")
    blocks = re.search(r"<UncommittedBlocks>(.*?)</UncommittedBlocks>", text, re.S)
    return set(re.findall(r"<Name>([^<]+)</Name>", blocks.group(1))) if blocks else set()


def upload_timeout_s(size: int) -> float:
    """Return the time to allow for a request body: a minute, plus the time at 100 kB/s."""
    return 60.0 + size / 100_000


def _report_progress(request: UploadRequest, sent: int, total: int) -> None:
    if request.progress is not None:
        request.progress(sent, total)
