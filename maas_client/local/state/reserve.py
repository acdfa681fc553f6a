"""Room on the disk that is kept for last words: a full disk must not keep a job from ending."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from pathlib import Path

_LOG = logging.getLogger(__name__)
_BYTES = 1 << 20
"""Some transactions of SQLite, each of a few pages."""


def is_disk_full(error: BaseException) -> bool:
    """Tell whether the disk has no room: for bytes, or for SQLite."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class DiskReserve:
    """A file whose room is given back when a last word finds none."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"

    def allocate(self) -> None:
        """Take the room, if it is not taken; a disk that has none is left as it is."""
        try:
            if not self._path.exists() or self._path.stat().st_size < _BYTES:
                self._path.write_bytes(os.urandom(_BYTES))  # no file system keeps zeros for real
                self._path.chmod(0o600)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            _LOG.warning("no room is kept for last words: %s", error.strerror)

    def release(self) -> bool:
        """Give the room back; False when there was none."""
        there = self._path.exists()
        self._path.unlink(missing_ok=True)
        return there
