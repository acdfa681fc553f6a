"""Training files into the workspace's own container: nothing twice, nothing half, nothing changed.

The path is content-addressed the way azure-ai-ml does it (azure-api.md section 2), so a file that either
client uploaded is found again. Every request carries a checksum. The bytes that are sent are compared
with the bytes that were checked; a file that changes meanwhile is never committed (reliability.md U1-U7).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maas_client.errors import AuthError, ConflictError, DatasetError, NotFoundError, StatusError
from maas_client.flows._dialect import Upload
from maas_client.flows._io import IO
from maas_client.flows.azureml.workspace import container
from maas_client.wire import blob
from maas_client.wire.op import Op

BLOCK_BYTES = 8 * 2**20
PARALLEL = 4
_SALT = b"Initialize for october 2021 AML CLI version"
"""azure-ai-ml's own salt; only with it do both clients land on the same path."""


@dataclass(frozen=True, slots=True)
class _Plan:
    size: int
    path_hash: str
    blocks: tuple[bytes, ...]
    """MD5 of each block, in order."""


async def send(io: IO, order: Upload) -> tuple[str, bool]:
    """Upload the file and return its path in the container, and whether it lay there already."""
    plan = await io.call(lambda: _plan(order))
    path = f"LocalUpload/{plan.path_hash}/{_safe_name(order.path)}"
    found = await _head(io, path)
    if found is not None and _is_whole(found, plan):
        return path, True
    condition = {"if-none-match": "*"} if found is None else {}
    headers = {
        **condition,
        "x-ms-blob-content-type": "application/octet-stream",
        blob.UPLOAD_STATUS: "completed",
        "x-ms-meta-name": order.name,
        "x-ms-meta-version": "1",
        "x-ms-meta-sha256": order.sha256,
    }
    try:
        if plan.size <= BLOCK_BYTES:
            await _put_whole(io, order, plan, path, headers)
        else:
            await _put_blocks(io, order, plan, path, headers)
    except StatusError as lost:
        # 409 or 412 after an answer that was lost may be our own first try: look before complaining.
        if lost.status not in (409, 412):
            raise
        found = await _head(io, path)
        if found is None or not _is_whole(found, plan):
            raise ConflictError(
                "another upload of the same file is under way", status=lost.status, code=lost.code
            ) from lost
    return path, False


def _plan(order: Upload) -> _Plan:
    """Read the file once: the path's hash and each block's; refuse bytes that were not checked."""
    whole, named = hashlib.sha256(), hashlib.sha256(_SALT)
    blocks, size = [], 0
    with order.path.open("rb") as file:
        while piece := file.read(BLOCK_BYTES):
            whole.update(piece)
            named.update(piece)
            blocks.append(hashlib.md5(piece, usedforsecurity=False).digest())
            size += len(piece)
    if whole.hexdigest() != order.sha256:
        raise _changed(order.path)
    return _Plan(size, named.hexdigest(), tuple(blocks))


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
        at = await container(io)
        return (await io.send(op, at=at, blob=path, **rest)).headers  # type: ignore[arg-type]  # passed on
    except StatusError as refused:
        if not isinstance(refused, AuthError) and refused.status != 403:
            raise
        at = await container(io, renew=True)
        return (await io.send(op, at=at, blob=path, **rest)).headers  # type: ignore[arg-type]  # passed on


async def _head(io: IO, path: str) -> Mapping[str, str] | None:
    try:
        return await _opened(io, blob.BLOB_HEAD, path)
    except NotFoundError:
        return None


def _is_whole(headers: Mapping[str, str], plan: _Plan) -> bool:
    done = headers.get(blob.UPLOAD_STATUS, "").lower() == "completed"
    return done and headers.get("content-length", "") == str(plan.size)


def _md5(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


async def _put_whole(
    io: IO, order: Upload, plan: _Plan, path: str, headers: Mapping[str, str]
) -> None:
    data = await io.call(order.path.read_bytes)
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    if (digest,) != plan.blocks:
        raise _changed(order.path)
    said = {**headers, "x-ms-blob-type": "BlockBlob", "content-md5": _md5(digest)}
    await _opened(io, blob.BLOB_PUT, path, body=data, headers=said, deadline_s=_deadline(len(data)))
    _tell(order, plan.size, plan.size)


async def _put_blocks(
    io: IO, order: Upload, plan: _Plan, path: str, headers: Mapping[str, str]
) -> None:
    there = await _uncommitted(io, path)
    ids = [blob.block_id(i, digest) for i, digest in enumerate(plan.blocks)]
    sent = [0]

    async def put(index: int) -> None:
        data = await io.call(lambda: _read(order.path, index))
        if hashlib.md5(data, usedforsecurity=False).digest() != plan.blocks[index]:
            raise _changed(order.path)
        if ids[index] not in there:
            await _opened(
                io,
                blob.BLOCK_PUT,
                path,
                body=data,
                query={"blockid": ids[index]},
                headers={"content-md5": _md5(plan.blocks[index])},
                deadline_s=_deadline(len(data)),
            )
        sent[0] += len(data)
        _tell(order, sent[0], plan.size)

    await io.parallel(put, range(len(ids)), PARALLEL)
    listed = blob.block_list(ids)
    md5 = _md5(hashlib.md5(listed, usedforsecurity=False).digest())
    await _opened(
        io, blob.BLOCK_LIST_PUT, path, body=listed, headers={**headers, "content-md5": md5}
    )


async def _uncommitted(io: IO, path: str) -> set[str]:
    """Return the ids of blocks that an earlier, broken run has left: they need not be sent again."""
    try:
        answer = await io.send(blob.BLOCK_LIST_GET, at=await container(io), blob=path)
    except NotFoundError:
        return set()
    except StatusError as refused:
        if refused.status in (401, 403):
            return set()  # a SAS without the right to list: everything is sent
        raise
    listed = answer.value.decode("utf-8", "replace")
    fresh = re.search(r"<UncommittedBlocks>(.*?)</UncommittedBlocks>", listed, re.S)
    return set(re.findall(r"<Name>([^<]+)</Name>", fresh.group(1))) if fresh else set()


def _read(path: Path, index: int) -> bytes:
    with path.open("rb") as file:
        file.seek(index * BLOCK_BYTES)
        return file.read(BLOCK_BYTES)


def _deadline(size: int) -> float:
    """Allow a slow line: one minute, and 100 kB a second."""
    return 60.0 + size / 100_000


def _tell(order: Upload, done: int, of: int) -> None:
    if order.progress is not None:
        order.progress(done, of)
