"""Reserved disk space, so that a job's final state can be written when the disk is full."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from pathlib import Path

_LOG = logging.getLogger(__name__)
_BYTES = 1 << 20
"""Enough for some SQLite transactions of a few pages each."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error of the file system or of SQLite says that the disk is full."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class DiskReserve:
    """A file that is deleted to make space when the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "reserve"

    def allocate(self) -> None:
        """Create the file unless it exists. Without enough free space, only log a warning."""
        try:
            if not self._path.exists() or self._path.stat().st_size < _BYTES:
                self._path.write_bytes(os.urandom(_BYTES))  # some file systems do not store zeros
                self._path.chmod(0o600)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            _LOG.warning(
                "cannot reserve disk space for the final state of jobs: %s", error.strerror
            )

    def release(self) -> bool:
        """Delete the file; return False if there was none."""
        existed = self._path.exists()
        self._path.unlink(missing_ok=True)
        return existed
