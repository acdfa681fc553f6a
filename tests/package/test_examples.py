"""Every example runs as a program, against the local server."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from maas_client.local.embedded_server import LocalServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_validate() -> None:
    assert "train.jsonl" in run_example("01_validate.py")


def test_validate_a_broken_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "01_validate.py"), str(broken)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "line 1" in done.stdout


def test_fine_tune_and_chat(maas_server: LocalServer) -> None:
    out = run_example("02_fine_tune_and_chat.py")
    assert "Completed" in out
    assert "valid_loss" in out
    assert "low on battery" in out
    assert not list(maas_server.client().deployments.list())


def test_async(maas_server: LocalServer) -> None:
    out = run_example("03_async.py")
    assert out.count("low on battery") == 2
    assert "Phi-4-mini-instruct" in out


def test_preferences(maas_server: LocalServer) -> None:
    lines = run_example("04_preferences.py").splitlines()
    assert lines[0] == "64 preferences, 0 errors"
    assert [line.split(":")[0] for line in lines[1:]] == [f"step {n}" for n in range(1, 9)]
    assert "accuracy" in lines[-1]


@pytest.mark.slow
def test_reinforcement() -> None:
    pytest.importorskip("torch")
    lines = run_example("05_reinforcement.py", "1", "2").splitlines()
    assert [line[:8] for line in lines] == ["step   1", "step   2"]
    assert all("%" in line for line in lines)


def test_phi3_family(maas_server: LocalServer) -> None:
    lines = run_example("phi3_family.py").splitlines()
    assert [line.split(" on ")[0] for line in lines] == [
        "Phi-3-mini",
        "Phi-3-medium",
        "Phi-3-small",
    ]
    assert all("instant" in line and "low on battery" in line for line in lines)


@pytest.mark.slow
@pytest.mark.maas_training(base="tiny")
def test_phi3_family_with_real_training(maas_server: LocalServer) -> None:
    out = run_example(
        "phi3_family.py"
    )  # an answer of random weights may hold anything, line feeds too
    for model in ("Phi-3-mini", "Phi-3-medium", "Phi-3-small"):
        assert f"{model} on tiny, Completed: " in out


@pytest.mark.skipif(
    find_spec("nbclient") is None, reason="the dependency group docs is not installed: make setup"
)
def test_notebook(maas_server: LocalServer) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "fine_tune.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    text = "\n".join(
        "".join(o.get("text", "")) + "".join(o.get("data", {}).get("text/plain", ""))
        for o in outputs
    )
    assert any("image/png" in o.get("data", {}) for o in outputs)  # the plot of the loss
    assert "Completed" in text
    assert "notebook-tuned: Chirp! " in text
    assert not list(maas_server.client().deployments.list())


def test_support_bot(maas_server: LocalServer) -> None:
    assert "low on battery" in run_example("support_bot.py")


@pytest.mark.slow
def test_support_bot_tests_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_support_bot.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_six_cases(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            os.devnull,
            str(EXAMPLES / "test_six_cases.py"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert "6 passed" in done.stdout, done.stdout
