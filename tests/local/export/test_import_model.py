"""Importing models: safetensors only, hashes checked, no code run, all or nothing."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.errors import ConfigError, MaasError, UnsupportedError  # noqa: E402 - after the skip
from maas_client.local import bases  # noqa: E402
from maas_client.local.export.import_model import import_folder  # noqa: E402
from maas_client.local.export.trained_model import TrainedModel  # noqa: E402
from maas_client.local.state import atomic_folder  # noqa: E402


@pytest.fixture
def folder(tuned: TrainedModel, tmp_path: Path) -> Path:
    """A folder as saved by plain PEFT: no manifest, no training card."""
    copy = Path(shutil.copytree(tuned.folder, tmp_path / "theirs"))
    (copy / "training.json").unlink()
    return copy


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_peft_folder_is_imported(folder: Path, tmp_path: Path, base: bases.BaseWeights) -> None:
    result = import_folder(folder, tmp_path / "in", base)
    assert result.kind == "adapter"
    assert not result.hashes_checked
    assert atomic_folder.is_complete(result.folder)


@pytest.mark.parametrize(
    "name",
    ["adapter_model.bin", "modeling.py", "sub/x.pkl", "weights.pt.safetensors", "native.so"],
)
def test_files_that_may_contain_code_raise(
    folder: Path, tmp_path: Path, base: bases.BaseWeights, name: str
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(Touch(tmp_path / "boom")))
    with pytest.raises(UnsupportedError, match=Path(name).name.replace(".", r"\.")):
        import_folder(folder, tmp_path / "in", base)
    assert not (tmp_path / "in").exists()
    assert not (tmp_path / "boom").exists()


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code by name": (
        lambda f: (f / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}'),
        "code",
    ),
    "peft's own": (
        lambda f: _edit(f, auto_mapping={"base_model_class": "X", "parent_library": "os"}),
        "code",
    ),
    "no json": (lambda f: (f / "adapter_config.json").write_text("{"), "not valid JSON"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "is missing"),
    "cut short": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(
            (f / "adapter_model.safetensors").read_bytes()[:-40]
        ),
        "cannot be read",
    ),
    "another kind": (lambda f: _edit(f, peft_type="IA3"), "only LoRA"),
    "a link": (lambda f: (f / "LICENSE").symlink_to("/etc/passwd"), "is a link"),
    "nothing": (lambda f: [p.unlink() for p in f.iterdir()], "neither"),
}


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("how", sorted(BREAKS))
def test_invalid_folder_raises_and_imports_nothing(
    folder: Path, tmp_path: Path, base: bases.BaseWeights, how: str
) -> None:
    damage, words = BREAKS[how]
    damage(folder)
    with pytest.raises(MaasError, match=words) as caught:
        import_folder(folder, tmp_path / "in", base)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: _damage(f / "adapter_model.safetensors"), "does not match its hash"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "is missing"),
        (lambda f: (f / "extra.txt").write_text("x"), "not in the manifest"),
        (lambda f: (f / "manifest.json").write_text("[]"), "damaged"),
    ],
)
def test_manifest_hashes_are_checked(
    folder: Path, tmp_path: Path, base: bases.BaseWeights, change: Callable[[Path], Any], words: str
) -> None:
    atomic_folder.write_manifest(folder)
    change(folder)
    with pytest.raises(ConfigError, match=words):
        import_folder(folder, tmp_path / "in", base)
