"""Files that are there as a whole or not at all: written beside, flushed to disk, then renamed."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

from maas_client.errors import ConfigError


@contextmanager
def atomic_write(*paths: str | PathLike[str]) -> Iterator[tuple[BinaryIO, ...]]:
    """Open files for writing that take the places of ``paths`` together, when the block ends well.

    On any error nothing is left behind, and what stood at ``paths`` stands there still. Raises
    ``ConfigError`` for a folder that does not exist and for the same path twice.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    if len(set(targets)) < len(targets):
        raise ConfigError("the same file is to be written twice", hint="Name different files.")
    for target in targets:
        if not target.parent.is_dir():
            raise ConfigError(f"there is no folder {target.parent}", hint="Make it first.")
        if target.is_dir():
            raise ConfigError(f"{target} is a folder", hint="Name a file in it.")
    files: list[BinaryIO] = []
    try:
        for target in targets:
            files.append(_beside(target))
        yield tuple(files)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for file, target in zip(files, targets, strict=True):
            os.replace(file.name, target)
        for folder in {target.parent for target in targets}:
            _sync_folder(folder)
    finally:
        for file in files:
            file.close()
            Path(file.name).unlink(missing_ok=True)


def _beside(target: Path) -> BinaryIO:
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it outlives this function
        dir=target.parent, prefix=f".{target.name}.", suffix=".part", delete=False
    )
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    os.chmod(file.name, mode)
    return cast("BinaryIO", file)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the renames durable, where the system lets one."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_distinct_paths(source: str | PathLike[str], *targets: str | PathLike[str]) -> None:
    """Raise ``ConfigError`` if a target is the source: nothing is changed in place by accident."""
    for target in targets:
        if os.path.realpath(source) == os.path.realpath(target):
            raise ConfigError(
                f"{os.fspath(target)} is the file that is read", hint="Name another file to write."
            )


def require_regular_file(path: str | PathLike[str]) -> None:
    """Raise ``ConfigError`` for what is no file that can be read twice: standard input, a pipe, a folder."""
    name = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        if name != "-":
            return  # opening it will say why
        raise ConfigError(
            "standard input cannot be read twice",
            hint="Write it to a file first, and name that: ... > FILE.jsonl",
        ) from None
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{name} is a folder", hint="Name a file in it.")
    if not stat.S_ISREG(mode):
        raise ConfigError(
            f"{name} is a pipe or a device, which cannot be read twice",
            hint="Write it to a file first, and name that: ... > FILE.jsonl",
        )
