"""What a model may still be asked to do, where, and as of when."""

from __future__ import annotations

from datetime import date

from maas_client.catalog.model_info import ModelInfo, Target
from maas_client.errors import ModelRetiredError, UnsupportedError

_DOORS = {
    "azureml": "Client.azureml (an Azure ML workspace or a hub-based Foundry project)",
    "foundry": "Client.foundry (a Foundry resource)",
    "local": "Client.local (this machine)",
}


def is_retired(model: ModelInfo, on: date) -> bool:
    """Return whether Azure has retired the model on that day."""
    return model.retired_on is not None and model.retired_on <= on


def retirement_notice(model: ModelInfo, on: date) -> str | None:
    """Return one sentence about a retirement that is past or dated, or None."""
    if model.retired_on is None:
        return None
    verb = "was retired" if is_retired(model, on) else "will be retired"
    use = f"; its replacement is {model.replacement}" if model.replacement else ""
    source = model.get_source("retired_on")
    said = f" (known as of {source.as_of})" if source and source.as_of else ""
    return f"{model.name} {verb} by Azure on {model.retired_on.isoformat()}{use}{said}"


def check_retirement(
    model: ModelInfo, target: Target, today: date, *, allow_retired: bool = False
) -> None:
    """Refuse a new serverless job or base deployment of a retired model.

    Nothing is refused on ``local``, with ``allow``, or for what already exists (do not ask).
    Raises ``ModelRetiredError`` with the date and the replacement.
    """
    if allow_retired or target == "local" or not is_retired(model, today):
        return
    instead = f"Use {model.replacement} instead, or" if model.replacement else "You can still"
    raise ModelRetiredError(
        f"{retirement_notice(model, today)}: it takes no new job and no new deployment there",
        model=model.name,
        retired=model.retired_on.isoformat() if model.retired_on else None,
        replacement=model.replacement,
        hint=f"{instead} run {model.name} on this machine with Client.local(). If Azure still "
        "serves it to you, pass allow_retired=True (--allow-retired) or a catalog override file "
        "(MAAS_CATALOG).",
    )


def check_tunable(model: ModelInfo, target: Target) -> None:
    """Refuse to tune a model where nobody ever offered it.

    Raises ``UnsupportedError`` that names where it can be tuned.
    """
    if target in model.tunable_on:
        return
    doors = [
        _DOORS[place] for place in ("azureml", "foundry", "local") if place in model.tunable_on
    ]
    raise UnsupportedError(
        f"{model.name} is not offered for fine-tuning on {target}",
        hint=f"It is tuned through {' or '.join(doors)}."
        if doors
        else f"No backend tunes it{f': {model.local_note}' if model.local_note else ''}.",
    )
