"""Check a data file once, and keep the result for every later reader of the same content.

A file that is uploaded to the Foundry routes is checked when it arrives, every other file by the worker
before its job starts. The training processes, and later attempts and jobs with the same content and model,
then read the valid rows without validating them again. A check without a model also serves the jobs of every
model that cannot change its result. Results are kept in memory and, if a folder is given, on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maas_client._settings import Settings
from maas_client._version import __version__
from maas_client.dataset.rows import (
    ValidatedFile,
    checked_rows_for_model,
    read_validated_rows,
    validate_file_once,
)
from maas_client.dataset.rules.row_features import RowFeatures
from maas_client.local.state.files import write_private_file
from maas_client.types.report import FileReport

_results: dict[str, ValidatedFile] = {}
_MAX_RESULTS = 16
"""Results in memory."""


def check_file(
    path: str, model: str | None, folder: str | None = None, method: str | None = None
) -> ValidatedFile:
    """Return the check of a file for a model, from an earlier pass over the same content if there is one.

    Args:
        path: a JSON Lines file.
        model: the model that the job trains; None: only general rules apply.
        folder: where results are kept; None keeps them in memory only.
        method: ``DPO`` for rows of preferences.
    """
    checked = _find_result(path, model, folder, method)
    if checked is None:
        checked = validate_file_once(path, target="local", model=model, method=method)
        key = _key(path, model, method)
        _cache_result(key, checked)
        if folder is not None:
            with suppress(OSError):  # a full disk costs the next reader a pass, and nothing else
                write_private_file(_stored_result(folder, path, key), _to_json(checked))
    return checked


def _find_result(
    path: str, model: str | None, folder: str | None, method: str | None
) -> ValidatedFile | None:
    """Return the result of an earlier pass for the model, or derive it from one without a model."""
    key = _key(path, model, method)
    checked = _results.get(key)
    if checked is None and folder is not None:
        checked = _load(_stored_result(folder, path, key))
    if checked is None and model is not None:
        general = _find_result(path, None, folder, method)
        checked = general and checked_rows_for_model(general, target="local", model=model)
    if checked is not None:
        _cache_result(key, checked)
    return checked


def _cache_result(key: str, checked: ValidatedFile) -> None:
    _results[key] = checked
    for oldest in list(_results)[:-_MAX_RESULTS]:
        _results.pop(oldest, None)


def _stored_result(folder: str, path: str, key: str) -> Path:
    return Path(folder) / f"{Path(path).name}.{key[:32]}"


def read_valid_rows(
    path: str, model: str | None, folder: str | None = None, method: str | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and row of every valid row, without validating them again. Raises ``OSError``."""
    yield from read_validated_rows(path, check_file(path, model, folder, method).valid_lines)


def _key(path: str, model: str | None, method: str | None) -> str:
    """Return a hash of what the result depends on: the file's identity, the model, the rules, the catalog."""
    catalog = Settings.load().catalog_file()
    parts = [__version__, os.path.abspath(path), _identity(path), model, method == "DPO"]
    parts += [str(catalog), _identity(catalog)] if catalog else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _identity(path: str | Path) -> list[int]:
    """Return numbers that differ after a file was written to or replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _to_json(checked: ValidatedFile) -> str:
    report = checked.report.model_dump(mode="json")
    features = {**asdict(checked.features), "roles": sorted(checked.features.roles)}
    return json.dumps({"report": report, "valid_lines": checked.valid_lines, "features": features})


def _load(path: Path) -> ValidatedFile | None:
    """Return a stored result; None if there is none, or if it is damaged."""
    try:
        stored = json.loads(path.read_bytes())
        lines = tuple((int(first), int(last)) for first, last in stored["valid_lines"])
        features = RowFeatures(**{**stored["features"], "roles": set(stored["features"]["roles"])})
        return ValidatedFile(FileReport.model_validate(stored["report"]), lines, features)
    except (OSError, ValueError, KeyError, TypeError):
        return None
