"""Folders that are complete or absent: written beside their final path, hashed, flushed, then renamed.

A manifest is written last. A folder without a manifest, or with one that does not match, is incomplete
(the process was killed, the disk was full, a copy was interrupted) and counts as absent.
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

from maas_client.errors import ConfigError
from maas_client.local.state.files import error_number

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_DRAFT = ".draft"
_STALE_DRAFT_S = 3600.0
"""No folder takes this long to write, so an older draft belongs to a process that has ended."""


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_new(target: Path) -> None:
    """Raise ``ConfigError`` for a folder of the user that exists, or whose parent cannot be written to."""
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists", hint="Choose another folder with --out FOLDER.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)).rmdir()
    except OSError as error:
        raise ConfigError(
            f"the folder {target} cannot be created: {error.strerror}",
            hint="Choose another folder with --out FOLDER.",
        ) from error


def write_folder(target: Path, fill: Callable[[Path], None]) -> Path:
    """Create ``target`` with the files that ``fill`` writes into the empty folder it gets.

    If another process creates ``target`` first, its folder stays. After an ``OSError`` (a full disk) nothing
    remains under ``target``. Drafts of a killed process are removed by a later call.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(target.parent, older_than_s=_STALE_DRAFT_S, name=target.name)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_DRAFT, dir=target.parent))
    try:
        fill(draft)
        write_manifest(draft)
        _rename(draft, target)
    except Exception as error:
        number = error_number(error)
        if number and not isinstance(error, OSError):  # of safetensors
            raise OSError(number, os.strerror(number), str(target)) from error
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def remove_drafts(folder: Path, *, older_than_s: float = 0.0, name: str = "") -> None:
    """Remove the drafts of killed processes in ``folder``, or only those of the target ``name``."""
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
    """Return whether a folder matches its manifest; ``hashes=False`` compares only the sizes."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        return all(
            (folder / name).stat().st_size == entry["bytes"]
            and (not hashes or sha256_of(folder / name) == entry["sha256"])
            for name, entry in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _rename(draft: Path, target: Path) -> None:
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
    raise OSError(f"cannot create {target}: another process keeps writing there")


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
