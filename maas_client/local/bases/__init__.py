"""The base weights that a model's name runs on: the model's own, or a stand-in that is marked as one.

``auto`` uses the model's own weights if they are on disk (pulled, or in the Hugging Face cache), else
smollm2-135m if it was pulled, else tiny. ``resolve_base`` downloads nothing.
"""

from __future__ import annotations

import importlib.util
import json
import re
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
_UNSUPPORTED = {
    "phi3small": "Phi-3-small's own weights need a GPU (triton block-sparse attention) and remote "
    "code, which is not supported",
}
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """Base weights on disk. Job records and messages to workers contain ``as_dict()``."""

    name: str
    """``tiny``, ``smollm2-135m``, a hub id, or a folder's name."""
    folder: str
    template: str
    """The name of the chat template for training and answers."""
    is_stand_in: bool
    """True: these are not the weights of the requested model."""
    licence: str
    model: str
    """The requested model's name."""

    @property
    def chat_template(self) -> ChatTemplate:
        """Return the chat template."""
        return TEMPLATES[self.template]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Return a sentence about the weights that a job runs on."""
        if self.is_stand_in:
            return f"{self.model} is not on this machine. {self.name} is used as a stand-in."
        return f"{self.model} runs on its own weights ({self.name})."


def resolve_base(model: str, base: str, cache_dir: Path) -> BaseWeights:
    """Return the weights that ``model`` runs on. ``cache_dir`` contains the pulled bases.

    ``base`` is ``auto``, ``tiny``, ``smollm2-135m``, a folder's path, or a hub id. Raises ``ConfigError`` for
    missing weights and ``UnsupportedError`` for weights that cannot be loaded.
    """
    if base == "auto":
        return _tiny(model, cache_dir) if model == TINY else _auto(model, cache_dir)
    if base == TINY:
        return _tiny(model, cache_dir)
    if base == SMOLLM2:
        return _smollm2(model, cache_dir)
    path = Path(base).expanduser()
    if path.is_dir():
        return _from_folder(model, path.resolve(), path.resolve().name)
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        for folder in _find_folders(base, cache_dir):
            return _from_folder(model, folder, base)
        raise ConfigError(
            f"the weights of {base} are not on this machine",
            hint=f"Download them with: maas-client models pull {base}",
        )
    raise ConfigError(
        f"unknown base {base!r}",
        hint="Use auto, tiny, smollm2-135m, a folder with safetensors, or a hub id.",
    )


def pull_smollm2(
    cache_dir: Path,
    from_file: Path | None = None,
    progress: smollm2.Progress = lambda _: None,
) -> BaseWeights:
    """Download and convert smollm2-135m into ``cache_dir`` unless it is there (``smollm2.pull``)."""
    smollm2.pull(cache_dir / SMOLLM2, from_file, progress)
    return _smollm2(SMOLLM2, cache_dir)


def find_missing_base(folder: Path) -> str | None:
    """Return a message if the folder of weights that a record names is gone; None: it is there."""
    if (folder / "config.json").exists():
        return None
    return f"No base weights are in {folder}. Restore this folder, or train and deploy with another base."


def check_loadable(kind: str) -> None:
    """Raise ``UnsupportedError`` for an architecture whose weights cannot be loaded."""
    if kind in _UNSUPPORTED:
        raise UnsupportedError(f"{_UNSUPPORTED[kind]}.", hint="Use --base smollm2-135m or tiny.")


def list_available(cache_dir: Path) -> list[str]:
    """Return the names of the bases that are available without a download."""
    pulled = [SMOLLM2] if atomic_folder.is_complete(cache_dir / SMOLLM2, hashes=False) else []
    hub_models = (folder.name.replace("--", "/", 1) for folder in sorted(cache_dir.glob("*--*")))
    return [TINY, *pulled, *hub_models]


def find_model_facts(model: str) -> ModelInfo | None:
    """Return the facts about a model from the catalog and the user's catalog file; None: unknown."""
    return find_model(model, override=Settings.load().catalog_file())


def find_pull_command(model: str) -> str | None:
    """Return the command that downloads a model's own weights; None: unknown, or they cannot be loaded."""
    facts = find_model_facts(model)
    kind = facts.architecture.model_type if facts and facts.architecture else ""
    if facts is None or not facts.huggingface_id or kind in _UNSUPPORTED:
        return None
    return f"maas-client models pull {facts.name}"


def known_versions(facts: ModelInfo, version: str) -> str | None:
    """Return the versions that the catalog knows, such as ``1 to 8``, if ``version`` is none of them."""
    newest = facts.version
    if newest is None:
        return None
    if not newest.isdigit():
        return newest if version != newest else None
    if re.fullmatch(r"[1-9]\d{0,5}", version, re.ASCII) and int(version) <= int(newest):
        return None
    return "1" if newest == "1" else f"1 to {newest}"


def find_stand_in(model: str, cache_dir: Path) -> str | None:
    """Return the name of the stand-in that ``auto`` uses for a model; None: it has weights of its own."""
    if _own_folder(model, cache_dir) is not None or model == TINY:
        return None
    if not atomic_folder.is_complete(cache_dir / SMOLLM2, hashes=False):
        return TINY
    return SMOLLM2 if _smollm2(model, cache_dir).is_stand_in else None


def _own_folder(model: str, cache_dir: Path) -> tuple[Path, str] | None:
    """Return the folder on disk with a model's own weights, and their hub id."""
    facts = find_model_facts(model)
    hub_id = facts.huggingface_id if facts else None
    for folder in _find_folders(hub_id, cache_dir) if hub_id else ():
        if _architecture(folder) not in _UNSUPPORTED:
            return folder, str(hub_id)
    return None


def _auto(model: str, cache_dir: Path) -> BaseWeights:
    if location := _own_folder(model, cache_dir):
        return _from_folder(model, *location)
    if atomic_folder.is_complete(cache_dir / SMOLLM2, hashes=False):
        return _smollm2(model, cache_dir)
    return _tiny(model, cache_dir)


def _tiny(model: str, cache_dir: Path) -> BaseWeights:
    folder = cache_dir / f"tiny-{tiny.REVISION}"
    if not atomic_folder.is_complete(folder):
        atomic_folder.write_folder(folder, tiny.write_model)
    template = TEMPLATES["phi3"] if model == TINY else _template(model)
    return BaseWeights(
        TINY, str(folder), template.name, model != TINY, "none needed (random)", model
    )


def _smollm2(model: str, cache_dir: Path) -> BaseWeights:
    folder = cache_dir / SMOLLM2
    if not atomic_folder.is_complete(folder, hashes=False):
        raise ConfigError(
            "smollm2-135m was not pulled",
            hint="Download it with: maas-client models pull smollm2-135m",
        )
    is_model = "smollm2-135m" in model.lower()
    return BaseWeights(SMOLLM2, str(folder), "smollm2", not is_model, "Apache-2.0", model)


def _from_folder(model: str, folder: Path, name: str) -> BaseWeights:
    kind = _architecture(folder)
    check_loadable(kind)
    if not any(folder.glob("*.safetensors")):
        other_format = next(
            (p.name for p in folder.iterdir() if p.suffix in _PICKLE_SUFFIXES), None
        )
        raise UnsupportedError(
            f"{folder} has no safetensors"
            + (f" ({other_format} may contain code, so it is not read)" if other_format else ""),
            hint="Convert it with save_pretrained(), which writes safetensors.",
        )
    _check_complete(folder)
    facts, weights_facts = find_model_facts(model), find_model_facts(name)
    template = _template_for_weights(model, name)
    is_model = (facts is not None and facts == weights_facts) or (
        kind in _PHI and facts is not None and facts.family.startswith("phi")
    )
    licence = weights_facts.licence if weights_facts and weights_facts.licence else "see the folder"
    return BaseWeights(name, str(folder), template.name, not is_model, licence, model)


def _template(model: str) -> ChatTemplate:
    facts = find_model_facts(model)
    return TEMPLATES[facts.template] if facts else get_template(model)


def _template_for_weights(model: str, name: str) -> ChatTemplate:
    """Return the template of the weights, or of the requested model if they have none."""
    try:
        return _template(name)
    except UnsupportedError:
        return _template(model)


def _architecture(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_bytes())["model_type"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            f"{folder} contains no model: config.json is missing or has no model_type",
            hint="Use a folder written by save_pretrained() or downloaded from the hub.",
        ) from None


def _check_complete(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    needed = set(json.loads(index.read_bytes())["weight_map"].values())
    if missing := sorted(name for name in needed if not (folder / name).exists()):
        raise ConfigError(
            f"{folder} is incomplete: {missing[0]} is missing", hint="Pull the model again."
        )


def _find_folders(hub_id: str, cache_dir: Path) -> Iterator[Path]:
    """Yield the folders on disk with a hub model: the pulled one, then the Hugging Face cache."""
    pulled = cache_dir / hub_id.replace("/", "--")
    if atomic_folder.is_complete(pulled, hashes=False):
        yield pulled
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
        yield Path(cached).parent
