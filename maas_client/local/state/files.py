"""Files of the server: contents and run folders, under generated ids, and a reserve for a full disk.

No name from a request is ever used as a file name.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from maas_client.errors import ConfigError

_LOG = logging.getLogger(__name__)
_BYTES = 1 << 20
"""Enough for some SQLite transactions of a few pages each."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error of the file system or of SQLite says that the disk is full."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_FULL
    return error_number(error) in (errno.ENOSPC, errno.EDQUOT)


def error_number(error: BaseException) -> int:
    """Return the number of an error of the file system, or 0."""
    if isinstance(error, OSError):
        return error.errno or 0
    match = re.search(r"\(os error (\d+)\)", str(error))  # safetensors reports errors as Rust does
    return int(match[1]) if match else 0


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


_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Return a new id: 32 hex digits."""
    return secrets.token_hex(16)


class PendingFile:
    """A content that is being written: invisible until ``commit``, deleted if its block ends without it."""

    def __init__(self, folder: Path) -> None:
        self.id = new_id()
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._folder = folder
        self._temp = folder / f".{self.id}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self._temp, flags, 0o600), "wb", buffering=0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data)
        self.md5.update(view)
        self.size += len(view)
        while view:
            view = view[self._file.write(view) :]

    def commit(self, *, durable: bool) -> str:
        """Store the content and return its id; ``durable`` waits until it is on the disk."""
        if durable:
            os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._temp, self._folder / self.id)
        if durable:
            _sync_folder(self._folder)
        return self.id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self._file.close()
            self._temp.unlink(missing_ok=True)


def run_reference(run_id: str) -> str:
    """Return the name by which a run's folder is referenced. Contents are referenced by their id."""
    return f"run:{run_id}"


class FileStore:
    """Contents, which never change, and one folder per job for its log, checkpoints and outputs."""

    def __init__(self, root: Path) -> None:
        self._contents = root / "contents"
        self._runs = root / "runs"
        self.checks_folder = root / "checks"
        """Results of data checks, in files named ``<content id>.<key>``."""
        for folder in (root / name for name in _FOLDERS):
            folder.mkdir(mode=0o700, exist_ok=True)
        self.reserve = DiskReserve(root)

    def draft(self) -> PendingFile:
        """Start a new content, to which received bytes are written."""
        return PendingFile(self._contents)

    def content_path(self, content: str) -> Path:
        """Return the path of a content. Raises ``ValueError`` for anything but a generated id."""
        if not _ID.fullmatch(content):
            raise ValueError("not a content id")
        return _no_link(self._contents / content)

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a job, by its id. Raises ``ValueError`` for anything but a generated id."""
        if not _ID.fullmatch(run_id):
            raise ValueError("not a run id")
        folder = _no_link(self._runs / run_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def log_path(self, run_id: str) -> Path:
        """Return the path of a job's log. The file may not exist yet."""
        return _no_link(self.run_folder(run_id) / "log.txt")

    def remove(self, names: Iterable[str]) -> None:
        """Delete contents and run folders, by the names under which they were referenced."""
        for name in names:
            if name.startswith("run:"):
                shutil.rmtree(self.run_folder(name.removeprefix("run:")), ignore_errors=True)
            else:
                self.content_path(name).unlink(missing_ok=True)
                for check in self.checks_folder.glob(f"{name}.*"):
                    check.unlink(missing_ok=True)

    def collect_garbage(self, referenced: set[str]) -> int:
        """Delete everything that is not referenced, including drafts of a killed server; return how many."""
        contents = [entry for entry in self._contents.iterdir() if entry.name not in referenced]
        for check in self.checks_folder.iterdir():
            if check.name.partition(".")[0] not in referenced:
                check.unlink(missing_ok=True)
        for entry in contents:
            entry.unlink(missing_ok=True)
        runs = [
            entry for entry in self._runs.iterdir() if run_reference(entry.name) not in referenced
        ]
        for entry in runs:
            shutil.rmtree(entry, ignore_errors=True)
        return len(contents) + len(runs)


@contextmanager
def explain_state_errors(folder: Path) -> Iterator[None]:
    """Raise ``ConfigError`` for an error of files or SQLite in this block, which needs the state directory."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot keep the server's state in {folder}: {error.strerror or error}",
            hint="Choose another --state-dir, or make room on its disk.",
        ) from error
    except sqlite3.Error as error:
        raise _store_error(folder / STORE_FILE, error) from error


def _store_error(path: Path, error: sqlite3.Error) -> ConfigError:
    """Return the error for a store that cannot be used, with what to do by its reason."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # of an extended code, the primary one
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConfigError(
            f"another program has locked {path}",
            hint="End that program, or choose another --state-dir.",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
        return ConfigError(f"{path} is damaged: {error}", hint=_RESTORE)
    return ConfigError(
        f"{path} cannot be opened: {error}",
        hint="Free some space if the disk is full, or choose another --state-dir.",
    )


def make_private_folder(folder: Path) -> Path:
    """Create a folder with mode 0700, and its parents; return its resolved path.

    Raises ``ConfigError`` if it cannot be created, if it belongs to another user, or if others can write to it.
    """
    folder = folder.expanduser().resolve()
    with explain_state_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":
        return folder
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{folder} belongs to another user", hint="Choose another --state-dir.")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigError(f"other users can write to {folder}", hint=f"Run: chmod 700 {folder}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


STORE_FILE = "facts.db"
_RESTORE = (
    "Restore the folder from a copy, or choose another --state-dir. `maas-client serve --reset` deletes"
    " its jobs and models."
)
_FOLDERS = ("contents", "runs", "checks")
_FILES = (STORE_FILE, "facts.db-wal", "facts.db-shm", "facts.db-journal", "lock", "reserve", "children.log",
          "ca.pem", "ca-key.pem", "api-key")  # fmt: skip


def check_state_folder(root: Path) -> None:
    """Raise ``ConfigError`` for a link, or a file of another user, where the server has its own files.

    Opening it would read, overwrite or lock a file elsewhere.
    """
    for name in (*_FOLDERS, *_FILES):
        _check_entry(root / name)
    for name in _FOLDERS:
        for folder, folders, files in os.walk(root / name):
            for entry in (*folders, *files):
                if os.path.islink(os.path.join(folder, entry)):
                    _check_entry(Path(folder, entry))


def check_store_present(root: Path) -> None:
    """Raise ``ConfigError`` for files without the store: a new one would have every model and job deleted."""
    path = root / STORE_FILE
    if path.exists() and path.stat().st_size:
        return
    if any(any((root / name).iterdir()) for name in ("contents", "runs")):
        raise ConfigError(
            f"{path} is missing or empty, and {root} has files of jobs and models",
            hint=_RESTORE,
        )


def _check_entry(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    reason = ""
    if stat.S_ISLNK(status.st_mode):
        reason = f"is a symbolic link to {os.readlink(path)}, which {_owner_of(status)} made"
    elif os.name == "posix" and status.st_uid != os.geteuid():
        reason = f"belongs to {_owner_of(status)}"
    elif stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        reason = "is a hard link: the same file has another name elsewhere"
    elif stat.S_ISDIR(status.st_mode) != (path.name in _FOLDERS):
        reason = "is not what the server keeps under this name"
    if reason:
        raise ConfigError(f"{path} {reason}", hint=f"Delete {path}, or choose another --state-dir.")


def _owner_of(status: os.stat_result) -> str:
    """Return the owner of a file: this user, or the name or number of another one."""
    if os.name != "posix" or status.st_uid == os.geteuid():
        return "this user"
    import pwd

    try:
        return f"user {pwd.getpwuid(status.st_uid).pw_name}"
    except KeyError:
        return f"user {status.st_uid}"


def _no_link(path: Path) -> Path:
    if path.is_symlink():
        _check_entry(path)
    return path


def reset_state(root: Path) -> None:
    """Delete the server's files in a state directory, and nothing else in it."""
    for name in _FOLDERS:
        shutil.rmtree(root / name, ignore_errors=True)
    for pattern in ("facts.db*", "children.log", "reserve"):
        for path in root.glob(pattern):
            path.unlink()


def write_private_file(path: Path, text: str) -> None:
    """Write a small file with mode 0600 atomically: a reader sees all of it or nothing."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(temp, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except BaseException:
        with suppress(OSError):
            temp.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
