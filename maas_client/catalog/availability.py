"""Whether a model is retired, and where it can be fine-tuned: backends and Azure regions.

Regions are compared exactly: ``eastus`` is not ``eastus2``.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal

from maas_client._messages import Argument, Constructor, Text
from maas_client.catalog.load import load_models
from maas_client.catalog.model_info import ModelInfo, Target
from maas_client.errors import ModelRetiredError, UnsupportedError

_BACKENDS = {
    "azureml": Text(
        Constructor("azureml"), " (an Azure ML workspace or a hub-based Foundry project)"
    ),
    "foundry": Text(Constructor("foundry"), " (a Foundry resource)"),
    "local": Text(Constructor("local"), " (this machine)"),
}


def is_retired(model: ModelInfo, on: date) -> bool:
    """Return whether Azure has retired the model by a given day."""
    return model.retired_on is not None and model.retired_on <= on


def retirement_notice(model: ModelInfo, on: date) -> str | None:
    """Return one sentence about the model's retirement; None if no date is known.

    Args:
        model: The model.
        on: The current day, which decides between "was" and "will be".
    """
    if model.retired_on is None:
        return None
    event = "was retired" if is_retired(model, on) else "will be retired"
    replacement = f"; its replacement is {model.replacement}" if model.replacement else ""
    phases = ""
    if model.training_retired_on and model.deployment_retired_on:
        phases = (
            f"; those who tuned it before can tune it until {model.training_retired_on.isoformat()} "
            f"or later, and tuned models answer until {model.deployment_retired_on.isoformat()}"
        )
    source = model.get_source("retired_on")
    as_of = f" (known as of {source.as_of})" if source and source.as_of else ""
    date_text = model.retired_on.isoformat()
    return f"{model.name} {event} by Azure on {date_text}{replacement}{phases}{as_of}"


def check_retirement(
    model: ModelInfo,
    target: Target,
    today: date,
    *,
    allow_retired: bool = False,
    use: Literal["tuning", "base deployment", "tuned deployment"] = "tuning",
) -> None:
    """Refuse a new serverless job or a deployment of a retired model.

    Args:
        model: The model.
        target: The backend. Nothing is refused on ``local``.
        today: The current day.
        allow_retired: Refuse nothing.
        use: What the model is for. OpenAI's models retire in two phases: tuned models answer longer than the
            model can be tuned, and who tuned it before can tune it longer than others.

    Raises:
        ModelRetiredError: The model is retired; the error has the date and the replacement.
    """
    retired_on = {
        "tuning": model.training_retired_on or model.retired_on,
        "base deployment": model.retired_on,
        "tuned deployment": model.deployment_retired_on,
    }[use]
    if allow_retired or target == "local" or retired_on is None or today < retired_on:
        return
    advice = f"Use {model.replacement} instead, or" if model.replacement else "You can still"
    raise ModelRetiredError(
        f"{retirement_notice(model, today)}. Azure accepts no new jobs or deployments for it",
        model=model.name,
        retired=retired_on.isoformat(),
        replacement=model.replacement,
        hint=Text.format(
            "{} run {} on this machine with {}. If Azure still serves it to you, pass {} or correct "
            "the date in a catalog override file (MAAS_CATALOG).",
            advice,
            model.name,
            Constructor("local"),
            Argument("allow_retired", True),
        ),
    )


def name_notice(model: ModelInfo, name: str) -> str | None:
    """Return one sentence if Azure no longer accepts ``name`` for the model, else None."""
    if name.strip().casefold() not in (former.casefold() for former in model.former_names):
        return None
    source = model.get_source("tuning_methods")
    as_of = f" (as of {source.as_of})" if source else ""
    return f"{name.strip()} is a former name: Azure calls the model {model.name}{as_of}"


def check_method(model: ModelInfo, method: str) -> None:
    """Refuse a method by which Foundry does not tune the model.

    Args:
        model: The model.
        method: ``SFT`` or ``DPO``.

    Raises:
        UnsupportedError: Foundry tunes the model by other methods, or on images.
    """
    source = model.get_source("tuning_methods")
    if source is None and method == "SFT":
        return
    if method not in (model.tuning_methods or ("SFT",)):
        others = [
            candidate.name
            for candidate in load_models().values()
            if method in candidate.tuning_methods and "image" not in candidate.modalities[:1]
        ]
        reason = f"Azure does not tune {model.name} by {method}"
        if source is not None:
            methods = " and ".join(model.tuning_methods)
            reason = (
                f"Foundry tunes {model.name} by {methods}, not by {method} (as of {source.as_of})"
            )
        raise UnsupportedError(
            reason,
            hint=Text.format(
                "By {} Foundry tunes {}. {} trains {} on this machine.",
                method,
                ", ".join(others),
                Constructor("local"),
                model.name,
            ),
        )
    if model.modalities[:1] == ("image",):
        raise UnsupportedError(
            f"Foundry tunes {model.name} on images, and this library's rows are chats",
            hint=Text.format(
                "Use the Foundry portal, or {} for a stand-in that is trained on chats.",
                Constructor("local"),
            ),
        )


def check_tunable(model: ModelInfo, target: Target) -> None:
    """Refuse to fine-tune a model on a backend that never offered it.

    Args:
        model: The model.
        target: The backend.

    Raises:
        UnsupportedError: The backend does not offer it; the hint names the backends that do.
    """
    if target in model.tunable_on:
        return
    backends = [text for name, text in _BACKENDS.items() if name in model.tunable_on]
    raise UnsupportedError(
        f"{model.name} is not offered for fine-tuning on {target}",
        hint=Text.format("Fine-tune it with {}.", Text(" or ").join(backends))
        if backends
        else f"No backend can fine-tune it{f': {model.local_note}' if model.local_note else ''}.",
    )


def normalize_region(region: str) -> str:
    """Return a region's short name: ``eastus2`` for ``East US 2``."""
    return re.sub(r"[\s_-]+", "", region).lower()


RegionKind = Literal[
    "train", "deploy", "global_train", "standard_train", "standard_deploy", "provisioned_deploy"
]
"""What happens in a region: the start of the name of the field of ``ModelInfo`` that lists the regions."""
_REGION_KINDS: dict[RegionKind, tuple[str, str]] = {
    "train": ("fine-tuning", "workspace"),
    "deploy": ("deployment", "workspace"),
    "global_train": ("global fine-tuning", "Foundry resource"),
    "standard_train": ("fine-tuning of type Standard", "Foundry resource"),
    "standard_deploy": ("deployment with SKU Standard", "Foundry resource"),
    "provisioned_deploy": ("deployment with SKU ProvisionedManaged", "Foundry resource"),
}


def list_regions(model: ModelInfo, kind: RegionKind) -> frozenset[str]:
    """Return the regions that a source lists; empty if none does."""
    regions: frozenset[str] = getattr(model, f"{kind}_regions")
    return regions


def is_offered_in(model: ModelInfo, region: str, kind: RegionKind = "train") -> bool | None:
    """Return whether a model is offered in a region; None if no source lists its regions."""
    regions = list_regions(model, kind)
    return normalize_region(region) in regions if regions else None


def check_region(model: ModelInfo, region: str, kind: RegionKind = "train") -> None:
    """Refuse a region in which the model is known not to be offered.

    Args:
        model: The model.
        region: The region, in any spelling.
        kind: What is to happen there.

    Raises:
        UnsupportedError: The model is not offered there; the hint lists the regions.
    """
    if is_offered_in(model, region, kind) is not False:
        return
    action, place = _REGION_KINDS[kind]
    source = model.get_source(f"{kind}_regions")
    as_of = f" as of {source.as_of}" if source else ""
    raise UnsupportedError(
        f"{model.name} is not offered for {action} in {normalize_region(region)}{as_of}",
        hint=f"Use a {place} in {', '.join(sorted(list_regions(model, kind)))}. If this list is out of "
        f"date, correct {kind}_regions in a catalog override file (MAAS_CATALOG).",
    )
