"""Early stopping restores the weights of the best validation loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402, TID253

from maas_client.local.bases import BaseWeights  # noqa: E402
from tests.local.training.rows import make_rows  # noqa: E402
from tests.local.training.test_run import Data, bytes_of, events_of, run_job, spec  # noqa: E402


def test_early_stopping_keeps_the_best(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    validation = data(make_rows(6, seed=9), "valid.jsonl")
    hyperparameters = {
        "epochs": 20,
        "apply_early_stopping": "true",
        "early_stopping_patience": 2,
        "early_stopping_threshold": 0.3,
    }
    events = run_job(spec(base, data, tmp_path / "out", hyperparameters, validation=validation))
    evals = events_of("eval", events)[1:]
    (done,) = events_of("done", events)
    assert done["steps"] < 60
    best_loss = done["metrics"]["best_valid_loss"]
    (best,) = [event for event in evals if event["valid_loss"] == best_loss]
    assert [event["step"] for event in evals][-1] == best["step"] + 6
    best_folder = tmp_path / "out" / "adapters" / f"step-{best['step']:08d}"
    assert bytes_of(tmp_path / "out") == (best_folder / "adapter_model.safetensors").read_bytes()


def test_early_stopping_with_method_full_keeps_the_best(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    hyperparameters = {
        "method": "Full",
        "epochs": 20,
        "apply_early_stopping": "true",
        "early_stopping_threshold": 0.3,
        "save_steps": 1,
    }

    def make_spec(out: Path) -> dict[str, Any]:
        return spec(
            base, data, out, hyperparameters, validation=data(make_rows(6, seed=9), "valid.jsonl")
        )

    events = run_job(make_spec(tmp_path / "whole"))
    assert events_of("done", events), events[-1]
    evals = events_of("eval", events)[1:]
    assert evals[-1]["step"] < 60, "it has to end early for this test to say anything"
    best = next(
        e
        for e in evals
        if e["valid_loss"] == events_of("done", events)[0]["metrics"]["best_valid_loss"]
    )
    model_folder = tmp_path / "whole" / "adapter"
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    for name, weight in load_file(
        tmp_path / "whole" / "best" / f"step-{best['step']:08d}" / "adapter_model.safetensors"
    ).items():
        assert torch.equal(model.get_parameter(name.removeprefix("model.")), weight), name

    out = tmp_path / "killed"
    run_job(make_spec(out), until=lambda e: e["event"] == "eval" and e["step"] > best["step"])
    assert events_of("done", run_job(make_spec(out)))
    weights = "adapter/model.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
