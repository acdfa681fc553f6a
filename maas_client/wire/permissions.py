"""The caller's permissions and a region's quota, which ``doctor`` checks before anything is billed.

Permissions: ``GET {resource}/providers/Microsoft.Authorization/permissions``, api-version 2022-04-01, "gets
all permissions the caller has for a resource" (learn.microsoft.com, Azure.ResourceManager.Authorization,
``AzurePermissionsForResource_List``). They include those of the caller's groups, and reading them does not need
the permission to read role assignments.
Usages of Machine Learning: azure-ai-ml 1.35.2, ``arm_ml_service`` ``usages.list`` (cores by machine family; a
serverless job uses none, and no operation is known that reports its own limit).
Usages of Cognitive Services: azure-mgmt-cognitiveservices 14.1, ``usages.list``, and learn.microsoft.com,
``rest/api/aiservices/accountmanagement/usages/list``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from maas_client.wire import azureml, foundry
from maas_client.wire.azureml_models import Page
from maas_client.wire.operation import Operation, Plane
from maas_client.wire.parsing import WireModel


class Permission(WireModel):
    """The actions that one role allows, minus those it excludes. The permissions of several roles add up."""

    actions: list[str] = Field(default_factory=list)
    not_actions: list[str] = Field(default_factory=list)
    data_actions: list[str] = Field(default_factory=list)
    not_data_actions: list[str] = Field(default_factory=list)


class Usage(WireModel):
    """One limit and how much of it is used. ``name`` is ``{"value", "localizedValue"}``."""

    name: dict[str, Any] = Field(default_factory=dict)
    current_value: float = 0
    limit: float = 0
    unit: str | None = None

    @property
    def available(self) -> float:
        """Return the unused part of the limit."""
        return self.limit - self.current_value


_PERMISSIONS = "/providers/Microsoft.Authorization/permissions"
_USAGES = "/subscriptions/{{subscription}}/providers/{}/locations/{{location}}/usages"


def _get(name: str, path: str, api_version: str) -> Operation[Page]:
    return Operation(name, "GET", Plane.ARM, path, Page, query={"api-version": api_version})


# fmt: off
WORKSPACE_PERMISSIONS = _get("rights.workspace", azureml.WORKSPACE_PATH + _PERMISSIONS, "2022-04-01")
ACCOUNT_PERMISSIONS = _get("rights.account", foundry.ACCOUNT_PATH + _PERMISSIONS, "2022-04-01")
CORE_USAGES = _get("quota.cores", _USAGES.format("Microsoft.MachineLearningServices"), "2025-12-01")
CAPACITY_USAGES = _get("quota.capacity", _USAGES.format("Microsoft.CognitiveServices"), foundry.ARM_API_VERSION)
# fmt: on

WORKSPACE_OPERATIONS: tuple[Operation[Any], ...] = (WORKSPACE_PERMISSIONS, CORE_USAGES)
ACCOUNT_OPERATIONS: tuple[Operation[Any], ...] = (ACCOUNT_PERMISSIONS, CAPACITY_USAGES)

_ML = "Microsoft.MachineLearningServices/workspaces/"
WORKSPACE_ACTIONS = {
    "upload training data": _ML + "data/versions/write",
    "start jobs": _ML + "jobs/write",
    "deploy": _ML + "serverlessEndpoints/write",
    "read a deployment's keys": _ML + "serverlessEndpoints/listKeys/action",
}
"""The ARM action that each task needs: a resource type and ``write``, or the name of a POST and ``action``
(learn.microsoft.com, ``role-based-access-control/permissions/ai-machine-learning``)."""
ACCOUNT_ACTIONS = {"deploy": "Microsoft.CognitiveServices/accounts/deployments/write"}
"""The ARM action that a deployment needs (docs/azure-http.md section 6)."""
ACCOUNT_DATA_ACTIONS = {
    "start jobs": "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/write"
}
"""The data action that an identity needs; the resource's key needs none."""


def missing_actions(
    permissions: Iterable[Permission], required: dict[str, str], *, data_actions: bool = False
) -> dict[str, str]:
    """Return the tasks and actions of ``required`` that no role allows.

    ``data_actions``: the actions are data actions.
    """
    roles = list(permissions)
    return {
        task: action
        for task, action in required.items()
        if not any(_allows(role, action, data=data_actions) for role in roles)
    }


def _allows(role: Permission, action: str, *, data: bool) -> bool:
    allowed = role.data_actions if data else role.actions
    excluded = role.not_data_actions if data else role.not_actions
    return any(_matches(pattern, action) for pattern in allowed) and not any(
        _matches(pattern, action) for pattern in excluded
    )


def _matches(pattern: str, action: str) -> bool:
    """Return whether a pattern matches an action. ``*`` matches anything, slashes too; case is ignored."""
    regex = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(regex, action, re.IGNORECASE) is not None
