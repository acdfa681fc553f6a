"""``maas-client demo`` with random weights: it completes, and cleans up after success and interrupt."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maas_client._files.package_data import example_data_dir
from maas_client.cli.commands import demo
from maas_client.local.embedded_server import serve

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
COMMAND = [sys.executable, "-m", "maas_client", "demo", "--base", "tiny"]


@pytest.fixture
def temp_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder for the demo's temporary files; existing base weights are reused."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def leftovers(temp_dir: Path) -> list[str]:
    """Return files in the demo's temporary folder, and processes that were started with it."""
    mark = f"TMPDIR={temp_dir}".encode()
    names = [
        p.name for p in temp_dir.iterdir() if not p.name.startswith("torchinductor")
    ]  # torch's own
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                names.append(process.name)
        except OSError:
            continue
    return names


@pytest.mark.slow
def test_demo_completes_and_cleans_up(temp_dir: Path) -> None:
    done = subprocess.run([*COMMAND, "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["valid_loss"]["tuned"] < result["valid_loss"]["base"] - 1
    assert result["right"]["of"] == len(result["answers"]) >= 10
    assert result["evaluation"]["baseline"] == "base"
    assert result["job"]["properties"]["maas_client.base"] == "tiny"
    assert "stands in" in done.stderr
    assert "maas-client fine-tune FILE" in done.stderr.splitlines()[-1]
    assert not leftovers(temp_dir)


@pytest.mark.slow
def test_interrupted_demo_stops_the_server_and_cleans_up(temp_dir: Path) -> None:
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
    assert "The demo's server has stopped, and the job with it." in err
    assert "continues" not in err, "the job ends with the server"
    end = time.monotonic() + 10
    while leftovers(temp_dir) and time.monotonic() < end:
        time.sleep(0.1)
    assert not leftovers(temp_dir)


def test_questions_in_parallel_log_once_what_they_wait_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = example_data_dir()
    with serve(engine="instant") as server, server.client() as client:
        result = client.fine_tune(data / "train.jsonl", model="Phi-3-mini")
        monkeypatch.setattr("maas_client._transport._LONG_WAIT_S", 0.0)
        demo._compare(client, result, demo._read_questions(data))
    waits = [m for m in caplog.messages if "(chat.complete)" in m]
    assert sum("600 s" in message for message in waits) == 1  # a new deployment's first chat: 300 s


def test_answer_is_correct_if_it_has_every_fact() -> None:
    comparison = demo._Comparison("?", ["Radio link", "60 metres"], "", "")
    assert comparison.is_correct("It is the radio link: within 60 METRES.")
    assert not comparison.is_correct("It is the radio link.")


def test_short_training_has_rows_of_every_fact() -> None:
    """Where all rows take too long, the demo trains on some rows for each question that it asks."""
    data = example_data_dir()
    rows = (data / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
    facts = [row["expect"] for row in demo._read_questions(data)]
    chosen = demo._rows_with_facts(rows, facts)
    answers = [json.loads(row)["messages"][-1]["content"] for row in chosen]
    assert len(chosen) < len(rows) / 2
    assert set(chosen) <= set(rows)
    assert all(sum(demo._states(answer, fact) for answer in answers) >= 6 for fact in facts)


def test_installation_into_a_log_reports_its_size(tmp_path: Path) -> None:
    """``make demo`` with a Python that only waits: pip takes minutes where the connection is slow."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((Path(__file__).parents[3] / name).read_bytes())
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    (tmp_path / ".venv").mkdir()
    python.write_text('#!/bin/sh\ncase "$*" in *install*local*) sleep 1;; esac\n')
    python.chmod(0o700)
    command = ["make", ".venv/.demo", f"BIN={python.parent}", "REPORT_S=0.3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"installing .*GB.*\n  after \d s: \d+ MB\n", done.stdout, re.DOTALL), (
        done.stdout
    )
    assert (tmp_path / ".venv" / ".demo").exists()
