"""Parts of a file as request bodies: read from disk while they are sent, and compared with a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from maas_client.errors import ConfigError, DatasetError

CHUNK_BYTES = 256 * 2**10


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Report a file that cannot be read in this context, such as a deleted one, as ``DatasetError``."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{path}: the file cannot be read during the upload ({error.strerror or error})",
            hint="Restore the file, then run again.",
        ) from error


def file_changed_error(path: Path) -> DatasetError:
    """Return the error for a file whose bytes are no longer the validated ones."""
    return DatasetError(
        f"{path}: the file changed during the upload; nothing was stored",
        hint="Wait until nothing writes to the file, then run again.",
    )


class FileSlice:
    """Some bytes of a file: a request body that needs no memory, and may be sent several times.

    It has the methods of a file that httpx reads from.

    Args:
        path: The file.
        start: The offset of the first byte.
        size: The number of bytes.
        digest: The digest of these bytes, in hexadecimal.
        algorithm: The algorithm of the digest, as ``hashlib`` names it: the last bytes are returned only if all
            of them have the digest, so a request with other bytes never becomes complete. None if the request
            has the digest as a header, with which the service compares the bytes.
    """

    def __init__(
        self, path: Path, start: int, size: int, digest: str, algorithm: str | None
    ) -> None:
        self.path, self.start, self.size = path, start, size
        self.digest, self._algorithm = digest, algorithm
        self._file: BinaryIO | None = None
        self.seek(0)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        self.seek(0)
        while chunk := self.read(CHUNK_BYTES):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        remaining = self.size - self._position
        count = remaining if size < 0 else min(size, remaining)
        if count == 0:
            return b""
        with reading(self.path):
            if self._file is None:
                self._file = self.path.open("rb")
                self._file.seek(self.start + self._position)
            data = self._file.read(count)
        if not data:
            raise file_changed_error(self.path)
        if self._hash is not None:
            self._hash.update(data)
        self._position += len(data)
        if self._position == self.size:
            self.close()
            if self._hash is not None and self._hash.hexdigest() != self.digest:
                raise file_changed_error(self.path)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to the start or to the end; nowhere else."""
        self.close()
        self._position = self.size if whence == os.SEEK_END else offset
        algorithm = self._algorithm
        self._hash = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def absolute_path(path: str | os.PathLike[str]) -> str:
    """Return an absolute path.

    Raises:
        ConfigError: The path is relative and the working directory was deleted, or it starts with ``~`` and
            there is no home directory.
    """
    try:
        return os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"cannot find {os.fspath(path)}: the working directory was deleted",
            hint="Change to an existing folder, or pass an absolute path.",
        ) from error
