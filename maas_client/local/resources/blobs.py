"""Blob storage for training data: records in the store, bytes in files.

Conditional headers are checked in the transaction that makes the change, and a block is invisible until its
block list is committed. Storage emulators often get these two wrong.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from maas_client.local.resources.assets import utc_now
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import FileStore, PendingFile
from maas_client.local.state.store import Record, Store, Writer

_MAX_BLOCKS = 50_000
_CHUNK = 1 << 20
_LIST_BATCH = 500
"""How many blobs a list reads at a time."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional headers of a request; None for a header that it does not have.

    A date counts only without the etag condition of the same direction (RFC 9110 section 13.2.2).
    """

    if_match: tuple[str, ...] | None = None
    """Etags; ``*`` matches any."""
    if_none_match: tuple[str, ...] | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None

    def check_create(self, existing: Record | None) -> None:
        """Raise ``ApiError`` (409 or 412) if creating or replacing a blob does not meet the conditions."""
        if existing is not None and self.if_none_match == ("*",):
            raise ApiError(409, "BlobAlreadyExists", "The specified blob already exists.")
        if not self._precondition_met(existing) or not self._is_changed(existing):
            raise condition_not_met()

    def check_write(self, existing: Record) -> None:
        """Raise ``ApiError`` (412) if changing or deleting does not meet the conditions."""
        if not self._precondition_met(existing) or not self._is_changed(existing):
            raise condition_not_met()

    def check_read(self, blob: Record) -> None:
        """Raise ``ApiError`` (304 or 412) if a read does not meet the conditions."""
        if not self._precondition_met(blob):
            raise condition_not_met()
        if not self._is_changed(blob):
            raise ApiError(304, "ConditionNotMet", "", headers={"ETag": blob.body["etag"]})

    def _precondition_met(self, blob: Record | None) -> bool:
        """Evaluate If-Match, or else If-Unmodified-Since."""
        if self.if_match is not None:
            return _matches(self.if_match, blob)
        if self.if_unmodified_since is None or blob is None:
            return True
        return _modified_at(blob) <= self.if_unmodified_since

    def _is_changed(self, blob: Record | None) -> bool:
        """Evaluate If-None-Match, or else If-Modified-Since."""
        if self.if_none_match is not None:
            return not _matches(self.if_none_match, blob)
        if self.if_modified_since is None or blob is None:
            return True
        return _modified_at(blob) > self.if_modified_since


def parse_etags(header: str | None) -> tuple[str, ...] | None:
    """Parse an If-Match or If-None-Match header. Quotes may be missing; weak etags lose their ``W/``."""
    if header is None:
        return None
    tags = re.findall(r'(?:W/)?"([^"]*)"|([^\s,"]+)', header)
    return tuple(
        (quoted or bare) if (quoted or bare) == "*" else f'"{quoted or bare}"'
        for quoted, bare in tags
    )


def parse_date(name: str, header: str | None) -> datetime | None:
    """Parse the date of a conditional header. Raises ``ApiError`` (400) for one that is not valid."""
    if header is None:
        return None
    try:
        parsed = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        raise ApiError(
            400,
            "InvalidHeaderValue",
            f"{name} must be a date such as Sun, 29 Nov 2026 12:00:00 GMT.",
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _matches(etags: tuple[str, ...], blob: Record | None) -> bool:
    return blob is not None and ("*" in etags or blob.body["etag"] in etags)


def _modified_at(blob: Record) -> datetime:
    """Return when a blob was modified, in whole seconds as in Last-Modified."""
    return datetime.fromisoformat(blob.body["modified"].replace("Z", "+00:00")).replace(
        microsecond=0
    )


def condition_not_met() -> ApiError:
    """Return the error for a condition that is not met."""
    return ApiError(
        412,
        "ConditionNotMet",
        "The condition specified using HTTP conditional header(s) is not met.",
    )


@dataclass(frozen=True, slots=True)
class BlobProperties:
    """The properties of a blob that a write sets besides its bytes."""

    headers: dict[str, str] = field(default_factory=dict)
    """``content-type``, ``content-encoding``, ``cache-control``, ...: returned by reads."""
    metadata: dict[str, str] = field(default_factory=dict)


class BlobStore:
    """The blobs in all workspaces' containers."""

    def __init__(self, store: Store, files: FileStore, *, durable: bool) -> None:
        self._store = store
        self._files = files
        self._durable = durable

    def draft(self) -> PendingFile:
        """Start a new content, to which received bytes are written."""
        return self._files.draft()

    def get(self, container: str, name: str) -> Record:
        """Return a committed blob. Raises ``ApiError`` (404) when there is none."""
        blob = self._store.read.get("blob", container, name)
        if not blob:
            raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
        return blob

    def content_id(self, container: str, name: str) -> str | None:
        """Return the id of a blob's content, or None."""
        blob = self._store.read.get("blob", container, name)
        return blob.body["content"] if blob else None

    def put(
        self,
        container: str,
        name: str,
        draft: PendingFile,
        properties: BlobProperties,
        conditions: Conditions,
    ) -> Record:
        """Create or replace a blob with received bytes, atomically."""
        content = draft.commit(durable=self._durable)
        md5 = base64.b64encode(draft.md5.digest()).decode()
        return self._commit(container, name, content, draft.size, md5, properties, conditions, [])

    def put_block(self, container: str, name: str, block: str, draft: PendingFile) -> None:
        """Store a block until its block list is committed."""
        _check_block_id(block)
        scope = f"{container}/{name}"
        with self._store.write() as writer:
            blocks = writer.newest("block", scope, limit=1)
            if blocks and len(blocks[0].key) != len(block):
                raise ApiError(
                    400, "InvalidBlobOrBlock", "All block ids of a blob must have the same length."
                )
            content = draft.commit(durable=False)
            unreferenced = writer.remove_references(f"block:{scope}#{block}")
            writer.put("block", scope, block, {"content": content, "size": draft.size})
            writer.add_reference(content, f"block:{scope}#{block}")
        self._files.remove(unreferenced)

    def commit_blocks(
        self,
        container: str,
        name: str,
        block_list: list[tuple[str, str]],
        properties: BlobProperties,
        conditions: Conditions,
    ) -> Record:
        """Create or replace a blob from blocks in the order of ``block_list``.

        An entry is (``Latest``, ``Committed`` or ``Uncommitted``, block id).
        """
        if len(block_list) > _MAX_BLOCKS:
            raise ApiError(400, "BlockCountExceedsLimit", "The block list is too long.")
        existing = self._store.read.get("blob", container, name)
        conditions.check_create(existing)
        with self._files.draft() as draft:
            blocks = []
            for kind, block in block_list:
                size = self._copy_block(f"{container}/{name}", existing, kind, block, draft)
                blocks.append([block, size])
            content = draft.commit(durable=self._durable)
        return self._commit(
            container, name, content, draft.size, None, properties, conditions, blocks
        )

    def _copy_block(
        self, scope: str, existing: Record | None, kind: str, block: str, draft: PendingFile
    ) -> int:
        uncommitted = self._store.read.get("block", scope, block) if kind != "Committed" else None
        if uncommitted:
            source, start, size = uncommitted.body["content"], 0, uncommitted.body["size"]
        elif existing and kind != "Uncommitted" and (location := _committed(existing, block)):
            source, (start, size) = existing.body["content"], location
        else:
            raise ApiError(400, "InvalidBlockList", "The specified block list is invalid.")
        with self._files.content_path(source).open("rb") as file:
            file.seek(start)
            remaining = size
            while remaining and (data := file.read(min(_CHUNK, remaining))):
                draft.write(data)
                remaining -= len(data)
        return int(size)

    def _commit(
        self,
        container: str,
        name: str,
        content: str,
        size: int,
        md5: str | None,
        properties: BlobProperties,
        conditions: Conditions,
        blocks: list[list[Any]],
    ) -> Record:
        unreferenced: list[str] = [content]
        try:
            with self._store.write() as writer:
                existing = writer.get("blob", container, name)
                conditions.check_create(existing)
                headers = {"content-type": "application/octet-stream", **properties.headers}
                if md5:
                    headers.setdefault("content-md5", md5)
                modified = utc_now()
                body = {
                    "content": content, "size": size, "headers": headers,
                    "metadata": properties.metadata, "etag": new_etag(), "modified": modified,
                    "created": existing.body["created"] if existing else modified, "blocks": blocks,
                }  # fmt: skip
                unreferenced = self._replace(writer, container, name, body)
        finally:
            self._files.remove(unreferenced)
        return self.get(container, name)

    def _replace(
        self, writer: Writer, container: str, name: str, body: dict[str, Any] | None
    ) -> list[str]:
        """Put a blob, or delete it with ``body=None``; return the contents that are no longer referenced."""
        owner, scope = f"blob:{container}/{name}", f"{container}/{name}"
        unreferenced = writer.remove_references(owner)
        for block in writer.newest("block", scope):
            unreferenced += writer.remove_references(f"block:{scope}#{block.key}")
            writer.delete("block", scope, block.key)
        if body is None:
            writer.delete("blob", container, name)
        else:
            writer.put("blob", container, name, body)
            writer.add_reference(body["content"], owner)
        return unreferenced

    def set_metadata(
        self, container: str, name: str, metadata: dict[str, str], conditions: Conditions
    ) -> Record:
        """Replace a blob's metadata; its etag changes."""

        def change(body: dict[str, Any]) -> None:
            body["metadata"] = metadata

        return self._edit(container, name, conditions, change)

    def set_headers(
        self, container: str, name: str, headers: dict[str, str], conditions: Conditions
    ) -> Record:
        """Replace a blob's content headers; its etag changes."""

        def change(body: dict[str, Any]) -> None:
            body["headers"] = {"content-type": "application/octet-stream", **headers}

        return self._edit(container, name, conditions, change)

    def _edit(
        self,
        container: str,
        name: str,
        conditions: Conditions,
        change: Callable[[dict[str, Any]], None],
    ) -> Record:
        with self._store.write() as writer:
            blob = writer.get("blob", container, name)
            if not blob:
                raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
            conditions.check_write(blob)
            change(blob.body)
            blob.body.update(etag=new_etag(), modified=utc_now())
            writer.put("blob", container, name, blob.body)
            return blob

    def delete(self, container: str, name: str, conditions: Conditions) -> None:
        """Delete a blob, and its bytes unless a job references them."""
        with self._store.write() as writer:
            blob = writer.get("blob", container, name)
            if not blob:
                raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
            conditions.check_write(blob)
            unreferenced = self._replace(writer, container, name, None)
        self._files.remove(unreferenced)

    def delete_all(self, writer: Writer, container: str) -> list[str]:
        """Delete a container's blobs; return the contents that are no longer referenced."""
        unreferenced: list[str] = []
        for blob in writer.newest("blob", container):
            unreferenced += self._replace(writer, container, blob.key, None)
        return unreferenced

    def list_blobs(self, container: str, prefix: str, start: str = "") -> Iterator[Record]:
        """Yield the committed blobs whose name starts with ``prefix``, by name, from the name ``start``."""
        key = max(prefix, start)
        while blobs := self._store.read.by_key("blob", container, key, limit=_LIST_BATCH):
            for blob in blobs:
                if not blob.key.startswith(prefix):
                    return
                yield blob
            key = blobs[-1].key + "\0"

    def uncommitted_blocks(self, container: str, name: str) -> list[Record]:
        """Return the uncommitted blocks of a blob, oldest first."""
        return self._store.read.newest("block", f"{container}/{name}")[::-1]


def check_md5(header: str | None, draft: PendingFile) -> None:
    """Raise ``ApiError`` (400) if the received bytes do not have the MD5 of the header."""
    if header is None:
        return
    try:
        expected = base64.b64decode(header, validate=True)
    except ValueError:  # also for text that is not ASCII
        expected = b""
    if len(expected) != hashlib.md5(usedforsecurity=False).digest_size:
        raise ApiError(400, "InvalidMd5", "The MD5 value specified in the request is invalid.")
    if expected != draft.md5.digest():
        raise ApiError(
            400,
            "Md5Mismatch",
            "The MD5 value specified in the request did not match with the MD5 value calculated"
            " by the server.",
        )


def _committed(blob: Record, block: str) -> tuple[int, int] | None:
    start = 0
    for block_id, size in blob.body["blocks"]:
        if block_id == block:
            return start, size
        start += size
    return None


def _check_block_id(block: str) -> None:
    try:
        raw = base64.b64decode(block, validate=True)
    except ValueError:  # also for text that is not ASCII
        raw = b""
    if not 1 <= len(raw) <= 64:
        raise ApiError(
            400, "InvalidQueryParameterValue", "blockid must be base64 of 1 to 64 bytes.",
            target="blockid",
        )  # fmt: skip


def new_etag() -> str:
    """Return an etag that no other version of a blob or container has."""
    return f'"0x{secrets.token_hex(8).upper()}"'
