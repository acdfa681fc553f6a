"""Read a whole file that a user names: a configuration, a grader, a fault plan."""

from __future__ import annotations

import errno
from pathlib import Path

_MAX_BYTES = 16 << 20


def read_small_file(path: Path) -> bytes:
    """Return the content. Raises ``OSError`` also for a file without an end, such as ``/dev/zero``."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(errno.EFBIG, "it is larger than 16 MiB", str(path))
    return content
