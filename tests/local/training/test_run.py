"""A whole job: events, files, failures, and resuming to identical bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from maas_client.local.bases import BaseWeights  # noqa: E402
from maas_client.local.machine.hardware import Hardware  # noqa: E402
from maas_client.local.resources.job_states import JobSignal  # noqa: E402
from maas_client.local.state import atomic_folder  # noqa: E402 - after the skips
from maas_client.local.training import checkpoints  # noqa: E402
from maas_client.local.training import run as running  # noqa: E402
from maas_client.local.training import setup as preparing  # noqa: E402
from maas_client.local.training.run import run  # noqa: E402
from tests.local.training.rows import make_rows  # noqa: E402

Data = Callable[..., str]
QUICK = {"batch_size": 4, "learning_rate": 1e-3}


class KilledError(Exception):
    """Simulates a kill between two events."""


def spec(
    base: BaseWeights, data: Data, out: Path, hyperparameters: dict[str, Any], **options: Any
) -> dict[str, Any]:
    return {
        "job": "job-1",
        "model": "Phi-3-mini-4k-instruct",
        "base": base.as_dict(),
        "train": data(make_rows(12)),
        "validation": None,
        "hyperparameters": QUICK | hyperparameters,
        "out": str(out),
        "threads": 1,
        "device": "cpu",
    } | options


def run_job(
    job_spec: dict[str, Any], until: Callable[[dict[str, Any]], bool] | None = None
) -> list[Any]:
    events: list[dict[str, Any]] = []

    def emit(event: dict[str, Any]) -> None:
        json.dumps(event)
        events.append(event)
        if until and until(event):
            raise KilledError

    if until:
        with pytest.raises(KilledError):
            run(job_spec, emit)
    else:
        run(job_spec, emit)
    return events


def events_of(kind: str, events: list[Any]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_job_emits_all_events(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    validation = data(make_rows(6, seed=9), "valid.jsonl")
    job_spec = spec(base, data, tmp_path / "out", {"epochs": 2}, validation=validation)
    events = run_job(job_spec)
    (started,) = events_of("started", events)
    assert (started["steps"], started["examples"], started["method"]) == (6, 12, "LoRA")
    assert started["base"]["name"] == "tiny"
    assert started["template"]["name"] == "phi3"
    assert started["coverage"]["covered"]["qkv_proj"] == 2
    steps = events_of("step", events)
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[0]["learning_rate"] == pytest.approx(1e-3)
    assert steps[-1]["train_loss"] < steps[0]["train_loss"] - 0.3
    evals = events_of("eval", events)
    assert [event["step"] for event in evals] == [0, 3, 6]
    assert evals[-1]["valid_loss"] < evals[0]["valid_loss"] - 0.3
    assert 0 < evals[-1]["valid_token_accuracy"] < 1
    (done,) = events_of("done", events)
    assert events[-1] is done
    assert done["metrics"]["base_valid_loss"] == evals[0]["valid_loss"]
    assert done["metrics"]["merge_difference"] < 1e-4
    messages = [event["message"] for event in events_of("message", events)]
    assert any("is used as a stand-in" in text for text in messages)
    assert len([text for text in messages if text.startswith("The base model answers")]) == 2
    assert len([text for text in messages if text.startswith("The tuned model answers")]) == 2


def test_adapter_loads_in_peft(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    import peft

    validation = data(make_rows(6, seed=9), "valid.jsonl")
    events = run_job(spec(base, data, tmp_path / "out", {}, validation=validation))
    (done,) = events_of("done", events)
    folder = Path(done["adapter"])
    assert atomic_folder.is_complete(folder)
    assert (folder / "LICENSE").exists()
    plain = transformers.AutoModelForCausalLM.from_pretrained(base.folder)
    model = peft.PeftModel.from_pretrained(plain, folder)
    weights = [w for name, w in model.named_parameters() if "lora_B" in name]
    assert len(weights) == 8
    assert all(float(w.abs().max()) > 0 for w in weights)
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == [
        "down_proj",
        "gate_up_proj",
        "o_proj",
        "qkv_proj",
    ]


def test_full_saves_a_whole_model(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    (done,) = events_of("done", run_job(spec(base, data, tmp_path / "out", {"method": "Full"})))
    model = transformers.AutoModelForCausalLM.from_pretrained(done["adapter"])
    assert model.config.model_type == "phi3"
    ends = model.generation_config.eos_token_id
    assert transformers.AutoTokenizer.from_pretrained(done["adapter"]).encode("<|end|>")[0] in ends
    assert (Path(done["adapter"]) / "tokenizer.json").exists()


def test_merged_model_is_saved_on_request(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    run_job(spec(base, data, tmp_path / "out", {"merge_lora_weights": "true"}))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "merged")
    assert "lora" not in " ".join(name for name, _ in model.named_parameters())


def bytes_of(out: Path) -> bytes:
    return (out / "adapter" / "adapter_model.safetensors").read_bytes()


STEADY = {"epochs": 2, "save_steps": 1, "lora_dropout": 0.1, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize(
    ("settings", "threads"),
    [({}, 1), ({"method": "DoRA"}, 1), ({"lora_dropout": 0.0}, 2)],
)
def test_run_killed_at_each_step_resumes_to_identical_bytes(
    settings: dict[str, Any], threads: int, base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    hyperparameters = STEADY | settings
    run_job(spec(base, data, tmp_path / "whole", hyperparameters, threads=threads))
    out = tmp_path / "killed"
    for step in range(1, 4):
        events = run_job(
            spec(base, data, out, hyperparameters, threads=threads),
            lambda e, step_number=step: e.get("step") == step_number,
        )
        assert events_of("started", events)[0]["resumed_from"] == (step - 2 if step > 2 else None)
    events = run_job(spec(base, data, out, hyperparameters, threads=threads))
    assert events_of("started", events)[0]["resumed_from"] == 2
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_kill_during_a_checkpoint_loses_only_that_checkpoint(
    base: BaseWeights, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(spec(base, data, tmp_path / "whole", STEADY))
    out, seal = tmp_path / "killed", atomic_folder.write_manifest
    seen = []

    def cut(folder: Path) -> None:
        seen.append(folder)
        if len(seen) == 2:
            raise KilledError
        seal(folder)

    monkeypatch.setattr(atomic_folder, "write_manifest", cut)
    with pytest.raises(KilledError):
        run(spec(base, data, out, STEADY), lambda _: None)
    monkeypatch.undo()
    events = run_job(spec(base, data, out, STEADY))
    assert events_of("started", events)[0]["resumed_from"] == 1
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_damaged_checkpoint_is_skipped(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    run_job(spec(base, data, tmp_path / "whole", STEADY))
    out = tmp_path / "killed"
    run_job(spec(base, data, out, STEADY), lambda event: event.get("step") == 3)
    folders = [out / "checkpoints" / f"step-0000000{step}" for step in (1, 2)]
    newest = folders[1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8] + b"12345678")
    only = tmp_path / "only"
    shutil.copytree(out, only)
    shutil.rmtree(only / "checkpoints" / folders[0].name)
    events = run_job(spec(base, data, out, STEADY))
    assert events_of("started", events)[0]["resumed_from"] == 1
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    messages = [event["message"] for event in events_of("message", events)]
    assert "The checkpoint after step 2 is damaged." in messages
    events = run_job(spec(base, data, only, STEADY))
    assert events_of("started", events)[0]["resumed_from"] is None
    messages = [event["message"] for event in events_of("message", events)]
    assert "The checkpoint after step 2 is damaged. Training starts again." in messages


def test_changed_hyperparameters_ignore_old_checkpoints(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_job(spec(base, data, out, STEADY), lambda event: event.get("step") == 3)
    events = run_job(spec(base, data, out, STEADY | {"seed": 7}))
    assert events_of("started", events)[0]["resumed_from"] is None


@pytest.mark.slow
def test_resuming_with_another_number_of_threads_says_so(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_job(spec(base, data, out, STEADY, threads=1), lambda event: event.get("step") == 3)
    for threads, says_so in ((2, True), (1, False)):
        shutil.copytree(out, tmp_path / f"out-{threads}")
        job = spec(base, data, tmp_path / f"out-{threads}", STEADY, threads=threads)
        text = run_job(job, says_where_it_resumes)[-1]["message"]
        assert ("The number of threads has changed" in text) is says_so


def says_where_it_resumes(event: dict[str, Any]) -> bool:
    return str(event.get("message")).startswith("Resumed after step")


def test_old_checkpoints_are_deleted(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    hyperparameters = {"epochs": 3, "save_steps": 1, "save_total_limit": 2}
    run_job(spec(base, data, tmp_path / "out", hyperparameters))
    remaining = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert remaining == ["step-00000007", "step-00000008"]


def kill_this_process() -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
def test_killed_process_resumes_to_identical_bytes(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    run_job(spec(base, data, tmp_path / "whole", STEADY))
    job_spec = spec(base, data, tmp_path / "killed", STEADY)
    child = os.fork()
    if child == 0:
        try:
            run_job(job_spec, lambda event: event.get("step") == 3 and kill_this_process())
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    events = run_job(job_spec)
    assert events_of("started", events)[0]["resumed_from"] == 2
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def test_tokens_per_second_counts_every_step(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    hyperparameters = {"logging_steps": 2, "epochs": 2}
    events = events_of("step", run_job(spec(base, data, tmp_path / "out", hyperparameters)))
    every = events_of("step", run_job(spec(base, data, tmp_path / "every", {"epochs": 2})))
    assert [event["step"] for event in events] == [2, 4, 6]
    assert events[-1]["train_loss"] == every[-1]["train_loss"]
    assert events[-1]["tokens_per_s"] > every[-1]["tokens_per_s"] / 5


@pytest.mark.parametrize("method", ["LoRA", "Full"])
def test_paused_run_resumes_to_identical_bytes(
    method: str, base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    dropout = {"lora_dropout": 0.1} if method == "LoRA" else {}
    hyperparameters = {"epochs": 2, "method": method, **dropout}
    validation = data(make_rows(4, seed=9), "valid.jsonl")
    run_job(spec(base, data, tmp_path / "whole", hyperparameters, validation=validation))
    out, done_at = tmp_path / "rests", []
    for _ in range(6):
        events: list[dict[str, Any]] = []
        run(
            spec(base, data, out, hyperparameters, validation=validation),
            events.append,
            lambda: JobSignal.PAUSE,
        )
        if events[-1]["event"] == "done":
            break
        assert events[-1] == {"event": "paused", "step": len(done_at) + 1}
        assert events_of("started", events)[0]["resumed_from"] == (done_at[-1] if done_at else None)
        done_at.append(events[-1]["step"])
        checkpoint_steps = [event["step"] for event in events_of("checkpoint", events)]
        assert checkpoint_steps == ([] if method == "Full" else [done_at[-1]]), (
            "an adapter that can be deployed"
        )
    assert done_at == [1, 2, 3, 4, 5]
    files = [out / "adapter" for out in (out, tmp_path / "whole")]
    name = "model.safetensors" if method == "Full" else "adapter_model.safetensors"
    assert len({(folder / name).read_bytes() for folder in files}) == 1


def test_requested_checkpoint_does_not_change_the_result(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    hyperparameters = {"epochs": 2, "lora_dropout": 0.1, "save_steps": 1000}
    run_job(spec(base, data, tmp_path / "whole", hyperparameters))
    out, events = tmp_path / "asked", []
    asked_at = iter([JobSignal.NONE, JobSignal.CHECKPOINT])
    run(
        spec(base, data, out, hyperparameters),
        events.append,
        lambda: next(asked_at, JobSignal.NONE),
    )
    assert events_of("checkpoint", events)[0]["step"] == 2
    saved_adapter = out / "adapters" / "step-00000002" / "adapter_model.safetensors"
    assert saved_adapter.exists(), "an adapter that can be deployed"
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    shutil.rmtree(out / "adapter")
    assert (
        events_of("started", run_job(spec(base, data, out, hyperparameters)))[0]["resumed_from"]
        == 2
    )
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_settings_without_effect_give_warnings(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    hyperparameters = {"apply_early_stopping": True, "deepspeed_stage": 3}
    events = run_job(spec(base, data, tmp_path / "out", hyperparameters))
    messages = [
        event["message"] for event in events_of("message", events) if event["level"] == "warning"
    ]
    assert any("it needs validation data" in text for text in messages)
    assert any("no effect without apply_deepspeed=true" in text for text in messages)


def test_cancelled_job_stops_after_the_step(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    job_spec = spec(base, data, tmp_path / "out", {"epochs": 5})
    run(
        job_spec,
        events.append,
        lambda: JobSignal.CANCEL if events_of("step", events) else JobSignal.NONE,
    )
    assert len(events_of("step", events)) == 1
    assert not events_of("done", events)
    assert not (tmp_path / "out" / "adapter").exists()


def test_diverged_run_names_the_step(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    hyperparameters = {"epochs": 9, "learning_rate": 0.9, "max_grad_norm": 0, "lora_alpha": 1e6}
    events = run_job(spec(base, data, tmp_path / "out", hyperparameters))
    assert events[-1]["event"] == "failed"
    assert "is not a finite number at step" in events[-1]["message"]
    assert "Lower learning_rate" in events[-1]["message"]
    assert not (tmp_path / "out" / "adapter").exists()


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"epochs": 0}, "epochs cannot be 0"),
        ({"target_modules": "q_proj"}, "one layer, qkv_proj"),
        ({"number_of_gpu_to_use_finetuning": 2}, "asks for 2 processes"),
    ],
)
def test_invalid_job_fails_before_the_start(
    hyperparameters: dict[str, Any], message: str, base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    (failed,) = run_job(spec(base, data, tmp_path / "out", hyperparameters))
    assert failed["event"] == "failed"
    assert message in failed["message"]


def test_data_without_answers_fails(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": "a" * 400},
                {"role": "assistant", "content": "b"},
            ]
        }
    ]
    job_spec = spec(
        base, data, tmp_path / "out", {"max_seq_length": 64}, train=data(rows, "t.jsonl")
    )
    (failed,) = run_job(job_spec)
    assert failed["event"] == "failed"
    assert failed["message"].startswith("No assistant tokens found after preprocessing")


def test_full_disk_is_reported(
    base: BaseWeights, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    events = run_job(spec(base, data, tmp_path / "out", STEADY))
    assert events[-1] == {
        "event": "failed",
        "code": "ServiceError",
        "message": "The disk is full: free some space, then resume the job.",
    }
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("setting", [None, False])
def test_gradient_checkpointing_is_on_if_memory_is_tight(
    setting: bool | None,
    base: BaseWeights,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Hardware("small", "cpu", 400 * 2**20, 1, is_this_machine=True)
    monkeypatch.setattr(preparing, "detect_hardware", lambda: small)
    hyperparameters = {} if setting is None else {"gradient_checkpointing": setting}
    events = run_job(spec(base, data, tmp_path / "out", hyperparameters))
    messages = [event["message"] for event in events_of("message", events)]
    assert any("activations are computed twice" in text for text in messages) == (setting is None)
    assert events_of("done", events)


def test_other_runtime_errors_are_not_reported_as_out_of_memory(
    base: BaseWeights, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("unsupported memory format option")

    monkeypatch.setattr(running, "train", broken)
    with pytest.raises(RuntimeError, match="memory format"):
        run(spec(base, data, tmp_path / "out", {}), lambda _: None)


def test_out_of_memory_is_reported(
    base: BaseWeights, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr(running, "train", short)
    events = run_job(spec(base, data, tmp_path / "out", {}))
    assert "Memory ran out. Use a smaller batch_size" in events[-1]["message"]
