"""A lock on an open file that ends with the process that holds it, also after kill -9."""

from __future__ import annotations

import os

_OFFSET = 1 << 20
"""Windows locks bytes: those after the text, so that the text stays readable."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting; return whether no other process or descriptor has locked it."""
    try:
        import fcntl
    except ImportError:
        return _try_lock_on_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _try_lock_on_windows(descriptor: int) -> bool:
    import msvcrt

    os.lseek(descriptor, _OFFSET, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Windows only
    except OSError:
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True
