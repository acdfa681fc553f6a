"""The folder of compiled torch extensions, which DeepSpeed builds on first use. Torch-free.

PyTorch guards a build with a file named ``lock`` (``torch.utils.cpp_extension``, ``FileBaton``). A killed
process leaves it behind, and then every later process waits for it without end. So the builds of jobs have
their own folder, and each process that uses it holds a kernel lock, which ends with the process.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

from maas_client._settings import Settings


def build_folder() -> Path:
    """Return the build folder for this Python and torch version (``TORCH_EXTENSIONS_DIR``)."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    name = f"py{sys.version_info.major}{sys.version_info.minor}-torch{torch}"
    return Settings.load().build_path() / name


def has_builds(root: Path) -> bool:
    """Return whether a complete build exists, so that a job does not wait for the compiler."""
    return any(root.glob("*/*.so"))


def lock_builds(root: Path) -> int | None:
    """Lock the builds for this process until it ends, and remove the builds of killed processes.

    Incomplete builds are removed only if no other process uses the folder, because it might be building.
    Return the descriptor of the lock, which must stay open; None on Windows, which has no such lock.
    """
    try:
        import fcntl
    except ImportError:
        return None
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(root / "in-use", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        for lock in root.glob("*/lock"):
            shutil.rmtree(lock.parent, ignore_errors=True)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
