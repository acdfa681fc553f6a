"""Paths of local files."""

from __future__ import annotations

import os

from maas_client.errors import ConfigError


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
