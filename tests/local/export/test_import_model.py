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
from tests.fuzz import parsers  # noqa: E402


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
    [
        "adapter_model.bin", "modeling.py", "sub/x.pkl", "weights.pt.safetensors", "native.so",
        "x.PKL", "x.BIN", "x.Py", "x.pyd", "x.gguf", "x.pt2", "pickle", "x.safetensors.exe", ".hidden",
    ],
)  # fmt: skip
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


DEEP = "[" * 200_000


def _set_weights(folder: Path, value: float) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = value
    save_file(tensors, path)


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
    "deep json": (lambda f: (f / "adapter_config.json").write_text(DEEP), "not valid JSON"),
    "deep training card": (lambda f: (f / "config.json").write_text(DEEP), "not valid JSON"),
    "alpha is a list": (lambda f: _edit(f, lora_alpha=[1]), "lora_alpha"),
    "pattern is a list": (lambda f: _edit(f, alpha_pattern=["x"]), "alpha_pattern"),
    "slow pattern": (lambda f: _edit(f, alpha_pattern={"(.+)+x": 1}), "alpha_pattern"),
    "invalid pattern": (lambda f: _edit(f, alpha_pattern={"(": 1}), "alpha_pattern"),
    "nan": (lambda f: _set_weights(f, float("nan")), "NaN or infinity"),
    "infinity": (lambda f: _set_weights(f, float("inf")), "NaN or infinity"),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", 10**9), ("hidden_size", -1), ("vocab_size", "many"), ("head_dim", 0.5)],
)
def test_sizes_out_of_bounds_are_refused_before_a_network_is_built(
    base: bases.BaseWeights, tmp_path: Path, name: str, value: object
) -> None:
    folder = Path(shutil.copytree(base.folder, tmp_path / "theirs"))
    for path in folder.iterdir():
        if path.name not in {"config.json", "tokenizer.json", "model.safetensors"}:
            path.unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(ConfigError, match=name):
        import_folder(folder, tmp_path / "in", base)


def test_random_safetensors_are_read_or_refused():
    parsers.check_safetensors(count=300, seed=0)
