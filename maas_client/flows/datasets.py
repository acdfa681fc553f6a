"""``client.datasets``: files that the backend stores, validated before they are sent."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from maas_client._display.interrupts import explain_interrupt
from maas_client._display.progress import Progress, ProgressCallback, show_progress
from maas_client._settings import Settings
from maas_client.dataset.sources import DataFile, DataSource, open_source, to_file
from maas_client.errors import DatasetError
from maas_client.flows import identifiers
from maas_client.flows._file_parts import absolute_path
from maas_client.flows._io import IO, Coro
from maas_client.flows._requests import (
    UploadRequest,
    is_foundry,
    validation_target,
)
from maas_client.types import Dataset, FileReport, ValidationReport

if TYPE_CHECKING:
    from maas_client.dataset.rules.row_features import RowFeatures

_log = logging.getLogger("maas_client")
INTERRUPTED_UPLOAD = (
    "interrupted: the same call continues, and parts that were sent are not sent again"
)

JobData = Dataset | str | DataFile
"""Data of a job: a stored dataset, the id or name of one, or a file on this machine."""
_FileState = tuple[int, ...] | None
_MAX_CACHED_REPORTS = 64


@dataclass(frozen=True, slots=True)
class _CachedReport:
    """A report, with the states of the files that were validated and what their rows use."""

    states: list[_FileState]
    report: ValidationReport
    features: list[RowFeatures]


_ReportCache = dict[str, _CachedReport]
"""Reports by what was validated and how."""


class DatasetBackend(Protocol):
    """What a backend's module for datasets must have."""

    def upload(self, io: IO, request: UploadRequest) -> Coro[Dataset]: ...
    def get(self, io: IO, dataset: str) -> Coro[Dataset]: ...
    def list_all(self, io: IO) -> AsyncGenerator[Dataset, None]: ...
    def delete(self, io: IO, dataset: str) -> Coro[None]: ...


def _backend(io: IO) -> DatasetBackend:
    if is_foundry(io):
        from maas_client.flows.foundry import files

        return files
    from maas_client.flows.azureml import datasets

    return datasets


async def upload(
    io: IO,
    path: DataSource,
    *,
    name: str | None = None,
    model: str | None = None,
    method: str | None = None,
    ignore: Sequence[str] = (),
    progress: bool | ProgressCallback | None = None,
) -> Dataset:
    """Validate chat data and upload it as JSON Lines. Bytes that are stored already are not sent again.

    Args:
        path: A JSON Lines file, or what else ``maas_client.validate`` takes: a gzip or Parquet file, an
            iterable of rows (dictionaries), a DataFrame, a Hugging Face ``Dataset``. ``AsyncClient`` reads
            rows in a worker thread.
        name: The dataset's name; default: the name under which the same bytes are stored already, else
            the file's name without its suffix, ``data`` for rows.
        model: Validate the file for this base model as well (its chat template and limits), so that a
            problem for this model is reported before the upload. If left out, ``jobs.create`` validates
            the file again only if its rows use what the job's model may not support.
        method: ``DPO`` for rows of preferences. Default: rows are chats.
        ignore: Problem codes to ignore, such as ``["PII_EMAIL"]``; ``QUALITY_*`` is a whole group; default:
            none.
        progress: True shows the upload on stderr or in the notebook, False shows nothing; a function is
            called as ``progress(sent, total)`` with numbers of bytes. Default: True in a terminal or notebook.

    Returns:
        The stored dataset. Its ``report`` is the validation report.

    Raises:
        DatasetError: The file is missing or invalid, and nothing was sent (the error carries the
            report); or the file changed or was deleted during the upload, and nothing was stored.
        TransportError: Whether the dataset was stored is unknown; the same call finds out.
        ConfigError: The model or a code is unknown, or the data is of another type.
        MissingExtraError: The data is a Parquet file and pyarrow is not installed.

    Example:
        >>> dataset = client.datasets.upload("train.jsonl", model="Phi-4-mini-instruct")
        >>> dataset.report.files[0].examples
        1200
    """
    identifiers.check_new_name(name)
    with (
        explain_interrupt(lambda: INTERRUPTED_UPLOAD),
        show_progress(progress, "validating") as display,
    ):
        async with open_file(io, path) as file:
            report = await validate_file(io, file, model=model, method=method, ignore=ignore)
            return await upload_validated(
                io, file, report.files[0], report, name=name, progress=display
            )


async def get(io: IO, dataset: Dataset | str) -> Dataset:
    """Return a dataset.

    Args:
        dataset: A dataset, its id, or its name: the newest version. On azureml also ``name:version``.

    Returns:
        The dataset as the service describes it now.

    Raises:
        NotFoundError: There is no such dataset.

    Example:
        >>> client.datasets.get("train").bytes
        52431
    """
    return await _backend(io).get(io, identifiers.dataset_id(dataset))


async def list_all(io: IO) -> AsyncGenerator[Dataset, None]:
    """Iterate over all datasets. Further pages are requested as needed.

    Yields:
        The datasets, on azureml every version of each.

    Example:
        >>> [dataset.name for dataset in client.datasets.list()]
        ['train', 'validation']
    """
    async for dataset in _backend(io).list_all(io):
        yield dataset


async def delete(io: IO, dataset: Dataset | str) -> None:
    """Delete a dataset.

    Args:
        dataset: A dataset, its id or its name. On azureml a name without a version deletes all
            versions; the file's bytes stay in the datastore.

    Raises:
        NotFoundError: There is no such dataset.

    Example:
        >>> client.datasets.delete("train")
    """
    await _backend(io).delete(io, identifiers.dataset_id(dataset))


@asynccontextmanager
async def open_file(io: IO, source: DataSource) -> AsyncGenerator[DataFile, None]:
    """Yield data as a file of lines. A temporary file is deleted at the end of the block."""
    with ExitStack() as stack:
        yield await io.call(lambda: stack.enter_context(open_source(source)))


@asynccontextmanager
async def open_data(
    io: IO, data: Dataset | DataSource | None
) -> AsyncGenerator[JobData | None, None]:
    """Yield the data of a job: a source as a file, a dataset and the id or name of one unchanged."""
    if data is None or isinstance(data, Dataset):
        yield data
    elif isinstance(data, str | PathLike) and identifiers.local_file(data) is None:
        yield str(data)
    else:
        async with open_file(io, data) as file:
            yield file


async def validate_file(
    io: IO,
    file: DataFile,
    *,
    model: str | None = None,
    method: str | None = None,
    ignore: Sequence[str] = (),
    validation: DataFile | None = None,
) -> ValidationReport:
    """Return the report on a file for this backend.

    A file whose size, modification time and inode have not changed is not parsed again for the same
    model and codes: the client keeps its reports. Raises ``DatasetError`` if the file is invalid.
    """
    from maas_client.dataset.file_validator import ValidateOptions, check_files

    cache = _report_cache(io)
    files = [file, *([] if validation is None else [validation])]
    states = await io.call(lambda: [_file_state(each) for each in files])
    identities = await io.call(lambda: [_identity(each) for each in files])
    key = _report_key(io, identities, model, ignore, method)
    cached = cache.get(key)
    if cached is None or cached.states != states or None in states:
        options = ValidateOptions(
            model=model, target=validation_target(io), method=method, ignore=tuple(ignore)
        )
        _log.info("validating %s", ", ".join(each.name for each in files))
        held_out = None if validation is None else _to_source(validation)
        report, features = await io.call(lambda: check_files([_to_source(file)], held_out, options))
        report.raise_if_invalid()
        cache.pop(key, None)
        cache[key] = cached = _CachedReport(states, report, features)
        while len(cache) > _MAX_CACHED_REPORTS:
            cache.pop(next(iter(cache)))
    return cached.report


async def validate_for_job(
    io: IO,
    file: DataFile,
    *,
    model: str | None,
    method: str | None = None,
    ignore: Sequence[str],
    needs_token_bounds: bool = False,
) -> ValidationReport:
    """Return the report on a file for a job's model, as ``validate_file`` does.

    If the unchanged file was validated without a model, the report is derived from that one where the
    model cannot add a problem; its number of tokens is then an estimate for no model in particular.

    Args:
        file: The file.
        model: The model; None: only the service knows it.
        method: ``DPO`` for rows of preferences.
        ignore: Problem codes to ignore.
        needs_token_bounds: The bounds of the file's tokens must be those for the model.
    """
    cache = _report_cache(io)
    identity = await io.call(lambda: _identity(file))
    general = cache.get(_report_key(io, [identity], None, ignore, method))
    is_cached = _report_key(io, [identity], model, ignore, method) in cache
    if general is not None and model is not None and not is_cached:
        state = await io.call(lambda: _file_state(file))
        if state is not None and general.states == [state]:
            report = await _derive_report(io, general, model, needs_token_bounds=needs_token_bounds)
            if report is not None:
                return report
    return await validate_file(io, file, model=model, method=method, ignore=ignore)


async def find_report(
    io: IO,
    dataset: Dataset,
    *,
    model: str | None,
    method: str | None = None,
    ignore: Sequence[str],
    needs_token_bounds: bool = False,
) -> FileReport | None:
    """Return the report on the bytes of a dataset that this program uploaded, for a model.

    The report of the upload is reused if it is for the same model, or if the report for the model can be
    derived from it. Otherwise the file is validated again, unless it has changed since. Returns None if
    the bytes are not at hand.
    """
    path, cache = dataset.path, _report_cache(io)
    identity = f"sha256:{dataset.sha256}" if path is None else str(path)
    cached = cache.get(_report_key(io, [identity], model, ignore, method))
    if cached is not None and cached.report.files[0].sha256 == dataset.sha256:
        return cached.report.files[0]
    if path is None:  # uploaded from rows or a packed file, of which no copy is kept
        general = cache.get(_report_key(io, [identity], None, ignore, method))
        if general is None or model is None:
            return None
        derived = await _derive_report(io, general, model, needs_token_bounds=needs_token_bounds)
        return None if derived is None else derived.files[0]
    digest = await io.call(lambda: _file_digest(path))
    if digest is None or digest != dataset.sha256:
        return None
    async with open_file(io, path) as file:
        report = await validate_for_job(
            io,
            file,
            model=model,
            method=method,
            ignore=ignore,
            needs_token_bounds=needs_token_bounds,
        )
        return report.files[0]


async def _derive_report(
    io: IO, general: _CachedReport, model: str, *, needs_token_bounds: bool
) -> ValidationReport | None:
    """Return the report for a model from one without a model, None if that is not possible."""
    from maas_client.dataset.model_report import report_for_model

    target = validation_target(io)
    derived = await io.call(
        lambda: report_for_model(
            general.report.files[0],
            general.features[0],
            target=target,
            model=model,
            needs_token_bounds=needs_token_bounds,
        )
    )
    if derived is None:
        return None
    return general.report.model_copy(update={"files": (derived,), "model": model})


async def upload_validated(
    io: IO,
    file: DataFile,
    file_report: FileReport,
    report: ValidationReport,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Upload the bytes that ``file_report`` is about; the upload fails if the file holds any others."""
    path = Path(file.path)
    if not await io.call(path.is_file):
        raise DatasetError(f"file not found: {file.name}", hint="Check the path.")
    if progress is not None:
        progress.on_status(f"uploading {file.name}")
    _log.info("uploading %s, unless the same bytes are stored already", file.name)
    request = UploadRequest(
        path,
        file_report.sha256,
        name or _dataset_name(path.name),
        progress.on_upload if progress else None,
        has_default_name=not name,
    )
    dataset = await _backend(io).upload(io, request)
    _log.info("%s is stored as data set %s", file.name, dataset.name)
    return dataset.with_source(None if file.is_copy else Path(absolute_path(path)), report)


def _report_cache(io: IO) -> _ReportCache:
    cache: _ReportCache = io.scope.cache.setdefault("reports", {})
    return cache


def _report_key(
    io: IO,
    identities: Sequence[str],
    model: str | None,
    ignore: Sequence[str],
    method: str | None,
) -> str:
    catalog = Settings.load().catalog_file()
    rules = catalog and (str(catalog), _file_state(to_file(catalog)))
    is_preference = method == "DPO"
    key = (list(identities), model, validation_target(io), sorted(ignore), rules, is_preference)
    return repr(key)


def _identity(file: DataFile) -> str:
    """Return what a file is recognised by: its path, or the digest of a temporary file."""
    return f"sha256:{_file_digest(file.path)}" if file.is_copy else absolute_path(file.path)


def _to_source(file: DataFile) -> DataFile | str:
    return file if file.is_copy or file.unpack_error else file.path


def _file_state(file: DataFile) -> _FileState:
    """Return numbers that change when the file is written to or replaced; None if it is missing."""
    if file.is_copy:
        return ()  # its identity is its content
    try:
        status = os.stat(file.path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _file_digest(path: str | Path) -> str | None:
    """Return the file's sha256, None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _dataset_name(filename: str) -> str:
    stem = re.sub(r"\.[^.]*$", "", filename)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:100] or "data"
