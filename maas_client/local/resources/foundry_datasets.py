"""Datasets of Foundry projects: versions that name files in a container of this server's storage."""

from __future__ import annotations

import uuid
from typing import Any

from maas_client.local.resources.assets import FOUNDRY_SCOPE, check_name, utc_now, version_key
from maas_client.local.resources.blobs import BlobStore, new_etag
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import Record, Store

_KIND = "dataset"
_NAMESPACE = uuid.UUID("0b6c2a51-7e0a-4c3b-9a67-6f5f0b7ad1c2")
_TYPES = ("uri_file", "uri_folder")


class FoundryDatasets:
    """All dataset versions."""

    def __init__(self, store: Store, blobs: BlobStore, files: FileStore) -> None:
        self._store = store
        self._blobs = blobs
        self._files = files

    def start_upload(self, name: str, version: str, upload_id: str) -> str:
        """Return the container of an upload; create it for the first request."""
        check_name(name, "dataset")
        check_name(version, "version")
        container = f"dataset-{uuid.uuid5(_NAMESPACE, f'{version_key(name, version)}/{upload_id}')}"
        with self._store.write() as writer:
            if not writer.get("container", "", container):
                body = {"metadata": {}, "modified": utc_now(), "etag": new_etag()}
                writer.put("container", "", container, body)
        return container

    def put(
        self, name: str, version: str, location: tuple[str, str] | None, request: dict[str, Any]
    ) -> tuple[Record, bool]:
        """Create a version, or change description and tags of one; return it and whether it is new.

        ``location`` is the container and path of ``dataUri``. Raises ``ApiError`` (400) if no file is there.
        """
        check_name(name, "dataset")
        check_name(version, "version")
        key = version_key(name, version)
        with self._store.write() as writer:
            existing = writer.get(_KIND, FOUNDRY_SCOPE, key)
            if existing:
                for field in ("type", "dataUri"):
                    if request.get(field) not in (None, existing.body[field]):
                        raise ApiError(
                            409, "Conflict",
                            f"{field} of dataset {name} version {version} cannot be changed."
                            " Use another version.", target=field,
                        )  # fmt: skip
                body = existing.body
            else:
                body = self._new_body(name, version, location, request)
            body |= {k: request[k] for k in ("description", "tags") if k in request}
            writer.put(_KIND, FOUNDRY_SCOPE, key, body)
            record = writer.get(_KIND, FOUNDRY_SCOPE, key)
        assert record is not None
        return record, existing is None

    def _new_body(
        self, name: str, version: str, location: tuple[str, str] | None, request: dict[str, Any]
    ) -> dict[str, Any]:
        kind = request.get("type")
        if kind not in _TYPES:
            raise user_error(f"type must be {' or '.join(_TYPES)}.", target="type")
        if location is None:
            raise user_error(
                "dataUri must be a file or container of this server's storage account. Start an upload with"
                " startPendingUpload; this server downloads nothing.",
                target="dataUri",
            )
        container, path = location
        prefix = path if kind == "uri_file" or not path else path.rstrip("/") + "/"
        blob = next(iter(self._blobs.list_blobs(container, prefix)), None)
        if blob is None or (kind == "uri_file" and blob.key != path):
            raise user_error(f"There is no {kind[4:]} at dataUri.", target="dataUri")
        return {
            "name": name,
            "version": version,
            "type": kind,
            "dataUri": request["dataUri"],
            "container": container,
            "created": utc_now(),
        }

    def get(self, name: str, version: str) -> Record:
        """Return a version. Raises ``ApiError`` (404) when there is none."""
        record = self._store.read.get(_KIND, FOUNDRY_SCOPE, version_key(name, version))
        if record is None:
            raise not_found(f"Dataset {name[:60]} version {version[:60]}")
        return record

    def versions(self, name: str) -> list[Record]:
        """Return the versions of a name, newest first."""
        return self._store.read.with_prefix(_KIND, FOUNDRY_SCOPE, version_key(name, ""))

    def latest(self) -> list[Record]:
        """Return the newest version of each name, newest first."""
        newest: dict[str, Record] = {}
        for record in self._store.read.newest(_KIND, FOUNDRY_SCOPE):
            newest.setdefault(record.body["name"].casefold(), record)
        return list(newest.values())

    def delete(self, name: str, version: str) -> None:
        """Delete a version and the files of its upload, if there is one."""
        key = version_key(name, version)
        unreferenced: list[str] = []
        with self._store.write() as writer:
            record = writer.get(_KIND, FOUNDRY_SCOPE, key)
            if record is None:
                return
            writer.delete(_KIND, FOUNDRY_SCOPE, key)
            container = record.body["container"]
            if container.startswith("dataset-"):
                unreferenced = self._blobs.delete_all(writer, container)
                writer.delete("container", "", container)
        self._files.remove(unreferenced)
