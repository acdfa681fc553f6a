"""What a model may still be asked to do, where, and as of when."""

from __future__ import annotations

from datetime import date

from maas_client.catalog.facts import ModelFacts, Target
from maas_client.errors import ModelRetiredError, UnsupportedError

_DOORS = {
    "azureml": "Client.azureml (an Azure ML workspace or a hub-based Foundry project)",
    "foundry": "Client.foundry (a Foundry resource)",
    "local": "Client.local (this machine)",
}


def is_retired(facts: ModelFacts, on: date) -> bool:
    """Return whether Azure has retired the model on that day."""
    return facts.retired_on is not None and facts.retired_on <= on


def retirement_notice(facts: ModelFacts, on: date) -> str | None:
    """Return one sentence about a retirement that is past or dated, or None."""
    if facts.retired_on is None:
        return None
    verb = "was retired" if is_retired(facts, on) else "will be retired"
    use = f"; its replacement is {facts.replacement}" if facts.replacement else ""
    source = facts.source_of("retired_on")
    said = f" (known as of {source.as_of})" if source and source.as_of else ""
    return f"{facts.name} {verb} by Azure on {facts.retired_on.isoformat()}{use}{said}"


def check_retirement(
    facts: ModelFacts, target: Target, today: date, *, allow: bool = False
) -> None:
    """Refuse a new serverless job or base deployment of a retired model.

    Nothing is refused on ``local``, with ``allow``, or for what already exists (do not ask).
    Raises ``ModelRetiredError`` with the date and the replacement.
    """
    if allow or target == "local" or not is_retired(facts, today):
        return
    instead = f"Use {facts.replacement} instead, or" if facts.replacement else "You can still"
    raise ModelRetiredError(
        f"{retirement_notice(facts, today)}: it takes no new job and no new deployment there",
        model=facts.name,
        retired=facts.retired_on.isoformat() if facts.retired_on else None,
        replacement=facts.replacement,
        hint=f"{instead} run {facts.name} on this machine with Client.local(). If Azure still "
        "serves it to you, pass allow_retired=True (--allow-retired) or a catalog override file "
        "(MAAS_CATALOG).",
    )


def check_tunable(facts: ModelFacts, target: Target) -> None:
    """Refuse to tune a model where nobody ever offered it.

    Raises ``UnsupportedError`` that names where it can be tuned.
    """
    if target in facts.tunable_on:
        return
    doors = [
        _DOORS[place] for place in ("azureml", "foundry", "local") if place in facts.tunable_on
    ]
    raise UnsupportedError(
        f"{facts.name} is not offered for fine-tuning on {target}",
        hint=f"It is tuned through {' or '.join(doors)}."
        if doors
        else f"No backend tunes it{f': {facts.local_note}' if facts.local_note else ''}.",
    )
