"""Bytes: contents under ids of our own. No name from a request ever reaches the disk."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from maas_client.errors import ConfigError
from maas_client.local.state.reserve import DiskReserve

_ID = re.compile(r"[0-9a-f]{32}")


def new_id() -> str:
    """Return a fresh id: 32 hex digits."""
    return secrets.token_hex(16)


class Draft:
    """A content being written: invisible until ``keep``, gone when left without it."""

    def __init__(self, home: Path) -> None:
        self.id = new_id()
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._home = home
        self._temp = home / f".{self.id}.part"
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
        """Make it a content and return its id; ``durable`` waits for the disk."""
        if durable:
            os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._temp, self._home / self.id)
        if durable:
            _sync_folder(self._home)
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


def run_reference(own: str) -> str:
    """Return the name under which a run's folder is held (contents are held under their id)."""
    return f"run:{own}"


class FileStore:
    """Contents, each written once and never changed; and one folder per run (job), for its
    checkpoints, its log and what it learned."""

    def __init__(self, root: Path) -> None:
        self._home = root / "contents"
        self._runs = root / "runs"
        self.checks_folder = root / "checks"
        """Results of data checks, in files named ``<content id>.<key>``."""
        for home in (self._home, self._runs, self.checks_folder):
            home.mkdir(mode=0o700, exist_ok=True)
        self.reserve = DiskReserve(root)

    def draft(self) -> Draft:
        """Start a new content."""
        return Draft(self._home)

    def content_path(self, content: str) -> Path:
        """Return where a content lies. Raises ``ValueError`` for anything but an id of ours."""
        if not _ID.fullmatch(content):
            raise ValueError("not a content id")
        return self._home / content

    def run_folder(self, own: str) -> Path:
        """Return the folder of a run; ``own`` is an id of ours."""
        if not _ID.fullmatch(own):
            raise ValueError("not a run id")
        folder = self._runs / own
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def log_path(self, own: str) -> Path:
        """Return the log file of a run; it need not exist."""
        return self.run_folder(own) / "log.txt"

    def remove(self, names: Iterable[str]) -> None:
        """Delete contents and run folders that nobody holds, by the names they were held under."""
        for name in names:
            if name.startswith("run:"):
                shutil.rmtree(self.run_folder(name.removeprefix("run:")), ignore_errors=True)
            else:
                self.content_path(name).unlink(missing_ok=True)
                for check in self.checks_folder.glob(f"{name}.*"):
                    check.unlink(missing_ok=True)

    def collect_garbage(self, held: set[str]) -> int:
        """Delete what nobody holds, drafts of a killed server included; return how many."""
        contents = [entry for entry in self._home.iterdir() if entry.name not in held]
        for check in self.checks_folder.iterdir():
            if check.name.partition(".")[0] not in held:
                check.unlink(missing_ok=True)
        for entry in contents:
            entry.unlink(missing_ok=True)
        runs = [entry for entry in self._runs.iterdir() if run_reference(entry.name) not in held]
        for entry in runs:
            shutil.rmtree(entry, ignore_errors=True)
        return len(contents) + len(runs)


def make_private_folder(folder: Path) -> Path:
    """Make ``folder`` (and its parents) with mode 0700 and return it resolved.

    Raises ``ConfigError`` when it is not ours, or when others may write into it.
    """
    folder = folder.expanduser().resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":
        return folder
    facts = folder.stat()
    if facts.st_uid != os.geteuid():
        raise ConfigError(
            f"{folder} belongs to another user", hint="Choose a --state-dir of your own."
        )
    if stat.S_IMODE(facts.st_mode) & 0o022:
        raise ConfigError(f"others may write into {folder}", hint=f"Run: chmod 700 {folder}")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def reset_state(root: Path) -> None:
    """Delete what a server keeps in its state directory, and nothing else that lies there."""
    for name in ("contents", "runs", "checks"):
        shutil.rmtree(root / name, ignore_errors=True)
    for pattern in ("facts.db*", "children.log", "reserve"):
        for path in root.glob(pattern):
            path.unlink()


def write_private_file(path: Path, text: str) -> None:
    """Write a small file with mode 0600 in one step: a reader sees all of it or none."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(temp, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temp.replace(path)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
