"""Azure regions. They are compared exactly: ``eastus`` is not ``eastus2``."""

from __future__ import annotations

import re
from typing import Literal

from maas_client.catalog.model_info import ModelInfo
from maas_client.errors import UnsupportedError


def normalize_region(region: str) -> str:
    """Return a region's short name: ``eastus2`` for ``East US 2``."""
    return re.sub(r"[\s_-]+", "", region).lower()


def is_offered_in(
    model: ModelInfo, region: str, purpose: Literal["train", "deploy"] = "train"
) -> bool | None:
    """Return whether a model is offered in a region; None if no source lists its regions."""
    regions = model.train_regions if purpose == "train" else model.deploy_regions
    return normalize_region(region) in regions if regions else None


def check_region(
    model: ModelInfo, region: str, purpose: Literal["train", "deploy"] = "train"
) -> None:
    """Refuse a region in which the model is known not to be offered.

    Args:
        model: The model.
        region: The region, in any spelling.
        purpose: Fine-tuning or deployment.

    Raises:
        UnsupportedError: The model is not offered there; the hint lists the regions.
    """
    if is_offered_in(model, region, purpose) is not False:
        return
    regions = model.train_regions if purpose == "train" else model.deploy_regions
    source = model.get_source(f"{purpose}_regions")
    as_of = f" as of {source.as_of}" if source else ""
    raise UnsupportedError(
        f"{model.name} is not offered for {'fine-tuning' if purpose == 'train' else 'deployment'} "
        f"in {normalize_region(region)}{as_of}",
        hint=f"Use a workspace in {', '.join(sorted(regions))}. If this list is out of date, "
        f"correct {purpose}_regions in a catalog override file (MAAS_CATALOG).",
    )
