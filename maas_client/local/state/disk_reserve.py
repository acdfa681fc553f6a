"""Reserved disk space, so that a job's final state and deletions can be written when the disk is full."""

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
            if self._path.is_file() and self._path.stat().st_size == _BYTES:
                return
            self._path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(self._path, flags, 0o600), "wb") as file:
                file.write(os.urandom(_BYTES))  # some file systems do not store zeros
        except FileExistsError:  # another thread creates it
            return
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
