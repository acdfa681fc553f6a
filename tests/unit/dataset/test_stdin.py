"""``validate -`` and ``validate <(...)`` work like a file and leave no copy behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.dataset.corpus import VALID_LINES, answer, file

DATA = file(
    *VALID_LINES, answer("\u00e9 " + "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3gH5"), b"{}"
)
VALIDATE = [sys.executable, "-m", "maas_client", "validate"]
Completed = subprocess.CompletedProcess[bytes]


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return folder


def run(*arguments: str, stdin: bytes = DATA) -> Completed:
    return subprocess.run([*VALIDATE, *arguments], input=stdin, capture_output=True, check=False)


def test_standard_input_gives_the_same_report_as_a_file(tmp_path: Path, spool: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    from_file, from_pipe = run(str(path), "--json"), run("-", "--json")
    assert (from_file.returncode, from_pipe.returncode) == (3, 3)
    file_report, pipe_report = json.loads(from_file.stdout), json.loads(from_pipe.stdout)
    assert pipe_report["files"][0].pop("path") == "<stdin>"
    assert file_report["files"][0].pop("path") == str(path)
    assert file_report == pipe_report
    assert not list(spool.iterdir())


def test_text_report_names_standard_input(spool: Path) -> None:
    process = run("-", "--all")
    assert b"<stdin>:14:1: error CHAT_" in process.stdout
    assert b"<stdin>: NOT VALID" in process.stdout
    assert os.fsencode(spool) not in process.stdout + process.stderr
    assert run("-", stdin=file(*VALID_LINES)).returncode == 0


def test_empty_standard_input_is_an_empty_file() -> None:
    process = run("-", "--json", stdin=b"")
    assert process.returncode == 3
    assert json.loads(process.stdout)["files"][0]["counts"] == {"FILE_EMPTY": 1}


def test_standard_input_works_for_validation_file_mask_and_html(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(file(*VALID_LINES))
    process = run(str(path), "--validation", "-", "--json")
    assert [report["path"] for report in json.loads(process.stdout)["files"]] == [
        str(path),
        "<stdin>",
    ]
    assert b"<stdin>, line 1:" in run("-", "--show-mask").stdout
    page = tmp_path / "page.html"
    run("-", "--html", str(page))
    assert "&lt;stdin&gt;" in page.read_text()


def test_unsupported_uses_of_standard_input_are_rejected(tmp_path: Path, spool: Path) -> None:
    for arguments in (
        ("-", "-"),
        ("-", "--validation", "-"),
        ("-", "/dev/stdin"),
        ("-", "--fix", str(tmp_path / "out.jsonl")),
    ):
        process = run(*arguments)
        assert process.returncode == 1, arguments
        assert b"Write it to a file first" in process.stderr
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *VALIDATE, "-"], capture_output=True, check=False
    )
    assert closed.returncode == 1
    assert b"standard input is closed" in closed.stderr
    assert not list(spool.iterdir())


@pytest.mark.skipif(shutil.which("bash") is None, reason="a shell with <(...)")
def test_process_substitution_is_reported_by_its_path(spool: Path) -> None:
    command = '"$@" <(printf "%s\\n" "{}") --json'
    process = subprocess.run(
        ["bash", "-c", command, "bash", *VALIDATE], capture_output=True, check=False
    )
    [report] = json.loads(process.stdout)["files"]
    assert report["path"].startswith("/dev/fd/")
    assert report["lines"] == 1
    assert not list(spool.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_deletes_the_copy(spool: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*VALIDATE, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Under nohup a child ignores SIGHUP, in the background of a script SIGINT.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None
        process.stdin.write(DATA)
        process.stdin.flush()
        while not (copies := list(spool.glob("maas-client-*/*"))):
            assert process.poll() is None
        [copy] = copies
        assert copy.stat().st_mode & 0o777 == 0o600
        assert copy.parent.stat().st_mode & 0o777 == 0o700
        process.send_signal(number)
        process.wait(timeout=60)
        process.stdin.close()
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert not list(spool.iterdir())


def test_full_disk_is_reported_with_a_way_out(spool: Path) -> None:
    import resource

    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    process = subprocess.run(
        [*VALIDATE, "-"],
        input=DATA * 2000,
        capture_output=True,
        check=False,
        preexec_fn=limit_file_size,
    )
    assert process.returncode == 1
    assert b"cannot copy" in process.stderr
    assert b"TMPDIR" in process.stderr
    assert not list(spool.iterdir())
