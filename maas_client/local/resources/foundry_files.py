"""Training files of the resource, and uploads in parts (docs/azure-http.md sections 4.2 and 4.5)."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import Draft, FileStore, new_id
from maas_client.local.state.store import Record, Store

PURPOSE = "fine-tune"
MAX_FILE_BYTES = 512 << 20
"""The largest file of one request."""
MAX_PART_BYTES = 64 << 20
MAX_UPLOAD_BYTES = 8 << 30
UPLOAD_LIFETIME_S = 3600
"""An upload that is not complete after this ends by itself."""
_CHUNK = 1 << 20
_FORMAT = ("FILE_", "JSON_")


def invalid_payload(message: str, *, param: str | None = None, status: int = 400) -> ApiError:
    """Return the service's word for a request that makes no sense."""
    return ApiError(status, "invalidPayload", message, target=param)


def foundry_not_found(what: str) -> ApiError:
    """Return a 404 in the service's words."""
    return ApiError(404, "notFound", f"No such {what} was found in this resource.")


class FoundryFiles:
    """All files; each is looked through before it is named ``processed``."""

    def __init__(self, store: Store, files: FileStore, *, durable: bool) -> None:
        self._store = store
        self._files = files
        self._durable = durable

    def draft(self) -> Draft:
        """Start receiving bytes."""
        return self._files.draft()

    def add(self, draft: Draft, filename: str, expires_s: int | None = None) -> Record:
        """Keep received bytes as a file, and note whether they are JSON Lines at all."""
        if not draft.size:
            raise invalid_payload("The file is empty.", param="file")
        content = draft.commit(durable=self._durable)
        problem = _problem(self._files.content_path(content))
        key = f"file-{new_id()}"
        born = int(time.time())
        body = {
            "content": content,
            "bytes": draft.size,
            "filename": filename,
            "purpose": PURPOSE,
            "created": born,
            "problem": problem,
            "expires": born + expires_s if expires_s else None,
        }
        with self._store.write() as facts:
            facts.put("file", FOUNDRY_SCOPE, key, body, "error" if problem else "processed")
            facts.add_reference(content, f"file:{key}")
            found = facts.get("file", FOUNDRY_SCOPE, key)
        assert found is not None
        return found

    def get(self, key: str) -> Record:
        """Return a file, or refuse: there is none."""
        found = self._store.read.get("file", FOUNDRY_SCOPE, key)
        if not found or _over(found):
            raise foundry_not_found("file")
        return found

    def all(self) -> list[Record]:
        """Return the files, newest first."""
        return [f for f in self._store.read.newest("file", FOUNDRY_SCOPE) if not _over(f)]

    def path(self, fact: Record) -> Path:
        """Return where a file's bytes lie."""
        return self._files.content_path(fact.body["content"])

    def delete(self, key: str) -> None:
        """Delete a file; a job that was made from it keeps the bytes."""
        self.get(key)
        with self._store.write() as facts:
            facts.delete("file", FOUNDRY_SCOPE, key)
            free = facts.remove_references(f"file:{key}")
        self._files.remove(free)


def _over(fact: Record) -> bool:
    ends = fact.body.get("expires")
    return ends is not None and ends < time.time()


def _late(upload: Record) -> bool:
    return bool(upload.body["created"] + UPLOAD_LIFETIME_S < time.time())


def _problem(path: Path) -> str | None:
    """Return why the bytes are no JSON Lines, in the words the service has for it; None if they are.

    What is wrong with the chats in it fails the job later, as it does there.
    """
    from maas_client.dataset import validate

    report = validate(path, target="local", content=False).files[0]
    for problem in report.problems:
        if problem.severity == "error" and problem.code.startswith(_FORMAT):
            place = f"line {problem.line}: " if problem.line else ""
            return f"Validation of jsonl file failed: {place}{problem.message}"
    return None


class FoundryUploads:
    """Files that come in parts."""

    def __init__(self, store: Store, files: FileStore, training: FoundryFiles) -> None:
        self._store = store
        self._files = files
        self._training = training

    def create(self, filename: str, size: int) -> Record:
        """Begin an upload of ``size`` bytes; those that were left behind end now, at the latest."""
        for old in self._store.read.in_states("upload", ("pending",)):
            if _late(old):
                self._end(old, "expired")
        if not 0 < size <= MAX_UPLOAD_BYTES:
            raise invalid_payload(f"bytes must be from 1 to {MAX_UPLOAD_BYTES}.", param="bytes")
        key = f"upload_{new_id()}"
        body = {"filename": filename, "bytes": size, "created": int(time.time()), "file": None}
        with self._store.write() as facts:
            facts.put("upload", FOUNDRY_SCOPE, key, body, "pending")
        return self.get(key)

    def get(self, key: str) -> Record:
        """Return an upload, or refuse: there is none."""
        found = self._store.read.get("upload", FOUNDRY_SCOPE, key)
        if not found:
            raise foundry_not_found("upload")
        return found

    def add_part(self, key: str, draft: Draft) -> tuple[str, int]:
        """Keep a part and return its id and when it came."""
        self._open(key)
        if not draft.size:
            raise invalid_payload("The part is empty.", param="data")
        content = draft.commit(durable=False)
        own, born = f"part_{new_id()}", int(time.time())
        with self._store.write() as facts:
            facts.put("part", key, own, {"content": content, "bytes": draft.size})
            facts.add_reference(content, f"upload:{key}")
        return own, born

    def _open(self, key: str) -> Record:
        found = self.get(key)
        if found.state == "pending" and _late(found):
            self._end(found, "expired")
            found = self.get(key)
        if found.state != "pending":
            raise invalid_payload(f"The upload is {found.state}.", status=409)
        return found

    def complete(self, key: str, parts: list[str], md5: str | None) -> tuple[Record, Record]:
        """Make a file of the parts, in their order; return the upload and the file."""
        upload = self._open(key)
        held = {f.key: f.body for f in self._store.read.newest("part", key)}
        unknown = [part for part in parts if part not in held]
        if unknown or not parts or len(set(parts)) != len(parts):
            raise invalid_payload(
                "part_ids must name each part of this upload once.", param="part_ids"
            )
        if sum(held[part]["bytes"] for part in parts) != upload.body["bytes"]:
            raise invalid_payload(
                "The parts do not add up to the bytes that were announced.", param="bytes"
            )
        with self._files.draft() as draft:
            digest = self._join([held[part]["content"] for part in parts], draft)
            if md5 and md5.lower() != digest:
                raise invalid_payload("The md5 of the bytes received is another.", param="md5")
            file = self._training.add(draft, upload.body["filename"])
        self._end(upload, "completed", file=file.key)
        return self.get(key), file

    def _join(self, contents: list[str], draft: Draft) -> str:
        whole = hashlib.md5(usedforsecurity=False)
        for content in contents:
            with self._files.content_path(content).open("rb") as source:
                while data := source.read(_CHUNK):
                    whole.update(data)
                    draft.write(data)
        return whole.hexdigest()

    def cancel(self, key: str) -> Record:
        """Give an upload up."""
        self._end(self._open(key), "cancelled")
        return self.get(key)

    def _end(self, upload: Record, state: str, **changes: Any) -> None:
        with self._store.write() as facts:
            facts.put("upload", FOUNDRY_SCOPE, upload.key, {**upload.body, **changes}, state)
            for part in facts.newest("part", upload.key):
                facts.delete("part", upload.key, part.key)
            free = facts.remove_references(f"upload:{upload.key}")
        self._files.remove(free)
