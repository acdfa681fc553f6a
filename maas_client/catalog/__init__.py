"""Dated facts about models, limits and machines, each with its source, and pure look-ups over them.

Nothing is read before it is asked for. ``models.json``, ``limits.json`` and ``machines.json`` are
written statement by statement (who says it, as of when); docs/catalog.md explains them.
"""

from maas_client.catalog.facts import (
    Architecture,
    Bound,
    Limit,
    Machine,
    ModelFacts,
    Offer,
    Preset,
    Source,
    Target,
)
from maas_client.catalog.lifecycle import (
    check_retirement,
    check_tunable,
    is_retired,
    retirement_notice,
)
from maas_client.catalog.limits import Limits, limits
from maas_client.catalog.machines import machine, machines, presets
from maas_client.catalog.names import find, get, is_asset_uri, registry_uri
from maas_client.catalog.regions import check_region, is_offered_in, region_name, same_region
from maas_client.catalog.shelf import models

__all__ = [
    "Architecture",
    "Bound",
    "Limit",
    "Limits",
    "Machine",
    "ModelFacts",
    "Offer",
    "Preset",
    "Source",
    "Target",
    "check_region",
    "check_retirement",
    "check_tunable",
    "find",
    "get",
    "is_asset_uri",
    "is_offered_in",
    "is_retired",
    "limits",
    "machine",
    "machines",
    "models",
    "presets",
    "region_name",
    "registry_uri",
    "retirement_notice",
    "same_region",
]
