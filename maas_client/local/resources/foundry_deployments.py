"""Deployments of the account: a name under which a tuned or a base model answers (section 4.6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from maas_client.local.bases import find_model_facts
from maas_client.local.resources.assets import utc_now, version_key
from maas_client.local.resources.azure_limits import AzureLimits
from maas_client.local.resources.deployments import ServedModel
from maas_client.local.resources.errors import ApiError, not_found
from maas_client.local.resources.foundry_scope import FOUNDRY_SCOPE
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record, Store

DEPLOYMENT_KIND = "endpoint"
"""The same kind of fact as a serverless endpoint, in another scope: what makes one answer makes both."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_CHECKPOINT = re.compile(r"(?P<model>.+):ckpt-step-(?P<step>\d{1,9})")
SKUS = ("Standard", "GlobalStandard", "DataZoneStandard", "ProvisionedManaged",
        "GlobalProvisionedManaged", "DataZoneProvisionedManaged", "DeveloperTier")  # fmt: skip
MAX_CAPACITY = 1000
"""What deployments of one model may take together, in Azure's unit of 1,000 tokens a minute. Not enforced."""


class FoundryDeployments:
    """All deployments of the resource."""

    def __init__(
        self,
        store: Store,
        base_for: Callable[[str], dict[str, Any]],
        realism: AzureLimits | None = None,
    ) -> None:
        self._store = store
        self._realism = realism or AzureLimits(enabled=False)
        self._base_for = base_for

    def put(self, name: str, request: dict[str, Any]) -> tuple[Record, str | None]:
        """Create a deployment, or find it and change its sku; return it, and the operation if it is new."""
        if not _NAME.fullmatch(name):
            raise _invalid("A deployment's name takes 1 to 64 letters, digits, '-', '_' and '.'.")
        model = request["properties"]["model"]
        key = name.casefold()
        old = self._store.read.get(DEPLOYMENT_KIND, FOUNDRY_SCOPE, key)
        if old and old.body["model_id"] != model["name"]:
            raise ApiError(
                409,
                "Conflict",
                f"The deployment {name} exists with another model. Delete it first.",
            )
        target = self._target(model["name"])
        if old is None and target.folder:
            self._realism.check_deployment_count(
                self._store.read.newest(DEPLOYMENT_KIND, FOUNDRY_SCOPE)
            )
        operation = None if old else new_id()
        with self._store.write() as facts:
            if old:
                facts.put(
                    DEPLOYMENT_KIND, FOUNDRY_SCOPE, key, {**old.body, "request": request}, old.state
                )
            else:
                began = {
                    "kind": DEPLOYMENT_KIND,
                    "scope": FOUNDRY_SCOPE,
                    "key": key,
                    "started": utc_now(),
                }
                facts.put("operation", "", str(operation), began, "InProgress")
                body = {
                    "name": name, "scope": FOUNDRY_SCOPE, "label": "", "request": request,
                    "model_id": model["name"], "operation": operation, "keys": [],
                    "target": {"model": target.model, "base": target.base,
                               "folder": target.folder, "part": target.part},
                    "created": utc_now(),
                }  # fmt: skip
                facts.put(DEPLOYMENT_KIND, FOUNDRY_SCOPE, key, body, "Creating")
            found = facts.get(DEPLOYMENT_KIND, FOUNDRY_SCOPE, key)
        assert found is not None
        return found, operation

    def _target(self, model: str) -> ServedModel:
        match = _CHECKPOINT.fullmatch(model)
        whole = match["model"] if match else model
        tuned = self._store.read.get("model", FOUNDRY_SCOPE, version_key(whole, "1"))
        if tuned:
            job = self._store.read.get("job", FOUNDRY_SCOPE, str(tuned.body["job"]).casefold())
            base = job.body["base"] if job else self._base_for(tuned.body["base_model"])
            kept = deployable_checkpoints(self._store, job) if job and match else {}
            part = kept.get(int(match["step"])) if match else "adapter"
            if part is None:
                raise _unsupported(model, "no such checkpoint is kept")
            return ServedModel(model, base, tuned.body["folder"], part)
        facts = find_model_facts(model)
        if facts is None:
            raise _unsupported(model, "no such model was tuned here, and the catalog knows none")
        return ServedModel(facts.name, self._base_for(facts.name), None)

    def get(self, name: str) -> Record:
        """Return a deployment, or refuse: there is none."""
        found = self._store.read.get(DEPLOYMENT_KIND, FOUNDRY_SCOPE, name.casefold())
        if not found:
            raise not_found(f"Deployment {name}")
        return found

    def list_page(self, before: int | None, limit: int) -> list[Record]:
        """Return the deployments, newest first."""
        return self._store.read.newest(DEPLOYMENT_KIND, FOUNDRY_SCOPE, before=before, limit=limit)

    def patch(self, name: str, change: dict[str, Any]) -> Record:
        """Change tags and sku."""
        with self._store.write() as facts:
            found = facts.get(DEPLOYMENT_KIND, FOUNDRY_SCOPE, name.casefold())
            if not found:
                raise not_found(f"Deployment {name}")
            found.body["request"].update({k: change[k] for k in ("tags", "sku") if k in change})
            facts.put(DEPLOYMENT_KIND, FOUNDRY_SCOPE, found.key, found.body, found.state)
            return found

    def delete(self, name: str) -> tuple[Record, str] | None:
        """Delete a deployment; return it and an operation that is over, or None: there was none."""
        own = new_id()
        with self._store.write() as facts:
            found = facts.get(DEPLOYMENT_KIND, FOUNDRY_SCOPE, name.casefold())
            if not found:
                return None
            facts.delete(DEPLOYMENT_KIND, FOUNDRY_SCOPE, found.key)
            over = {
                "kind": DEPLOYMENT_KIND,
                "scope": FOUNDRY_SCOPE,
                "key": found.key,
                "started": utc_now(),
                "ended": utc_now(),
            }
            facts.put("operation", "", own, over, "Succeeded")
            return found, own

    def get_ready(self, name: str) -> Record:
        """Return the deployment that a chat names; refuse one that is not there or not ready yet.

        ARM calls it Succeeded before that (section 4.6).
        """
        found = self._store.read.get(DEPLOYMENT_KIND, FOUNDRY_SCOPE, name.casefold())
        if not found:
            raise ApiError(
                404,
                "DeploymentNotFound",
                "The API deployment for this resource does not exist. If you created the deployment"
                " within the last 5 minutes, please wait a moment and try again.",
            )
        if found.state == "Failed":
            raise ApiError(503, "DeploymentFailed", f"The deployment {name} could not be started.")
        if found.state != "Succeeded":
            raise not_ready_error(name)
        return found


def not_ready_error(name: str) -> ApiError:
    """Return what a chat is told between ARM's Succeeded and the first answer."""
    return ApiError(
        503, "DeploymentNotReady", f"The deployment {name} is not ready yet.",
        headers={"Retry-After": "1"},
    )  # fmt: skip


def deployable_checkpoints(store: Store, job: Record) -> dict[int, str]:
    """Return a job's checkpoints that may be deployed: by step, where in its output the adapter lies.

    The last one is the model itself.
    """
    found = {
        int(event["step"]): "/".join(PurePath(event["adapter"]).parts[-2:])
        for event in store.read.events(job.body["id"])
        if event.get("kind") == "checkpoint" and event.get("adapter")
    }
    if job.state == "Completed":
        found[int(job.body["result"].get("steps") or 1)] = "adapter"
    return dict(sorted(found.items())[-MAX_DEPLOYABLE_CHECKPOINTS:])


MAX_DEPLOYABLE_CHECKPOINTS = 3
"""The newest checkpoints that the service keeps."""


def check_request(request: dict[str, Any]) -> None:
    """Refuse a body without model and sku, or with another provider's format."""
    properties = request.get("properties")
    model = properties.get("model") if isinstance(properties, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise _invalid("properties.model.name is required.", "properties.model.name")
    sku = request.get("sku")
    if sku is not None and (
        not isinstance(sku, dict) or str(sku.get("name", "")).casefold() not in _known_skus()
    ):
        raise _invalid(f"sku.name must be one of {', '.join(SKUS)}.", "sku.name")
    wanted = provider_format(re.split(r"\.ft-", model["name"])[0])
    if wanted is not None and model.get("format") != wanted:
        said = str(model.get("format"))[:40]
        raise _unsupported(model["name"], f"its format is {wanted!r}, not {said!r}")


def _known_skus() -> frozenset[str]:
    return frozenset(sku.casefold() for sku in SKUS)


def quota_name(model: str) -> str:
    """Return the name of the quota that deployments of a model take from."""
    return f"AIServices.GlobalStandard.{model}"


def provider_format(model: str) -> str | None:
    """Return the provider's word for a model, case and all; None: not known."""
    facts = find_model_facts(model)
    if facts is None:
        return None
    return facts.deployment_format or ("Microsoft" if facts.publisher == "Microsoft" else None)


def _invalid(message: str, target: str | None = None) -> ApiError:
    return ApiError(400, "InvalidResourceProperties", message, target=target)


def _unsupported(model: str, why: str) -> ApiError:
    return ApiError(
        400,
        "DeploymentModelNotSupported",
        f"The model {model[:120]!r} of account deployment is not supported: {why}.",
        target="properties.model",
    )
