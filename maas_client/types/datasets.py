"""Data sets as a backend knows them."""

from __future__ import annotations

from pathlib import Path

from pydantic import PrivateAttr

from maas_client.types._api_model import ApiModel


class Dataset(ApiModel):
    """A file the backend holds, ready to be named in a job."""

    id: str
    """What a job names: an ARM id or ``azureml:`` uri on azureml, ``file-...`` on foundry."""
    name: str
    version: str | None = None
    uri: str | None = None
    """Where the bytes lie (``azureml://datastores/...``); None on foundry."""
    filename: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    """Of the bytes that were sent, where this client sent them."""
    status: str | None = None
    """The service's own word, where it has one (``processed`` on foundry)."""
    created_at: str | None = None
    already_there: bool = False
    """True when the same bytes lay there before and nothing was sent."""

    _path: Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The file on this machine it was uploaded from, if this program uploaded it."""
        return self._path

    def with_path(self, path: Path) -> Dataset:
        """Return this data set, knowing the file it came from."""
        known = self.model_copy()
        known._path = path
        return known
