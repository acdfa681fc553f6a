"""Training files of a Foundry resource, and uploads in parts (docs/azure-http.md 4.2 and 4.5)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from maas_client._clock import unix_time
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import FileStore, PendingFile, new_id
from maas_client.local.state.store import Record, Store

PURPOSE = "fine-tune"
MAX_FILE_BYTES = 512 << 20
"""The largest file in one request."""
MAX_PART_BYTES = 64 << 20
MAX_UPLOAD_BYTES = 8 << 30
UPLOAD_LIFETIME_S = 3600
"""An upload that is not completed within this time expires."""
_CHUNK = 1 << 20
_FORMAT_CODES = ("FILE_", "JSON_")


def invalid_payload(message: str, *, param: str | None = None, status: int = 400) -> ApiError:
    """Return the error ``invalidPayload``, which the service answers for a wrong request."""
    return ApiError(status, "invalidPayload", message, target=param)


def foundry_not_found(resource: str) -> ApiError:
    """Return the service's 404; ``resource`` is the resource's kind."""
    return ApiError(404, "notFound", f"No such {resource} was found in this resource.")


class FoundryFiles:
    """All training files. A file is checked before its status is ``processed``."""

    def __init__(self, store: Store, files: FileStore, *, durable: bool) -> None:
        self._store = store
        self._files = files
        self._durable = durable

    def draft(self) -> PendingFile:
        """Start a new content, to which received bytes are written."""
        return self._files.draft()

    def add(self, draft: PendingFile, filename: str, expires_s: int | None = None) -> Record:
        """Add received bytes as a file, and check that they are JSON Lines."""
        if not draft.size:
            raise invalid_payload("The file is empty.", param="file")
        content = draft.commit(durable=self._durable)
        problem = self._problem(content)
        key = f"file-{new_id()}"
        created = int(unix_time())
        body = {
            "content": content,
            "bytes": draft.size,
            "filename": filename,
            "purpose": PURPOSE,
            "created": created,
            "problem": problem,
            "expires": created + expires_s if expires_s else None,
        }
        with self._store.write() as writer:
            writer.put("file", FOUNDRY_SCOPE, key, body, "error" if problem else "processed")
            writer.add_reference(content, f"file:{key}")
            record = writer.get("file", FOUNDRY_SCOPE, key)
        assert record is not None
        return record

    def get(self, key: str) -> Record:
        """Return a file. Raises ``ApiError`` (404) when there is none or it has expired."""
        record = self._store.read.get("file", FOUNDRY_SCOPE, key)
        if not record or _is_expired(record):
            raise foundry_not_found("file")
        return record

    def all(self) -> list[Record]:
        """Return the files, newest first."""
        return [f for f in self._store.read.newest("file", FOUNDRY_SCOPE) if not _is_expired(f)]

    def path(self, record: Record) -> Path:
        """Return the path of a file's bytes."""
        return self._files.content_path(record.body["content"])

    def delete(self, key: str) -> None:
        """Delete a file. A job that was created from it keeps the bytes."""
        self.get(key)
        with self._store.write() as writer:
            writer.delete("file", FOUNDRY_SCOPE, key)
            unreferenced = writer.remove_references(f"file:{key}")
        self._files.remove(unreferenced)

    def _problem(self, content: str) -> str | None:
        """Return why a content is not JSON Lines, in the service's words; None if it is.

        As with the service, problems of the chats in it make the job fail later. The job uses this check.
        """
        from maas_client.local.resources.validation_cache import check_file

        path = str(self._files.content_path(content))
        for problem in check_file(path, None, str(self._files.checks_folder)).report.problems:
            if problem.severity == "error" and problem.code.startswith(_FORMAT_CODES):
                location = f"line {problem.line}: " if problem.line else ""
                return f"Validation of jsonl file failed: {location}{problem.message}"
        return None


def _is_expired(record: Record) -> bool:
    expires = record.body.get("expires")
    return expires is not None and expires < unix_time()


def _is_overdue(upload: Record) -> bool:
    return bool(upload.body["created"] + UPLOAD_LIFETIME_S < unix_time())


class FoundryUploads:
    """Uploads of files in parts."""

    def __init__(self, store: Store, files: FileStore, training: FoundryFiles) -> None:
        self._store = store
        self._files = files
        self._training = training

    def create(self, filename: str, size: int, expires_s: int | None = None) -> Record:
        """Start an upload of ``size`` bytes, and expire abandoned uploads.

        ``expires_s`` is the lifetime of the file that the upload becomes.
        """
        for pending in self._store.read.in_states("upload", ("pending",)):
            if _is_overdue(pending):
                self._end(pending, "expired")
        if not 0 < size <= MAX_UPLOAD_BYTES:
            raise invalid_payload(f"bytes must be from 1 to {MAX_UPLOAD_BYTES}.", param="bytes")
        key = f"upload_{new_id()}"
        body = {
            "filename": filename,
            "bytes": size,
            "created": int(unix_time()),
            "file": None,
            "file_expires_s": expires_s,
        }
        with self._store.write() as writer:
            writer.put("upload", FOUNDRY_SCOPE, key, body, "pending")
        return self.get(key)

    def get(self, key: str) -> Record:
        """Return an upload. Raises ``ApiError`` (404) when there is none."""
        record = self._store.read.get("upload", FOUNDRY_SCOPE, key)
        if not record:
            raise foundry_not_found("upload")
        return record

    def add_part(self, key: str, draft: PendingFile) -> tuple[str, int]:
        """Add a part; return its id and creation time (Unix seconds)."""
        self._get_pending(key)
        if not draft.size:
            raise invalid_payload("The part is empty.", param="data")
        content = draft.commit(durable=False)
        part_id, created = f"part_{new_id()}", int(unix_time())
        with self._store.write() as writer:
            writer.put("part", key, part_id, {"content": content, "bytes": draft.size})
            writer.add_reference(content, f"upload:{key}")
        return part_id, created

    def _get_pending(self, key: str) -> Record:
        record = self.get(key)
        if record.state == "pending" and _is_overdue(record):
            self._end(record, "expired")
            record = self.get(key)
        if record.state != "pending":
            raise invalid_payload(f"The upload is {record.state}.", status=409)
        return record

    def complete(self, key: str, parts: list[str], md5: str | None) -> tuple[Record, Record]:
        """Create a file from parts in the given order; return the upload and the file."""
        upload = self._get_pending(key)
        contents = {f.key: f.body for f in self._store.read.newest("part", key)}
        unknown = [part for part in parts if part not in contents]
        if unknown or not parts or len(set(parts)) != len(parts):
            raise invalid_payload(
                "part_ids must name each part of this upload once.", param="part_ids"
            )
        if sum(contents[part]["bytes"] for part in parts) != upload.body["bytes"]:
            raise invalid_payload(
                "The parts do not have the size that the upload was created with.", param="bytes"
            )
        with self._files.draft() as draft:
            md5_digest = self._join([contents[part]["content"] for part in parts], draft)
            if md5 and md5.lower() != md5_digest:
                raise invalid_payload("The received bytes do not have this md5.", param="md5")
            expires_s = upload.body.get("file_expires_s")
            file = self._training.add(draft, upload.body["filename"], expires_s)
        self._end(upload, "completed", file=file.key)
        return self.get(key), file

    def _join(self, contents: list[str], draft: PendingFile) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for content in contents:
            with self._files.content_path(content).open("rb") as source:
                while data := source.read(_CHUNK):
                    digest.update(data)
                    draft.write(data)
        return digest.hexdigest()

    def cancel(self, key: str) -> Record:
        """Cancel an upload."""
        self._end(self._get_pending(key), "cancelled")
        return self.get(key)

    def _end(self, upload: Record, state: str, **changes: Any) -> None:
        with self._store.write() as writer:
            writer.put("upload", FOUNDRY_SCOPE, upload.key, {**upload.body, **changes}, state)
            for part in writer.newest("part", upload.key):
                writer.delete("part", upload.key, part.key)
            unreferenced = writer.remove_references(f"upload:{upload.key}")
        self._files.remove(unreferenced)
