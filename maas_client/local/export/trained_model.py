"""Find a trained model on this machine: an adapter or whole model, its base, and its training card."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client.chat import TEMPLATES, ChatTemplate
from maas_client.errors import ConfigError, MaasError, NotFoundError
from maas_client.local import bases
from maas_client.local.resources.deployments import DEPLOYMENT_KIND

if TYPE_CHECKING:
    from maas_client.local.state.store import Store

CARD = "training.json"
"""Written beside the weights by ``training/save.py``."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A fine-tuned model: its folder, its base's folder, and the chat template used in training."""

    name: str
    folder: Path
    base: Path
    base_name: str
    template: ChatTemplate
    licence: str = "see the folder"
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def is_adapter(self) -> bool:
        """Return False for a whole model (method Full)."""
        return (self.folder / "adapter_config.json").exists()


def load_trained_model(
    folder: Path, bases_dir: Path, name: str | None = None, base: Path | None = None
) -> TrainedModel:
    """Return the trained model in a folder.

    Its training card names the base, which is in ``bases_dir``, or in ``base`` if given.

    Raises ``ConfigError`` for a folder without a trained model, or without its base on this machine.
    """
    folder = Path(os.path.abspath(folder.expanduser()))  # so that . has a name
    if not any((folder / name).exists() for name in ("adapter_config.json", "config.json")):
        raise ConfigError(
            f"{folder} contains no trained model",
            hint="It must contain adapter_config.json, or config.json and safetensors.",
        )
    card = _card(folder)
    card_base = card["base"] if isinstance(card.get("base"), dict) else {}
    base_folder = base or _find_base(card_base, bases_dir)
    if base is not None and not (base / "config.json").exists():
        raise ConfigError(
            f"--base {base} has no config.json", hint="Give the folder of the base weights."
        )
    if base_folder is None or not (base_folder / "config.json").exists():
        raise ConfigError(
            f"The base of {folder.name} is not on this machine"
            + (f" (it was {card_base['name']})" if card_base.get("name") else ""),
            hint="Name its folder with --base.",
        )
    _check_readable(base_folder / "config.json", "model_type")
    own_tokenizer = folder / "tokenizer.json"
    _check_readable(
        own_tokenizer if own_tokenizer.exists() else base_folder / own_tokenizer.name, "model"
    )
    template = TEMPLATES.get(str(card_base.get("template") or card.get("template")))
    if template is None:
        raise ConfigError(
            f"{folder.name} does not name the chat template it was trained with",
            hint="Import models of other tools first: maas-client models import FOLDER --base MODEL",
        )
    return TrainedModel(
        name=name or re.sub(r"[^\w.-]+", "-", folder.name),  # it is part of commands and file names
        folder=folder,
        base=base_folder,
        base_name=str(card_base.get("name") or base_folder.name),
        template=template,
        licence=str(card_base.get("licence") or "see the folder"),
        card=card,
    )


def _find_base(card_base: dict[str, Any], cache: Path) -> Path | None:
    """Return the folder of the base that a training card names. A card contains no local path."""
    try:
        return Path(
            bases.resolve_base(str(card_base["model"]), str(card_base["name"]), cache).folder
        )
    except (KeyError, MaasError):
        return None


def find_trained_model(
    state_dir: Path, bases_dir: Path, model: str, base: Path | None = None
) -> TrainedModel:
    """Return the newest model of this state directory by a name, ``name:version``, id or job name.

    If there is none, it is the model of a deployment with this name. Raises ``NotFoundError``.
    """
    from maas_client.local.state.store import Store

    if not (state_dir / "facts.db").exists():
        raise _not_found(model, state_dir)
    store = Store(state_dir / "facts.db")
    try:
        candidates = _find_models(store, model)
        if not candidates:
            deployments = [
                record.body
                for record in store.read.all(DEPLOYMENT_KIND)
                if record.body["name"].casefold() == model.casefold()
            ]
            model_ids = {str(body["model_id"]) for body in deployments}
            candidates = [body for model_id in model_ids for body in _find_models(store, model_id)]
    finally:
        store.close()
    if not candidates:
        raise _not_found(model, state_dir)
    body = max(candidates, key=lambda name: str(name["created"]))
    folder = state_dir / "runs" / body["folder"] / "out" / "adapter"
    if not folder.is_dir():
        raise ConfigError(
            f"{body['name']} was trained by the instant engine and has no weights to export",
            hint="Train it with the peft engine: maas-client serve --engine peft",
        )
    base_path = (body.get("base") or {}).get("folder")
    return load_trained_model(
        folder, bases_dir, str(body["name"]), base or (Path(base_path) if base_path else None)
    )


def _find_models(store: Store, model: str) -> list[dict[str, Any]]:
    name, version = _name_and_version(model)
    return [
        record.body
        for record in store.read.all("model")
        if name.casefold()
        in (record.body["name"].casefold(), str(record.body.get("job") or "").casefold())
        and version in (None, record.body["version"])
    ]


def _name_and_version(model: str) -> tuple[str, str | None]:
    if "/models/" in model:
        name, _, version = model.rsplit("/models/", 1)[1].partition("/versions/")
        return name, version or None
    name, _, version = model.partition(":")
    return name, version or None


def _not_found(model: str, state: Path) -> NotFoundError:
    return NotFoundError(
        f"There is no trained model {model!r} in {state}, and no folder of that name.",
        status=404,
        operation="export",
        hint="List them: maas-client models list --mine. If the server was started with --state-dir, set "
        "MAAS_STATE_DIR to that folder.",
    )


def _check_readable(path: Path, *members: str) -> None:
    """Raise ``ConfigError`` unless a file of a model has a JSON object with these members."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not all(member in content for member in members):
        raise ConfigError(f"{path} is missing or damaged", hint="Name a complete base with --base.")


def _card(folder: Path) -> dict[str, Any]:
    try:
        card_base = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return card_base if isinstance(card_base, dict) else {}
