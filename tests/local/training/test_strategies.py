"""Two processes, with full or sharded weights, give the results of a single process, also when resumed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.bases import BaseWeights  # noqa: E402 - after the skip
from maas_client.local.machine.child_processes import worker_environment  # noqa: E402
from maas_client.local.resources.job_states import JobSignal  # noqa: E402
from tests.local.training.rows import make_preferences, make_rows  # noqa: E402
from tests.local.training.test_run import events_of, spec  # noqa: E402

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"
)
# Loads the libraries once and forks a process for each rank of each run: loading takes longer than the runs.
RANK_SERVER = """
import json, os, sys, traceback
os.environ["DS_ACCELERATOR"] = "cpu"  # read when deepspeed is imported
import accelerate, peft, transformers.models.phi3.modeling_phi3
try:
    import deepspeed
except ImportError:
    pass
from maas_client.local.resources.job_states import JobSignal
from maas_client.local.training import data, processes, run
from maas_client.local.training.strategies import zero

data._SAMPLE_TOKENS = 2  # most of a run's time would be sample answers
zero._PERSISTENCE_THRESHOLD = 0  # the tiny base has no weight above DeepSpeed's default
# Fills the caches of transformers before the processes fork.
transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])

def run_rank(job, rank):
    log = os.open(rank["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    processes.set_rank_environment(rank["environment"])
    signal = JobSignal(job.get("signal", 0) if processes.process_rank() == 0 else 0)
    run.run(job, lambda event: print("EVENT" + json.dumps(event), flush=True), lambda: signal)
    sys.stdout.flush()

for line in sys.stdin:
    job = json.loads(line)
    children = []
    for rank in job.pop("ranks"):
        child = os.fork()
        if not child:
            try:
                run_rank(job, rank)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)  # as the worker does
        children.append(child)
    print(json.dumps([os.waitpid(child, 0)[1] for child in children]), flush=True)
"""
# Eleven rows in steps of four give three steps, the last uneven; max_grad_norm is low enough to clip.
RECIPE = {
    "batch_size": 4,
    "learning_rate": 1e-3,
    "max_grad_norm": 0.5,
    "lora_alpha": 16,
    "save_steps": 1,
}
FSDP, KEPT = {"fsdp": "full_shard"}, {"fsdp": "shard_grad_op"}


Run = Callable[[dict[str, Any], int], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def run_processes(base: BaseWeights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a job in a number of processes and return the first one's events. No run compiles anything."""
    builds = tmp_path_factory.mktemp("builds")
    server = subprocess.Popen(
        [sys.executable, "-c", RANK_SERVER, base.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**worker_environment(1), "TORCH_EXTENSIONS_DIR": str(builds)},
        start_new_session=True,
    )

    def run(job: dict[str, Any], processes: int) -> list[dict[str, Any]]:
        assert server.stdin is not None
        assert server.stdout is not None
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        common = {
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        logs = [Path(job["out"]).with_suffix(f".{n}.log") for n in range(processes)]
        ranks = [
            {"log": str(log), "environment": {**common, "RANK": str(n), "LOCAL_RANK": str(n)}}
            for n, log in enumerate(logs)
        ]
        server.stdin.write(json.dumps({**job, "ranks": ranks}) + "\n")
        server.stdin.flush()
        codes = server.stdout.readline()
        log = logs[0].read_text()
        assert codes, log[-3000:]
        assert json.loads(codes) == [0] * processes, log[-3000:]
        lines = [line for line in log.splitlines() if line.startswith("EVENT")]
        return [json.loads(line.removeprefix("EVENT")) for line in lines]

    yield run
    os.killpg(server.pid, signal.SIGKILL)
    server.communicate()
    assert not list(builds.iterdir())


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("rows")
    paths = {"train": folder / "train.jsonl", "validation": folder / "held.jsonl"}
    for path, chats in zip(paths.values(), (make_rows(11), make_rows(2, seed=9)), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in chats))
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture(scope="module")
def single_process(
    base: BaseWeights,
    rows: dict[str, str],
    run_processes: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], list[Any]]:
    """Events of a single process with four rows per step, by method."""

    @cache
    def events(method: str) -> list[Any]:
        return run_processes(
            make_job(base, rows, tmp_path_factory.mktemp("one"), {"method": method}), 1
        )

    return events


def make_job(
    base: BaseWeights, rows: dict[str, str], folder: Path, options: dict[str, Any]
) -> dict[str, Any]:
    settings = RECIPE | options
    if settings.get("method") == "Full" or settings.get("adapter") == "none":
        settings = {name: value for name, value in settings.items() if "lora" not in name}
    return spec(base, lambda _: rows["train"], folder / "out", settings, **rows)


def zero_stage(stage: int, **options: Any) -> dict[str, Any]:
    return {"apply_deepspeed": True, "deepspeed_stage": stage, **options}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "options"),
    [
        pytest.param(2, {}, id="ddp"),
        pytest.param(2, FSDP, id="fsdp"),
        pytest.param(2, {**FSDP, "gradient_checkpointing": True}, id="fsdp-forgetting"),
        pytest.param(2, KEPT, id="fsdp-kept"),
        pytest.param(2, {**FSDP, "method": "DoRA"}, id="fsdp-dora"),
        pytest.param(2, {**FSDP, "method": "Full"}, id="fsdp-full"),
        pytest.param(1, zero_stage(2), id="zero2-alone", marks=needs_deepspeed),
        pytest.param(2, zero_stage(1), id="zero1", marks=needs_deepspeed),
        pytest.param(2, zero_stage(2), id="zero2", marks=needs_deepspeed),
        pytest.param(2, zero_stage(3), id="zero3", marks=needs_deepspeed),
        pytest.param(2, zero_stage(3, method="DoRA"), id="zero3-dora", marks=needs_deepspeed),
        pytest.param(
            2,
            zero_stage(3, gradient_checkpointing=True),
            id="zero3-forgetting",
            marks=needs_deepspeed,
        ),
    ],
)
def test_strategies_match_a_single_process(
    base: BaseWeights,
    single_process: Callable[[str], list[Any]],
    rows: dict[str, str],
    run_processes: Run,
    tmp_path: Path,
    processes: int,
    options: dict[str, Any],
) -> None:
    # The same four rows per step, one at a time: accumulated gradients are synchronised once.
    share = {"batch_size": 1, "gradient_accumulation_steps": 4 // processes}
    shared = make_job(base, rows, tmp_path, share | options | {"processes": processes})
    events = run_processes(shared, processes)
    method = options.get("method", "LoRA")
    single, sharded = events_of("step", single_process(method)), events_of("step", events)
    assert len(sharded) == 3, events
    for name in ("train_loss", "grad_norm", "learning_rate"):
        expected = [step[name] for step in single]
        assert [step[name] for step in sharded] == pytest.approx(expected, rel=1e-4), name
    expected, actual = (
        [event["valid_loss"] for event in events_of("eval", single)]
        for single in (single_process(method), events)
    )
    assert actual == pytest.approx(expected, rel=1e-4)
    expected, actual = gradients(single_process(method)), gradients(events)
    assert actual.keys() == expected.keys()
    assert len(actual) == {"LoRA": 16, "DoRA": 24, "Full": 15}[method]
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-7, msg=name)
    expected, actual = weights(single_process(method)), weights(events)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        # A tenth of an Adam step: Adam amplifies the last bits of tiny gradients.
        torch.testing.assert_close(actual[name], value, rtol=0.0, atol=1e-4, msg=name)
        assert (actual[name] - value).norm() < 1e-3 * value.norm(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({**FSDP, "adapter": "none"}, id="fsdp-full"),
        pytest.param(zero_stage(3), id="zero3", marks=needs_deepspeed),
    ],
)
def test_preferences_match_a_single_process(
    base: BaseWeights, run_processes: Run, tmp_path: Path, options: dict[str, Any]
) -> None:
    paths = {"train": tmp_path / "train.jsonl", "validation": tmp_path / "held.jsonl"}
    for path, rows in zip(
        paths.values(), (make_preferences(8), make_preferences(2, seed=9)), strict=True
    ):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {name: str(path) for name, path in paths.items()}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    method = {"method": "DPO", "adapter": options.get("adapter", "LoRA")}
    single = run_processes(make_job(base, files, tmp_path / "one", method), 1)
    shared = {"batch_size": 1, "gradient_accumulation_steps": 2, "processes": 2}
    job = make_job(base, files, tmp_path / "two", {**method, **shared, **options})
    events = run_processes(job, 2)
    for name in ("train_loss", "grad_norm", "train_reward_margin"):
        expected = [step[name] for step in events_of("step", single)]
        assert [step[name] for step in events_of("step", events)] == pytest.approx(
            expected, rel=1e-3, abs=1e-4
        ), name
    assert weights(events).keys() == weights(single).keys()


def gradients(events: list[Any]) -> dict[str, Any]:
    """Return AdamW's first moments after two steps, from a checkpoint."""
    from safetensors.torch import load_file

    (done,) = events_of("done", events)
    (newest,) = Path(done["adapter"]).parent.glob("checkpoints/step-00000002/state.safetensors")
    return {name: value for name, value in load_file(newest).items() if name.endswith("/exp_avg")}


def weights(events: list[Any]) -> dict[str, Any]:
    """Return the trained weights of a run."""
    from safetensors.torch import load_file

    (done,) = events_of("done", events)
    (file,) = Path(done["adapter"]).glob("*model.safetensors")
    tensors: dict[str, Any] = load_file(file)
    return tensors


# Dropout tests that each process restores its random state; r=3 cannot be sharded evenly.
OPTIONS = {"batch_size": 1, "gradient_accumulation_steps": 2, "processes": 2, "lora_dropout": 0.1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="ddp"),
        pytest.param(FSDP, id="fsdp"),
        pytest.param({**KEPT, "method": "Full"}, id="fsdp-full"),
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
