"""Workspaces, data versions and models: names, ids and uris. No HTTP.

Any subscription, resource group and workspace exists. A workspace's GUID is derived from the three
names, so that the same workspace has the same ids in every state directory.
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
_HOME = uuid.UUID("5d1c0c80-6d0b-4c5c-9a53-0f6d61d3f0d1")
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
    """Return a moment in UTC as Azure writes it; later ones sort behind earlier ones."""
    text = when.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace by its three names."""

    subscription: str
    resource_group: str
    name: str

    @property
    def guid(self) -> str:
        """Return the id that model ids and storage containers are made of."""
        text = f"{self.subscription}/{self.resource_group}/{self.name}".casefold()
        return str(uuid.uuid5(_HOME, text))

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


def check_name(name: str, what: str) -> str:
    """Return a resource name that may stand in an id, or refuse it."""
    if not _NAME.fullmatch(name):
        raise user_error(
            f"The {what} name is invalid: it takes 1 to 255 letters, digits, '-', '_' and '.',"
            " the first a letter or a digit.",
            target="name",
        )
    return name


def version_key(name: str, version: str) -> str:
    """Return the store's key of a version; ARM names do not differ by case."""
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
        """Create a data version or edit its description; return it and whether it is new.

        Refuses another uri in words that azure-ai-ml looks for.
        """
        check_name(name, "data asset")
        check_name(version, "version")
        self.resolve_uri(properties["dataUri"], ws)
        key = version_key(name, version)
        with self._store.write() as facts:
            old = facts.get("data", ws.guid, key)
            if old and old.body["properties"]["dataUri"] != properties["dataUri"]:
                raise user_error("Asset paths cannot be updated.", status=409)
            body = {
                "name": name,
                "version": version,
                "created": old.body["created"] if old else utc_now(),
                "properties": properties,
            }
            facts.put("data", ws.guid, key, body)
            return _must(facts.get("data", ws.guid, key)), old is None

    def get(self, kind: str, ws: Workspace, name: str, version: str) -> Record:
        """Return one version of a data asset (``data``) or model (``model``)."""
        found = self._store.read.get(kind, ws.guid, version_key(name, version))
        if not found:
            raise not_found(f"{kind.capitalize()} {name} version {version}")
        return found

    def versions(self, kind: str, ws: Workspace, name: str | None = None) -> list[Record]:
        """Return the versions of one name, or of all, newest first."""
        found = self._store.read.newest(kind, ws.guid)
        if name is None:
            return found
        return [f for f in found if f.body["name"].casefold() == name.casefold()]

    def delete(self, kind: str, ws: Workspace, name: str, version: str) -> list[str] | None:
        """Delete a version; return what nobody holds any more, or None: there is none.

        A model that is deployed is refused, as the service does.
        """
        key = version_key(name, version)
        with self._store.write() as facts:
            found = facts.get(kind, ws.guid, key)
            if not found:
                return None
            if kind == "model":
                _refuse_deployed(facts, self.asset_id("models", ws.guid, name, version))
            facts.delete(kind, ws.guid, key)
            return facts.remove_references(f"{kind}:{ws.guid}/{key}")

    # -- marketplace ---------------------------------------------------------------------------

    def subscribe(self, ws: Workspace, name: str, body: dict[str, Any]) -> tuple[Record, bool]:
        """Note a marketplace subscription; True when it is new."""
        check_name(name, "subscription")
        with self._store.write() as facts:
            old = facts.get("subscription", ws.guid, name.casefold())
            if old and old.body["modelId"] != body["modelId"]:
                raise user_error("The subscription exists for another model.", status=409)
            created = old.body["created"] if old else utc_now()
            facts.put("subscription", ws.guid, name.casefold(), {**body, "created": created})
            return _must(facts.get("subscription", ws.guid, name.casefold())), old is None

    def subscription(self, ws: Workspace, name: str) -> Record:
        """Return a marketplace subscription."""
        found = self._store.read.get("subscription", ws.guid, name.casefold())
        if not found:
            raise not_found(f"Marketplace subscription {name}")
        return found

    def unsubscribe(self, ws: Workspace, name: str) -> bool:
        """Delete a marketplace subscription; False when there is none."""
        with self._store.write() as facts:
            return facts.delete("subscription", ws.guid, name.casefold())

    # -- uris ---------------------------------------------------------------------------------

    def resolve_uri(self, uri: str, ws: Workspace) -> tuple[str, str]:
        """Return (container, blob) of an ``azureml:`` uri or data id.

        Nothing is fetched from anywhere: only our own datastore and assets resolve.
        """
        if match := _DATASTORE.fullmatch(uri):
            if match[1].casefold() != "workspaceblobstore":
                raise user_error(
                    f"Datastore {match[1]} does not exist; there is workspaceblobstore.",
                    target="uri",
                )
            return ws.container, match[2]
        found = self._data_by_id(uri, ws)
        if found is None:
            scheme = uri.split(":", 1)[0][:20] if ":" in uri else "none"
            raise user_error(
                f"Cannot read data from a uri of scheme {scheme!r}. Use azureml://datastores/"
                "workspaceblobstore/paths/... or a data asset's id; this server fetches nothing"
                " from elsewhere.",
                target="uri",
            )
        return self.resolve_uri(found.body["properties"]["dataUri"], ws)

    def _data_by_id(self, uri: str, ws: Workspace) -> Record | None:
        if match := _DATA_ARM.fullmatch(uri):
            return self._expect(ws.guid, match[2], match[3])
        if (match := _ASSET.fullmatch(uri)) and match[2].lower() == "data":
            return self._expect(match[1].lower(), match[3], match[4])
        if match := _SHORT.fullmatch(uri):
            if match[2]:
                return self._expect(ws.guid, match[1], match[2])
            newest = self.versions("data", ws, match[1])
            if not newest:
                raise user_error(f"Data asset {match[1]} does not exist.", target="uri")
            return newest[0]
        return None

    def _expect(self, guid: str, name: str, version: str) -> Record:
        found = self._store.read.get("data", guid, version_key(name, version))
        if not found:
            raise user_error(f"Data asset {name} version {version} does not exist.", target="uri")
        return found

    def find_tuned_model(self, model_id: str) -> Record | None:
        """Return the registered model that an asset id names; None when it is no such id."""
        match = _ASSET.fullmatch(model_id)
        if not match or match[2].lower() != "models":
            return None
        found = self._store.read.get("model", match[1].lower(), version_key(match[3], match[4]))
        if not found:
            raise ApiError(
                400,
                "UserError",
                f"Model {match[3]} version {match[4]} does not exist.",
                target="modelId",
            )
        return found


def parse_registry_uri(uri: str) -> tuple[str, str, str | None] | None:
    """Return (registry, name, version or None) of a registry's model uri; None for other uris."""
    match = _REGISTRY.fullmatch(uri)
    return (match[1], match[2], match[3]) if match else None


def next_version(facts: Reader, guid: str, name: str) -> str:
    """Return the next free version of a model's name: ``1``, ``2``, ..."""
    taken = [
        int(f.body["version"])
        for f in facts.newest("model", guid)
        if f.body["name"].casefold() == name.casefold() and f.body["version"].isdigit()
    ]
    return str(max(taken, default=0) + 1)


def register_model(
    facts: Writer, guid: str, name: str, folder: str, body: dict[str, Any]
) -> dict[str, Any]:
    """Add a model's next version, holding the run's folder; return its body."""
    version = next_version(facts, guid, name)
    key = version_key(name, version)
    full = {**body, "name": name, "version": version, "folder": folder, "created": utc_now()}
    facts.put("model", guid, key, full)
    facts.add_reference(run_reference(folder), f"model:{guid}/{key}")
    return full


def _refuse_deployed(facts: Reader, model_id: str) -> None:
    users = [f.body["name"] for f in facts.all("endpoint") if f.body["model_id"] == model_id]
    if users:
        raise ApiError(
            409,
            "UserError",
            f"The model is deployed as {', '.join(users)}. Delete the deployment first.",
        )


def _must(fact: Record | None) -> Record:
    assert fact is not None
    return fact
