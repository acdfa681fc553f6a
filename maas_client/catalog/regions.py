"""Azure regions. A region is equal to another or it is not: ``eastus`` is not ``eastus2``."""

from __future__ import annotations

import re
from typing import Literal

from maas_client.catalog.facts import ModelFacts
from maas_client.errors import UnsupportedError


def region_name(said: str) -> str:
    """Return a region's name for programs: ``East US 2`` is ``eastus2``."""
    return re.sub(r"[\s_-]+", "", said).lower()


def same_region(one: str, other: str) -> bool:
    """Return whether two spellings mean the same region."""
    return region_name(one) == region_name(other)


def is_offered_in(
    facts: ModelFacts, region: str, purpose: Literal["train", "deploy"] = "train"
) -> bool | None:
    """Return whether the model is offered in a region; None where no source lists regions."""
    regions = facts.train_regions if purpose == "train" else facts.deploy_regions
    return region_name(region) in regions if regions else None


def check_region(
    facts: ModelFacts, region: str, purpose: Literal["train", "deploy"] = "train"
) -> None:
    """Refuse a region in which the model is known not to be offered.

    Raises ``UnsupportedError`` with the regions that are.
    """
    if is_offered_in(facts, region, purpose) is not False:
        return
    regions = facts.train_regions if purpose == "train" else facts.deploy_regions
    source = facts.source_of(f"{purpose}_regions")
    known = f" as of {source.as_of}" if source else ""
    raise UnsupportedError(
        f"{facts.name} is not offered for {'fine-tuning' if purpose == 'train' else 'deployment'} "
        f"in {region_name(region)}{known}",
        hint=f"Use a workspace in {', '.join(sorted(regions))}; if the list is out of date, "
        f"a catalog override file (MAAS_CATALOG) can say so ({purpose}_regions).",
    )
