"""Blob storage as far as training data needs it: facts in the store, bytes in files. No HTTP.

What emulators get wrong is conditions and uncommitted blocks (reliability.md section 6): conditions are
judged in the transaction that acts on them, and a block is invisible until its list is committed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from maas_client.local.resources.assets import utc_now
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import Draft, FileStore
from maas_client.local.state.store import Record, Store, Writer

_MAX_BLOCKS = 50_000
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional headers of a request; each is None or a list of etags (``*`` is any)."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None

    def check_write(self, old: Record | None) -> None:
        """Refuse a write whose conditions do not hold."""
        etag = old.body["etag"] if old else None
        if self.if_none_match is not None and _names(self.if_none_match, etag):
            if self.if_none_match == ("*",):
                raise ApiError(409, "BlobAlreadyExists", "The specified blob already exists.")
            raise _not_met()
        if self.if_match is not None and not _names(self.if_match, etag):
            raise _not_met()

    def check_read(self, blob: Record) -> None:
        """Refuse a read whose conditions do not hold: 304 or 412."""
        etag = blob.body["etag"]
        if self.if_match is not None and not _names(self.if_match, etag):
            raise _not_met()
        if self.if_none_match is not None and _names(self.if_none_match, etag):
            raise ApiError(304, "ConditionNotMet", "", headers={"ETag": etag})


def parse_etags(header: str | None) -> tuple[str, ...] | None:
    """Read an If-Match or If-None-Match header; quotes may be missing, weak marks are dropped."""
    if header is None:
        return None
    found = re.findall(r'(?:W/)?"([^"]*)"|([^\s,"]+)', header)
    return tuple(
        (quoted or bare) if (quoted or bare) == "*" else f'"{quoted or bare}"'
        for quoted, bare in found
    )


def _names(asked: tuple[str, ...], etag: str | None) -> bool:
    return etag is not None and ("*" in asked or etag in asked)


def _not_met() -> ApiError:
    return ApiError(
        412,
        "ConditionNotMet",
        "The condition specified using HTTP conditional header(s) is not met.",
    )


@dataclass(frozen=True, slots=True)
class BlobProperties:
    """What a write says about a blob beside its bytes."""

    headers: dict[str, str] = field(default_factory=dict)
    """``content-type``, ``content-encoding``, ``cache-control``, ...: given back on reads."""
    metadata: dict[str, str] = field(default_factory=dict)


class BlobStore:
    """All blobs of all workspaces' containers."""

    def __init__(self, store: Store, files: FileStore, *, durable: bool) -> None:
        self._store = store
        self._files = files
        self._durable = durable

    def draft(self) -> Draft:
        """Start receiving bytes."""
        return self._files.draft()

    def get(self, container: str, name: str) -> Record:
        """Return a committed blob, or refuse."""
        blob = self._store.read.get("blob", container, name)
        if not blob:
            raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
        return blob

    def content_id(self, container: str, name: str) -> str | None:
        """Return the id of a blob's bytes, or None."""
        blob = self._store.read.get("blob", container, name)
        return blob.body["content"] if blob else None

    def put(
        self, container: str, name: str, draft: Draft, settings: BlobProperties, when: Conditions
    ) -> Record:
        """Make received bytes a blob, whole or not at all."""
        content = draft.commit(durable=self._durable)
        md5 = base64.b64encode(draft.md5.digest()).decode()
        return self._commit(container, name, content, draft.size, md5, settings, when, [])

    def put_block(self, container: str, name: str, block: str, draft: Draft) -> None:
        """Keep a block until its list is committed."""
        _check_block_id(block)
        scope = f"{container}/{name}"
        with self._store.write() as facts:
            other = facts.newest("block", scope, limit=1)
            if other and len(other[0].key) != len(block):
                raise ApiError(
                    400, "InvalidBlobOrBlock", "All block ids of a blob must have the same length."
                )
            content = draft.commit(durable=False)
            free = facts.remove_references(f"block:{scope}#{block}")
            facts.put("block", scope, block, {"content": content, "size": draft.size})
            facts.add_reference(content, f"block:{scope}#{block}")
        self._files.remove(free)

    def commit_blocks(
        self,
        container: str,
        name: str,
        listed: list[tuple[str, str]],
        settings: BlobProperties,
        when: Conditions,
    ) -> Record:
        """Make a blob of blocks, in the order of ``listed``: (``Latest``, ``Committed`` or
        ``Uncommitted``, id)."""
        if len(listed) > _MAX_BLOCKS:
            raise ApiError(400, "BlockCountExceedsLimit", "The block list is too long.")
        old = self._store.read.get("blob", container, name)
        when.check_write(old)
        with self._files.draft() as draft:
            blocks = []
            for kind, block in listed:
                size = self._copy_block(f"{container}/{name}", old, kind, block, draft)
                blocks.append([block, size])
            content = draft.commit(durable=self._durable)
        return self._commit(container, name, content, draft.size, None, settings, when, blocks)

    def _copy_block(
        self, scope: str, old: Record | None, kind: str, block: str, draft: Draft
    ) -> int:
        waiting = self._store.read.get("block", scope, block) if kind != "Committed" else None
        if waiting:
            source, start, size = waiting.body["content"], 0, waiting.body["size"]
        elif old and kind != "Uncommitted" and (found := _committed(old, block)):
            source, (start, size) = old.body["content"], found
        else:
            raise ApiError(400, "InvalidBlockList", "The specified block list is invalid.")
        with self._files.content_path(source).open("rb") as file:
            file.seek(start)
            left = size
            while left and (data := file.read(min(_CHUNK, left))):
                draft.write(data)
                left -= len(data)
        return int(size)

    def _commit(
        self,
        container: str,
        name: str,
        content: str,
        size: int,
        md5: str | None,
        settings: BlobProperties,
        when: Conditions,
        blocks: list[list[Any]],
    ) -> Record:
        free: list[str] = [content]
        try:
            with self._store.write() as facts:
                old = facts.get("blob", container, name)
                when.check_write(old)
                headers = {"content-type": "application/octet-stream", **settings.headers}
                if md5:
                    headers.setdefault("content-md5", md5)
                stamp = utc_now()
                body = {
                    "content": content, "size": size, "headers": headers,
                    "metadata": settings.metadata, "etag": _etag(), "modified": stamp,
                    "created": old.body["created"] if old else stamp, "blocks": blocks,
                }  # fmt: skip
                free = self._replace(facts, container, name, body)
        finally:
            self._files.remove(free)
        return self.get(container, name)

    def _replace(
        self, facts: Writer, container: str, name: str, body: dict[str, Any] | None
    ) -> list[str]:
        """Put or drop a blob with what it holds; return the contents that are free now."""
        owner, scope = f"blob:{container}/{name}", f"{container}/{name}"
        free = facts.remove_references(owner)
        for block in facts.newest("block", scope):
            free += facts.remove_references(f"block:{scope}#{block.key}")
            facts.delete("block", scope, block.key)
        if body is None:
            facts.delete("blob", container, name)
        else:
            facts.put("blob", container, name, body)
            facts.add_reference(body["content"], owner)
        return free

    def set_metadata(
        self, container: str, name: str, metadata: dict[str, str], when: Conditions
    ) -> Record:
        """Replace a blob's metadata; its etag changes."""

        def change(body: dict[str, Any]) -> None:
            body["metadata"] = metadata

        return self._edit(container, name, when, change)

    def set_headers(
        self, container: str, name: str, headers: dict[str, str], when: Conditions
    ) -> Record:
        """Replace a blob's content headers; its etag changes."""

        def change(body: dict[str, Any]) -> None:
            body["headers"] = {"content-type": "application/octet-stream", **headers}

        return self._edit(container, name, when, change)

    def _edit(
        self, container: str, name: str, when: Conditions, change: Callable[[dict[str, Any]], None]
    ) -> Record:
        with self._store.write() as facts:
            blob = facts.get("blob", container, name)
            if not blob:
                raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
            when.check_write(blob)
            change(blob.body)
            blob.body.update(etag=_etag(), modified=utc_now())
            facts.put("blob", container, name, blob.body)
            return blob

    def delete(self, container: str, name: str, when: Conditions) -> None:
        """Delete a blob; its bytes go unless a job needs them."""
        with self._store.write() as facts:
            blob = facts.get("blob", container, name)
            if not blob:
                raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
            when.check_write(blob)
            free = self._replace(facts, container, name, None)
        self._files.remove(free)

    def list_blobs(self, container: str, prefix: str) -> list[Record]:
        """Return the committed blobs whose name starts with ``prefix``, by name."""
        found = self._store.read.newest("blob", container)
        return sorted((b for b in found if b.key.startswith(prefix)), key=lambda b: b.key)

    def uncommitted_blocks(self, container: str, name: str) -> list[Record]:
        """Return the uncommitted blocks of a blob, oldest first."""
        return self._store.read.newest("block", f"{container}/{name}")[::-1]


def check_md5(header: str | None, draft: Draft) -> None:
    """Refuse bytes that are not those the client meant to send."""
    if header is None:
        return
    try:
        wanted = base64.b64decode(header, validate=True)
    except binascii.Error:
        wanted = b""
    if len(wanted) != hashlib.md5(usedforsecurity=False).digest_size:
        raise ApiError(400, "InvalidMd5", "The MD5 value specified in the request is invalid.")
    if wanted != draft.md5.digest():
        raise ApiError(
            400,
            "Md5Mismatch",
            "The MD5 value specified in the request did not match with the MD5 value calculated"
            " by the server.",
        )


def _committed(blob: Record, block: str) -> tuple[int, int] | None:
    start = 0
    for found, size in blob.body["blocks"]:
        if found == block:
            return start, size
        start += size
    return None


def _check_block_id(block: str) -> None:
    try:
        raw = base64.b64decode(block, validate=True)
    except binascii.Error:
        raw = b""
    if not 1 <= len(raw) <= 64:
        raise ApiError(
            400, "InvalidQueryParameterValue", "blockid must be base64 of 1 to 64 bytes.",
            target="blockid",
        )  # fmt: skip


def _etag() -> str:
    return f'"0x{secrets.token_hex(8).upper()}"'
