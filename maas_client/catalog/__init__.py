"""Dated facts about models, service limits and machines, each with its source, and lookups over them.

Nothing is read until it is needed. ``models.json``, ``limits.json`` and ``machines.json`` record each fact with
its source and date; docs/reference/catalog.md explains them.
"""

from maas_client.catalog.availability import (
    RegionKind,
    check_method,
    check_region,
    check_retirement,
    check_tunable,
    is_offered_in,
    is_retired,
    list_regions,
    name_notice,
    normalize_region,
    retirement_notice,
)
from maas_client.catalog.limits import Limits, load_limits
from maas_client.catalog.load import find_machine, load_kaito_presets, load_machines, load_models
from maas_client.catalog.lookup import (
    find_model,
    get_model,
    is_asset_uri,
    registry_uri,
    suggest_models,
)
from maas_client.catalog.model_info import (
    Architecture,
    HyperparameterRange,
    KaitoPreset,
    Limit,
    Machine,
    ModelInfo,
    Offer,
    Source,
    Target,
)

__all__ = [
    "Architecture",
    "HyperparameterRange",
    "KaitoPreset",
    "Limit",
    "Limits",
    "Machine",
    "ModelInfo",
    "Offer",
    "RegionKind",
    "Source",
    "Target",
    "check_method",
    "check_region",
    "check_retirement",
    "check_tunable",
    "find_machine",
    "find_model",
    "get_model",
    "is_asset_uri",
    "is_offered_in",
    "is_retired",
    "list_regions",
    "load_kaito_presets",
    "load_limits",
    "load_machines",
    "load_models",
    "name_notice",
    "normalize_region",
    "registry_uri",
    "retirement_notice",
    "suggest_models",
]
