"""What ARM tells of a caller's rights and of a region's quota: read by ``doctor`` before anything is paid for.

Permissions: ``GET {resource}/providers/Microsoft.Authorization/permissions``, api-version 2022-04-01, "gets
all permissions the caller has for a resource": learn.microsoft.com, Azure.ResourceManager.Authorization,
``GetAzurePermissionsForResources`` (``AzurePermissionsForResource_List``). Groups are counted in, and nobody
need be allowed to read role assignments.
Usages of Machine Learning: azure-ai-ml 1.35.2 ``arm_ml_service`` ``usages.list`` (cores by machine family; a
serverless job takes none, and its own limit is told by no operation that was found).
Usages of Cognitive Services: azure-mgmt-cognitiveservices 14.1 ``usages.list``, and learn.microsoft.com
``rest/api/aiservices/accountmanagement/usages/list``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from maas_client.wire import azureml, foundry
from maas_client.wire._model import WireModel
from maas_client.wire.azureml_models import Page
from maas_client.wire.op import Op, Plane


class Permission(WireModel):
    """One role's share: what it allows, without what it takes out again. The shares add up."""

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
        """Return what is left."""
        return self.limit - self.current_value


_PERMISSIONS = "/providers/Microsoft.Authorization/permissions"
_AUTHORIZATION = {"api-version": "2022-04-01"}

WORKSPACE_PERMISSIONS = Op(
    "rights.workspace",
    "GET",
    Plane.ARM,
    azureml.WORKSPACE_PATH + _PERMISSIONS,
    Page,
    query=_AUTHORIZATION,
)
ACCOUNT_PERMISSIONS = Op(
    "rights.account",
    "GET",
    Plane.ARM,
    foundry.ACCOUNT_PATH + _PERMISSIONS,
    Page,
    query=_AUTHORIZATION,
)
CORE_USAGES = Op(
    "quota.cores",
    "GET",
    Plane.ARM,
    "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}/usages",
    Page,
    query={"api-version": "2025-12-01"},
)
CAPACITY_USAGES = Op(
    "quota.capacity",
    "GET",
    Plane.ARM,
    "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/locations/{location}/usages",
    Page,
    query={"api-version": foundry.ARM_API_VERSION},
)

WORKSPACE_OPERATIONS: tuple[Op[Any], ...] = (WORKSPACE_PERMISSIONS, CORE_USAGES)
ACCOUNT_OPERATIONS: tuple[Op[Any], ...] = (ACCOUNT_PERMISSIONS, CAPACITY_USAGES)

_ML = "Microsoft.MachineLearningServices/workspaces/"
WORKSPACE_ACTIONS = {
    "upload training data": _ML + "data/versions/write",
    "start jobs": _ML + "jobs/write",
    "deploy": _ML + "serverlessEndpoints/write",
    "read a deployment's keys": _ML + "serverlessEndpoints/listKeys/action",
}
"""What the verbs do, to the action that ARM asks for: a resource type and ``write`` (or the POST's name and
``action``), learn.microsoft.com ``role-based-access-control/permissions/ai-machine-learning``."""
ACCOUNT_ACTIONS = {"deploy": "Microsoft.CognitiveServices/accounts/deployments/write"}
"""docs/azure-http.md section 6."""
ACCOUNT_DATA_ACTIONS = {
    "start jobs": "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/write"
}
"""Needed by an identity; a resource's key may do it always."""


def missing_actions(
    permissions: Iterable[Permission], required: dict[str, str], *, data_actions: bool = False
) -> dict[str, str]:
    """Return those of ``needs`` that no role allows. ``data``: they are data actions."""
    roles = list(permissions)
    return {
        what: action
        for what, action in required.items()
        if not any(_allows(role, action, data=data_actions) for role in roles)
    }


def _allows(role: Permission, action: str, *, data: bool) -> bool:
    given = role.data_actions if data else role.actions
    taken = role.not_data_actions if data else role.not_actions
    return any(_covers(p, action) for p in given) and not any(_covers(p, action) for p in taken)


def _covers(pattern: str, action: str) -> bool:
    """Tell whether a pattern covers an action: ``*`` stands for anything, slashes too; case is nothing."""
    rule = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(rule, action, re.IGNORECASE) is not None
