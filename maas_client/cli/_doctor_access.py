"""``doctor``: role assignments and quota of the signed-in identity.

An error here is a warning: an identity that may not read its own permissions may still be allowed to work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from maas_client.cli._doctor_machine import CheckResult, failure, ok, warning
from maas_client.cli._messages import error_summary
from maas_client.errors import MaasError

if TYPE_CHECKING:
    from maas_client.flows._io import IO
    from maas_client.wire.permissions import Usage

_HUB_ROLE = "tuning and deploying require Azure AI Developer on the resource group"
_ACCOUNT_ROLE = "tuning requires Azure AI User, deploying requires Azure AI Owner"
_QUOTA_ROLE = "reading the quota requires Cognitive Services Usages Reader"
_MAX_LISTED = 4


def check_workspace_roles(io: IO) -> Iterator[CheckResult]:
    """Check whether the identity may upload, tune, deploy and read keys in the workspace."""
    from maas_client._transport import run_sync
    from maas_client.flows import access
    from maas_client.wire.permissions import WORKSPACE_ACTIONS, missing_actions

    try:
        granted = run_sync(access.list_permissions(io))
    except MaasError as error:
        yield _unknown("roles", error, _HUB_ROLE)
        return
    yield _roles(WORKSPACE_ACTIONS, missing_actions(granted, WORKSPACE_ACTIONS), _HUB_ROLE)


def check_account_roles(io: IO, *, by_key: bool) -> Iterator[CheckResult]:
    """Check whether the identity may deploy in the account and, without an API key, start jobs."""
    from maas_client._transport import run_sync
    from maas_client.flows import access
    from maas_client.wire.permissions import ACCOUNT_ACTIONS, ACCOUNT_DATA_ACTIONS, missing_actions

    try:
        granted = run_sync(access.list_permissions(io))
    except MaasError as error:
        yield _unknown("roles", error, _ACCOUNT_ROLE)
        return
    data_actions = {} if by_key else ACCOUNT_DATA_ACTIONS
    missing = missing_actions(granted, data_actions, data_actions=True)
    missing |= missing_actions(granted, ACCOUNT_ACTIONS)
    yield _roles(data_actions | ACCOUNT_ACTIONS, missing, _ACCOUNT_ROLE)


def _roles(tasks: Iterable[str], missing: dict[str, str], role: str) -> CheckResult:
    if not missing:
        return ok("roles", f"may {', '.join(tasks)}")
    listed = ", ".join(f"{task} ({action})" for task, action in missing.items())
    hint = f"Ask the owner of the resource group: {role}."
    return failure("roles", f"may not {listed}", hint)


def check_workspace_quota(io: IO, location: str) -> Iterator[CheckResult]:
    """Check how many dedicated cores are left in the region. Only ``--compute`` uses them."""
    from maas_client._transport import run_sync
    from maas_client.flows import access

    try:
        usages = run_sync(access.core_quota(io, location))
    except MaasError as error:
        yield _unknown("quota", error, "only --compute uses cores, serverless jobs do not")
        return
    usages = sorted((u for u in usages if u.limit > 0), key=lambda u: u.available, reverse=True)
    if not usages:
        yield warning("quota", f"no dedicated cores in {location}: --compute cannot run; "
                      "serverless jobs need none")  # fmt: skip
        return
    listed = "; ".join(_describe(usage) for usage in usages[:_MAX_LISTED])
    unlisted = f" and {len(usages) - _MAX_LISTED} more" if len(usages) > _MAX_LISTED else ""
    message = f"cores used in {location}, for --compute only: {listed}{unlisted}"
    yield ok("quota", message) if usages[0].available > 0 else warning("quota", message)


def check_account_quota(io: IO, model: str | None) -> Iterator[CheckResult]:
    """Check whether the region has quota left for a deployment, of ``model`` if given."""
    from maas_client._transport import run_sync
    from maas_client.flows import access

    try:
        location = run_sync(access.account_location(io))
        usages = run_sync(access.capacity_quota(io, location))
        names = run_sync(access.quota_names(io, model)) if model else set()
    except MaasError as error:
        yield _unknown("quota", error, _QUOTA_ROLE)
        return
    if model is None:
        exhausted = [_name(u) for u in usages if u.limit > 0 and u.available <= 0]
        count = f"{len(usages)} limits in {location}"
        yield (warning("quota", f"{count}, used up: {', '.join(exhausted[:6])}") if exhausted
               else ok("quota", f"{count}, none used up"))  # fmt: skip
        return
    folded = {name.casefold() for name in names}
    usages = [usage for usage in usages if _name(usage).casefold() in folded]
    if not usages:
        yield warning("quota", f"ARM lists no quota for {model} in {location}")
        return
    listed = "; ".join(_describe(usage) for usage in usages)
    if any(usage.available > 0 for usage in usages):
        yield ok("quota", f"used in {location}: {listed}")
    else:
        yield failure("quota", f"used up in {location}: {listed}",
                      "Delete a deployment, or request more in the portal (Management, Quota).")  # fmt: skip


def _name(usage: Usage) -> str:
    return str(usage.name.get("value") or usage.name.get("localizedValue") or "unnamed")


def _describe(usage: Usage) -> str:
    name = str(usage.name.get("localizedValue") or usage.name.get("value") or "unnamed")
    return f"{name} {usage.current_value:g} of {usage.limit:g}"


def _unknown(name: str, error: MaasError, rule: str) -> CheckResult:
    return warning(name, f"unknown: {error_summary(error)}; {rule}")
