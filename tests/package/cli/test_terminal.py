"""The command line on a terminal: live job display, tables, interactive chat."""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from maas_client.local.embedded_server import LocalServer

if sys.platform == "win32":
    pytest.skip("pseudo-terminals of POSIX", allow_module_level=True)

TRAIN = str(Path(__file__).parents[3] / "examples" / "data" / "train.jsonl")
Cue = tuple[str, str]


def run_in_terminal(
    *args: str, typed: Sequence[Cue] = (), program: Sequence[str] = ("-m", "maas_client")
) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; after each expected output, type the input for it."""
    import pty

    terminal, inner = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, *program, *args],
        stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
    )  # fmt: skip
    os.close(inner)
    output, offset, cues = "", 0, list(typed)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            output += piece.decode("utf-8", "replace")
        if cues and cues[0][0] in output[offset:]:
            offset = len(output)
            os.write(terminal, cues.pop(0)[1].encode())
    os.close(terminal)
    return child.wait(30), output


def test_fine_tune_shows_a_live_display(maas_server: LocalServer) -> None:
    code, output = run_in_terminal("fine-tune", TRAIN, "--model", "Phi-3-mini", "--epochs", "2")
    assert code == 0
    assert "\x1b[" in output
    assert "epoch 2.0 of 2" in output
    assert "train_loss" in output
    assert "Completed" in output
    assert "▁" in output


@pytest.mark.parametrize(("option", "is_shown"), [("", True), (", progress=False", False)])
def test_a_python_program_shows_progress_in_a_terminal(
    maas_server: LocalServer, option: str, is_shown: bool
) -> None:
    program = (
        "import sys, maas_client as maas\n"
        "with maas.Client.from_env() as client:\n"
        f"    client.fine_tune(sys.argv[1], 'Phi-3-mini', deploy='perch'{option})\n"
        "print('the end')"
    )
    code, output = run_in_terminal(TRAIN, program=("-c", program))
    assert code == 0
    assert output.rstrip().endswith("the end")
    assert ("Completed, perch answers" in output) is is_shown
    assert ("train_loss" in output) is is_shown


def test_list_is_a_table(maas_server: LocalServer) -> None:
    code, output = run_in_terminal("models", "list")
    assert code == 0
    assert "RETIRED ON" in output
    assert "Phi-3-mini-4k-instruct" in output


def test_interactive_chat_until_ctrl_d(maas_server: LocalServer) -> None:
    with maas_server.client() as client:
        client.fine_tune(TRAIN, "Phi-3-mini", deploy="perch")
    code, output = run_in_terminal(
        "chat", "perch", "--system", "Be kind.",
        typed=[("> ", "What does error E11 mean?\n"), ("Pip.", "\n"), ("> ", "\x04")],
    )  # fmt: skip
    assert code == 0
    assert "E11 means" in output
    assert "Ctrl-D ends the chat" in output


def test_chat_with_unknown_deployment_fails_immediately(maas_server: LocalServer) -> None:
    code, output = run_in_terminal("chat", "nobody")
    assert code == 1
    assert "maas-client deployments list" in output


def test_ctrl_c_ends_the_answer_but_not_the_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maas_client.cli.commands import chat

    def interrupted(*_: object) -> Iterator[str]:
        yield "Chirp! "
        raise KeyboardInterrupt

    monkeypatch.setattr(chat, "_stream_text", interrupted)
    assert chat._print_answer(argparse.Namespace(), None, []) == "Chirp! "  # type: ignore[arg-type]
    assert capsys.readouterr().out == "Chirp!  ...\n"


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([1.0], "▁"), ([0.0, 1.0], "▁█"), ([8, 7, 6, 5, 4, 3, 2, 1], "█▇▆▅▄▃▂▁")],
)
def test_sparkline(values: list[float], expected: str) -> None:
    from maas_client._display.job_display import sparkline

    assert sparkline(values) == expected
    assert len(sparkline([1.0, 2.0] * 500)) == 48


def test_remaining_time_uses_event_timestamps() -> None:
    from datetime import UTC, datetime

    from maas_client import Job, JobEvent
    from maas_client._display.job_display import JobDisplay

    display = JobDisplay()
    display.on_job(Job(id="a", name="a", status="Running", done=False, succeeded=False,
                  hyperparameters={"num_train_epochs": "4"}))  # fmt: skip
    assert display._remaining_time(4) == ""
    for second, epoch in ((0, 0.5), (30, 1.0)):  # both come at once: the job was running before
        display.on_event(
            JobEvent(
                key=str(epoch),
                type="metrics",
                message="",
                step=second,
                metrics={"epoch": epoch},
                created_at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC),
            )
        )
    assert display._remaining_time(4) == "3:00 left"


def test_display_fits_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from datetime import UTC, datetime

    from maas_client import Job, JobEvent
    from maas_client._display.job_display import JobDisplay

    monkeypatch.setenv("COLUMNS", "80")
    display = JobDisplay()
    display.on_job(Job(id="a", name="a", status="Running", done=False, succeeded=False,
                  hyperparameters={"num_train_epochs": "300"}))  # fmt: skip
    for second, epoch in ((0, 100.0), (40, 126.64)):
        display.on_event(
            JobEvent(
                key=str(epoch),
                type="metrics",
                message="",
                step=81865,
                metrics={"epoch": epoch, "tokens_per_s": 12397.0},
                created_at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC),
            )
        )
    display._console.print(display._build_renderable())
    printed = capsys.readouterr().err
    assert "epoch 126.6 of 300, step 81865 12,397 tokens/s 4:20 left" in printed
