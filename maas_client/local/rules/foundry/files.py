"""Training files of the resource, and uploads in parts (azure-api.md sections 4.2 and 4.5)."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from maas_client.local.rules.foundry import SCOPE
from maas_client.local.rules.refusal import Refusal
from maas_client.local.state.files import Draft, Files, new_id
from maas_client.local.state.store import Fact, Store

PURPOSE = "fine-tune"
FILE_BYTES = 512 << 20
"""The largest file of one request."""
PART_BYTES = 64 << 20
UPLOAD_BYTES = 8 << 30
UPLOAD_S = 3600
"""An upload that is not complete after this ends by itself."""
_CHUNK = 1 << 20
_FORMAT = ("FILE_", "JSON_")


def wrong(message: str, *, param: str | None = None, status: int = 400) -> Refusal:
    """Return the service's word for a request that makes no sense."""
    return Refusal(status, "invalidPayload", message, target=param)


def absent(what: str) -> Refusal:
    """Return a 404 in the service's words."""
    return Refusal(404, "notFound", f"No such {what} was found in this resource.")


class TrainingFiles:
    """All files; each is looked through before it is named ``processed``."""

    def __init__(self, store: Store, files: Files, *, durable: bool) -> None:
        self._store = store
        self._files = files
        self._durable = durable

    def draft(self) -> Draft:
        """Start receiving bytes."""
        return self._files.draft()

    def add(self, draft: Draft, filename: str, expires_s: int | None = None) -> Fact:
        """Keep received bytes as a file, and note whether they are JSON Lines at all."""
        if not draft.size:
            raise wrong("The file is empty.", param="file")
        content = draft.keep(durable=self._durable)
        problem = _problem(self._files.path(content))
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
            facts.put("file", SCOPE, key, body, "error" if problem else "processed")
            facts.hold(content, f"file:{key}")
            found = facts.get("file", SCOPE, key)
        assert found is not None
        return found

    def get(self, key: str) -> Fact:
        """Return a file, or refuse: there is none."""
        found = self._store.read.get("file", SCOPE, key)
        if not found or _over(found):
            raise absent("file")
        return found

    def all(self) -> list[Fact]:
        """Return the files, newest first."""
        return [f for f in self._store.read.newest("file", SCOPE) if not _over(f)]

    def path(self, fact: Fact) -> Path:
        """Return where a file's bytes lie."""
        return self._files.path(fact.body["content"])

    def delete(self, key: str) -> None:
        """Delete a file; a job that was made from it keeps the bytes."""
        self.get(key)
        with self._store.write() as facts:
            facts.drop("file", SCOPE, key)
            free = facts.release(f"file:{key}")
        self._files.remove(free)


def _over(fact: Fact) -> bool:
    ends = fact.body.get("expires")
    return ends is not None and ends < time.time()


def _late(upload: Fact) -> bool:
    return bool(upload.body["created"] + UPLOAD_S < time.time())


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


class Uploads:
    """Files that come in parts."""

    def __init__(self, store: Store, files: Files, training: TrainingFiles) -> None:
        self._store = store
        self._files = files
        self._training = training

    def begin(self, filename: str, size: int) -> Fact:
        """Begin an upload of ``size`` bytes; those that were left behind end now, at the latest."""
        for old in self._store.read.in_states("upload", ("pending",)):
            if _late(old):
                self._end(old, "expired")
        if not 0 < size <= UPLOAD_BYTES:
            raise wrong(f"bytes must be from 1 to {UPLOAD_BYTES}.", param="bytes")
        key = f"upload_{new_id()}"
        body = {"filename": filename, "bytes": size, "created": int(time.time()), "file": None}
        with self._store.write() as facts:
            facts.put("upload", SCOPE, key, body, "pending")
        return self.get(key)

    def get(self, key: str) -> Fact:
        """Return an upload, or refuse: there is none."""
        found = self._store.read.get("upload", SCOPE, key)
        if not found:
            raise absent("upload")
        return found

    def part(self, key: str, draft: Draft) -> tuple[str, int]:
        """Keep a part and return its id and when it came."""
        self._open(key)
        if not draft.size:
            raise wrong("The part is empty.", param="data")
        content = draft.keep(durable=False)
        own, born = f"part_{new_id()}", int(time.time())
        with self._store.write() as facts:
            facts.put("part", key, own, {"content": content, "bytes": draft.size})
            facts.hold(content, f"upload:{key}")
        return own, born

    def _open(self, key: str) -> Fact:
        found = self.get(key)
        if found.state == "pending" and _late(found):
            self._end(found, "expired")
            found = self.get(key)
        if found.state != "pending":
            raise wrong(f"The upload is {found.state}.", status=409)
        return found

    def complete(self, key: str, parts: list[str], md5: str | None) -> tuple[Fact, Fact]:
        """Make a file of the parts, in their order; return the upload and the file."""
        upload = self._open(key)
        held = {f.key: f.body for f in self._store.read.newest("part", key)}
        unknown = [part for part in parts if part not in held]
        if unknown or not parts or len(set(parts)) != len(parts):
            raise wrong("part_ids must name each part of this upload once.", param="part_ids")
        if sum(held[part]["bytes"] for part in parts) != upload.body["bytes"]:
            raise wrong("The parts do not add up to the bytes that were announced.", param="bytes")
        with self._files.draft() as draft:
            digest = self._join([held[part]["content"] for part in parts], draft)
            if md5 and md5.lower() != digest:
                raise wrong("The md5 of the bytes received is another.", param="md5")
            file = self._training.add(draft, upload.body["filename"])
        self._end(upload, "completed", file=file.key)
        return self.get(key), file

    def _join(self, contents: list[str], draft: Draft) -> str:
        whole = hashlib.md5(usedforsecurity=False)
        for content in contents:
            with self._files.path(content).open("rb") as source:
                while data := source.read(_CHUNK):
                    whole.update(data)
                    draft.write(data)
        return whole.hexdigest()

    def cancel(self, key: str) -> Fact:
        """Give an upload up."""
        self._end(self._open(key), "cancelled")
        return self.get(key)

    def _end(self, upload: Fact, state: str, **changes: Any) -> None:
        with self._store.write() as facts:
            facts.put("upload", SCOPE, upload.key, {**upload.body, **changes}, state)
            for part in facts.newest("part", upload.key):
                facts.drop("part", upload.key, part.key)
            free = facts.release(f"upload:{upload.key}")
        self._files.remove(free)
