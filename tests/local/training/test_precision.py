"""The dtype of weights, and training in bfloat16 as on GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.errors import ConfigError  # noqa: E402 - after the skip
from maas_client.local.bases import BaseWeights  # noqa: E402
from maas_client.local.machine.memory import estimate_memory  # noqa: E402
from maas_client.local.machine.model_architecture import load_architecture  # noqa: E402
from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.training import load_base  # noqa: E402
from maas_client.local.training.load_base import weight_dtype  # noqa: E402
from tests.local.training.test_run import Data, events_of, run_job, spec  # noqa: E402


@pytest.mark.parametrize(
    ("settings", "device", "dtype"),
    [
        (TrainingConfig(), "cpu", torch.float32),
        (TrainingConfig(precision="16"), "cpu", torch.float32),
        (TrainingConfig(), "cuda", torch.bfloat16),
        (TrainingConfig(precision="32"), "cuda", torch.float32),
        (TrainingConfig(method="Full"), "cuda", torch.float32),
        (TrainingConfig(method="Full", deepspeed_stage=2), "cuda", torch.bfloat16),
    ],
)
def test_weight_dtype(settings: TrainingConfig, device: str, dtype: Any) -> None:
    assert weight_dtype(settings, device) is dtype


def test_full_training_uses_a_dtype_that_keeps_small_steps() -> None:
    for dtype in (torch.bfloat16, weight_dtype(TrainingConfig(method="Full"), "cuda")):
        weight = torch.full((1,), 0.02, dtype=dtype)
        moved = bool(weight - 2e-5 != weight)
        assert moved is (dtype is torch.float32)


def test_estimate_uses_the_weight_dtype(base: BaseWeights) -> None:
    shape = load_architecture(Path(base.folder))
    weights = {
        method: estimate_memory(shape, method, tokens=64, device="gpu").weights
        for method in ("LoRA", "Full")
    }
    assert weights["Full"] == 2 * weights["LoRA"]


def test_each_rank_selects_its_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    for rank in (0, 1):
        load_base.select_gpu(rank, 2)
    assert selected == [0, 1]
    with pytest.raises(ConfigError, match="this machine has 2 GPUs") as caught:
        load_base.select_gpu(0, 3)
    assert "processes=2" in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["LoRA", "DoRA", "QLoRA"])
def test_bfloat16_losses_match_float32(
    method: str, base: BaseWeights, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "QLoRA":
        pytest.importorskip("bitsandbytes")
    dtypes = [torch.float32, torch.bfloat16]
    settings = {"method": method, "epochs": 2, "batch_size": 4, "learning_rate": 1e-3}
    losses = []
    for dtype in dtypes:
        monkeypatch.setattr(load_base, "weight_dtype", lambda config, device, dtype=dtype: dtype)
        events = run_job(spec(base, data, tmp_path / str(dtype), settings))
        assert events_of("done", events), events[-1]
        losses.append([event["train_loss"] for event in events_of("step", events)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_base_that_is_gone_is_named_with_its_folder(tmp_path: Path) -> None:
    folder = str(tmp_path / "gone")
    for load in (
        lambda: load_base.load_tokenizer(folder),
        lambda: load_base.choose_products_of_job({"base": {"folder": folder}, "device": "cpu"}),
    ):
        with pytest.raises(ConfigError) as caught:
            load()
        assert str(caught.value).startswith(f"No base weights are in {folder}. Restore")
