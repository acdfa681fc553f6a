"""Serverless endpoints: deployments with keys, provisioned in the background. No HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from maas_client.local.resources.assets import (
    Assets,
    Workspace,
    check_name,
    parse_registry_uri,
    utc_now,
)
from maas_client.local.resources.azure_limits import AzureLimits
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record, Store, Writer


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What answers behind an endpoint."""

    model: str
    """The name clients see: the registered model's, or the base model's."""
    base: dict[str, Any]
    """What the base model's name runs on here (``local/bases``)."""
    folder: str | None
    """The run whose adapter answers; None is the base itself."""
    part: str = "adapter"
    """Where in the run's output the adapter lies: a checkpoint's is elsewhere."""


class ServerlessEndpoints:
    """All serverless endpoints of all workspaces, and the operations that make them."""

    def __init__(
        self,
        store: Store,
        assets: Assets,
        base_for: Callable[[str], dict[str, Any]],
        realism: AzureLimits | None = None,
    ) -> None:
        self._store = store
        self._assets = assets
        self._base_for = base_for
        self._realism = realism or AzureLimits(enabled=False)

    # -- create, read, delete ------------------------------------------------------------------

    def put(self, ws: Workspace, name: str, request: dict[str, Any]) -> tuple[Record, str | None]:
        """Create an endpoint, or find it; return it and the operation to poll if it is new.

        The model of an existing endpoint cannot be changed.
        """
        check_name(name, "serverless endpoint")
        model_id = request["properties"]["modelSettings"]["modelId"]
        target = self._target(model_id)
        key = name.casefold()
        with self._store.write() as facts:
            old = facts.get("endpoint", ws.guid, key)
            if old:
                if old.body["model_id"] != model_id:
                    raise user_error(
                        f"The endpoint {name} exists with another model. Delete it first.",
                        status=409,
                        target="modelSettings.modelId",
                    )
                facts.put("endpoint", ws.guid, key, {**old.body, "request": request}, old.state)
                operation = None
            else:
                if model_id.lower().startswith("azureml://locations/"):  # a tuned one
                    self._realism.check_model_not_deployed(
                        model_id, facts.newest("endpoint", ws.guid)
                    )
                operation = _operation(facts, "endpoint", ws, key)
                body = {
                    "name": name, "scope": ws.guid, "label": self._label(facts, ws, key),
                    "request": request, "model_id": model_id, "operation": operation,
                    "target": {"model": target.model, "base": target.base, "folder": target.folder},
                    "keys": [secrets.token_urlsafe(32), secrets.token_urlsafe(32)],
                    "created": utc_now(),
                }  # fmt: skip
                facts.put("endpoint", ws.guid, key, body, "Creating")
            found = facts.get("endpoint", ws.guid, key)
        assert found is not None
        return found, operation

    def _target(self, model_id: str) -> ServedModel:
        tuned = self._assets.find_tuned_model(model_id)
        if tuned:
            base = tuned.body.get("base") or self._base_for(tuned.body["base_model"])
            whole = tuned.body.get("kind") == "model"  # imported: it is its own base
            return ServedModel(tuned.body["name"], base, None if whole else tuned.body["folder"])
        registry = parse_registry_uri(model_id)
        if registry is None:
            raise user_error(
                "modelId must be azureml://registries/.../models/NAME or"
                " azureml://locations/.../workspaces/GUID/models/NAME/versions/N.",
                target="modelSettings.modelId",
            )
        if registry[2] is not None:
            raise user_error(
                "A base model is deployed without a version: leave /versions/... out.",
                target="modelSettings.modelId",
            )
        return ServedModel(registry[1], self._base_for(registry[1]), None)

    @staticmethod
    def _label(facts: Writer, ws: Workspace, key: str) -> str:
        """Return the endpoint's host label: its name, unless another workspace has it."""
        label = key
        while facts.get("label", "", label):
            label = f"{key}-{secrets.token_hex(3)}"
        facts.put("label", "", label, {"scope": ws.guid, "key": key})
        return label

    def get(self, ws: Workspace, name: str) -> Record:
        """Return an endpoint, or refuse: there is none."""
        found = self._store.read.get("endpoint", ws.guid, name.casefold())
        if not found:
            raise not_found(f"Serverless endpoint {name}")
        return found

    def list_page(self, ws: Workspace, before: int | None, limit: int) -> list[Record]:
        """Return the endpoints of a workspace, newest first."""
        return self._store.read.newest("endpoint", ws.guid, before=before, limit=limit)

    def patch(self, ws: Workspace, name: str, change: dict[str, Any]) -> Record:
        """Change tags and sku; everything else is the endpoint's for life."""
        with self._store.write() as facts:
            found = facts.get("endpoint", ws.guid, name.casefold())
            if not found:
                raise not_found(f"Serverless endpoint {name}")
            request = found.body["request"]
            request.update({k: change[k] for k in ("tags", "sku") if k in change})
            facts.put("endpoint", ws.guid, found.key, found.body, found.state)
            return found

    def delete(self, ws: Workspace, name: str) -> tuple[Record, str] | None:
        """Delete an endpoint; return it and an operation that says so, or None: there is none."""
        with self._store.write() as facts:
            found = facts.get("endpoint", ws.guid, name.casefold())
            if not found:
                return None
            facts.delete("endpoint", ws.guid, found.key)
            facts.delete("label", "", found.body["label"])
            operation = _operation(facts, "endpoint", ws, found.key)
            _finish(facts, operation, None)
            return found, operation

    def regenerate_key(
        self, ws: Workspace, name: str, which: Literal["Primary", "Secondary"]
    ) -> Record:
        """Replace one of the two keys."""
        with self._store.write() as facts:
            found = facts.get("endpoint", ws.guid, name.casefold())
            if not found:
                raise not_found(f"Serverless endpoint {name}")
            found.body["keys"][0 if which == "Primary" else 1] = secrets.token_urlsafe(32)
            facts.put("endpoint", ws.guid, found.key, found.body, found.state)
            return found

    # -- what answers --------------------------------------------------------------------------

    def get_by_label(self, label: str) -> Record:
        """Return the endpoint that answers under a host label; refuse one that is not ready."""
        said = self._store.read.get("label", "", label.casefold())
        found = said and self._store.read.get("endpoint", said.body["scope"], said.body["key"])
        if not found:
            raise ApiError(404, "NotFound", f"There is no endpoint {label}.")
        if found.state == "Failed":
            raise ApiError(503, "DeploymentFailed", f"The endpoint {label} could not be started.")
        if found.state != "Succeeded":
            raise ApiError(
                503, "DeploymentNotReady", f"The endpoint {label} is not ready yet.",
                headers={"Retry-After": "1"},
            )  # fmt: skip
        return found

    def list_creating(self) -> list[tuple[str, str]]:
        """Return (scope, key) of the endpoints that are being provisioned."""
        found = self._store.read.in_states("endpoint", ("Creating",))
        return [(f.body["scope"], f.key) for f in found]

    def finish_provisioning(self, scope: str, key: str, problem: str | None) -> None:
        """Note that an endpoint answers, or why it never will; its operation ends with it."""
        with self._store.write() as facts:
            found = facts.get("endpoint", scope, key)
            if not found or found.state != "Creating":
                return
            state = "Failed" if problem else "Succeeded"
            facts.put("endpoint", scope, key, {**found.body, "problem": problem}, state)
            _finish(facts, found.body["operation"], problem)

    def delete_expired(self, moment: datetime) -> tuple[list[Record], datetime | None]:
        """Delete what was to be deleted by ``moment``, of both dialects (``wire/lifetime.py``); return
        it, and when the next one is due."""
        held = [
            (fact, self._realism.deletion_time(fact)) for fact in self._store.read.all("endpoint")
        ]
        due = [(fact, when) for fact, when in held if when is not None]
        gone = [fact for fact, when in due if when <= moment]
        if gone:
            with self._store.write() as facts:
                gone = [fact for fact in gone if self._drop_if_due(facts, fact, moment)]
        return gone, min((when for _, when in due if when > moment), default=None)

    def _drop_if_due(self, facts: Writer, fact: Record, moment: datetime) -> bool:
        """Delete one, unless somebody has deleted it or put it off meanwhile."""
        found = facts.get("endpoint", fact.body["scope"], fact.key)
        when = found and self._realism.deletion_time(found)
        if not found or when is None or when > moment:
            return False
        facts.delete("endpoint", fact.body["scope"], fact.key)
        facts.delete("label", "", found.body["label"])
        return True

    def get_operation(self, own: str) -> Record:
        """Return a long-running operation, or refuse."""
        found = self._store.read.get("operation", "", own)
        if not found:
            raise not_found(f"Operation {own[:40]}")
        return found


def served_model(endpoint: Record) -> ServedModel:
    """Return what answers behind an endpoint."""
    return ServedModel(**endpoint.body["target"])


def _operation(facts: Writer, kind: str, ws: Workspace, key: str) -> str:
    own = new_id()
    facts.put("operation", "", own, {"kind": kind, "scope": ws.guid, "key": key, "started": utc_now()},
              "InProgress")  # fmt: skip
    return own


def _finish(facts: Writer, own: str, problem: str | None) -> None:
    found = facts.get("operation", "", own)
    if found:
        body = {**found.body, "ended": utc_now()}
        if problem:
            body["error"] = {"code": "ServiceError", "message": problem}
        facts.put("operation", "", own, body, "Failed" if problem else "Succeeded")
