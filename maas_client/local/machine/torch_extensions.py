"""What DeepSpeed compiles for this machine when it is first used, and who is at it; torch-free.

PyTorch guards such a build with a file named ``lock`` (``torch.utils.cpp_extension``, ``FileBaton``) that
a killed process leaves behind, and then everybody waits for it for ever. So the builds of our jobs lie
in a folder of their own, and who uses it holds a lock of the kernel's, which ends with its process.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

from maas_client._settings import Settings


def build_folder() -> Path:
    """Return where this Python's and this torch's builds lie (``TORCH_EXTENSIONS_DIR``)."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    own = f"py{sys.version_info.major}{sys.version_info.minor}-torch{torch}"
    return Settings.load().build_path() / own


def has_builds(root: Path) -> bool:
    """Tell whether anything was built to its end, so that a job need not wait for it."""
    return any(root.glob("*/*.so"))


def lock_builds(root: Path) -> int | None:
    """Tell others that this process uses the builds, until it ends; drop those of killed processes.

    A build that was cut short is dropped only when nobody else is here, who might be at it. Return the
    descriptor of the lock, which is to be kept; None where there is no such lock (Windows).
    """
    try:
        import fcntl
    except ImportError:
        return None
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(root / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        for left in root.glob("*/lock"):
            shutil.rmtree(left.parent, ignore_errors=True)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor
