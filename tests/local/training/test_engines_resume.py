"""A run of two processes that rests, or is killed, goes on from its checkpoint to the same last byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.bases import BaseWeights  # noqa: E402 - after the skip
from maas_client.local.resources.job_states import JobSignal  # noqa: E402
from tests.local.training.test_engines import FSDP, KEPT, asked, needs_deepspeed, ran, zero_stage  # noqa: E402
from tests.local.training.test_engines import rows as rows  # noqa: E402 - the fixture
from tests.local.training.test_run import of  # noqa: E402

# Dropout shows whether each process finds its own random numbers again; r=3 divides unevenly.
MORE = {"batch_size": 1, "gradient_accumulation_steps": 2, "processes": 2, "lora_dropout": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="ddp"),
        pytest.param(FSDP, id="fsdp"),
        pytest.param({**KEPT, "method": "Full", "lora_dropout": 0}, id="fsdp-full"),
        pytest.param(zero_stage(2), id="zero2", marks=needs_deepspeed),
        pytest.param(zero_stage(3), id="zero3", marks=needs_deepspeed),
    ],
)
def test_paused_run_resumes_to_identical_bytes(
    base: BaseWeights, rows: dict[str, str], tmp_path: Path, more: dict[str, Any]
) -> None:
    recipe = {**MORE, "lora_r": 3, **more}
    if recipe.get("method") == "Full":
        del recipe["lora_r"]
    for name in ("whole", "rests"):
        (tmp_path / name).mkdir()
    whole = asked(base, rows, tmp_path / "whole", recipe)
    assert of("done", ran(whole, 2))
    rests = asked(base, rows, tmp_path / "rests", recipe)
    events = ran({**rests, "signal": JobSignal.PAUSE}, 2)
    assert [event["step"] for event in of("paused", events)] == [1], events
    events = ran(rests, 2)
    (started,) = of("started", events)
    assert started["resumed_from"] == 1
    assert of("done", events)
    assert weights_of(tmp_path / "rests") == weights_of(tmp_path / "whole")


def weights_of(folder: Path) -> bytes:
    (file,) = (folder / "out" / "adapter").glob("*model.safetensors")
    return file.read_bytes()
