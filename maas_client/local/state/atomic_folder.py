"""Folders that are whole or absent: filled beside their place, hashed, flushed, then renamed.

A manifest is written last. A folder without one, or with one that does not match, was cut short
(by a kill, a full disk, a copy that broke off) and counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_DRAFT = ".draft"
_ABANDONED_S = 3600.0
"""Nothing here takes this long to fill: an older draft belongs to a process that is gone."""


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Make ``target`` with what ``fill`` puts into the empty folder it is given.

    If another process was quicker, its folder stays and ours is dropped. ``OSError`` (a full disk)
    leaves nothing behind under ``target``; what a kill leaves, a later call sweeps up.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(target.parent, older_than_s=_ABANDONED_S, name=target.name)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_DRAFT, dir=target.parent))
    try:
        fill(draft)
        write_manifest(draft)
        _move(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def remove_drafts(folder: Path, *, older_than_s: float = 0.0, name: str = "") -> None:
    """Remove drafts that a killed process left in ``folder`` (of the target ``name`` alone)."""
    now = time.time()
    for draft in folder.glob(f".{name or '*'}.*{_DRAFT}"):
        with suppress(OSError):
            if now - draft.stat().st_mtime >= older_than_s:
                shutil.rmtree(draft, ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """Flush every file of ``folder`` and write its manifest."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        _flush(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=1, sort_keys=True) + "\n")
    _flush(manifest)
    _flush(folder)


def is_complete(folder: Path, *, hashes: bool = True) -> bool:
    """Tell whether a folder is what its manifest says; by size alone with ``hashes=False``."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        return all(
            (folder / name).stat().st_size == fact["bytes"]
            and (not hashes or sha256_of(folder / name) == fact["sha256"])
            for name, fact in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _move(draft: Path, target: Path) -> None:
    for _ in range(3):
        try:
            draft.rename(target)
        except OSError:
            if is_complete(target, hashes=False):
                return
            if not target.exists():
                raise
            shutil.rmtree(target, ignore_errors=True)
        else:
            _flush(target.parent)
            return
    raise OSError(f"cannot put {target} in place: something keeps writing there")


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
