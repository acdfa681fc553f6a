"""``validate -`` and ``validate <(...)``: checked like a file, and nothing of it stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.dataset.corpus import TWELVE, answer, file

DATA = file(*TWELVE, answer("\u00e9 " + "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3gH5"), b"{}")
VALIDATE = [sys.executable, "-m", "maas_client", "validate"]
Done = subprocess.CompletedProcess[bytes]


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return folder


def run(*words: str, given: bytes = DATA) -> Done:
    return subprocess.run([*VALIDATE, *words], input=given, capture_output=True, check=False)


def test_standard_input_is_checked_as_a_file_is(tmp_path: Path, spool: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(DATA)
    from_file, from_pipe = run(str(path), "--json"), run("-", "--json")
    assert (from_file.returncode, from_pipe.returncode) == (3, 3)
    one, other = json.loads(from_file.stdout), json.loads(from_pipe.stdout)
    assert other["files"][0].pop("path") == "<stdin>"
    assert one["files"][0].pop("path") == str(path)
    assert one == other
    assert not list(spool.iterdir())


def test_lines_for_people_name_it(spool: Path) -> None:
    done = run("-")
    assert b"<stdin>:14:1: error CHAT_" in done.stdout
    assert b"<stdin>: NOT VALID" in done.stdout
    assert os.fsencode(spool) not in done.stdout + done.stderr
    assert run("-", given=file(*TWELVE)).returncode == 0


def test_nothing_comes_as_an_empty_file() -> None:
    done = run("-", "--json", given=b"")
    assert done.returncode == 3
    assert json.loads(done.stdout)["files"][0]["counts"] == {"FILE_EMPTY": 1}


def test_a_validation_file_and_the_mask_may_come_from_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(file(*TWELVE))
    done = run(str(path), "--validation", "-", "--json")
    assert [each["path"] for each in json.loads(done.stdout)["files"]] == [str(path), "<stdin>"]
    assert b"<stdin>, line 1:" in run("-", "--show-mask").stdout
    page = tmp_path / "page.html"
    run("-", "--html", str(page))
    assert "&lt;stdin&gt;" in page.read_text()


def test_what_cannot_be_done_says_what_to_do(tmp_path: Path, spool: Path) -> None:
    for words in (
        ("-", "-"),
        ("-", "--validation", "-"),
        ("-", "/dev/stdin"),
        ("-", "--fix", str(tmp_path / "out.jsonl")),
    ):
        done = run(*words)
        assert done.returncode == 1, words
        assert b"Write it to a file first" in done.stderr
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *VALIDATE, "-"], capture_output=True, check=False
    )
    assert closed.returncode == 1
    assert b"standard input is closed" in closed.stderr
    assert not list(spool.iterdir())


@pytest.mark.skipif(shutil.which("bash") is None, reason="a shell with <(...)")
def test_a_shells_pipe_has_its_own_name(spool: Path) -> None:
    words = '"$@" <(printf "%s\\n" "{}") --json'
    done = subprocess.run(
        ["bash", "-c", words, "bash", *VALIDATE], capture_output=True, check=False
    )
    [report] = json.loads(done.stdout)["files"]
    assert report["path"].startswith("/dev/fd/")
    assert report["lines"] == 1
    assert not list(spool.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_leaves_nothing(spool: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*VALIDATE, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Under nohup a child is born deaf to SIGHUP, in a script's background to SIGINT.
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


def test_a_full_disk_names_the_way_out(spool: Path) -> None:
    import resource

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = subprocess.run(
        [*VALIDATE, "-"], input=DATA * 2000, capture_output=True, check=False, preexec_fn=small
    )
    assert done.returncode == 1
    assert b"cannot copy" in done.stderr
    assert b"TMPDIR" in done.stderr
    assert not list(spool.iterdir())
