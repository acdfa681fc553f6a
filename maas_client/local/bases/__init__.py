"""Which weights a model's name runs on here: real ones, or a stand-in that says that it is one.

``auto`` takes the model's own weights if they are on disk (pulled, or in the hub's cache), else
smollm2-135m if it was pulled, else tiny. Nothing is downloaded by ``resolve``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maas_client._settings import Settings
from maas_client.catalog import ModelInfo
from maas_client.catalog.lookup import find_model
from maas_client.chat import TEMPLATES, ChatTemplate, get_template
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.local.bases import smollm2, tiny
from maas_client.local.state import atomic_folder

TINY = "tiny"
SMOLLM2 = smollm2.NAME
_PHI = frozenset({"phi3", "phimoe", "phi3small", "phi4_multimodal", "phi4mm"})
_REFUSED = {
    "phi3small": "Phi-3-small's own weights need a GPU (triton block-sparse attention) and remote "
    "code, which is never run here",
}
_CODE = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """Weights on disk. ``as_dict`` is what a job keeps and its worker is told."""

    name: str
    """``tiny``, ``smollm2-135m``, a hub id, or a folder's name."""
    folder: str
    template: str
    """The template to train and answer with, by name."""
    is_stand_in: bool
    """True: these are not the weights of the model that was asked for."""
    licence: str
    model: str
    """The name that was asked for."""

    @property
    def chat_template(self) -> ChatTemplate:
        """Return the template itself."""
        return TEMPLATES[self.template]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready."""
        return asdict(self)

    def describe(self) -> str:
        """Return what a user must know about what ran."""
        if self.is_stand_in:
            return f"{self.model} is not on this machine: {self.name} stands in for it."
        return f"{self.model} runs on its own weights ({self.name})."


def resolve_base(model: str, base: str, folder: Path) -> BaseWeights:
    """Return the weights that ``model`` runs on; ``folder`` is where bases lie.

    ``base`` is ``auto``, ``tiny``, ``smollm2-135m``, the path of a folder, or a hub id. Raises
    ``ConfigError`` for weights that are not here, ``UnsupportedError`` for ones never loaded.
    """
    if base == "auto":
        return _tiny(model, folder) if model == TINY else _auto(model, folder)
    if base == TINY:
        return _tiny(model, folder)
    if base == SMOLLM2:
        return _smollm2(model, folder)
    path = Path(base).expanduser()
    if path.is_dir():
        return _real(model, path.resolve(), path.resolve().name)
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        for place in _places(base, folder):
            return _real(model, place, base)
        raise ConfigError(
            f"the weights of {base} are not on this machine",
            hint=f"Fetch them first: maas-client models pull {base}",
        )
    raise ConfigError(
        f"there is no base {base!r}",
        hint="A base is auto, tiny, smollm2-135m, a folder with safetensors, or a hub id.",
    )


def pull_smollm2(
    folder: Path,
    from_file: Path | None = None,
    progress: smollm2.Progress = lambda _: None,
) -> BaseWeights:
    """Fetch and convert smollm2-135m into ``folder`` unless it is there (``smollm2.pull``)."""
    smollm2.pull(folder / SMOLLM2, from_file, progress)
    return _smollm2(SMOLLM2, folder)


def check_loadable(kind: str) -> None:
    """Raise ``UnsupportedError`` for an architecture whose weights are never loaded here."""
    if kind in _REFUSED:
        raise UnsupportedError(f"{_REFUSED[kind]}.", hint="Use --base smollm2-135m or tiny.")


def list_available(folder: Path) -> list[str]:
    """Return the names of the bases that can be had without a download."""
    pulled = [SMOLLM2] if atomic_folder.is_complete(folder / SMOLLM2, hashes=False) else []
    others = (place.name.replace("--", "/", 1) for place in sorted(folder.glob("*--*")))
    return [TINY, *pulled, *others]


def find_model_facts(model: str) -> ModelInfo | None:
    """Return what the catalog, and the user's own on top of it, says of a model."""
    return find_model(model, override=Settings.load().catalog_file())


def _auto(model: str, folder: Path) -> BaseWeights:
    facts = find_model_facts(model)
    for place in _places(facts.huggingface_id, folder) if facts and facts.huggingface_id else ():
        if _architecture(place) not in _REFUSED:
            return _real(model, place, str(facts and facts.huggingface_id))
    if atomic_folder.is_complete(folder / SMOLLM2, hashes=False):
        return _smollm2(model, folder)
    return _tiny(model, folder)


def _tiny(model: str, folder: Path) -> BaseWeights:
    place = folder / f"tiny-{tiny.REVISION}"
    if not atomic_folder.is_complete(place):
        atomic_folder.write_folder(place, tiny.write_model)
    asked = TEMPLATES["phi3"] if model == TINY else _template(model)
    return BaseWeights(TINY, str(place), asked.name, model != TINY, "none needed (random)", model)


def _smollm2(model: str, folder: Path) -> BaseWeights:
    place = folder / SMOLLM2
    if not atomic_folder.is_complete(place, hashes=False):
        raise ConfigError(
            "smollm2-135m has not been pulled", hint="Pull it: maas-client models pull smollm2-135m"
        )
    own = "smollm2-135m" in model.lower()
    return BaseWeights(SMOLLM2, str(place), "smollm2", not own, "Apache-2.0", model)


def _real(model: str, place: Path, name: str) -> BaseWeights:
    kind = _architecture(place)
    check_loadable(kind)
    if not any(place.glob("*.safetensors")):
        seen = next((p.name for p in place.iterdir() if p.suffix in _CODE), None)
        raise UnsupportedError(
            f"{place} has no safetensors"
            + (f" ({seen} may hold code, so it is not read)" if seen else ""),
            hint="Convert it with save_pretrained(), which writes safetensors.",
        )
    _check_whole(place)
    facts, named = find_model_facts(model), find_model_facts(name)
    template = _template_here(model, name)
    own = (facts is not None and facts == named) or (
        kind in _PHI and facts is not None and facts.family.startswith("phi")
    )
    licence = named.licence if named and named.licence else "see the folder"
    return BaseWeights(name, str(place), template.name, not own, licence, model)


def _template(model: str) -> ChatTemplate:
    facts = find_model_facts(model)
    return TEMPLATES[facts.template] if facts else get_template(model)


def _template_here(model: str, name: str) -> ChatTemplate:
    """Return the template of the weights themselves, or of the model asked for."""
    try:
        return _template(name)
    except UnsupportedError:
        return _template(model)


def _architecture(place: Path) -> str:
    try:
        return str(json.loads((place / "config.json").read_bytes())["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{place} holds no model: its config.json is missing or has no model_type",
            hint="A base folder is what save_pretrained() or the hub gives.",
        ) from None


def _check_whole(place: Path) -> None:
    index = place / "model.safetensors.index.json"
    if not index.exists():
        return
    needed = set(json.loads(index.read_bytes())["weight_map"].values())
    if missing := sorted(name for name in needed if not (place / name).exists()):
        raise ConfigError(
            f"{place} is not whole: {missing[0]} is missing", hint="Pull the model again."
        )


def _places(hub_id: str, folder: Path) -> Iterator[Path]:
    """Yield folders on disk that hold this hub model: pulled ones, then the hub's own cache."""
    pulled = folder / hub_id.replace("/", "--")
    if atomic_folder.is_complete(pulled, hashes=False):
        yield pulled
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(found, str) and any(Path(found).parent.glob("*.safetensors")):
        yield Path(found).parent
