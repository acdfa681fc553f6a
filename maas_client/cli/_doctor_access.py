"""``doctor`` on roles and quota: what the signed-in identity may not do, and what is used up.

A refusal here is a finding like others: who may not read their own rights may still be allowed to work.
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

_HUB_ROLE = "it takes Azure AI Developer on the resource group to tune and deploy"
_ACCOUNT_ROLE = "it takes Azure AI User to tune, and Azure AI Owner to deploy"


def check_workspace_roles(io: IO) -> Iterator[CheckResult]:
    """Say whether the identity may upload, tune, deploy and read keys in this workspace."""
    from maas_client._transport import run_sync as drive
    from maas_client.flows import permissions
    from maas_client.wire.permissions import WORKSPACE_ACTIONS, missing_actions

    try:
        held = drive(permissions.list_permissions(io))
    except MaasError as error:
        yield _unknown("roles", error, _HUB_ROLE)
        return
    yield _roles(WORKSPACE_ACTIONS, missing_actions(held, WORKSPACE_ACTIONS), _HUB_ROLE)


def check_account_roles(io: IO, *, by_key: bool) -> Iterator[CheckResult]:
    """Say whether the identity may deploy in this account and, without a key, start jobs."""
    from maas_client._transport import run_sync as drive
    from maas_client.flows import permissions
    from maas_client.wire.permissions import ACCOUNT_ACTIONS, ACCOUNT_DATA_ACTIONS, missing_actions

    try:
        held = drive(permissions.list_permissions(io))
    except MaasError as error:
        yield _unknown("roles", error, _ACCOUNT_ROLE)
        return
    data = {} if by_key else ACCOUNT_DATA_ACTIONS
    gone = missing_actions(held, data, data_actions=True) | missing_actions(held, ACCOUNT_ACTIONS)
    yield _roles(data | ACCOUNT_ACTIONS, gone, _ACCOUNT_ROLE)


def _roles(needs: Iterable[str], gone: dict[str, str], role: str) -> CheckResult:
    if not gone:
        return ok("roles", f"may {', '.join(needs)}")
    told = ", ".join(f"{what} ({action})" for what, action in gone.items())
    return failure("roles", f"may not {told}", f"Ask whoever owns the resource group: {role}.")


def check_workspace_quota(io: IO, location: str) -> Iterator[CheckResult]:
    """Say how many dedicated cores are left in the region: only ``compute=`` takes any."""
    from maas_client._transport import run_sync as drive
    from maas_client.flows import permissions

    try:
        found = drive(permissions.core_quota(io, location))
    except MaasError as error:
        yield _unknown("quota", error, "a serverless job takes no cores, --compute does")
        return
    some = sorted(
        (one for one in found if one.limit > 0), key=lambda one: one.available, reverse=True
    )
    if not some:
        yield warning("quota", f"no dedicated cores in {location}: --compute cannot run; a serverless job "
                   "takes none")  # fmt: skip
        return
    told = "; ".join(_told(one) for one in some[:4])
    more = f" and {len(some) - 4} more" if len(some) > 4 else ""
    said = f"cores used in {location}, for --compute only: {told}{more}"
    yield ok("quota", said) if some[0].available > 0 else warning("quota", said)


def check_account_quota(io: IO, model: str | None) -> Iterator[CheckResult]:
    """Say whether the region has room for a deployment: of ``model``, if one is named."""
    from maas_client._transport import run_sync as drive
    from maas_client.flows import permissions

    try:
        where = drive(permissions.account_location(io))
        found = drive(permissions.capacity_quota(io, where))
        names = drive(permissions.quota_names(io, model)) if model else set()
    except MaasError as error:
        yield _unknown(
            "quota", error, "a deployment takes Cognitive Services Usages Reader to be planned"
        )
        return
    if model is None:
        full = [_name(one) for one in found if one.limit > 0 and one.available <= 0]
        said = f"{len(found)} limits in {where}"
        yield (warning("quota", f"{said}, used up: {', '.join(full[:6])}") if full
               else ok("quota", f"{said}, none used up"))  # fmt: skip
        return
    own = [one for one in found if _name(one).casefold() in {n.casefold() for n in names}]
    if not own:
        yield warning("quota", f"ARM tells none for {model} in {where}")
        return
    told = "; ".join(_told(one) for one in own)
    if any(one.available > 0 for one in own):
        yield ok("quota", f"used in {where}: {told}")
    else:
        yield failure("quota", f"used up in {where}: {told}",
                  "Delete a deployment, or ask for more in the portal (Management, Quota).")  # fmt: skip


def _name(usage: Usage) -> str:
    return str(usage.name.get("value") or usage.name.get("localizedValue") or "unnamed")


def _told(usage: Usage) -> str:
    shown = str(usage.name.get("localizedValue") or usage.name.get("value") or "unnamed")
    return f"{shown} {usage.current_value:g} of {usage.limit:g}"


def _unknown(name: str, error: MaasError, rule: str) -> CheckResult:
    return warning(name, f"not looked up, because {error_summary(error)}; {rule}")
