"""A build that a killed process left behind is dropped, unless somebody may still be at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maas_client.local.machine import torch_extensions
from maas_client.local.machine.child_processes import worker_environment

pytest.importorskip("fcntl")

_HOLDER = """
import sys
from pathlib import Path
from maas_client.local.machine import torch_extensions
kept = torch_extensions.lock_builds(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def half_built(tmp_path: Path) -> Path:
    """A folder with one build that is whole and one that was cut short."""
    for name, file in (("whole", "whole.so"), ("cut", "lock")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    return tmp_path


def test_what_a_killed_process_left_is_dropped(half_built: Path) -> None:
    kept = torch_extensions.lock_builds(half_built)
    assert kept is not None
    os.close(kept)
    assert not (half_built / "cut").exists()
    assert (half_built / "whole" / "whole.so").exists()
    assert torch_extensions.has_builds(half_built)


def test_a_build_is_left_alone_while_another_job_runs(half_built: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(half_built)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        (half_built / "cut").mkdir()
        (half_built / "cut" / "lock").touch()
        for _ in range(2):  # both hold it at once, and neither waits
            kept = torch_extensions.lock_builds(half_built)
            assert kept is not None
            os.close(kept)
            assert (half_built / "cut" / "lock").exists()
    finally:
        other.kill()
        other.communicate()
    kept = torch_extensions.lock_builds(half_built)
    assert kept is not None
    os.close(kept)
    assert not (half_built / "cut").exists()


def test_children_build_where_they_are_looked_after() -> None:
    assert worker_environment(1)["TORCH_EXTENSIONS_DIR"] == str(torch_extensions.build_folder())
