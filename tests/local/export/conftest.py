"""Fixtures: a trained adapter over ``tiny``, as the training process saves it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from maas_client.local import bases  # noqa: E402 - after the skip
from maas_client.local.export import trained_model  # noqa: E402
from tests.local.generate.conftest import make_adapter, make_base  # noqa: E402


def tune(base: bases.BaseWeights, folder: Path) -> trained_model.TrainedModel:
    """Write an adapter into ``folder`` with a training card as the training process writes it."""
    make_adapter(Path(base.folder), folder, 1, use_dora=True)
    (folder / "README.md").unlink()
    card = {
        "base": {k: v for k, v in base.as_dict().items() if k != "folder"},
        "template": base.template,
        "training_config": {"method": "DoRA", "lora_r": 4, "seed": 1, "dropout": None},
        "data": {"train_sha256": "ab" * 32},
        "rows": 20,
        "step": 15,
        "metrics": {"train_loss": 1.25},
    }
    (folder / "training.json").write_text(json.dumps(card))
    return trained_model.load_trained_model(
        folder, Path(base.folder).parent, "tickets", Path(base.folder)
    )


@pytest.fixture(scope="session")
def tuned(
    base: bases.BaseWeights, tmp_path_factory: pytest.TempPathFactory
) -> trained_model.TrainedModel:
    return tune(base, tmp_path_factory.mktemp("runs") / "adapter")


@pytest.fixture(scope="session")
def narrow(
    base: bases.BaseWeights, tmp_path_factory: pytest.TempPathFactory
) -> trained_model.TrainedModel:
    """An adapter over a base without a layer as wide as the vocabulary."""
    folder = tmp_path_factory.mktemp("narrow")
    base_folder = make_base(folder / "base", intermediate_size=320)
    config = json.loads((base_folder / "config.json").read_text())
    del config["architectures"]  # as in a conversion from GGUF
    (base_folder / "config.json").write_text(json.dumps(config))
    return tune(replace(base, folder=str(base_folder), name="narrow"), folder / "adapter")
