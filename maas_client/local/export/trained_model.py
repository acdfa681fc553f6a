"""What was trained: an adapter or a whole model on this machine, the base under it, and its card."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maas_client.chat import TEMPLATES, ChatTemplate
from maas_client.errors import ConfigError, MaasError, NotFoundError
from maas_client.local import bases

CARD = "training.json"
"""Written beside the weights by the training process (``peft/saving.py``)."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A fine-tuned model. ``base`` is where its base lies, ``template`` what it was trained with."""

    name: str
    folder: Path
    base: Path
    base_name: str
    template: ChatTemplate
    licence: str = "see the folder"
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def is_adapter(self) -> bool:
        """False for a whole model (method Full)."""
        return (self.folder / "adapter_config.json").exists()


def load_trained_model(
    folder: Path, bases_dir: Path, name: str | None = None, base: Path | None = None
) -> TrainedModel:
    """Return what a folder holds. Its card names the base, which lies in ``cache`` (the folder of
    bases) or where ``base`` says.

    Raises ``ConfigError`` for a folder that holds no trained model, or whose base is not here.
    """
    folder = folder.expanduser()
    if not any((folder / one).exists() for one in ("adapter_config.json", "config.json")):
        raise ConfigError(
            f"{folder} holds no trained model",
            hint="It must hold adapter_config.json, or config.json and safetensors.",
        )
    card = _card(folder)
    said = card.get("base") or {}
    place = base or _base(said, bases_dir)
    if place is None or not (place / "config.json").exists():
        raise ConfigError(
            f"the base of {folder.name} is not on this machine"
            + (f" (it was {said['name']})" if said.get("name") else ""),
            hint="Name its folder with --base.",
        )
    template = TEMPLATES.get(str(said.get("template") or card.get("template")))
    if template is None:
        raise ConfigError(
            f"{folder.name} does not say which chat template it was trained with",
            hint="Models of other tools are brought in first: maas-client models import FOLDER --base MODEL.",
        )
    return TrainedModel(
        name=name or folder.name,
        folder=folder,
        base=place,
        base_name=str(said.get("name") or place.name),
        template=template,
        licence=str(said.get("licence") or "see the folder"),
        card=card,
    )


def _base(said: dict[str, Any], cache: Path) -> Path | None:
    """Return where the base that a card names lies; a card never holds a path of this machine."""
    try:
        return Path(bases.resolve_base(str(said["model"]), str(said["name"]), cache).folder)
    except (KeyError, MaasError):
        return None


def find_trained_model(
    state_dir: Path, bases_dir: Path, model: str, base: Path | None = None
) -> TrainedModel:
    """Return a model that the local server of this state directory holds, by name, ``name:version``, id or
    its job's name; the newest one of that name. Raises ``NotFoundError``."""
    from maas_client.local.state.store import Store

    name, version = _name_and_version(model)
    if not (state_dir / "facts.db").exists():
        raise _unknown(model, state_dir)
    store = Store(state_dir / "facts.db")
    try:
        held = [
            fact.body
            for fact in store.read.all("model")
            if name.casefold()
            in (fact.body["name"].casefold(), str(fact.body.get("job") or "").casefold())
            and version in (None, fact.body["version"])
        ]
    finally:
        store.close()
    if not held:
        raise _unknown(model, state_dir)
    body = max(held, key=lambda one: str(one["created"]))
    folder = state_dir / "runs" / body["folder"] / "out" / "adapter"
    if not folder.is_dir():
        raise ConfigError(
            f"{body['name']} was made by the instant engine: it has no weights to export",
            hint="Train it with the engine that trains: maas-client serve --engine peft",
        )
    known = (body.get("base") or {}).get("folder")
    return load_trained_model(
        folder, bases_dir, str(body["name"]), base or (Path(known) if known else None)
    )


def _name_and_version(model: str) -> tuple[str, str | None]:
    if "/models/" in model:
        name, _, version = model.rsplit("/models/", 1)[1].partition("/versions/")
        return name, version or None
    name, _, version = model.partition(":")
    return name, version or None


def _unknown(model: str, state: Path) -> NotFoundError:
    return NotFoundError(
        f"no model {model!r} was trained here (looked in {state})",
        status=404,
        operation="export",
        hint="List them: maas-client models list --mine. The folder of a server that was started with "
        "--state-dir is named by MAAS_STATE_DIR.",
    )


def _card(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
