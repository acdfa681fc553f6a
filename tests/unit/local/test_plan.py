"""Parameter counts, memory estimates, and the choice of a method."""

from __future__ import annotations

import pytest

from maas_client import catalog
from maas_client.errors import ConfigError
from maas_client.local.machine import hardware, memory, model_architecture
from maas_client.local.planning import plan
from maas_client.local.planning.measure import Measurement, RowStats, split_step_time

DATA = RowStats(1000, 300.0, 0.4)


@pytest.mark.parametrize(
    ("model", "parameters"),
    # num_parameters of the published checkpoints in transformers
    [
        ("Phi-3-mini-4k-instruct", 3_821_079_552),
        ("Phi-3-medium-4k-instruct", 13_960_238_080),
        ("Phi-4", 14_659_507_200),
        ("Phi-4-mini-instruct", 3_836_021_760),
        ("smollm2-135m", 134_515_008),
        ("tiny", 491_520),
    ],
)
def test_parameter_counts_match_transformers(model: str, parameters: int) -> None:
    facts = catalog.load_models()[model]
    assert facts.architecture is not None
    counted = model_architecture.count_parameters(facts.architecture).total
    assert abs(counted - parameters) <= 1000, counted


def test_adapter_parameters_match_peft() -> None:
    tiny = catalog.load_models()["tiny"].architecture
    assert tiny is not None
    assert (
        model_architecture.count_parameters(tiny).adapter_per_rank * 8 == 32_768
    )  # "trainable=32768" in every tiny job's log


def estimate(model: str, method: str, **rest: object) -> memory.MemoryEstimate:
    facts = catalog.get_model(model)
    assert facts.architecture is not None
    return memory.estimate_memory(facts.architecture, method, tokens=800, **rest)  # type: ignore[arg-type]


def test_memory_differs_by_method() -> None:
    lora, dora, qlora, full = (estimate("Phi-3-mini", m) for m in ("LoRA", "DoRA", "QLoRA", "Full"))
    assert qlora.weights < lora.weights / 5
    assert lora.weights == dora.weights == full.weights
    assert lora.optimizer < dora.optimizer < full.optimizer
    assert full.optimizer == 2 * full.gradients
    assert estimate("Phi-3-mini", "LoRA", device="gpu").weights * 2 == lora.weights
    on_gpu = estimate("Phi-3-mini", "LoRA", device="gpu")  # in bfloat16, so no block is fused
    assert on_gpu.activations > 0.6 * lora.activations
    checkpointed = estimate("Phi-3-mini", "LoRA", checkpoint_activations=True)
    # of 32 blocks, their inputs and the activations of one: a fused block keeps few that are not its input
    assert checkpointed.activations < lora.activations / 8


def test_plan_names_the_largest_part_and_a_fitting_method() -> None:
    facts = catalog.get_model("Phi-4")
    assert facts.architecture is not None
    result = plan.plan(
        "Phi-4", facts.architecture, DATA, hardware.azure_hardware("Standard_NC4as_T4_v3")
    )
    by_name = {row.method: row for row in result.estimates}
    assert result.choice == "QLoRA"
    assert not by_name["LoRA"].fits
    assert "weights" in by_name["LoRA"].why
    assert "optimizer" in by_name["Full"].why
    assert by_name["LoRA"].epoch_s is None
    assert not by_name["LoRA"].measured


def test_plan_without_fitting_method_gives_alternatives() -> None:
    facts = catalog.get_model("Phi-4")
    assert facts.architecture is not None
    small = hardware.Hardware("a phone", "cpu", 2 * 2**30, 4, is_this_machine=False)
    result = plan.plan("Phi-4", facts.architecture, DATA, small)
    assert result.choice is None
    assert "ZeRO-3" in result.advice
    lora_only = plan.plan("Phi-4", facts.architecture, DATA, small, methods=("LoRA",))
    assert "QLoRA" in lora_only.advice


def test_rslora_is_planned_on_request_only() -> None:
    facts = catalog.get_model("Phi-4")
    assert facts.architecture is not None
    small = hardware.Hardware("a phone", "cpu", 2 * 2**30, 4, is_this_machine=False)
    result = plan.plan("Phi-4", facts.architecture, DATA, small)
    assert "rsLoRA" not in [row.method for row in result.estimates]
    (row,) = plan.plan("Phi-4", facts.architecture, DATA, small, methods=("rsLoRA",)).estimates
    assert row.memory == result.estimates[0].memory


def test_mixture_of_experts_raises() -> None:
    facts = catalog.get_model("Phi-3.5-MoE-instruct")
    assert facts.architecture is not None
    with pytest.raises(ConfigError, match="experts"):
        model_architecture.count_parameters(facts.architecture)


def test_detect_hardware() -> None:
    here = hardware.detect_hardware()
    assert here.is_this_machine
    assert here.memory_bytes > 2**30
    assert here.count >= 1
    with pytest.raises(ConfigError, match="Standard_"):
        hardware.azure_hardware("Standard_Imaginary")
    with pytest.raises(ConfigError) as error:
        hardware.azure_hardware("a10")
    assert error.value.hint == "Did you mean Standard_NV36ads_A10_v5 or Standard_NV72ads_A10_v5?"


def test_time_on_a_gpu_is_estimated_from_its_published_rate() -> None:
    facts = catalog.get_model("Phi-4-mini-instruct")
    shape = facts.architecture
    assert shape is not None

    def epoch_s(machine: str, method: str = "LoRA") -> float:
        found = plan.plan("m", shape, DATA, hardware.azure_hardware(machine)).find(method)
        assert found.epoch_s is not None
        assert not found.measured
        return found.epoch_s

    linear = model_architecture.count_parameters(shape).linear
    operations = plan.operations_per_token(shape, "LoRA", DATA)
    assert 4 * linear < operations < 6 * linear
    t4 = epoch_s("Standard_NC4as_T4_v3")
    assert t4 == pytest.approx(DATA.tokens * operations / (65e12 * plan.ASSUMED_UTILIZATION))
    assert epoch_s("NC64as_T4_v3") == pytest.approx(t4 / 4 / plan.ASSUMED_SCALING)
    assert epoch_s("nc24ads_a100_v4") == pytest.approx(t4 * 65 / 312)
    full = epoch_s("Standard_NC24ads_A100_v4", "Full")
    assert 1.3 < full / epoch_s("Standard_NC24ads_A100_v4") < 1.7


def test_recommendation_names_the_smallest_and_the_fastest_machine() -> None:
    facts = catalog.get_model("Phi-4")
    assert facts.architecture is not None
    plans = [
        plan.plan("Phi-4", facts.architecture, DATA, hardware.azure_hardware(name))
        for name in catalog.load_machines()
    ]
    text = plan.recommend(plans, epochs=2)
    assert text.startswith("Smallest machine: LoRA on Standard_NC24ads_A100_v4")
    assert "Fastest: LoRA on Standard_ND96isr_H" in text
    small = [p for p in plans if "T4" in p.hardware.name]
    assert plan.recommend(small).startswith("Smallest machine: QLoRA")


@pytest.mark.parametrize(
    ("small_s", "large_s", "seconds_per_block"),
    [
        (0.30, 0.50, 0.20),  # undisturbed: 0.1 s are not the block's
        (0.50, 0.50, 0.107),  # the smaller probe was disturbed: the difference is zero
        (0.90, 0.50, 0.107),  # ... or negative
        (0.30, 3.00, 1.50),  # the larger was: a block takes at most its part of the whole
    ],
)
def test_block_time_is_bounded_by_its_share_of_the_operations(
    small_s: float, large_s: float, seconds_per_block: float
) -> None:
    shape = catalog.get_model("Phi-3-mini").architecture
    assert shape is not None
    block_s, other_s = split_step_time(shape, DATA, (1, small_s), (2, large_s))
    assert block_s == pytest.approx(seconds_per_block, rel=0.01)
    assert other_s >= 0
    assert 2 * block_s + other_s == pytest.approx(large_s)


def test_measured_memory_that_does_not_fit_has_a_reason_and_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape = catalog.get_model("Phi-3-mini").architecture
    assert shape is not None
    machine = hardware.Hardware("this machine (CPU)", "cpu", 24 * 2**30, 2, is_this_machine=True)
    measurement = Measurement(step_s=1.0, peak_bytes=41 * 2**30)
    monkeypatch.setattr(plan, "measure", lambda *args, **options: measurement)
    measured: list[str] = []
    found = plan.plan("Phi-3-mini", shape, RowStats(40, 33, 0.4), machine, progress=measured.append)
    assert measured == ["LoRA", "DoRA", "QLoRA"]
    for estimate in found.estimates[:3]:
        assert estimate.measured
        assert not estimate.fits
        assert estimate.epoch_s is None
        assert "extrapolated from measured blocks" in estimate.why
        assert f"{plan.format_bytes(estimate.memory.total)} by formula" in estimate.why
