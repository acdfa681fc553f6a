"""The command line with streams that are closed or full, and in a working directory that is gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["config", "models list", "models list --json", "--version", "validate x.jsonl"]


@pytest.fixture(autouse=True)
def _import_from_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


def run(command: str, redirection: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, which closes what ``redirection`` says."""
    line = f'"{sys.executable}" -m maas_client {command} {redirection}'
    return subprocess.run(
        line,
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]  # cwd
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_stdout_is_named(command: str, tmp_path: Path) -> None:
    done = run(command, ">&-", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output is closed")
    assert "bug" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_stderr_changes_neither_data_nor_exit_code(command: str, tmp_path: Path) -> None:
    usual, done = run(command, cwd=tmp_path), run(command, "2>&-", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)


def test_error_is_never_printed_on_stdout() -> None:
    done = run("jobs list --url http://127.0.0.1:1", "2>&-")
    assert done.returncode == 1
    assert done.stdout == ""


def test_both_closed_is_an_exit_code_only() -> None:
    done = run("config", ">&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_closed_stdin_does_not_matter() -> None:
    assert run("config", "<&-").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device_is_an_error() -> None:
    done = run("config", ">/dev/full")
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ("MAAS_URL='http://[::1'", "not the address of a server"),
        ("MAAS_API_KEY='a\nb'", "line break"),
        ("MAAS_API_KEY=clé", "ASCII"),
    ],
)
def test_invalid_setting_is_not_called_a_bug(variables: str, message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        f'MAAS_STATE_DIR="{tmp_path}" {variables} "{sys.executable}" -m maas_client jobs list',
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.parametrize(
    "command",
    ["jobs list --backend azureml", "validate train.jsonl", "datasets upload train.jsonl"],
)
def test_deleted_working_directory_is_not_called_a_bug(command: str, tmp_path: Path) -> None:
    missing_folder = tmp_path / "gone"
    missing_folder.mkdir()
    done = subprocess.run(
        f'cd "{missing_folder}" && rmdir "{missing_folder}" && "{sys.executable}" -m maas_client {command}',
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 3)
    assert "train.jsonl" in done.stdout or done.stderr.startswith("error: ")
    assert "bug" not in done.stdout + done.stderr
