"""The way in: a folder that was trained elsewhere, checked before anything of it is used.

Safetensors only. No code of the folder is run, no archive unpacked, no link followed; names of files
that could hold code are refused rather than left out, so that nobody believes they were needed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maas_client.chat import ChatTemplate, get_template
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.local import bases
from maas_client.local.export.trained_model import CARD
from maas_client.local.generate.protocol import BaseSpec, GenerationError
from maas_client.local.state import atomic_folder

_CODE = frozenset({
    ".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".exe", ".bin", ".pt", ".pth", ".pkl", ".pickle",
    ".ckpt", ".h5", ".msgpack", ".joblib", ".npy", ".npz", ".zip", ".tar", ".gz", ".7z",
})  # fmt: skip
_LOADED_FROM = (
    "config.json", "adapter_config.json", "tokenizer_config.json", "generation_config.json",
)  # fmt: skip
_RUNS_CODE = ("auto_map", "custom_pipelines", "auto_mapping")


@dataclass(frozen=True, slots=True)
class ImportResult:
    """A folder that was taken in. ``base`` is what answers under it, or it itself."""

    kind: Literal["adapter", "model"]
    folder: Path
    base: bases.BaseWeights
    hashes_checked: bool
    """False: the folder had no manifest, so nothing said what its files should be."""


def import_folder(source: Path, target: Path, base: bases.BaseWeights) -> ImportResult:
    """Check ``source`` and copy it to ``target``, whole or not at all.

    ``base`` is what it was trained on; a folder with a whole model is a base of its own and takes
    only the template from it. Raises ``UnsupportedError`` for files that could hold code, and
    ``ConfigError`` for anything else that is wrong, each in one sentence.
    """
    source = source.expanduser()
    if not source.is_dir():
        raise ConfigError(f"{source} is no folder", hint="Name the folder that holds the files.")
    files = list(_files(source))
    hashed = _check_manifest(source, files)
    for name in _LOADED_FROM:
        _check_json(source, name)
    kind = _kind(source)
    template = _template(source, base)

    def fill(draft: Path) -> None:
        for path in files:
            place = draft / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        _write_card(draft, base, template)
        _try(draft, base, template, kind)

    if target.exists():
        raise ConfigError(f"{target} exists", hint="Delete it, or choose another name.")
    atomic_folder.write_folder(target, fill)
    return ImportResult(kind, target, base, hashed)


def _files(source: Path) -> Iterator[Path]:
    """Yield the files to take; raise for what is never taken."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_symlink():
            raise UnsupportedError(f"{name} is a link", hint="Copy the files themselves.")
        if path.is_dir():
            continue
        if set(path.suffixes) & _CODE or not path.is_file():
            raise UnsupportedError(
                f"{name} may hold code, and no code of a model's folder is ever run",
                hint="Save the weights as safetensors, and take the file out of the folder.",
            )
        if name != atomic_folder.MANIFEST:
            yield path


def _check_manifest(source: Path, files: list[Path]) -> bool:
    """Compare with the hashes that travelled along; False if there are none."""
    path = source / atomic_folder.MANIFEST
    if not path.exists():
        return False
    try:
        facts = json.loads(path.read_bytes())["files"]
        told = {str(name): str(fact["sha256"]) for name, fact in facts.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is damaged", hint="Copy the folder again.") from None
    held = {file.relative_to(source).as_posix(): file for file in files}
    for name in sorted(told.keys() | held.keys()):
        if name not in held:
            raise ConfigError(f"{name} is missing", hint="Copy the folder again.")
        if name not in told:
            raise ConfigError(f"{name} is not in the manifest", hint="Take it out.")
        if atomic_folder.sha256_of(held[name]) != told[name]:
            raise ConfigError(
                f"{name} is not the file its manifest describes", hint="Copy the folder again."
            )
    return True


def _check_json(source: Path, name: str) -> None:
    path = source / name
    if not path.exists():
        return
    try:
        said: Any = json.loads(path.read_bytes())
    except ValueError:
        raise ConfigError(f"{name} is no JSON", hint="Copy the folder again.") from None
    if not isinstance(said, dict):
        raise ConfigError(f"{name} is no JSON object", hint="Copy the folder again.")
    for key in _RUNS_CODE:
        if said.get(key):
            raise UnsupportedError(
                f"{name} names code to run ({key}), and no code of a model's folder is ever run",
                hint="Only models that transformers knows by itself can be imported.",
            )


def _kind(source: Path) -> Literal["adapter", "model"]:
    if (source / "adapter_config.json").exists():
        needed = ("adapter_model.safetensors",)
    elif (source / "config.json").exists():
        needed = ("tokenizer.json",)
        if not any(source.glob("*.safetensors")):
            needed = ("model.safetensors",)
    else:
        raise ConfigError(
            f"{source} holds neither adapter_config.json nor config.json",
            hint="It should be what PEFT's or transformers' save_pretrained() writes.",
        )
    for name in needed:
        if not (source / name).exists():
            raise ConfigError(f"{name} is missing", hint="Copy the folder again.")
    return "adapter" if "adapter" in needed[0] else "model"


def _template(source: Path, base: bases.BaseWeights) -> ChatTemplate:
    """Return the template that the folder's card names, or the base's."""
    try:
        said = json.loads((source / CARD).read_bytes())
        return get_template(str(said["base"]["template"]))
    except (OSError, ValueError, KeyError, TypeError, UnsupportedError):
        return base.chat_template


def _write_card(draft: Path, base: bases.BaseWeights, template: ChatTemplate) -> None:
    """Say in the card what the folder runs on here."""
    path = draft / CARD
    card: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    told = base.as_dict() | {"template": template.name}
    del told["folder"]  # where it lies on this machine is nobody else's business
    path.write_text(json.dumps(card | {"base": told}, indent=2, sort_keys=True) + "\n")


def _try(draft: Path, base: bases.BaseWeights, template: ChatTemplate, kind: str) -> None:
    """Load it as the answering process will. Raises ``ConfigError``."""
    from maas_client.local.generate.model import InferenceModel

    try:
        if kind == "adapter":
            InferenceModel(BaseSpec(base.folder, template.name)).load_adapter(str(draft))
        else:
            InferenceModel(BaseSpec(str(draft), template.name)).set_merged_adapter(None)
    except GenerationError as error:
        raise ConfigError(
            error.message.replace(draft.name, "this folder"),
            hint="Nothing was imported.",
        ) from None
