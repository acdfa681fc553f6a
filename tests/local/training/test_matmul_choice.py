"""The matrix products of a base are chosen by timing them, kept beside it, and kept by a resumed run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.cli.commands import doctor  # noqa: E402 - after the skips
from maas_client.local.bases import BaseWeights  # noqa: E402
from maas_client.local.machine import matmul_choice, onednn  # noqa: E402
from maas_client.local.machine.child_processes import worker_environment  # noqa: E402
from maas_client.local.machine.matmul_choice import FILE, MatmulChoice  # noqa: E402
from maas_client.local.resources.job_states import JobSignal  # noqa: E402
from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.sessions.engine import SessionEngine  # noqa: E402
from maas_client.local.training import load_base, processes  # noqa: E402
from maas_client.local.training.run import run  # noqa: E402
from tests.local.training.test_run import Data, bytes_of, events_of, run_job, spec  # noqa: E402
from tests.local.training.test_sessions import ADAM, datum, engine_of, request  # noqa: E402

SHAPES = [(96, 128), (128, 96), (96, 128)]
CHOICE = MatmulChoice(("forward", "adapter"), 0.25)


@pytest.fixture(autouse=True)
def torch_only_afterwards() -> Iterator[None]:
    yield
    MatmulChoice().apply()


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Counter[Any]]:
    """Return what was timed; each timing finds ``CHOICE``."""
    calls: list[Counter[Any]] = []

    def measure(shapes: Counter[Any]) -> MatmulChoice:
        calls.append(shapes)
        return CHOICE

    monkeypatch.setattr(matmul_choice, "measure_products", measure)
    return calls


def test_the_choice_is_timed_once_and_kept(tmp_path: Path, timed: list[Any]) -> None:
    assert [matmul_choice.choose(tmp_path, SHAPES) for _ in range(3)] == [CHOICE] * 3
    assert timed == [Counter(SHAPES)]
    assert [path.name for path in tmp_path.iterdir()] == [FILE], "no draft remains"
    assert matmul_choice.load(tmp_path) == CHOICE


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"])
def test_other_instructions_are_timed_again(
    tmp_path: Path, timed: list[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    matmul_choice.choose(tmp_path, SHAPES)
    monkeypatch.setenv(name, "AVX2")
    matmul_choice.choose(tmp_path, SHAPES)
    assert len(timed) == 2


@pytest.mark.parametrize("field", ["processor", "flags", "cores", "torch", "shapes", "version"])
def test_another_machine_or_torch_is_timed_again(
    tmp_path: Path, timed: list[Any], field: str
) -> None:
    matmul_choice.choose(tmp_path, SHAPES)
    content = json.loads((tmp_path / FILE).read_text())
    content["fingerprint"][field] = "another"
    (tmp_path / FILE).write_text(json.dumps(content))
    matmul_choice.choose(tmp_path, SHAPES)
    assert len(timed) == 2
    assert json.loads((tmp_path / FILE).read_text()) != content


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "{}", '{"fingerprint": null, "choice": {"onednn": 5, "gain": 0}}', "\xff",
     "[" * 100_000, '{"choice": {"onednn": [], "gain": 1' + "0" * 400 + "}}",
     '{"choice": {"onednn": ["forward"], "gain": NaN}}'],
)  # fmt: skip
def test_a_damaged_file_is_replaced(tmp_path: Path, timed: list[Any], content: str) -> None:
    (tmp_path / FILE).write_bytes(content.encode("latin-1"))
    assert matmul_choice.load(tmp_path) is None
    assert matmul_choice.choose(tmp_path, SHAPES) == CHOICE
    assert matmul_choice.load(tmp_path) == CHOICE


def test_a_choice_of_unknown_kinds_is_damaged(tmp_path: Path, timed: list[Any]) -> None:
    matmul_choice.choose(tmp_path, SHAPES)
    content = json.loads((tmp_path / FILE).read_text())
    content["choice"]["onednn"] = ["sideways"]
    (tmp_path / FILE).write_text(json.dumps(content))
    assert matmul_choice.choose(tmp_path, SHAPES) == CHOICE
    assert len(timed) == 2


def test_without_a_folder_or_a_writable_one_the_choice_is_only_used(
    tmp_path: Path, timed: list[Any]
) -> None:
    assert matmul_choice.choose(None, SHAPES) == CHOICE
    assert matmul_choice.choose(tmp_path / "absent", SHAPES) == CHOICE
    assert not (tmp_path / "absent").exists()


def test_the_processes_of_a_job_get_what_was_timed_once_before_they_start(
    base: BaseWeights, data: Data, tmp_path: Path, timed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = copied(base, tmp_path / "base")
    job = spec(base, data, tmp_path / "out", {})
    assert load_base.choose_products_of_job(job) == CHOICE
    assert matmul_choice.load(Path(base.folder)) == CHOICE
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    load_base.load_model(base.folder, TrainingConfig(), "cpu")
    assert matmul_choice.current() == MatmulChoice(), "a rank chooses nothing itself"
    monkeypatch.undo()
    load_base.load_model(base.folder, TrainingConfig(), "cpu")
    assert matmul_choice.current() == CHOICE, "the shapes are those of the loaded base"
    assert len(timed) == 1
    assert load_base.choose_products_of_job({**job, "device": "cuda"}) == MatmulChoice()
    other = MatmulChoice(("backward",), 0.1)
    events = run_job({**job, "matmul": other.as_dict()})
    assert other.describe() in [event.get("message") for event in events]


def copied(base: BaseWeights, folder: Path) -> BaseWeights:
    """Return a copy of a base, without a stored choice."""
    shutil.copytree(base.folder, folder, ignore=shutil.ignore_patterns(FILE))
    return replace(base, folder=str(folder))


@pytest.mark.skipif(os.name != "posix", reason="a shell plays the other process")
def test_a_worker_times_the_products_before_it_starts_other_processes(
    base: BaseWeights, data: Data, tmp_path: Path
) -> None:
    """Takes some seconds: a worker loads torch."""
    base = copied(base, tmp_path / "base")
    job = spec(base, data, tmp_path / "out", {"processes": 2}) | {
        "engine": "peft", "log": str(tmp_path / "log"), "lock": str(tmp_path / "lock"),
    }  # fmt: skip
    peer = tmp_path / "peer"
    failure = json.dumps({"event": "failed", "code": "ServiceError", "message": "as a peer"})
    script = f"""read -r job; printf %s "$job" > '{tmp_path / "job"}'; echo '{failure}'; exit 1"""
    peer.write_text(f"#!/bin/sh\n{script}\n")
    peer.chmod(0o755)
    code = f"import sys; from maas_client.local import worker; sys.executable = {str(peer)!r}; worker.main([])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=worker_environment(1),
    ) as worker:  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()  # and left open: when it closes, the worker ends
        assert "as a peer" in worker.stdout.read(), (tmp_path / "log").read_text()[-3000:]
    choice = matmul_choice.load(Path(base.folder))
    assert choice is not None
    assert json.loads((tmp_path / "job").read_text())["matmul"] == json.loads(
        json.dumps(choice.as_dict())
    )


def test_doctor_states_the_choice_of_each_base(tmp_path: Path, timed: list[Any]) -> None:
    for name in ("smollm2-135m", "owner--name"):
        (tmp_path / name).mkdir()
        matmul_choice.choose(tmp_path / name, SHAPES)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / FILE).write_text("{")
    messages = [result.message for result in doctor._check_products(tmp_path)]
    text = CHOICE.describe().removeprefix("Matrix products: ")  # doctor names the check beside it
    assert messages == [f"{name}: {text}" for name in ("owner/name", "smollm2-135m")]


@pytest.mark.parametrize("slow", ["torch", "oneDNN"])
def test_the_faster_product_is_chosen(monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    now = 0.0
    linear, functional = onednn._linear, torch.nn.functional.linear

    def onednn_linear(*args: Any) -> Any:
        nonlocal now
        now += 3.0 if slow == "oneDNN" else 1.0
        return linear(*args)

    def torch_linear(*args: Any) -> Any:
        nonlocal now
        now += 2.0
        return functional(*args)

    onednn.is_supported(torch.float32)
    monkeypatch.setattr(onednn, "_linear", onednn_linear)
    monkeypatch.setattr(onednn.f, "linear", torch_linear)
    monkeypatch.setattr(onednn, "_LEAST_MULTIPLICATIONS", 0)
    monkeypatch.setattr(matmul_choice, "_clock", lambda: now)
    choice = matmul_choice.measure_products(Counter(SHAPES))
    assert choice == (
        MatmulChoice(matmul_choice.KINDS, 0.5) if slow == "torch" else MatmulChoice(gain=0.0)
    )


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 1), (9, 2)])
def test_products_are_timed_with_the_threads_of_a_pack(
    threads: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: set[int] = set()
    monkeypatch.setattr(matmul_choice, "_time", lambda *_: (used.add(torch.get_num_threads()), 1.0))
    monkeypatch.setattr(onednn, "is_supported", lambda _: True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(TypeError):  # the first value is no time
            matmul_choice.measure_products(Counter(SHAPES))
        assert torch.get_num_threads() == threads, "also after a failure"
    finally:
        torch.set_num_threads(before)
    assert used == {expected}


def test_timing_leaves_the_random_state_and_the_selection_alone() -> None:
    before = torch.get_rng_state()
    matmul_choice.measure_products(Counter({(16, 8): 1}))
    assert torch.equal(torch.get_rng_state(), before)
    assert not onednn._selected


@pytest.mark.parametrize("kind", matmul_choice.KINDS)
def test_each_kind_selects_its_products(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "_LEAST_MULTIPLICATIONS", 0)
    used: list[str] = []
    monkeypatch.setattr(onednn, "_linear", lambda x, w, b: used.append(onednn.kind_of(x, w)))
    onednn.select([kind])
    for each in matmul_choice.KINDS:
        matmul_choice._product(each, (96, 128), 80)()
    assert set(used) == {kind}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kinds", [(), ("forward",), matmul_choice.KINDS])
def test_a_resumed_run_keeps_its_choice(
    kinds: tuple[str, ...],
    base: BaseWeights,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onednn, "_LEAST_MULTIPLICATIONS", 0)
    begun_with = MatmulChoice(kinds, 0.5)
    machine = begun_with
    monkeypatch.setattr(matmul_choice, "choose", lambda *_, **__: machine)
    events = run_job(spec(base, data, tmp_path / "whole", {}))
    messages = [event["message"] for event in events_of("message", events)]
    assert begun_with.describe() in messages
    run(spec(base, data, tmp_path / "out", {}), lambda _: None, lambda: JobSignal.PAUSE)
    machine = MatmulChoice(() if kinds else matmul_choice.KINDS, 0.5)
    resumed = run_job(spec(base, data, tmp_path / "out", {}))
    assert begun_with.describe() in [event.get("message") for event in resumed]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    run_job(spec(base, data, tmp_path / "other", {}))
    assert bytes_of(tmp_path / "other") != bytes_of(tmp_path / "whole"), "the choice matters"


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_session_keeps_its_choice(
    base: BaseWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "_LEAST_MULTIPLICATIONS", 0)
    machine = MatmulChoice(matmul_choice.KINDS, 0.5)
    monkeypatch.setattr(matmul_choice, "choose", lambda *_, **__: machine)
    first = engine_of(base, tmp_path)
    step(first)
    first.save_checkpoint({"checkpoint_id": "one", "extra": {}})
    step(first)
    machine = MatmulChoice()
    resumed = engine_of(base, tmp_path / "b", resume=str(tmp_path / "training" / "one"))
    assert matmul_choice.current() == MatmulChoice(matmul_choice.KINDS, 0.5)
    step(resumed)
    for name, weight in first._strategy.weights.items():
        assert torch.equal(weight, resumed._strategy.weights[name])


def step(engine: SessionEngine) -> None:
    engine.forward_backward(request([datum([5, 9, 30, 31, 32, 7])]))
    engine.optim_step(ADAM)


@pytest.mark.parametrize("choice", [CHOICE, MatmulChoice(), MatmulChoice(gain=0.0)])
def test_a_choice_survives_json_and_describes_itself(choice: MatmulChoice) -> None:
    assert MatmulChoice.from_dict(json.loads(json.dumps(asdict(choice)))) == choice
    assert ("25 % less" in choice.describe()) == bool(choice.onednn)
