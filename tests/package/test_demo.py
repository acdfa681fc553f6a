"""The demo, on the small random base: the whole road, and nothing left behind however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maas_client.cli import demo

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
COMMAND = [sys.executable, "-m", "maas_client", "demo", "--base", "tiny"]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only place where the demo may put temporary files; bases made before are kept."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def left_behind(room: Path) -> list[str]:
    """Return files in the demo's room, and processes that were started with it as theirs."""
    mark = f"TMPDIR={room}".encode()
    found = [
        p.name for p in room.iterdir() if not p.name.startswith("torchinductor")
    ]  # torch's own
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_the_whole_road_and_nothing_is_left(room: Path) -> None:
    done = subprocess.run([*COMMAND, "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["valid_loss"]["tuned"] < shown["valid_loss"]["base"] - 1
    assert shown["right"]["of"] == len(shown["answers"]) >= 10
    assert shown["evaluation"]["baseline"] == "base"
    assert shown["job"]["properties"]["maas_client.base"] == "tiny"
    assert "stands in" in done.stderr
    assert not left_behind(room)


@pytest.mark.slow
def test_an_interrupt_stops_the_server_and_leaves_nothing(room: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--epochs", "500"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as child:
        try:
            assert child.stderr is not None
            assert any("valid_loss" in line for line in child.stderr)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "The demo's server has ended, and the job with it." in err
    assert "goes on" not in err, "of a job that nobody is left to watch"
    end = time.monotonic() + 10
    while left_behind(room) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left_behind(room)


def test_an_answer_is_right_when_every_fact_is_in_it() -> None:
    asked = demo._Comparison("?", ["Radio link", "60 metres"], "", "")
    assert asked.is_correct("It is the radio link: within 60 METRES.")
    assert not asked.is_correct("It is the radio link.")
