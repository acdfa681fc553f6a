"""What uploads remember on this machine: the parts that were sent, and the files that were compared.

Both only save work: without a folder, or after its deletion, parts are sent and files are compared again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from maas_client.flows._io import IO

_MAX_AGE_S = 30 * 86400.0
_MARGIN_S = 60.0
"""An upload that expires sooner than this is not continued."""


def _path(io: IO, folder: str, name: str) -> Path | None:
    if io.scope.client_dir is None:
        return None
    resource = repr(sorted(io.scope.base_urls.items()))
    key = hashlib.sha256(f"{resource} {name}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Path(io.scope.client_dir, folder, key)


def _append(path: Path, row: dict[str, Any], *, create: bool = False) -> None:
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    if create:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags |= os.O_CREAT | os.O_TRUNC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, json.dumps(row).encode() + b"\n")
    finally:
        os.close(descriptor)


class UploadJournal:
    """The parts of one upload that the service has, kept in a file until the upload is complete.

    Args:
        io: The connection.
        name: Identifies the upload: the content and the size of its parts.

    Attributes:
        upload: The id of the upload to continue; None: there is none.
        parts: The ids of the parts that were sent, by index.
        expires_at: When the service ends the upload, as a time stamp.
        has_expired: An earlier call has begun an upload that can no longer be continued.
    """

    def __init__(self, io: IO, name: str) -> None:
        self._path = _path(io, "uploads", name)
        self.upload: str | None = None
        self.parts: dict[int, str] = {}
        self.expires_at = 0.0
        self.has_expired = False

    def load(self) -> None:
        """Read the journal of an earlier call, unless the upload has expired."""
        rows: list[dict[str, Any]] = []
        with suppress(OSError):
            text = self._path.read_text("utf-8", "replace") if self._path else ""
            with suppress(
                ValueError, RecursionError
            ):  # a killed process may have cut the last line
                rows.extend(json.loads(line) for line in text.splitlines())
        with suppress(KeyError, TypeError, ValueError):
            if not rows:
                return
            self.expires_at = float(rows[0]["expires_at"])
            self.has_expired = self.expires_at <= time.time() + _MARGIN_S
            if not self.has_expired:
                self.upload = str(rows[0]["upload"])
                self.parts = {int(row["index"]): str(row["part"]) for row in rows[1:]}

    def start(self, upload: str, expires_at: float | None) -> None:
        """Begin a new journal."""
        self.upload, self.parts = upload, {}
        self.expires_at = expires_at or time.time() + 3600
        row = {"upload": upload, "expires_at": self.expires_at}
        with suppress(OSError):
            if self._path is not None:
                _append(self._path, row, create=True)
                _delete_old(self._path.parent)

    def add(self, index: int, part: str) -> None:
        """Remember a part that the service has received."""
        self.parts[index] = part
        with suppress(OSError):
            if self._path is not None:
                _append(self._path, {"index": index, "part": part})

    def delete(self) -> None:
        """Forget the upload: it is complete, or cannot be continued."""
        self.upload, self.parts = None, {}
        with suppress(OSError):
            if self._path is not None:
                self._path.unlink()


def is_intact(io: IO, name: str) -> bool:
    """Return whether a stored file was compared with its source before."""
    path = _path(io, "intact", name)
    return name in io.scope.cache.get("intact", set()) or (path is not None and path.exists())


def set_intact(io: IO, name: str) -> None:
    """Remember that a stored file was compared with its source."""
    io.scope.cache.setdefault("intact", set()).add(name)
    path = _path(io, "intact", name)
    with suppress(OSError):
        if path is not None:
            _append(path, {"compared": time.time()}, create=True)
            _delete_old(path.parent)


def _delete_old(folder: Path) -> None:
    limit = time.time() - _MAX_AGE_S
    for path in folder.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < limit:
                path.unlink()
