"""Training files into the workspace's own container: nothing twice, nothing half, nothing changed.

The path is named by the file's sha256, which the check before an upload has computed already: the file is
read once more, to be sent. (azure-ai-ml hashes with a salt of its own; its path would cost a pass over the
file.) Every request carries a checksum. What is sent is hashed on the way and compared with what was
checked: a file that changes meanwhile is never committed (reliability.md U1-U7).
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from maas_client.errors import AuthError, ConflictError, DatasetError, NotFoundError, StatusError
from maas_client.flows._backend import UploadRequest
from maas_client.flows._io import IO
from maas_client.flows.azureml.workspace import authorized_container_url
from maas_client.wire import blob
from maas_client.wire.op import Op

BLOCK_BYTES = 8 * 2**20
MAX_PARALLEL = 4
SHA256_HEADER = "x-ms-meta-sha256"
"""Of the whole file: what makes a blob at its path the one that was meant."""


class _Source:
    """The file, read block by block in order whoever asks, hashing on the way what is sent."""

    def __init__(self, order: UploadRequest) -> None:
        self.path = order.path
        self.size = order.path.stat().st_size
        self._sha256 = hashlib.sha256()
        self._turn = threading.Condition()
        self._next = 0
        self._broken = False

    def blocks(self) -> range:
        return range(-(-self.size // BLOCK_BYTES))

    def take(self, index: int) -> bytes:
        """Return one block. Callers on other threads wait until the blocks before theirs are read:
        only in order does the hash of the parts become the hash of the whole."""
        with self._turn:
            self._turn.wait_for(lambda: self._broken or self._next == index)
            try:
                with self.path.open("rb") as file:
                    file.seek(index * BLOCK_BYTES)
                    data = file.read(BLOCK_BYTES)
                if self._broken or len(data) != min(BLOCK_BYTES, self.size - index * BLOCK_BYTES):
                    raise _changed(self.path)
                self._sha256.update(data)
                self._next += 1
            except BaseException:
                self._broken = True
                raise
            finally:
                self._turn.notify_all()
        return data

    def verify(self, sha256: str) -> None:
        """Raise unless what was taken is, as a whole, what was checked."""
        if self._sha256.hexdigest() != sha256 or self.path.stat().st_size != self.size:
            raise _changed(self.path)


async def upload_file(
    io: IO, order: UploadRequest, *, blob_path: str | None = None
) -> tuple[str, bool]:
    """Upload the file and return its path in the container, and whether it lay there already.

    ``to`` is the path, where it is not the file's own content that names it.
    """
    source = _Source(order)
    path = blob_path or f"LocalUpload/{order.sha256}/{_safe_name(order.path)}"
    found = await _head(io, path)
    if found is not None and _is_whole(found, order):
        return path, True
    condition = {"if-none-match": "*"} if found is None else {}
    headers = {
        **condition,
        "x-ms-blob-content-type": "application/octet-stream",
        blob.UPLOAD_STATUS_HEADER: "completed",
        "x-ms-meta-name": order.name,
        "x-ms-meta-version": "1",
        SHA256_HEADER: order.sha256,
    }
    put = _put_whole if source.size <= BLOCK_BYTES else _put_blocks
    try:
        await put(io, order, source, path, headers)
    except StatusError as lost:
        # 409 or 412 after an answer that was lost may be our own first try: look before complaining.
        if lost.status not in (409, 412):
            raise
        found = await _head(io, path)
        if found is None or not _is_whole(found, order):
            raise ConflictError(
                "another upload of the same file is under way", status=lost.status, code=lost.code
            ) from lost
    return path, False


def _changed(path: Path) -> DatasetError:
    return DatasetError(
        f"{path}: the file changed while it was being uploaded; nothing was committed",
        hint="Wait until whatever writes it has ended, then run again.",
    )


def _safe_name(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", path.name) or "data.jsonl"


async def _opened(io: IO, op: Op[None], path: str, **rest: object) -> Mapping[str, str]:
    """Send one blob operation; a SAS that has ended is renewed once."""
    try:
        at = await authorized_container_url(io)
        return (await io.send(op, base_url=at, blob=path, **rest)).headers  # type: ignore[arg-type]  # passed on
    except StatusError as refused:
        if not isinstance(refused, AuthError) and refused.status != 403:
            raise
        at = await authorized_container_url(io, refresh=True)
        return (await io.send(op, base_url=at, blob=path, **rest)).headers  # type: ignore[arg-type]  # passed on


async def _head(io: IO, path: str) -> Mapping[str, str] | None:
    try:
        return await _opened(io, blob.BLOB_HEAD, path)
    except NotFoundError:
        return None


def _is_whole(headers: Mapping[str, str], order: UploadRequest) -> bool:
    done = headers.get(blob.UPLOAD_STATUS_HEADER, "").lower() == "completed"
    return done and headers.get(SHA256_HEADER) == order.sha256


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


async def _put_whole(
    io: IO, order: UploadRequest, source: _Source, path: str, headers: Mapping[str, str]
) -> None:
    data = await io.call(lambda: source.take(0)) if source.size else b""
    source.verify(order.sha256)
    said = {**headers, "x-ms-blob-type": "BlockBlob", "content-md5": _base64(_md5(data))}
    await _opened(io, blob.BLOB_PUT, path, body=data, headers=said, deadline_s=_deadline(len(data)))
    _tell(order, source.size, source.size)


async def _put_blocks(
    io: IO, order: UploadRequest, source: _Source, path: str, headers: Mapping[str, str]
) -> None:
    there = await _uncommitted(io, path)
    ids = [""] * len(source.blocks())
    sent = [0]

    def read(index: int) -> tuple[bytes, bytes]:
        data = source.take(index)
        return data, _md5(data)

    async def put(index: int) -> None:
        data, digest = await io.call(lambda: read(index))
        ids[index] = blob.block_id(index, digest)
        if ids[index] not in there:
            await _opened(
                io,
                blob.BLOCK_PUT,
                path,
                body=data,
                query={"blockid": ids[index]},
                headers={"content-md5": _base64(digest)},
                deadline_s=_deadline(len(data)),
            )
        sent[0] += len(data)
        _tell(order, sent[0], source.size)

    await io.parallel(put, source.blocks(), MAX_PARALLEL)
    source.verify(order.sha256)
    listed = blob.block_list_xml(ids)
    md5 = _base64(_md5(listed))
    await _opened(
        io, blob.BLOCK_LIST_PUT, path, body=listed, headers={**headers, "content-md5": md5}
    )


async def _uncommitted(io: IO, path: str) -> set[str]:
    """Return the ids of blocks that an earlier, broken run has left: they need not be sent again."""
    try:
        answer = await io.send(
            blob.BLOCK_LIST_GET, base_url=await authorized_container_url(io), blob=path
        )
    except NotFoundError:
        return set()
    except StatusError as refused:
        if refused.status in (401, 403):
            return set()  # a SAS without the right to list: everything is sent
        raise
    listed = answer.value.decode("utf-8", "replace")
    fresh = re.search(r"<UncommittedBlocks>(.*?)</UncommittedBlocks>", listed, re.S)
    return set(re.findall(r"<Name>([^<]+)</Name>", fresh.group(1))) if fresh else set()


def _deadline(size: int) -> float:
    """Allow a slow line: one minute, and 100 kB a second."""
    return 60.0 + size / 100_000


def _tell(order: UploadRequest, done: int, of: int) -> None:
    if order.progress is not None:
        order.progress(done, of)
