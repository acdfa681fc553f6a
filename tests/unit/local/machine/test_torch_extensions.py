"""Builds of killed processes are removed, unless another process may be building."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maas_client.local.machine import child_processes
from maas_client.local.machine.child_processes import worker_environment

pytest.importorskip("fcntl")

_LOCK_BUILDS = """
import sys
from pathlib import Path
from maas_client.local.machine import child_processes
lock = child_processes.lock_torch_builds(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def build_folder(tmp_path: Path) -> Path:
    """A folder with a complete build and an incomplete one."""
    for name, file in (("complete", "complete.so"), ("incomplete", "lock")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    return tmp_path


def test_incomplete_build_of_a_killed_process_is_removed(build_folder: Path) -> None:
    lock = child_processes.lock_torch_builds(build_folder)
    assert lock is not None
    os.close(lock)
    assert not (build_folder / "incomplete").exists()
    assert (build_folder / "complete" / "complete.so").exists()
    assert child_processes.has_torch_builds(build_folder)


def test_incomplete_build_stays_while_another_process_uses_the_folder(build_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _LOCK_BUILDS, str(build_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        (build_folder / "incomplete").mkdir()
        (build_folder / "incomplete" / "lock").touch()
        for _ in range(2):  # both hold the lock at once, and neither waits
            lock = child_processes.lock_torch_builds(build_folder)
            assert lock is not None
            os.close(lock)
            assert (build_folder / "incomplete" / "lock").exists()
    finally:
        process.kill()
        process.communicate()
    lock = child_processes.lock_torch_builds(build_folder)
    assert lock is not None
    os.close(lock)
    assert not (build_folder / "incomplete").exists()


def test_children_use_the_build_folder() -> None:
    assert worker_environment(1)["TORCH_EXTENSIONS_DIR"] == str(
        child_processes.torch_build_folder()
    )
