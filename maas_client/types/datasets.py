"""Datasets: training and validation files that a backend stores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr, computed_field, model_validator

from maas_client.types._api_model import ApiModel
from maas_client.types.report import ValidationReport

__all__ = ["Dataset"]


class Dataset(ApiModel):
    """A file that a backend stores, ready to be used in a job.

    Attributes:
        id: What ``jobs.create(training_data=...)`` takes: an ARM id or ``azureml:`` URI on azureml, a
            ``file-...`` id on foundry.
        name: The dataset's name; on foundry the file's name.
        version: The version of a data asset; None on foundry.
        uri: Where the file is stored (``azureml://datastores/...``); None on foundry.
        filename: The name of the file.
        bytes: The size of the file in bytes; None if the service does not report it.
        sha256: The SHA-256 of the file in hexadecimal; None if it was not uploaded by this library.
        status: The service's own status (``processed`` on foundry); None on azureml.
        created_at: When it was created; None if the service does not report it.
        attached: True if ``upload`` found the same file on the service and sent nothing.
        raw: The service's response, unchanged.
    """

    _REPR_FIELDS: ClassVar = ("name", "version", "id", "bytes", "status")

    id: str
    name: str
    version: str | None = None
    uri: str | None = None
    filename: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    status: str | None = None
    created_at: datetime | None = None
    attached: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_older_name(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "already_there" not in values:
            return values
        values = {"attached": values["already_there"], **values}
        return {name: value for name, value in values.items() if name != "already_there"}

    @computed_field  # type: ignore[prop-decorator]  # as in pydantic's documentation
    @property
    def already_there(self) -> bool:
        """The name of ``attached`` in version 0.2, also in JSON."""
        return self.attached

    _path: Path | None = PrivateAttr(default=None)
    _report: ValidationReport | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The absolute path of the uploaded file; None for other data and for uploads of other programs."""
        return self._path

    @property
    def report(self) -> ValidationReport | None:
        """The validation that preceded the upload; None unless this program uploaded the file."""
        return self._report

    def with_source(self, path: Path | None, report: ValidationReport) -> Dataset:
        """Return a copy that knows the local file it was uploaded from, and the report on it.

        Args:
            path: The absolute path of the uploaded file; None for a temporary copy of other data.
            report: The validation report on the uploaded bytes.
        """
        copy = self.model_copy()
        copy._path = path
        copy._report = report
        return copy
