"""A second process for the duplicates of a large file changes nothing but the time, whatever happens to it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset import file_validator, validate
from maas_client.dataset.parsing.lines import BLOCK_BYTES
from maas_client.dataset.scanners import duplicates_process
from maas_client.dataset.scanners.duplicates_process import DuplicatesProcess, can_start
from maas_client.dataset.scanners.near_duplicates import MAX_ROWS
from tests.fuzz.robustness import check_second_process, run_second_process
from tests.unit.dataset.corpus import (
    ANSWER,
    BROKEN_FILES,
    BROKEN_LINES,
    USER,
    VALID_FILES,
    file,
    message,
    row,
    valid_line,
)

WORDS = (
    "account",
    "change",
    "customer",
    "delivery",
    "error",
    "follow",
    "invoice",
    "market",
    "order",
)


def chat(number: int, edit: str = "") -> bytes:
    words = random.Random(number).choices(WORDS, k=60)
    return row(
        message("user", f"{' '.join(words[:20])} {number}?"),
        message("assistant", f"{' '.join(words[20:])}{edit}."),
    )


def long_line(size: int) -> bytes:
    """Return a valid line of exactly ``size`` bytes, its line feed included."""
    empty = row(USER, message("assistant", "x"))
    return row(USER, message("assistant", "x" * (size - len(empty))))


CHATS = [chat(number) for number in range(600)]
EDITED = [chat(number, " again") for number in range(0, 600, 7)]
CONFLICTING = [row(json.loads(line)["messages"][0], ANSWER) for line in CHATS[3:600:50]]
BROKEN = [fault.line for fault in BROKEN_LINES]
FILES = {
    "duplicates in several blocks": file(*CHATS, *CHATS[::5], *EDITED, *CONFLICTING),
    "every broken line": file(
        *[valid_line(n) for n in range(50)], *BROKEN, *CHATS, *BROKEN, *EDITED
    ),
    "CRLF": file(*CHATS, *EDITED, end=b"\r\n"),
    "byte order mark, no final newline": b"\xef\xbb\xbf" + b"\n".join([*CHATS, *EDITED, CHATS[0]]),
    "blank lines": file(*CHATS, *EDITED, end=b"\n\n"),
    "lines as long as a block": file(
        *[long_line(BLOCK_BYTES + extra) for extra in (-1, 0, 1, -1, BLOCK_BYTES)],
        *CHATS[:9],
        CHATS[3],
    ),
    "every valid file": b"".join(
        data.removeprefix(b"\xef\xbb\xbf").rstrip() + b"\n" for data in VALID_FILES.values()
    )
    * 2,
    "no valid row": file(*BROKEN[:40]),
    "empty": b"",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("model", [None, "Phi-3-mini-4k-instruct"])
def test_report_is_that_of_one_process(tmp_path: Path, name: str, model: str | None) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(FILES[name])
    report = check_second_process(path, model=model)
    if name == "duplicates in several blocks":
        assert report.stats["duplicates"] == {"exact": 120, "conflicting": 12 + 86}
        assert report.stats["near_duplicates"] > 50


def test_report_on_a_broken_file_is_that_of_one_process(tmp_path: Path) -> None:
    for fault in BROKEN_FILES[:8]:
        path = tmp_path / f"train{fault.suffix}"
        path.write_bytes(fault.data)
        check_second_process(path, target=fault.target)


def test_near_duplicates_are_compared_before_the_end_of_a_long_file(tmp_path: Path) -> None:
    # takes some seconds: near duplicates are compared early only after this many rows
    path = tmp_path / "long.jsonl"
    start, end = b'{"messages":[{"role":"user","content":"', b', as far as I know."}]}\n'
    middle = b'?"},{"role":"assistant","content":"It is '
    lines = [b"%b%d%b%d%b" % (start, n, middle, n, end) for n in range(MAX_ROWS)]
    edited = lines[50].replace(b"as far", b"so far")
    path.write_bytes(b"".join([*lines[:100], edited, *lines[100:], *lines[:3000], edited]))
    report = check_second_process(path)
    assert report.stats["duplicates"]["exact"] > 3000
    assert report.stats["near_duplicates_not_compared"]


def test_reports_on_random_files_are_those_of_one_process() -> None:
    assert run_second_process(2500, seed=4) == 2500


@pytest.fixture
def second_process(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Use a second process for files of any size; return the list of the processes that are started."""
    started: list[subprocess.Popen[bytes]] = []

    class Process(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(file_validator, "LARGE_FILE_BYTES", 0)
    monkeypatch.setattr(duplicates_process, "has_idle_core", lambda: True)
    monkeypatch.setattr(subprocess, "Popen", Process)
    return started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(FILES["duplicates in several blocks"])
    return path


def at_second_block(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Call ``action`` before the rows of the second block are sent to the process."""
    feed = DuplicatesProcess.feed
    calls: Iterator[int] = iter(range(1000))

    def act_and_feed(
        self: DuplicatesProcess, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Any]
    ) -> Any:
        if next(calls) == 1:
            action()
        return feed(self, numbers, lines, rows)

    monkeypatch.setattr(DuplicatesProcess, "feed", act_and_feed)


LOST = {
    "fails at its start": "raise SystemExit(1)",
    "is killed after its first rows": (
        "import os, signal, sys; sys.stdin.buffer.read(20); os.kill(os.getpid(), signal.SIGKILL)"
    ),
    "ends before its results": "import sys; sys.stdin.buffer.read()",
    "ends within its results": (
        "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(['x' * 99])[:50]); "
        "sys.stdout.close()"
    ),
}


@pytest.mark.parametrize("command", LOST.values(), ids=LOST)
def test_a_process_that_ends_early_makes_no_difference(
    path: Path,
    command: str,
    second_process: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = validate(path)
    monkeypatch.setattr(duplicates_process, "_COMMAND", command)
    assert validate(path) == report
    assert [process.returncode is None for process in second_process] == [False, False]


def test_a_killed_process_makes_no_difference(
    path: Path,
    second_process: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = validate(path)

    def kill() -> None:
        second_process[-1].kill()
        second_process[-1].wait()

    at_second_block(monkeypatch, kill)
    assert validate(path) == report
    assert len(second_process) == 2


@pytest.mark.parametrize("executable", ["", "/usr/bin/blender", "/no/such/folder/python3"])
def test_a_program_that_is_not_python_is_not_started(
    path: Path,
    executable: str,
    second_process: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = validate(path)
    monkeypatch.setattr(sys, "executable", executable)
    assert validate(path) == report
    assert len(second_process) == 1


def test_a_file_that_changes_is_reported_or_validated_again(
    path: Path,
    second_process: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_second_block(monkeypatch, lambda: path.write_bytes(file(*CHATS[:20])))
    report = validate(path)
    assert "FILE_CHANGED" in report.summary() or report == validate(path)
    assert second_process[0].returncode is not None


def test_an_interrupt_ends_the_process(
    path: Path,
    second_process: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    at_second_block(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        validate(path)
    assert second_process[0].returncode == -signal.SIGKILL


PROGRAM = """
import sys, time
from maas_client.dataset import file_validator, validate
from maas_client.dataset.scanners import duplicates_process

class Process(duplicates_process.subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **{**options, "stderr": None})

def feed(self, numbers, lines, rows):
    self._send(numbers)
    print("rows were sent", flush=True)
    time.sleep(100)

duplicates_process.subprocess.Popen = Process
duplicates_process.DuplicatesProcess.feed = feed
file_validator.LARGE_FILE_BYTES = 0
duplicates_process.has_idle_core = lambda: True
validate(sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_process_ends_with_the_program(path: Path, number: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert program.stdout
    assert program.stdout.readline() == "rows were sent\n"
    if number == signal.SIGINT:  # as a terminal does: to all processes of the group
        os.killpg(program.pid, number)
    else:
        program.send_signal(number)
    program.communicate(timeout=20)  # both have ended: both have this pipe's end
    assert program.returncode == -number


@pytest.mark.parametrize(
    "options", [{"validation": [json.loads(CHATS[0])]}, {"content": False}, {"method": "DPO"}]
)
def test_only_a_search_for_duplicates_in_one_file_has_a_process(
    path: Path, options: dict[str, Any], second_process: list[subprocess.Popen[bytes]]
) -> None:
    validate(path, **options)
    assert not second_process


def test_nothing_is_imported_from_the_current_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("json", "msgspec", "pickle"):
        (path.parent / f"{module}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(path.parent)
    check_second_process(path)


def test_a_process_is_started_for_a_large_file_only(
    path: Path, second_process: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_validator, "LARGE_FILE_BYTES", path.stat().st_size + 1)
    os.mkfifo(path.parent / "pipe.jsonl")
    for name in ("train.jsonl", "pipe.jsonl", "no such file", "\0"):
        validate(path.parent / name)
    assert not second_process
    monkeypatch.setattr(file_validator, "LARGE_FILE_BYTES", path.stat().st_size)
    validate(path)
    assert len(second_process) == 1


def test_a_process_is_started_on_an_idle_core_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_process, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.9, 5.0, 5.0))
    assert can_start()
    with monkeypatch.context() as change:
        change.setattr(duplicates_process, "usable_cores", lambda: 1)
        assert not can_start()
    with monkeypatch.context() as change:
        change.setattr(os, "getloadavg", lambda: (1.1, 0.0, 0.0))
        assert not can_start()
    with monkeypatch.context() as change:
        change.setattr(multiprocessing, "parent_process", lambda: object())
        assert not can_start()
    handler = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert not can_start()
    finally:
        signal.signal(signal.SIGPIPE, handler)
