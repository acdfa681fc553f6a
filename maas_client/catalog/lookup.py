"""Names as people type them, and what they mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from maas_client.catalog.load import load_models
from maas_client.catalog.model_info import ModelInfo
from maas_client.errors import ConfigError

_REGISTRY = re.compile(
    r"azureml://registries/(?P<registry>[^/]+)/models/(?P<model>[^/]+)"
    r"(?:/(?:versions/(?P<version>[^/]+)|labels/[^/]+))?/?",
    re.IGNORECASE,
)


def is_asset_uri(name: str) -> bool:
    """Return whether ``name`` is an address of Azure (of a registry's model or of one's own)
    rather than a name. What is given by address is never refused for its age."""
    return name.lower().startswith(("azureml:", "/subscriptions/"))


def find_model(name: str, *, override: Path | None = None) -> ModelInfo | None:
    """Return what is known about a model, or None.

    ``name`` may be the registry's name in any case, a short one (``Phi-3-mini``, ``phi4-mini``),
    a Hugging Face id, or a registry address; an address with a version keeps that version.
    """
    known = _known(override)
    if match := _REGISTRY.fullmatch(name.strip()):
        facts = known.get(_plain(match["model"]))
        if facts is None or (facts.registry or "").lower() != match["registry"].lower():
            return None
        return (
            replace(facts, version=match["version"], uri=name.strip())
            if match["version"]
            else facts
        )
    return None if is_asset_uri(name) else known.get(_plain(name))


def get_model(name: str, *, override: Path | None = None) -> ModelInfo:
    """Return what is known about a model.

    Raises ``ConfigError`` naming the nearest known names.
    """
    facts = find_model(name, override=override)
    if facts is not None:
        return facts
    known = _known(override)
    close = difflib.get_close_matches(_plain(name), known, n=6, cutoff=0.6)
    near = list(dict.fromkeys(known[key].name for key in close))[:3]
    raise ConfigError(
        f"no model named {name!r} is known",
        hint=(f"Did you mean {' or '.join(near)}? " if near else "")
        + "`maas-client models list` shows all; a model of your own is given by its address "
        "(azureml://...), and a catalog override file (MAAS_CATALOG) adds one.",
    )


def registry_uri(model: ModelInfo) -> str:
    """Return the address that a job on azureml names.

    Raises ``ConfigError`` for a model whose registry no source names.
    """
    if model.uri is None:
        raise ConfigError(
            f"the registry that holds {model.name} is not known",
            hint="Give its address instead of its name: azureml://registries/.../models/...",
        )
    return model.uri


def _plain(name: str) -> str:
    """Fold a name: case, an organisation in front, ``_`` and blanks, ``phi3`` for ``phi-3``."""
    folded = re.sub(r"[\s_]+", "-", name.strip().casefold().rpartition("/")[2])
    return re.sub(r"^phi(?=\d)", "phi-", folded)


def _known(override: Path | None) -> Mapping[str, ModelInfo]:
    return _own_index() if override is None else _index(load_models(override))


@lru_cache(maxsize=1)
def _own_index() -> Mapping[str, ModelInfo]:
    return _index(load_models())


def _index(shelf: Mapping[str, ModelInfo]) -> dict[str, ModelInfo]:
    """Every folded name that means a model. A model's own name wins over another's alias."""
    found: dict[str, ModelInfo] = {}
    for facts in shelf.values():
        for alias in (*facts.aliases, facts.huggingface_id or facts.name):
            found.setdefault(_plain(alias), facts)
    return found | {_plain(name): facts for name, facts in shelf.items()}
