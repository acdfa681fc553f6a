"""Check a job's data file once, and keep the result for every later reader of the same content.

The worker checks the files of a job before it starts. The training processes, and later attempts and jobs
with the same content and model, then read the valid rows without validating them again. Results are kept in
memory and, if a folder is given, on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from maas_client._settings import Settings
from maas_client._version import __version__
from maas_client.dataset.rows import CheckedRows, check_rows, read_checked_rows
from maas_client.local.state.files import write_private_file
from maas_client.types.report import FileReport

_results: dict[str, CheckedRows] = {}


def check_file(path: str, model: str | None, folder: str | None = None) -> CheckedRows:
    """Return the check of a file for a model, from an earlier pass over the same content if there is one.

    Args:
        path: a JSON Lines file.
        model: the model that the job trains.
        folder: where results are kept; None keeps them in memory only.
    """
    key = _key(path, model)
    stored = Path(folder) / f"{Path(path).name}.{key[:32]}" if folder else None
    checked = _results.get(key) or (_load(stored) if stored else None)
    if checked is None:
        checked = check_rows(path, target="local", model=model)
        if stored is not None:
            with suppress(OSError):  # a full disk costs the next reader a pass, and nothing else
                write_private_file(stored, _to_json(checked))
    _results[key] = checked
    return checked


def read_valid_rows(
    path: str, model: str | None, folder: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and row of every valid row, without validating them again. Raises ``OSError``."""
    yield from read_checked_rows(path, check_file(path, model, folder).valid_lines)


def _key(path: str, model: str | None) -> str:
    """Return a hash of what the result depends on: the file's identity, the model, the rules, the catalog."""
    catalog = Settings.load().catalog_file()
    parts = [__version__, os.path.abspath(path), _identity(path), model]
    parts += [str(catalog), _identity(catalog)] if catalog else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _identity(path: str | Path) -> list[int]:
    """Return numbers that differ after a file was written to or replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _to_json(checked: CheckedRows) -> str:
    report = checked.report.model_dump(mode="json")
    return json.dumps({"report": report, "valid_lines": checked.valid_lines})


def _load(path: Path) -> CheckedRows | None:
    """Return a stored result; None if there is none, or if it is damaged."""
    try:
        stored = json.loads(path.read_bytes())
        lines = tuple((int(first), int(last)) for first, last in stored["valid_lines"])
        return CheckedRows(FileReport.model_validate(stored["report"]), lines)
    except (OSError, ValueError, KeyError, TypeError):
        return None
