"""``client.datasets``: files that the backend stores, validated before they are sent."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Protocol

from maas_client.dataset.sources import DataFile, DataSource, open_source
from maas_client.errors import DatasetError
from maas_client.flows import identifiers
from maas_client.flows._backend import (
    ProgressCallback,
    UploadRequest,
    is_foundry,
    validation_target,
)
from maas_client.flows._io import IO, Coro
from maas_client.flows._paths import absolute_path
from maas_client.types import Dataset, FileReport, ValidationReport

JobData = Dataset | str | DataFile
"""Data of a job: a stored dataset, the id or name of one, or a file on this machine."""
_FileState = tuple[int, ...] | None
_ReportCache = dict[str, tuple[list[_FileState], ValidationReport]]
"""The states of the files that were validated, and the report, by what was validated and how."""
_MAX_CACHED_REPORTS = 64


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
    ignore: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> Dataset:
    """Validate chat data and upload it as JSON Lines. Bytes that are stored already are not sent again.

    Args:
        path: A JSON Lines file, or what else ``maas_client.validate`` takes: a gzip or Parquet file, an
            iterable of rows (dictionaries), a DataFrame, a Hugging Face ``Dataset``. ``AsyncClient`` reads
            rows in a worker thread.
        name: The dataset's name; default: the name under which the same bytes are stored already, else
            the file's name without its suffix, ``data`` for rows.
        model: Validate the file for this base model as well (its chat template and limits). Then
            ``jobs.create`` for the same model does not read the file again.
        ignore: Problem codes to ignore, such as ``["PII_EMAIL"]``; ``QUALITY_*`` is a whole group.
        progress: Called as ``progress(sent, total)`` with numbers of bytes.

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
    async with open_file(io, path) as file:
        report = await validate_file(io, file, model=model, ignore=ignore)
        return await upload_validated(
            io, file, report.files[0], report, name=name, progress=progress
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
    ignore: Sequence[str] = (),
    validation: DataFile | None = None,
) -> ValidationReport:
    """Return the report on a file for this backend.

    A file whose size, modification time and inode have not changed is not parsed again for the same
    model and codes: the client keeps its reports. Raises ``DatasetError`` if the file is invalid.
    """
    from maas_client.dataset import validate

    cache = _report_cache(io)
    files = [file, *([] if validation is None else [validation])]
    states = await io.call(lambda: [_file_state(each) for each in files])
    identities = await io.call(lambda: [_identity(each) for each in files])
    key = _report_key(io, identities, model, ignore)
    cached = cache.get(key)
    if cached is None or cached[0] != states or None in states:
        report = await io.call(
            lambda: validate(
                _to_source(file),
                model=model,
                target=validation_target(io),
                ignore=tuple(ignore),
                validation=None if validation is None else _to_source(validation),
            )
        )
        report.raise_if_invalid()
        cache.pop(key, None)
        cache[key] = cached = (states, report)
        while len(cache) > _MAX_CACHED_REPORTS:
            cache.pop(next(iter(cache)))
    return cached[1]


async def find_report(
    io: IO, dataset: Dataset, *, model: str | None, ignore: Sequence[str]
) -> FileReport | None:
    """Return the report on the bytes of a dataset that this program uploaded, for a model.

    The report of the upload is reused if it is for the same model. Otherwise the file is validated
    again, unless it has changed since. Returns None if the bytes are not at hand.
    """
    path = dataset.path
    identity = f"sha256:{dataset.sha256}" if path is None else absolute_path(path)
    cached = _report_cache(io).get(_report_key(io, [identity], model, ignore))
    if cached is not None and cached[1].files[0].sha256 == dataset.sha256:
        return cached[1].files[0]
    digest = None if path is None else await io.call(lambda: _file_digest(path))
    if path is None or digest is None or digest != dataset.sha256:
        return None
    async with open_file(io, path) as file:
        return (await validate_file(io, file, model=model, ignore=ignore)).files[0]


async def upload_validated(
    io: IO,
    file: DataFile,
    file_report: FileReport,
    report: ValidationReport,
    *,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> Dataset:
    """Upload the bytes that ``file_report`` is about; the upload fails if the file holds any others."""
    path = Path(file.path)
    if not await io.call(path.is_file):
        raise DatasetError(f"file not found: {file.name}", hint="Check the path.")
    request = UploadRequest(
        path,
        file_report.sha256,
        name or _dataset_name(path.name),
        progress,
        has_default_name=not name,
    )
    dataset = await _backend(io).upload(io, request)
    return dataset.with_source(None if file.is_copy else path, report)


def _report_cache(io: IO) -> _ReportCache:
    cache: _ReportCache = io.scope.cache.setdefault("reports", {})
    return cache


def _report_key(io: IO, identities: Sequence[str], model: str | None, ignore: Sequence[str]) -> str:
    return repr((list(identities), model, validation_target(io), sorted(ignore)))


def _identity(file: DataFile) -> str:
    """Return what a file is recognised by: its path, or the digest of a temporary file."""
    return f"sha256:{_file_digest(file.path)}" if file.is_copy else absolute_path(file.path)


def _to_source(file: DataFile) -> DataFile | str:
    return file if file.is_copy or file.damage else file.path


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
