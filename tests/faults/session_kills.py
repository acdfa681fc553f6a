"""Kill a session of interactive training (SIGKILL), resume from its newest checkpoint, and compare bytes.

    python -m tests.faults.session_kills --kills 200 --seed 1            # its process, at random moments
    python -m tests.faults.session_kills --kills 20 --seed 1 --servers   # the process or its server, over HTTP

Prints counts: checkpoints that were acknowledged and are lost, that are listed and torn, and resumed sessions
whose checkpoints differ from those of a session without a kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from maas_client.local import bases
from maas_client.local.state import atomic_folder

STEPS = 4
BAD = ("lost", "torn", "different", "leftovers")
"""Counts that must be zero."""
_ADAM = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.0}
_LORA = {"rank": 4, "alpha": 8.0, "seed": 7}


def run_in_child(
    work: Callable[[], bool], *, kill_at: int = 0, kill_after_s: float | None = None
) -> int:
    """Run ``work`` in a child and return its exit code: 0 if ``work`` returned True.

    The child kills itself at its n-th fsync or rename, or is killed after some seconds.
    """
    child = os.fork()
    if child == 0:
        code, calls = 1, 0

        def counted(real: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        os.fsync, Path.rename = counted(os.fsync), counted(Path.rename)  # type: ignore[method-assign]
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)  # the child is a zombie if it has ended
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _batch(number: int) -> dict[str, Any]:
    """Return the batch of a step."""
    tokens = [5 + number, 9, 30, 31, 32, 7]
    count = len(tokens) - 1
    return {
        "data": [
            {
                "tokens": tokens[:-1],
                "targets": tokens[1:],
                "weights": [1.0] * count,
                "advantages": [0.5] * count,
                "logprobs": [-6.0] * count,
            }
        ],
        "loss_fn": "ppo",
        "loss_fn_config": {},
    }


def _train(base: bases.BaseWeights, folder: Path, resume: Path | None) -> bool:
    """Train a session to its end, and save both kinds of checkpoint after every step."""
    from maas_client.local.sessions.engine import SessionEngine

    engine = SessionEngine(
        {
            "base": base.as_dict(),
            "lora_config": _LORA,
            "device": "cpu",
            "folder": str(folder),
            "fingerprint": "session",
            "resume": None if resume is None else str(resume),
        }
    )
    with (folder / "acknowledged").open("a", buffering=1) as acknowledged:
        while engine.step < STEPS:
            engine.forward_backward(_batch(engine.step))
            engine.optim_step(_ADAM)
            name = f"step{engine.step}"
            engine.save_checkpoint({"checkpoint_id": name, "extra": {}})
            acknowledged.write(f"training/{name}\n")
            engine.save_sampler({"checkpoint_id": name, "persist": True})
            acknowledged.write(f"sampler/{name}\n")
    return True


def _listed(folder: Path) -> set[str]:
    from maas_client.local.sessions.checkpoints import saved_checkpoints

    return {f"{kind}/{name}" for kind in ("training", "sampler")
            for name in saved_checkpoints(folder / kind)}  # fmt: skip


def _contents(folder: Path, checkpoint: str) -> dict[str, bytes]:
    """Return the files of a checkpoint, without the names of the folders of its session."""
    root = folder / checkpoint
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def check(folder: Path, expected: Path) -> Counter[str]:
    """Compare the checkpoints of a killed session with those of one without a kill."""
    acknowledged, listed = set((folder / "acknowledged").read_text().split()), _listed(folder)
    counts = Counter(lost=len(acknowledged - listed), listed=len(listed))
    for checkpoint in listed:
        root = folder / checkpoint
        complete = [p for p in (root, *root.glob("step-*")) if atomic_folder.is_complete(p)]
        counts["torn"] += not complete
        counts["different"] += _contents(folder, checkpoint) != _contents(expected, checkpoint)
    return counts


class SessionKills:
    """Sessions in forked processes, which load torch once."""

    def __init__(self, root: Path) -> None:
        import torch

        torch.set_num_threads(1)
        self.root, self.base = root, bases.resolve_base("Phi-4", "tiny", root / "bases")
        self.expected = self._folder("expected")
        assert _train(self.base, self.expected, None)  # loads in this process what children need
        started_at, again = time.monotonic(), self._folder("again")
        assert run_in_child(lambda: _train(self.base, again, None)) == 0
        self.duration_s = time.monotonic() - started_at
        assert len(_listed(self.expected)) == 2 * STEPS

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir()
        (folder / "acknowledged").touch()
        return folder

    def kill(
        self, name: str, *, kill_at: int = 0, kill_after_s: float | None = None
    ) -> Counter[str]:
        """Kill a session, resume from its newest training checkpoint, and return counts."""
        killed = self._folder(name)
        code = run_in_child(
            lambda: _train(self.base, killed, None), kill_at=kill_at, kill_after_s=kill_after_s
        )
        counts = Counter(runs=1, killed=code == -signal.SIGKILL) + check(killed, self.expected)
        newest = max((c for c in _listed(killed) if c.startswith("training/")), default=None)
        resumed = self._folder(f"{name}-resumed")
        source = None if newest is None else killed / newest
        assert run_in_child(lambda: _train(self.base, resumed, source)) == 0
        counts["resumed"] += newest is not None
        return counts + check(resumed, self.expected)


def run(kills: int, seed: int) -> Counter[str]:
    """Kill the process of sessions at random moments, and return the counts."""
    rng, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as root:
        sessions = SessionKills(Path(root))
        for number in range(kills):
            counts += sessions.kill(
                f"killed{number}", kill_after_s=rng.uniform(0, sessions.duration_s)
            )
    return counts


def _no_work() -> None:
    """Do nothing."""


class _Api:
    """The loop of a program over HTTP. What was killed shows as an error."""

    def __init__(self, root: Path) -> None:
        from tests.contract.server.processes.test_sessions import SessionServer

        self.state, self._start = root / "state", SessionServer
        self.server = self._start(self.state)
        self.steps: dict[str, int] = {}
        """Acknowledged training checkpoints of the current session."""

    def restart_if_ended(self) -> None:
        from tests.contract.server.processes.test_restart import wait_for_exit

        if self.server.child.poll() is None:
            return
        self.server.http.close()
        wait_for_exit(self.state, 20)
        self.server = self._start(self.state)

    def train(
        self, source: dict[str, Any] | None, step: int, begin: Callable[[], None] = _no_work
    ) -> str:
        """Train to the end and return the session; raises if something does not answer.

        ``begin`` is called once the session's model is loaded.
        """
        from tests.contract.server.processes.test_sessions import BATCH

        changes = {} if source is None else {"from_checkpoint": source}
        self.session = ""
        self.steps = {}
        self.session = self.server.create(lora_config=_LORA, **changes)
        begin()
        for number in range(step, STEPS):
            batch = {"forward_backward_input": {**BATCH, "data": [*BATCH["data"]] * (number + 1)}}
            for name, body in (
                ("forward_backward", batch),
                ("optim_step", {"adam_params": _ADAM}),
                ("checkpoint", {"path": f"step{number + 1}"}),
            ):
                assert self.server.call(self.session, name, body)["status"] == "completed"
            self.steps[f"step{number + 1}"] = number + 1
        saved = self.server.call(self.session, "checkpoint_sample", {"path": "final"})
        assert saved["status"] == "completed"
        return self.session

    def adapter(self, session: str) -> bytes:
        folder = session.removeprefix("session_")
        (path,) = self.state.glob(f"**/{folder}/sampler/final/adapter_model.safetensors")
        return path.read_bytes()


def run_servers(kills: int, seed: int) -> Counter[str]:
    """Kill the process of sessions or their server at random moments, and return the counts."""
    import httpx

    from tests.contract.server.processes.test_restart import worker_pids

    rng, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as root:
        api = _Api(Path(root))
        expected = api.adapter(api.train(None, 0))
        started_at: list[float] = []
        api.train(None, 0, lambda: started_at.append(time.monotonic()))
        duration_s = time.monotonic() - started_at[0]
        source: dict[str, Any] | None = None
        step = 0

        def kill(is_server: bool) -> None:
            pid = api.server.child.pid
            for worker in [pid] if is_server else worker_pids(api.state):
                if is_server or worker != pid:
                    with suppress(ProcessLookupError):
                        os.kill(worker, signal.SIGKILL)
            if is_server:
                api.server.child.wait()

        while counts["killed"] < kills:
            timer = threading.Timer(rng.uniform(0, duration_s), kill, [rng.random() < 0.5])
            loads = rng.random() < 0.1
            if loads:  # the kill comes while the model is loaded
                timer.start()
            try:
                final = api.train(source, step, _no_work if loads else timer.start)
            except (httpx.HTTPError, AssertionError, KeyError, ValueError):
                final = None
            if (
                timer.ident is not None
            ):  # else a process of the last kill was taken before it had ended
                timer.join()
                counts["killed"] += 1
            api.restart_if_ended()
            if final is not None:
                counts["finished"] += 1
                counts["different"] += api.adapter(final) != expected
                source, step = None, 0
                continue
            if not api.session:  # killed while it loaded
                continue
            listed = api.server.http.get(f"/sessions/{api.session}/checkpoints").json()
            names = {
                e["checkpoint_id"]
                for e in listed["checkpoints"]
                if e["checkpoint_type"] == "training"
            }
            counts["lost"] += len(set(api.steps) - names)
            if names:
                newest = max(names)
                source = {"source_session_id": api.session, "checkpoint_id": newest}
                step = int(newest.removeprefix("step"))
                counts["resumed"] += 1
        counts["leftovers"] = len(list(api.state.rglob("*.draft")))
        final = api.train(source, step)  # without a kill
        counts["finished"] += 1
        counts["different"] += api.adapter(final) != expected
        api.server.kill()
    return counts


def main() -> None:
    """Kill sessions as the command line says, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", action="store_true")
    args = parser.parse_args()
    start = time.monotonic()
    counts = (run_servers if args.servers else run)(args.kills, args.seed)
    shown = {**dict.fromkeys(BAD, 0), **counts}
    print(json.dumps({**shown, "seconds": round(time.monotonic() - start, 1)}))
    raise SystemExit(any(shown[name] for name in BAD))


if __name__ == "__main__":
    main()
