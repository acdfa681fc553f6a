"""A run of two processes that is paused or killed resumes to identical bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.bases import BaseWeights  # noqa: E402 - after the skip
from maas_client.local.resources.job_states import JobSignal  # noqa: E402
from tests.local.training.test_engines import (  # noqa: E402
    FSDP,
    KEPT,
    Run,
    make_job,
    needs_deepspeed,
    zero_stage,
)
from tests.local.training.test_engines import rows as rows  # noqa: E402 - the fixture
from tests.local.training.test_engines import (  # noqa: E402 - the fixture
    run_processes as run_processes,
)
from tests.local.training.test_run import events_of  # noqa: E402

# Dropout tests that each process restores its random state; r=3 cannot be sharded evenly.
OPTIONS = {"batch_size": 1, "gradient_accumulation_steps": 2, "processes": 2, "lora_dropout": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="ddp"),
        pytest.param(FSDP, id="fsdp"),
        pytest.param({**KEPT, "method": "Full", "lora_dropout": 0}, id="fsdp-full"),
        pytest.param(zero_stage(2), id="zero2", marks=needs_deepspeed),
        pytest.param(zero_stage(3), id="zero3", marks=needs_deepspeed),
    ],
)
def test_paused_run_resumes_to_identical_bytes(
    base: BaseWeights,
    rows: dict[str, str],
    run_processes: Run,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    hyperparameters = {**OPTIONS, "lora_r": 3, **options}
    if hyperparameters.get("method") == "Full":
        del hyperparameters["lora_r"]
    for name in ("whole", "paused"):
        (tmp_path / name).mkdir()
    uninterrupted = make_job(base, rows, tmp_path / "whole", hyperparameters)
    assert events_of("done", run_processes(uninterrupted, 2))
    paused = make_job(base, rows, tmp_path / "paused", hyperparameters)
    events = run_processes({**paused, "signal": JobSignal.PAUSE}, 2)
    assert [event["step"] for event in events_of("paused", events)] == [1], events
    events = run_processes(paused, 2)
    (started,) = events_of("started", events)
    assert started["resumed_from"] == 1
    assert events_of("done", events)
    assert weights_of(tmp_path / "paused") == weights_of(tmp_path / "whole")


def weights_of(folder: Path) -> bytes:
    (file,) = (folder / "out" / "adapter").glob("*model.safetensors")
    return file.read_bytes()
