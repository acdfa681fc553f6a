"""The records of sessions in the store, and their checkpoints on disk, which are complete or absent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from maas_client.local.resources.errors import ApiError
from maas_client.local.sessions import checks
from maas_client.local.sessions.checkpoints import KINDS, checkpoint_info, saved_checkpoints
from maas_client.local.state import atomic_folder
from maas_client.local.state.files import FileStore, run_reference
from maas_client.local.state.store import MetricPoint, Record, Store

SESSION_KIND = "fine_tuning_session"
PREFIX = "session_"
ACTIVE = ("queued", "running")


class SessionRecords:
    """The records and checkpoints of all sessions of a server, by project."""

    def __init__(self, store: Store, files: FileStore) -> None:
        self._store, self._files = store, files

    def unfinished(self) -> list[tuple[str, Record]]:
        """Return the sessions that have not ended, with their projects."""
        return [
            (record.body["scope"], record)
            for record in self._store.read.all(SESSION_KIND)
            if record.state in ACTIVE
        ]

    def insert(self, scope: str, session_id: str, record: dict[str, Any]) -> None:
        """Add the record of a new session."""
        with self._store.write() as writer:
            writer.put(SESSION_KIND, scope, session_id, record, "queued")
            writer.add_reference(run_reference(session_id.removeprefix(PREFIX)), session_id)

    def newest(self, scope: str) -> list[Record]:
        """Return the sessions of a project, newest first."""
        return self._store.read.newest(SESSION_KIND, scope)

    def find(self, scope: str, session_id: str) -> Record | None:
        """Return a session's record, or None."""
        return self._store.read.get(SESSION_KIND, scope, session_id)

    def get(self, scope: str, session_id: str) -> Record:
        """Return a session's record. Raises ``ApiError`` (404)."""
        record = self.find(scope, session_id)
        if record is None:
            raise ApiError(404, "not_found", f"Session {session_id[:60]} was not found.")
        return record

    def describe(self, scope: str, session_id: str) -> dict[str, Any]:
        """Return a session as the service does."""
        record = self.get(scope, session_id)
        return {
            "session_id": record.key,
            "type": "training",
            "status": record.state,
            "model_data": {
                "base_model": record.body["base_model"],
                "lora_config": record.body["lora_config"],
                "model_name": record.body["base"]["name"],
            },
        }

    def checkpoints(self, scope: str, session_id: str) -> dict[str, Any]:
        """Return all checkpoints on disk, oldest first."""
        self.get(scope, session_id)
        entries = [
            {"checkpoint_id": name, "checkpoint_type": kind, "time": to_text(saved_at)}
            for kind in KINDS
            for name, saved_at in self.names(session_id, kind).items()
        ]
        return {"checkpoints": sorted(entries, key=lambda entry: entry["time"])}

    def checkpoint(self, scope: str, session_id: str, name: str) -> dict[str, Any]:
        """Return the base and adapter of a checkpoint. Raises ``ApiError`` (404)."""
        record = self.get(scope, session_id)
        if not any(name in self.names(session_id, kind) for kind in KINDS):
            raise ApiError(404, "not_found", f"Checkpoint {name[:60]} was not found.")
        return {
            "base_model": record.body["base_model"],
            "is_lora": True,
            "lora_rank": record.body["lora_config"]["rank"],
        }

    def names(self, session_id: str, kind: str) -> dict[str, float]:
        """Return when each checkpoint of a kind was saved, by name."""
        return saved_checkpoints(self.folder(session_id) / kind)

    def remove_drafts(self, session_id: str) -> None:
        """Remove what a killed process had begun to save."""
        folder = self.folder(session_id)
        for parent in (folder / "sampler", *(folder / "training").glob("*")):
            atomic_folder.remove_drafts(parent)
            with suppress(OSError):  # of a save that did not complete, unless it is not empty
                parent.rmdir()

    def folder(self, session_id: str) -> Path:
        """Return the folder of a session's checkpoints."""
        return self._files.run_folder(session_id.removeprefix(PREFIX))

    def resume_folder(
        self, scope: str, source: dict[str, Any] | None, base: dict[str, Any], lora: dict[str, Any]
    ) -> Path | None:
        """Return the folder of the checkpoint to resume from, after comparing its base and adapter."""
        if source is None:
            return None
        session_id, name = source["source_session_id"], source["checkpoint_id"]
        self.get(scope, session_id)
        folder: Path = self.folder(session_id) / "training" / name
        info = checkpoint_info(folder) if name in self.names(session_id, "training") else None
        if info is None:
            raise ApiError(
                404,
                "not_found",
                f"Session {session_id} has no training checkpoint {name[:60]}. Its training checkpoints "
                f"are listed by GET /fine_tuning/sessions/{session_id}/checkpoints.",
                target="from_checkpoint.checkpoint_id",
            )
        checks.check_resume(info, base, lora)
        return folder

    def add_points(self, session_id: str, points: Sequence[MetricPoint]) -> None:
        """Add points to the charts of a session."""
        with self._store.write() as writer:
            writer.add_points(session_id, points)

    def mark(self, scope: str, session_id: str, status: str, reason: str | None) -> None:
        """Set the status of a session that has not ended, and the reason."""
        with self._store.write() as writer:
            record = writer.get(SESSION_KIND, scope, session_id)
            if record is None or record.state not in ACTIVE:
                return
            body = {**record.body, "reason": reason, "last_request_time": utc_now()}
            writer.put(SESSION_KIND, scope, session_id, body, status)

    def remove(self, scope: str, session_id: str) -> None:
        """Delete a session's record, metrics and files."""
        with self._store.write() as writer:
            writer.delete(SESSION_KIND, scope, session_id)
            writer.delete_history(session_id)
            unreferenced = writer.remove_references(session_id)
        self._files.remove(unreferenced)


def utc_now() -> str:
    """Return the time as the service writes it."""
    return to_text(time())


def to_text(seconds: float) -> str:
    """Return a time stamp as the service writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
