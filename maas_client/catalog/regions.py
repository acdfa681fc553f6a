"""Azure regions. A region is equal to another or it is not: ``eastus`` is not ``eastus2``."""

from __future__ import annotations

import re
from typing import Literal

from maas_client.catalog.model_info import ModelInfo
from maas_client.errors import UnsupportedError


def normalize_region(region: str) -> str:
    """Return a region's name for programs: ``East US 2`` is ``eastus2``."""
    return re.sub(r"[\s_-]+", "", region).lower()


def is_same_region(one: str, other: str) -> bool:
    """Return whether two spellings mean the same region."""
    return normalize_region(one) == normalize_region(other)


def is_offered_in(
    model: ModelInfo, region: str, purpose: Literal["train", "deploy"] = "train"
) -> bool | None:
    """Return whether the model is offered in a region; None where no source lists regions."""
    regions = model.train_regions if purpose == "train" else model.deploy_regions
    return normalize_region(region) in regions if regions else None


def check_region(
    model: ModelInfo, region: str, purpose: Literal["train", "deploy"] = "train"
) -> None:
    """Refuse a region in which the model is known not to be offered.

    Raises ``UnsupportedError`` with the regions that are.
    """
    if is_offered_in(model, region, purpose) is not False:
        return
    regions = model.train_regions if purpose == "train" else model.deploy_regions
    source = model.get_source(f"{purpose}_regions")
    known = f" as of {source.as_of}" if source else ""
    raise UnsupportedError(
        f"{model.name} is not offered for {'fine-tuning' if purpose == 'train' else 'deployment'} "
        f"in {normalize_region(region)}{known}",
        hint=f"Use a workspace in {', '.join(sorted(regions))}; if the list is out of date, "
        f"a catalog override file (MAAS_CATALOG) can say so ({purpose}_regions).",
    )
