"""``client.datasets``: files the backend holds."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence

from maas_client.errors import DatasetError
from maas_client.flows import _backend, identifiers
from maas_client.flows._backend import ProgressCallback, UploadRequest
from maas_client.flows._io import IO
from maas_client.types import Dataset, ValidationReport


async def upload(
    io: IO,
    path: identifiers.StrPath,
    *,
    name: str | None = None,
    model: str | None = None,
    ignore: Sequence[str] = (),
    progress: ProgressCallback | None = None,
) -> Dataset:
    """Check a chat-completion JSONL file, then upload it; what lies there already is not sent again.

    ``model`` checks it for that model too, ``ignore`` lets codes pass, ``name`` is the data set's name
    (the file's, without a suffix, if left out), ``progress`` is called with bytes done and in all.
    Raises ``DatasetError`` before anything is sent, with the report.
    """
    report = await validate_file(io, path, model=model, ignore=ignore)
    return await upload_validated(io, path, report, name=name, progress=progress)


async def validate_file(
    io: IO,
    path: identifiers.StrPath,
    *,
    model: str | None = None,
    ignore: Sequence[str] = (),
    validation: identifiers.StrPath | None = None,
) -> ValidationReport:
    """Return the report on a file for this backend; raise ``DatasetError`` when it is not valid."""
    from maas_client.dataset import validate

    where = identifiers.validation_target(io)
    report = await io.call(
        lambda: validate(
            path, model=model, target=where, ignore=tuple(ignore), validation=validation
        )
    )
    report.raise_if_invalid()
    return report


async def upload_validated(
    io: IO,
    path: identifiers.StrPath,
    report: ValidationReport,
    *,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> Dataset:
    """Upload exactly the bytes that ``report`` is about."""
    file = identifiers.local_file(path)
    if file is None:
        raise DatasetError(f"there is no file {path}", hint="Check the path.")
    about = next((f for f in report.files if f.path == str(path)), report.files[0])
    order = UploadRequest(file, about.sha256, name or _stem(file.name), progress)
    made = await _backend.backend_for(io).upload(io, order)
    return made.with_path(file)


def _stem(filename: str) -> str:
    stem = re.sub(r"\.[^.]*$", "", filename)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:100] or "data"


async def get(io: IO, dataset: Dataset | str) -> Dataset:
    """Return a data set by id or name."""
    return await _backend.backend_for(io).dataset(io, identifiers.dataset_id(dataset))


async def list_all(io: IO) -> AsyncGenerator[Dataset, None]:
    """Iterate over all data sets; pages by itself."""
    async for one in _backend.backend_for(io).datasets(io):
        yield one


async def delete(io: IO, dataset: Dataset | str) -> None:
    """Delete a data set."""
    await _backend.backend_for(io).delete_dataset(io, identifiers.dataset_id(dataset))
