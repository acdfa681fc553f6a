"""A run killed in any write resumes to identical bytes and leaves no partial files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.bases import BaseWeights  # noqa: E402 - after the skip
from maas_client.local.training.run import run  # noqa: E402
from tests.local.training.rows import make_preferences, make_rows  # noqa: E402
from tests.local.training.test_run import Data, bytes_of, spec  # noqa: E402

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

RECIPE = {"batch_size": 4, "save_steps": 1, "lora_dropout": 0.1}


def run_in_child(job_spec: dict[str, Any], kill_at: int) -> int:
    """Run a job in a child that kills itself at its n-th fsync or rename; return its exit code."""
    child = os.fork()
    if child == 0:
        calls = 0

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
            run(job_spec, lambda _: None)
        finally:
            os._exit(0 if (Path(job_spec["out"]) / "adapter").exists() else 1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["LoRA", "DPO"])
def test_run_killed_in_any_write_resumes_to_identical_bytes(
    base: BaseWeights, data: Data, tmp_path: Path, method: str
) -> None:
    rows = make_preferences(8) if method == "DPO" else make_rows(8)

    def make_spec(out: Path) -> dict[str, Any]:
        return spec(base, data, out, RECIPE | {"method": method}, train=data(rows, "rows.jsonl"))

    assert run_in_child(make_spec(tmp_path / "whole"), kill_at=0) == 0
    expected, kills = bytes_of(tmp_path / "whole"), 0
    for call in range(1, 200):
        out = tmp_path / f"killed-{call}"
        ended = run_in_child(make_spec(out), kill_at=call)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        kills += 1
        assert run_in_child(make_spec(out), kill_at=0) == 0
        assert bytes_of(out) == expected
        assert not list(out.rglob(".*")), "drafts are swept up"
    assert kills > 12
