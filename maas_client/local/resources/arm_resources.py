"""The Azure resources that requests have named. Every name exists; lists show those that were used."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress

from maas_client.local.state.store import Store

DEFAULT_SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
"""The subscription of this library's own local clients; the only one in lists before any was named."""
_KIND = "arm_resource"
_MAX_RESOURCES = 2000
"""No more are remembered, so that a client with random names does not fill the store."""
_SEGMENTS = (
    ("subscription", "", "/subscriptions/"),
    ("resource_group", "subscription", "/resourceGroups/"),
    ("workspace", "resource_group", "/providers/Microsoft.MachineLearningServices/workspaces/"),
    ("account", "resource_group", "/providers/Microsoft.CognitiveServices/accounts/"),
    ("project", "account", "/projects/"),
)
"""Path parameter, the parameter of its parent, and the path from there."""


class ArmResources:
    """Subscriptions, resource groups, workspaces, accounts and projects, by ARM id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = {record.key for record in store.read.newest(_KIND, "")}

    def unknown_ids(self, path_params: Mapping[str, str]) -> dict[str, str]:
        """Return the resources of a request's path that are not listed yet: kinds by ARM id."""
        if "registry" in path_params or len(self._known) >= _MAX_RESOURCES:
            return {}
        ids = {"": ""}
        for name, parent, path in _SEGMENTS:
            if name in path_params and parent in ids:
                ids[name] = f"{ids[parent]}{path}{path_params[name]}"
        return {i: kind for kind, i in ids.items() if kind and i.casefold() not in self._known}

    def add(self, kinds: Mapping[str, str]) -> None:
        """List resources: kinds by ARM id. A full disk is no reason to fail the request that named them."""
        with suppress(sqlite3.Error), self._store.write() as writer:
            for arm_id, kind in kinds.items():
                if not writer.get(_KIND, "", arm_id.casefold()):
                    writer.put(_KIND, "", arm_id.casefold(), {"id": arm_id, "kind": kind})
        self._known.update(arm_id.casefold() for arm_id in kinds)

    def list_ids(self, kind: str, parent: str) -> list[str]:
        """Return the ARM ids of a kind (the name of its path parameter) below ``parent``, oldest first."""
        records = self._store.read.newest(_KIND, "")[::-1]
        prefix = f"{parent}/".casefold()
        return [
            r.body["id"] for r in records if r.body["kind"] == kind and r.key.startswith(prefix)
        ]
