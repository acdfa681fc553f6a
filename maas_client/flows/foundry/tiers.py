"""SKUs of deployments and training types of jobs: their names, and which models and regions have them.

See docs/azure-http.md sections 4.3, 4.4 and 4.6.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from maas_client import catalog
from maas_client._messages import Argument, Text
from maas_client.catalog import ModelInfo
from maas_client.errors import ConfigError, MaasError, UnsupportedError
from maas_client.flows._io import IO
from maas_client.wire import foundry as ops

_log = logging.getLogger("maas_client")
SKUS = (
    *("GlobalStandard", "DataZoneStandard", "Standard", "DeveloperTier"),
    *("ProvisionedManaged", "GlobalProvisionedManaged", "DataZoneProvisionedManaged"),
)
TRAINING_TYPES = ("GlobalStandard", "Standard", "DataZoneStandard", "Developer")
_MANAGED_COMPUTE = frozenset({"globalmanagedcompute", "vmmanagedcompute", "managedcompute"})
_MAX_CAPACITY = 1_000_000


def find_sku(sku: str) -> str:
    """Return the name of a SKU as Azure spells it.

    Raises ``ConfigError`` for an unknown one and ``UnsupportedError`` for managed compute.
    """
    folded = sku.strip().casefold() if isinstance(sku, str) else ""
    if folded in _MANAGED_COMPUTE:
        raise _managed_compute_error(f"{sku} is a SKU of managed compute")
    return _find_name("sku", sku, SKUS)


def find_training_type(training_type: str) -> str:
    """Return the name of a training type as Azure spells it. Raises ``ConfigError`` for an unknown one."""
    return _find_name("training_type", training_type, TRAINING_TYPES)


def _find_name(argument: str, value: str, names: Sequence[str]) -> str:
    """Return the one of ``names`` that a value means. ``Developer`` and ``DeveloperTier`` are one."""
    folded = value.strip().casefold().removesuffix("tier") if isinstance(value, str) else ""
    for name in names:
        if name.casefold().removesuffix("tier") == folded:
            return name
    raise ConfigError(
        Text.format("unknown {}: {!r}", Argument(argument), value),
        hint=f"Use one of {', '.join(names)}.",
    )


def check_training_type(info: ModelInfo | None, training_type: str) -> str:
    """Return the training type as Azure spells it. Raises for one that the model is not trained with."""
    name = find_training_type(training_type)
    if info and info.training_types and name not in info.training_types:
        raise UnsupportedError(
            f"Foundry does not train {info.name} with type {name}{_as_of(info, 'training_types')}",
            hint=Text.format(
                "Use {} {}.", Argument("training_type"), " or ".join(info.training_types)
            ),
        )
    if name == "DataZoneStandard":
        _log.warning(
            "the training type DataZoneStandard is inferred from the SKU of that name: no page of Azure "
            "shows it in a job, so Azure may refuse it"
        )
    return name


def check_deployment(
    io: IO, info: ModelInfo | None, sku: str | None, capacity: int | None, *, is_tuned: bool
) -> None:
    """Raise for a SKU or capacity that Azure does not offer for the model. Nothing is sent."""
    name = find_sku(sku) if sku is not None else None
    if capacity is not None and (
        isinstance(capacity, bool)
        or not isinstance(capacity, int)
        or not 1 <= capacity <= _MAX_CAPACITY
    ):
        raise ConfigError(
            Text.format("invalid {}: {!r}", Argument("capacity"), capacity),
            hint=f"Use a whole number from 1 to {_MAX_CAPACITY:,}; one unit is 1,000 tokens a minute.",
        )
    if not is_tuned or info is None or not info.deployment_options:
        return
    if "serverless" not in info.deployment_options and (name or not io.scope.local):
        options = " and ".join(info.deployment_options)
        raise _managed_compute_error(f"tuned models of {info.name} deploy on {options} only")
    offered = [*info.deployment_skus]
    offered += ["ProvisionedManaged"] if info.provisioned_deploy_regions else []
    if name and name not in offered:
        raise UnsupportedError(
            f"tuned models of {info.name} do not deploy with SKU {name}"
            f"{_as_of(info, 'deployment_skus')}",
            hint=Text.format("Use {} {}.", Argument("sku"), " or ".join(offered)),
        )


def _managed_compute_error(reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"{reason}, which this library does not support: both are previews, and no source states which "
        "deployment template, accelerator type and base deployment an adapter deployment needs",
        hint="Deploy the model in the Foundry portal.",
    )


async def check_region(io: IO, info: ModelInfo | None, kind: catalog.RegionKind) -> None:
    """Refuse a region in which Azure does not offer the model. Without access to ARM nothing is refused."""
    if info is None or io.scope.local or not io.scope.values.get("account"):
        return
    if not catalog.list_regions(info, kind):
        return
    location = await find_location(io)
    if location:
        catalog.check_region(info, location, kind)


async def find_location(io: IO) -> str | None:
    """Return the region of the account; None if ARM does not say, for example to an API key."""
    try:
        account = (await io.send(ops.ACCOUNT_GET)).value
    except MaasError as error:
        _log.info("the account's region is unknown, so it was not checked: %s", error.message)
        return None
    location = account.get("location")
    return location if isinstance(location, str) else None


def _as_of(info: ModelInfo, field: str) -> str:
    source = info.get_source(field)
    return f" (as of {source.as_of})" if source else ""
