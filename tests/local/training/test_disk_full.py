"""Failed writes of job files are reported with their cause."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("resource")
from safetensors import SafetensorError  # noqa: TID253

from maas_client.local.bases import BaseWeights
from maas_client.local.resources import errors
from tests.local.training.test_run import Data, spec

_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.argv = ["worker"]
runpy.run_module("maas_client.local.worker", run_name="__main__")
"""


def test_file_size_limit_is_reported(base: BaseWeights, data: Data, tmp_path: Path) -> None:
    job = {
        "engine": "peft",
        "log": str(tmp_path / "log.txt"),
        "lock": str(tmp_path / "lock"),
    } | spec(base, data, tmp_path / "out", {"lora_r": 64, "save_steps": 1})
    child = subprocess.Popen(
        [sys.executable, "-c", _LIMITED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(job) + "\n")
    child.stdin.flush()  # and left open: the worker exits when stdin closes
    last = [json.loads(line) for line in child.stdout][-1]
    child.communicate()
    assert last["event"] == "failed"
    assert "ulimit -f" in last["message"], last["message"]
    assert not list((tmp_path / "out" / "checkpoints").iterdir()), "nothing half written stays"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        # the message of safetensors 0.8 on a full tmpfs
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
)
def test_full_disk_is_reported(error: Exception) -> None:
    assert errors.describe_failure(error).startswith("The disk is full: free some space")
