"""Deployments of both dialects: serverless endpoints and Foundry deployments, in one store.

A deployment is a record under ``(DEPLOYMENT_KIND, scope, name)``. The scope is a workspace's GUID or
``FOUNDRY_SCOPE``. What only one dialect has (how a model is named, which errors it answers) is in
``serverless_endpoints.py`` and ``foundry_deployments.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from maas_client._clock import unix_time
from maas_client.local.resources.assets import FOUNDRY_SCOPE, utc_now
from maas_client.local.resources.azure_limits import AzureLimits
from maas_client.local.resources.errors import ApiError, not_found
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record, Store, Writer

DEPLOYMENT_KIND = "endpoint"
"""The kind of every deployment record, whatever its dialect."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The weights that answer for a deployment."""

    model: str
    """The name clients see: the registered model's, or the base model's."""
    base: dict[str, Any]
    """The base that the base model's name runs on here (``local/bases``)."""
    folder: str | None
    """The run whose adapter answers; None is the base itself."""
    part: str = "adapter"
    """The adapter's folder in the run's output; a checkpoint has its own."""


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """A deployment to be created, read from a request of either dialect."""

    scope: str
    name: str
    request: dict[str, Any]
    """The request body; it is kept and echoed."""
    model_id: str
    """The model as the request names it. It cannot be changed later."""
    served: ServedModel
    has_endpoint: bool
    """True: it gets its own host label and two keys (serverless endpoints)."""


class Deployments:
    """All deployments of the server, and the long-running operations that create and delete them."""

    def __init__(
        self,
        store: Store,
        base_for: Callable[[str], dict[str, Any]],
        limits: AzureLimits | None = None,
    ) -> None:
        self.store = store
        self.base_for = base_for
        """Returns the base that a model's name runs on."""
        self.limits = limits or AzureLimits(enabled=False)

    # -- create, read, update, delete ------------------------------------------------------------

    def put(
        self,
        new: NewDeployment,
        *,
        conflict: ApiError,
        check_limits: Callable[[list[Record]], None],
    ) -> tuple[Record, str | None]:
        """Create a deployment or update its request; return it, and the operation if it is new.

        ``conflict`` is raised when the deployment exists with another model. ``check_limits`` gets
        the existing deployments of the scope and may refuse one more.
        """
        key, operation = new.name.casefold(), None
        with self.store.write() as writer:
            existing = writer.get(DEPLOYMENT_KIND, new.scope, key)
            if existing:
                if existing.body["model_id"] != new.model_id:
                    raise conflict
                body = {**existing.body, "request": new.request}
                writer.put(DEPLOYMENT_KIND, new.scope, key, body, existing.state)
            else:
                check_limits(writer.newest(DEPLOYMENT_KIND, new.scope))
                operation = _add_operation(writer, new.scope, key)
                body = _new_body(writer, new, operation)
                writer.put(DEPLOYMENT_KIND, new.scope, key, body, "Creating")
            record = writer.get(DEPLOYMENT_KIND, new.scope, key)
        assert record is not None
        return record, operation

    def find(self, scope: str, name: str) -> Record | None:
        """Return a deployment, or None."""
        return self.store.read.get(DEPLOYMENT_KIND, scope, name.casefold())

    def get(self, scope: str, name: str) -> Record:
        """Return a deployment. Raises ``ApiError`` (404) when there is none."""
        record = self.find(scope, name)
        if not record:
            raise _not_found(scope, name)
        return record

    def list_page(self, scope: str, before: int | None, limit: int) -> list[Record]:
        """Return deployments of a scope, newest first."""
        return self.store.read.newest(DEPLOYMENT_KIND, scope, before=before, limit=limit)

    def patch(self, scope: str, name: str, change: dict[str, Any]) -> Record:
        """Change tags and sku; nothing else of a deployment can be changed."""

        def update(body: dict[str, Any]) -> None:
            body["request"].update({k: change[k] for k in ("tags", "sku") if k in change})

        return self._update(scope, name, update)

    def regenerate_key(
        self, scope: str, name: str, key_type: Literal["Primary", "Secondary"]
    ) -> Record:
        """Replace one of the two keys."""

        def update(body: dict[str, Any]) -> None:
            body["keys"][0 if key_type == "Primary" else 1] = secrets.token_urlsafe(32)

        return self._update(scope, name, update)

    def _update(self, scope: str, name: str, change: Callable[[dict[str, Any]], None]) -> Record:
        with self.store.write() as writer:
            record = writer.get(DEPLOYMENT_KIND, scope, name.casefold())
            if not record:
                raise _not_found(scope, name)
            change(record.body)
            writer.put(DEPLOYMENT_KIND, scope, record.key, record.body, record.state)
            return record

    def delete(self, scope: str, name: str) -> tuple[Record, str] | None:
        """Delete a deployment; return it and a finished operation, or None when there is none."""
        with self.store.write() as writer:
            record = writer.get(DEPLOYMENT_KIND, scope, name.casefold())
            if not record:
                return None
            _delete_record(writer, record)
            operation = _add_operation(writer, scope, record.key)
            _finish_operation(writer, operation, None)
            return record, operation

    # -- provisioning and chat ---------------------------------------------------------------------

    def find_by_label(self, label: str) -> Record | None:
        """Return the endpoint with a host label, or None."""
        owner = self.store.read.get("label", "", label.casefold())
        return self.find(owner.body["scope"], owner.body["key"]) if owner else None

    def get_by_label(self, label: str) -> Record:
        """Return the endpoint with a host label. Raises ``ApiError`` unless it is ready to answer."""
        record = self.find_by_label(label)
        if not record:
            raise ApiError(404, "NotFound", f"There is no endpoint {label}.")
        check_ready(record, f"endpoint {label}")
        return record

    def list_creating(self) -> list[tuple[str, str]]:
        """Return (scope, key) of the deployments that are being provisioned."""
        records = self.store.read.in_states(DEPLOYMENT_KIND, ("Creating",))
        return [(record.body["scope"], record.key) for record in records]

    def finish_provisioning(
        self, scope: str, key: str, problem: str | None, *, ready_at: float | None = None
    ) -> None:
        """Mark a deployment and its operation as succeeded, or as failed with ``problem``.

        ``ready_at`` (seconds since 1970) is when it answers its first chat; None: at once.
        """
        with self.store.write() as writer:
            record = writer.get(DEPLOYMENT_KIND, scope, key)
            if not record or record.state != "Creating":
                return
            state = "Failed" if problem else "Succeeded"
            body = {**record.body, "problem": problem, "ready_at": ready_at}
            writer.put(DEPLOYMENT_KIND, scope, key, body, state)
            _finish_operation(writer, record.body["operation"], problem)

    def delete_expired(self, moment: datetime) -> tuple[list[Record], datetime | None]:
        """Delete the deployments whose deletion time is ``moment`` or earlier (``wire/parsing.py``).

        Return the deleted ones, and the next deletion time.
        """
        scheduled = [
            (record, deletion)
            for record in self.store.read.all(DEPLOYMENT_KIND)
            if (deletion := self.limits.deletion_time(record)) is not None
        ]
        expired = [record for record, deletion in scheduled if deletion <= moment]
        if expired:
            with self.store.write() as writer:
                expired = [r for r in expired if self._delete_if_expired(writer, r, moment)]
        return expired, min((due for _, due in scheduled if due > moment), default=None)

    def _delete_if_expired(self, writer: Writer, record: Record, moment: datetime) -> bool:
        """Delete one deployment unless it was deleted or its deletion time changed meanwhile."""
        current = writer.get(DEPLOYMENT_KIND, record.body["scope"], record.key)
        deletion = self.limits.deletion_time(current) if current else None
        if current is None or deletion is None or deletion > moment:
            return False
        _delete_record(writer, current)
        return True

    def get_operation(self, operation: str) -> Record:
        """Return a long-running operation. Raises ``ApiError`` (404) when there is none."""
        record = self.store.read.get("operation", "", operation)
        if not record:
            raise not_found(f"Operation {operation[:40]}")
        return record


def served_model(deployment: Record) -> ServedModel:
    """Return the weights that answer for a deployment."""
    return ServedModel(**deployment.body["target"])


def check_ready(deployment: Record, name: str) -> None:
    """Raise ``ApiError`` (503) unless a deployment answers requests; ``name`` is for the message."""
    if deployment.state == "Failed":
        problem = str(deployment.body.get("problem") or "the reason is not known").rstrip(".")
        text = f"The {name} could not be started: {problem}. Delete it, and create it again."
        raise ApiError(503, "DeploymentFailed", text)
    if deployment.state != "Succeeded" or unix_time() < (deployment.body.get("ready_at") or 0):
        raise not_ready_error(name)


def not_ready_error(name: str) -> ApiError:
    """Return the answer to a chat while its deployment is not ready yet."""
    return ApiError(
        503, "DeploymentNotReady", f"The {name} is not ready yet.", headers={"Retry-After": "1"}
    )


def _not_found(scope: str, name: str) -> ApiError:
    kind = "Deployment" if scope == FOUNDRY_SCOPE else "Serverless endpoint"
    return not_found(f"{kind} {name}")


def _new_body(writer: Writer, new: NewDeployment, operation: str) -> dict[str, Any]:
    key = new.name.casefold()
    return {
        "name": new.name,
        "scope": new.scope,
        "label": _add_label(writer, new.scope, key) if new.has_endpoint else "",
        "request": new.request,
        "model_id": new.model_id,
        "operation": operation,
        "target": asdict(new.served),
        "keys": [secrets.token_urlsafe(32) for _ in range(2)] if new.has_endpoint else [],
        "created": utc_now(),
    }


def _add_label(writer: Writer, scope: str, key: str) -> str:
    """Reserve an endpoint's host label: its name, with a suffix if another workspace uses that."""
    label = key
    while writer.get("label", "", label):
        label = f"{key}-{secrets.token_hex(3)}"
    writer.put("label", "", label, {"scope": scope, "key": key})
    return label


def _delete_record(writer: Writer, record: Record) -> None:
    writer.delete(DEPLOYMENT_KIND, record.body["scope"], record.key)
    writer.delete("label", "", record.body["label"])


def _add_operation(writer: Writer, scope: str, key: str) -> str:
    operation = new_id()
    body = {"kind": DEPLOYMENT_KIND, "scope": scope, "key": key, "started": utc_now()}
    writer.put("operation", "", operation, body, "InProgress")
    return operation


def _finish_operation(writer: Writer, operation: str, problem: str | None) -> None:
    record = writer.get("operation", "", operation)
    if record:
        body = {**record.body, "ended": utc_now()}
        if problem:
            body["error"] = {"code": "ServiceError", "message": problem}
        writer.put("operation", "", operation, body, "Failed" if problem else "Succeeded")
