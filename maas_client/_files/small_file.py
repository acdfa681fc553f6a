"""Read a whole file that a user names: a configuration, a grader, a fault plan."""

from __future__ import annotations

import errno
from pathlib import Path

_MAX_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 16


def read_small_file(path: Path) -> bytes:
    """Return the content. Raises ``OSError`` also for a file without an end, such as ``/dev/zero``."""
    content = bytearray()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):  # one read would allocate the largest size
            content += chunk
            if len(content) > _MAX_BYTES:
                raise OSError(errno.EFBIG, "it is larger than 16 MiB", str(path))
    return bytes(content)
