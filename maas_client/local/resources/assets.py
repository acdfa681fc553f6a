"""Workspaces, data assets and models: names, ids and URIs.

Every subscription, resource group and workspace exists. A workspace's GUID is derived from its three names,
so that a workspace has the same ids in every state directory.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.state.files import run_reference
from maas_client.local.state.store import Reader, Record, Store, Writer

FOUNDRY_SCOPE = "foundry"
"""The scope of a Foundry resource's records. Every account name is the same resource: OpenAI-shaped
requests on the plain port name no account."""
_NAMESPACE = uuid.UUID("5d1c0c80-6d0b-4c5c-9a53-0f6d61d3f0d1")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")

_DATA_ARM = re.compile(r"/subscriptions/.+/workspaces/([^/]+)/data/([^/]+)/versions/([^/]+)", re.I)
_ASSET = re.compile(
    r"azureml://locations/[^/]+/workspaces/([0-9a-f-]{36})/(data|models)/([^/]+)/versions/([^/]+)",
    re.I,
)
_REGISTRY = re.compile(
    r"azureml://registries/([^/]+)/models/([^/?]+)(?:/versions/([^/?]+)|/labels/([^/?]+))?(?:\?.*)?",
    re.I,
)
_DATASTORE = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resourcegroups/[^/]+/(?:providers/[^/]+/)?workspaces/[^/]+/)?"
    r"datastores/([^/]+)/paths/(.+)",
    re.I,
)
_SHORT = re.compile(r"azureml:([^/:@]+)(?::([^/:@]+)|@latest)")


def utc_now() -> str:
    """Return the time in UTC as Azure writes it."""
    return format_time(datetime.now(UTC))


def format_time(when: datetime) -> str:
    """Return a moment in UTC as Azure writes it. The texts sort by time."""
    text = when.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace, identified by three names."""

    subscription: str
    resource_group: str
    name: str

    @property
    def guid(self) -> str:
        """Return the id that model ids and storage containers contain."""
        text = f"{self.subscription}/{self.resource_group}/{self.name}".casefold()
        return str(uuid.uuid5(_NAMESPACE, text))

    @property
    def arm_id(self) -> str:
        """Return the ARM id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @property
    def container(self) -> str:
        """Return the blob container of the workspace's own datastore."""
        return f"azureml-blobstore-{self.guid}"


def check_name(name: str, kind: str) -> str:
    """Return a resource name if it is valid in an id, else raise ``ApiError``."""
    if not _NAME.fullmatch(name):
        raise user_error(
            f"The {kind} name is invalid: it takes 1 to 255 letters, digits, '-', '_' and '.',"
            " the first a letter or a digit.",
            target="name",
        )
    return name


def version_key(name: str, version: str) -> str:
    """Return a version's key in the store. ARM names are case-insensitive."""
    return f"{name}/{version}".casefold()


class Assets:
    """Data versions and models of all workspaces."""

    def __init__(self, store: Store, region: str) -> None:
        self._store = store
        self._region = region

    def asset_id(self, kind: str, guid: str, name: str, version: str) -> str:
        """Return ``azureml://locations/.../{kind}/{name}/versions/{version}``."""
        return (
            f"azureml://locations/{self._region}/workspaces/{guid}/{kind}/{name}/versions/{version}"
        )

    # -- data ---------------------------------------------------------------------------------

    def put_data(
        self, ws: Workspace, name: str, version: str, properties: dict[str, Any]
    ) -> tuple[Record, bool]:
        """Create a data version or change its description; return it and whether it is new.

        Raises ``ApiError`` (409) for another URI, with the message that azure-ai-ml looks for.
        """
        check_name(name, "data asset")
        check_name(version, "version")
        self.resolve_uri(properties["dataUri"], ws)
        key = version_key(name, version)
        with self._store.write() as writer:
            existing = writer.get("data", ws.guid, key)
            if existing and existing.body["properties"]["dataUri"] != properties["dataUri"]:
                raise user_error("Asset paths cannot be updated.", status=409)
            body = {
                "name": name,
                "version": version,
                "created": existing.body["created"] if existing else utc_now(),
                "properties": properties,
            }
            writer.put("data", ws.guid, key, body)
            return _require(writer.get("data", ws.guid, key)), existing is None

    def get(self, kind: str, ws: Workspace, name: str, version: str) -> Record:
        """Return a version of a data asset (kind ``data``) or model (kind ``model``)."""
        record = self._store.read.get(kind, ws.guid, version_key(name, version))
        if not record:
            raise not_found(f"{kind.capitalize()} {name} version {version}")
        return record

    def versions(self, kind: str, ws: Workspace, name: str | None = None) -> list[Record]:
        """Return the versions of one name, or of all, newest first."""
        if name is None:
            return self._store.read.newest(kind, ws.guid)
        return self._store.read.with_prefix(kind, ws.guid, version_key(name, ""))

    def delete(self, kind: str, ws: Workspace, name: str, version: str) -> list[str] | None:
        """Delete a version; return the files that are no longer referenced, or None: there is none.

        Raises ``ApiError`` (409) for a deployed model, as the service does.
        """
        key = version_key(name, version)
        with self._store.write() as writer:
            record = writer.get(kind, ws.guid, key)
            if not record:
                return None
            if kind == "model":
                _check_not_deployed(writer, self.asset_id("models", ws.guid, name, version))
            writer.delete(kind, ws.guid, key)
            return writer.remove_references(f"{kind}:{ws.guid}/{key}")

    # -- marketplace ---------------------------------------------------------------------------

    def subscribe(self, ws: Workspace, name: str, body: dict[str, Any]) -> tuple[Record, bool]:
        """Create a marketplace subscription; return it and whether it is new."""
        check_name(name, "subscription")
        with self._store.write() as writer:
            existing = writer.get("subscription", ws.guid, name.casefold())
            if existing and existing.body["modelId"] != body["modelId"]:
                raise user_error("The subscription exists for another model.", status=409)
            created = existing.body["created"] if existing else utc_now()
            writer.put("subscription", ws.guid, name.casefold(), {**body, "created": created})
            return _require(writer.get("subscription", ws.guid, name.casefold())), existing is None

    def subscription(self, ws: Workspace, name: str) -> Record:
        """Return a marketplace subscription. Raises ``ApiError`` (404) when there is none."""
        record = self._store.read.get("subscription", ws.guid, name.casefold())
        if not record:
            raise not_found(f"Marketplace subscription {name}")
        return record

    def unsubscribe(self, ws: Workspace, name: str) -> bool:
        """Delete a marketplace subscription; return False when there is none."""
        with self._store.write() as writer:
            return writer.delete("subscription", ws.guid, name.casefold())

    # -- uris ---------------------------------------------------------------------------------

    def resolve_uri(self, uri: str, ws: Workspace) -> tuple[str, str]:
        """Return (container, blob) of an ``azureml:`` URI or data asset id.

        Only this server's datastore and data assets can be resolved; nothing is downloaded.
        """
        if match := _DATASTORE.fullmatch(uri):
            if match[1].casefold() != "workspaceblobstore":
                raise user_error(
                    f"Datastore {match[1]} does not exist. Use workspaceblobstore.",
                    target="uri",
                )
            return ws.container, match[2]
        record = self._data_by_id(uri, ws)
        if record is None:
            scheme = uri.split(":", 1)[0][:20] if ":" in uri else "none"
            raise user_error(
                f"Cannot read data from a uri of scheme {scheme!r}. Use azureml://datastores/"
                "workspaceblobstore/paths/... or a data asset's id. This server downloads nothing.",
                target="uri",
            )
        return self.resolve_uri(record.body["properties"]["dataUri"], ws)

    def _data_by_id(self, uri: str, ws: Workspace) -> Record | None:
        if match := _DATA_ARM.fullmatch(uri):
            return self._get_data(ws.guid, match[2], match[3])
        if (match := _ASSET.fullmatch(uri)) and match[2].lower() == "data":
            return self._get_data(match[1].lower(), match[3], match[4])
        if match := _SHORT.fullmatch(uri):
            if match[2]:
                return self._get_data(ws.guid, match[1], match[2])
            newest = self.versions("data", ws, match[1])
            if not newest:
                raise user_error(f"Data asset {match[1]} does not exist.", target="uri")
            return newest[0]
        return None

    def _get_data(self, guid: str, name: str, version: str) -> Record:
        record = self._store.read.get("data", guid, version_key(name, version))
        if not record:
            raise user_error(f"Data asset {name} version {version} does not exist.", target="uri")
        return record

    def find_tuned_model(self, model_id: str) -> Record | None:
        """Return the registered model of an asset id; None for other ids.

        Raises ``ApiError`` (400) for a model that does not exist.
        """
        match = _ASSET.fullmatch(model_id)
        if not match or match[2].lower() != "models":
            return None
        record = self._store.read.get("model", match[1].lower(), version_key(match[3], match[4]))
        if not record:
            raise ApiError(
                400,
                "UserError",
                f"Model {match[3]} version {match[4]} does not exist.",
                target="modelId",
            )
        return record


def parse_registry_uri(uri: str) -> tuple[str, str, str | None] | None:
    """Return (registry, name, version or None) of a registry's model URI; None for other URIs."""
    match = _REGISTRY.fullmatch(uri)
    return (match[1], match[2], match[3]) if match else None


def next_version(reader: Reader, guid: str, name: str) -> str:
    """Return the next free version of a model's name: ``1``, ``2``, ..."""
    versions = [
        int(f.body["version"])
        for f in reader.with_prefix("model", guid, version_key(name, ""))
        if f.body["version"].isdigit()
    ]
    return str(max(versions, default=0) + 1)


def register_model(
    writer: Writer, guid: str, name: str, folder: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Register a model's next version, with a reference to the run's folder; return its body."""
    version = next_version(writer, guid, name)
    key = version_key(name, version)
    model = {**body, "name": name, "version": version, "folder": folder, "created": utc_now()}
    writer.put("model", guid, key, model)
    writer.add_reference(run_reference(folder), f"model:{guid}/{key}")
    return model


def _check_not_deployed(reader: Reader, model_id: str) -> None:
    names = [f.body["name"] for f in reader.all("endpoint") if f.body["model_id"] == model_id]
    if names:
        raise ApiError(
            409,
            "UserError",
            f"The model is deployed as {', '.join(names)}. Delete the deployment first.",
        )


def _require(record: Record | None) -> Record:
    assert record is not None
    return record
