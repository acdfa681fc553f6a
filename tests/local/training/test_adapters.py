"""Coverage of adapters, and errors for target names without match."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from maas_client.errors import ConfigError  # noqa: E402 - after the skip
from maas_client.local.bases import BaseWeights  # noqa: E402
from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.training import adapters, load_base  # noqa: E402


def attach(base: BaseWeights, config: TrainingConfig) -> adapters.TrainedLayers:
    return adapters.make_trainable(load_base.load_model(base.folder, config, "cpu"), config)[1]


@pytest.mark.parametrize("method", ["LoRA", "DoRA", "rsLoRA", "QLoRA"])
def test_lora_covers_every_linear_layer_of_a_block(method: str, base: BaseWeights) -> None:
    coverage = attach(base, TrainingConfig(method=method))  # type: ignore[arg-type]
    assert coverage.covered == {"down_proj": 2, "gate_up_proj": 2, "o_proj": 2, "qkv_proj": 2}
    assert coverage.left_out == {}
    dora = 2 * (256 + 128 + 768 + 128) if method == "DoRA" else 0
    assert coverage.trainable == 2 * 8 * (384 + 256 + 896 + 512) + dora
    assert coverage.total == 492_160 + coverage.trainable


def test_full_trains_all_weights(base: BaseWeights) -> None:
    coverage = attach(base, TrainingConfig(method="Full"))
    assert coverage.trainable == coverage.total == 492_160


def test_uncovered_layers_are_reported(base: BaseWeights) -> None:
    coverage = attach(base, TrainingConfig(target_modules=("qkv_proj", "layers.0.mlp.down_proj")))
    assert coverage.covered == {"down_proj": 1, "qkv_proj": 2}
    assert coverage.left_out == {"down_proj": 1, "gate_up_proj": 2, "o_proj": 2}
    assert "left out: down_proj, gate_up_proj, o_proj" in coverage.describe()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q_proj", "k_proj", "v_proj", "o_proj"), "one layer, qkv_proj"),
        (("query_key_value",), "does not have"),
        (("mlp",), "as linear layers"),
        (("lm_head",), "as linear layers"),
        (("o_proj", "up_proj"), "one layer, gate_up_proj"),
    ],
)
def test_target_name_without_match_raises(
    targets: tuple[str, ...], message: str, base: BaseWeights
) -> None:
    with pytest.raises(ConfigError) as caught:
        attach(base, TrainingConfig(target_modules=targets))
    assert message in str(caught.value)
    assert "down_proj, gate_up_proj, o_proj, qkv_proj" in str(caught.value)


def test_targets_with_method_full_raise(base: BaseWeights) -> None:
    with pytest.raises(ConfigError, match="no effect with method Full"):
        attach(base, TrainingConfig(method="Full", target_modules=("o_proj",)))


def test_seed_determines_initial_adapter(base: BaseWeights) -> None:
    def first(seed: int) -> torch.Tensor:
        config = TrainingConfig(seed=seed)
        model, _ = adapters.make_trainable(load_base.load_model(base.folder, config, "cpu"), config)
        return next(w for name, w in model.named_parameters() if "lora_A" in name).detach()

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
