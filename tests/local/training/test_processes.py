"""A failing peer process ends the run, with its failure event or as a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell plays the other process")
PROGRAM = """
import json, sys, time
from maas_client.local.training import processes
sys.executable = sys.argv[1]
job = {"engine": "peft", "hyperparameters": {"processes": 2}, "threads": 2, "base": {}}
def emit(event):
    print(json.dumps(event), flush=True)

with processes.launch_peers(job, processes.requested_processes(job), emit):
    if sys.argv[2] == "waits":
        time.sleep(300)
    if sys.argv[2] == "breaks":
        raise RuntimeError("connection closed by peer")
print("went on", flush=True)
"""
FAILURE = {"event": "failed", "code": "ServiceError", "message": "Memory ran out."}


def run_first(folder: Path, script_body: str, behaviour: str) -> subprocess.CompletedProcess[str]:
    """Run rank 0 with a peer that runs a shell script."""
    script = folder / "other"
    script.write_text(f"#!/bin/sh\nread job\n{script_body}\n")
    script.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(script), behaviour],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("behaviour", ["waits", "breaks"])
def test_failure_of_a_peer_is_reported(tmp_path: Path, behaviour: str) -> None:
    ended = run_first(tmp_path, f"echo '{json.dumps(FAILURE)}'; exit 1", behaviour)
    assert (ended.returncode, json.loads(ended.stdout)) == (0, FAILURE)


@pytest.mark.parametrize("behaviour", ["waits", "breaks"])
def test_killed_peer_ends_the_run(tmp_path: Path, behaviour: str) -> None:
    ended = run_first(tmp_path, "kill -9 $$", behaviour)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")
    assert "died (-9)" in ended.stderr


def test_normal_exit_of_a_peer_does_not_end_the_run(tmp_path: Path) -> None:
    ended = run_first(tmp_path, "exit 0", "goes on")
    assert (ended.returncode, ended.stdout) == (0, "went on\n")
