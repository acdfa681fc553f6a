"""Write files atomically: to a temporary file in the same folder, flushed to disk, then renamed."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

from maas_client.errors import ConfigError

_GZIP_NAMES = (".gz", ".gzip")
_OTHER_NAMES = frozenset(
    (".parquet", ".pq", ".feather", ".arrow", ".xlsx", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tgz")
)
"""Suffixes of binary files that this library does not write."""


@contextmanager
def atomic_write(*paths: str | PathLike[str]) -> Iterator[tuple[BinaryIO, ...]]:
    """Open files for writing that replace ``paths`` together when the block ends without an error.

    Write text: a file with the suffix ``.gz`` is compressed at the end. On an error the temporary files are
    deleted and the files at ``paths`` keep their old content.

    Raises:
        ConfigError: A folder does not exist, a path is a folder, a pipe or a device or named as another binary
            file, or the same path is given twice.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    if len(set(targets)) < len(targets):
        raise ConfigError(
            "two of the files to write are the same file", hint="Give each its own name."
        )
    for target in targets:
        if not target.parent.is_dir():
            raise ConfigError(f"the folder {target.parent} does not exist", hint="Create it first.")
        if target.is_dir():
            raise ConfigError(f"{target} is a folder", hint="Give the path of a file in it.")
        if target.exists() and not target.is_file():  # the rename would replace the device itself
            raise ConfigError(
                f"{target} is a pipe or a device, which cannot be replaced",
                hint="Give the path of a file.",
            )
        _check_suffix(target)
    files: list[BinaryIO] = []
    try:
        for target in targets:
            files.append(_open_temporary(target))
        yield tuple(files)
        for index, target in enumerate(targets):
            if target.suffix.casefold() in _GZIP_NAMES:
                files.append(_open_temporary(target))
                _compress(files[index], files[-1])
                files[index], files[-1] = files[-1], files[index]
        for file in files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        for file, target in zip(files, targets, strict=False):  # then those that were compressed
            os.replace(file.name, target)
        for folder in {target.parent for target in targets}:
            _sync_folder(folder)
    finally:
        for file in files:
            file.close()
            Path(file.name).unlink(missing_ok=True)


def _open_temporary(target: Path) -> BinaryIO:
    """Open a temporary file next to ``target``, with the permissions that ``target`` has or would get."""
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - it outlives this function
        dir=target.parent, prefix=f".{target.name}.", suffix=".part", delete=False
    )
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    os.chmod(file.name, mode)
    return cast("BinaryIO", file)


def _check_suffix(target: Path) -> None:
    suffix = target.suffix.casefold()
    if suffix in _OTHER_NAMES:
        raise ConfigError(
            f"{target} cannot be written: its name ends with {suffix}, and text is written",
            hint="Give a name that ends with .jsonl, or with .gz to compress the file.",
        )


def _compress(source: BinaryIO, target: BinaryIO) -> None:
    """Write a file's content as gzip, the same for the same content."""
    source.seek(0)
    with gzip.GzipFile("", "wb", fileobj=target, mtime=0) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, on systems that can sync a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_distinct_paths(source: str | PathLike[str], *targets: str | PathLike[str]) -> None:
    """Raise ``ConfigError`` if a target is the source, so that no file is overwritten by accident."""
    for target in targets:
        if os.path.realpath(source) == os.path.realpath(target):
            raise ConfigError(
                f"{os.fspath(target)} is the file that is read",
                hint="Give a different file to write.",
            )


def require_regular_file(path: str | PathLike[str]) -> None:
    """Raise ``ConfigError`` for a path that cannot be read twice: standard input, a pipe or a folder."""
    name = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        if name != "-":
            return  # opening the file reports the reason
        raise ConfigError(
            "standard input cannot be read twice",
            hint="Write it to a file first, then give that file: ... > FILE.jsonl",
        ) from None
    if stat.S_ISDIR(mode):
        raise ConfigError(f"{name} is a folder", hint="Give the path of a file in it.")
    if not stat.S_ISREG(mode):
        raise ConfigError(
            f"{name} is a pipe or a device, which cannot be read twice",
            hint="Write it to a file first, then give that file: ... > FILE.jsonl",
        )
