"""What a Python program shows while it uploads and waits, and what Ctrl-C leaves."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maas_client import Client, Job
from maas_client._hyperparameter_table import read_epochs
from maas_client.local.embedded_server import LocalServer, serve

TRAIN = str(Path(__file__).parents[3] / "examples/data/train.jsonl")


@pytest.fixture
def sync_client(server: LocalServer) -> Client:
    return server.client()


@pytest.mark.parametrize(("value", "epochs"), [("-1", None), ("auto", None), ("3", 3.0), (2, 2.0)])
def test_a_number_of_epochs_that_the_service_chooses_is_none(
    value: object, epochs: float | None
) -> None:
    job = Job(
        id="ftjob-1", name="ftjob-1", status="running", done=False, succeeded=False,
        hyperparameters={"n_epochs": value},
    )  # fmt: skip
    assert read_epochs(job.hyperparameters) == epochs


@pytest.fixture(scope="module")
def slow_server() -> Iterator[LocalServer]:
    """A server whose jobs take long enough to interrupt the wait for them."""
    local_server = serve(engine="instant")
    local_server._config = replace(local_server._config, step_delay_s=0.5)
    with local_server as running:
        yield running


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_is_shown_outside_of_terminals_and_notebooks(
    sync_client: Client, progress: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = sync_client.datasets.upload(TRAIN, progress=progress)
    job = sync_client.jobs.create("Phi-3-mini", dataset, progress=progress)
    sync_client.jobs.wait(job, progress=progress)
    sync_client.fine_tune(TRAIN, "Phi-3-mini", deploy="quiet", progress=progress)
    assert capsys.readouterr() == ("", "")


def test_true_shows_status_steps_and_losses(
    sync_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sync_client.fine_tune(
        TRAIN, "Phi-3-mini", hyperparameters={"epochs": 2}, deploy="shown", progress=True
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert result.job.name in err
    assert "epoch 2.0 of 2" in err
    assert "train_loss" in err
    assert "Completed, shown answers" in err
    sync_client.jobs.wait(result.job, progress=True)
    assert "epoch 2.0 of 2" in capsys.readouterr().err


def test_a_function_receives_bytes_and_steps(sync_client: Client, tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_bytes(Path(TRAIN).read_bytes() + b"\n" * 3)
    calls: list[tuple[int, int]] = []
    sync_client.fine_tune(
        path,
        "Phi-3-mini",
        hyperparameters={"epochs": 2},
        progress=lambda done, total: calls.append((done, total)),
    )
    size = path.stat().st_size
    assert calls[0] == (size, size)
    steps = calls[1:]
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1] > 1
    waited: list[tuple[int, int]] = []
    job = next(iter(sync_client.jobs.list()))
    sync_client.jobs.wait(job, progress=lambda *numbers: waited.append(numbers))
    assert waited[-1] == steps[-1]


def test_a_notebook_replaces_one_output(
    sync_client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """IPython is not installed here, so this holds the calls that its documentation names."""
    texts: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            texts.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        texts.append(data["text/plain"])
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})()
    package, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    vars(package).update(get_ipython=lambda: shell, display=module)
    vars(module).update(display=display)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    result = sync_client.fine_tune(TRAIN, "Phi-3-mini", name="in-a-notebook")
    assert "in-a-notebook" in texts[-1]
    assert "Completed" in texts[-1]
    assert "\x1b" not in texts[-1]
    assert capsys.readouterr() == ("", "")
    count = len(texts)
    sync_client.jobs.wait(result.job, on_event=lambda _: None)  # the program shows events itself
    assert len(texts) == count


def test_the_log_names_the_steps(
    sync_client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "logged.jsonl"
    path.write_bytes(Path(TRAIN).read_bytes() + b"\n" * 5)
    caplog.set_level(logging.INFO, "maas_client")
    result = sync_client.fine_tune(path, "Phi-3-mini", deploy="logged")
    lines = [record.getMessage() for record in caplog.records if record.name == "maas_client"]
    text = "\n".join(lines)
    for part in (
        f"validating {path}",
        f"uploading {path}",
        "is stored as data set logged",
        f"created job {result.job.name}",
        f"job {result.job.name}: Completed",
        "as logged; waiting until it answers",
        "deployment logged is ready",
    ):
        assert part in text, text


def test_two_displays_do_not_overwrite_each_other(
    sync_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    from maas_client._display.progress import show_progress

    with show_progress(True, "first"), show_progress(True, "second"):
        pass
    err = capsys.readouterr().err
    assert "first" in err
    assert "second" not in err


_SYNC = """
import maas_client as maas
client = maas.Client.from_env()
job = client.jobs.create("Phi-3-mini", DATA, name=NAME)
print(flush=True)
client.jobs.wait(job, on_event=lambda event: print(flush=True))
"""
_FINE_TUNE = """
import maas_client as maas
client = maas.Client.from_env()
client.fine_tune(DATA, "Phi-3-mini", name=NAME, deploy="perch", on_event=lambda event: print(flush=True))
"""
_ASYNC = """
import asyncio, maas_client as maas
async def main():
    async with maas.AsyncClient.from_env() as client:
        job = await client.jobs.create("Phi-3-mini", DATA, name=NAME)
        await client.jobs.wait(job, on_event=lambda event: print(flush=True))
asyncio.run(main())
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("program", "name", "resume"),
    [
        (_SYNC, "stopped-sync", "client.jobs.wait('{}') waits for it again"),
        (_FINE_TUNE, "stopped-tune", "the same call attaches to it and then deploys perch"),
        (_ASYNC, "stopped-async", "client.jobs.wait('{}') waits for it again"),
    ],
)
def test_ctrl_c_leaves_one_sentence_that_resumes(
    slow_server: LocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    name: str,
    resume: str,
) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"DATA, NAME = {TRAIN!r}, {name!r}\n{program}")
    monkeypatch.setenv("MAAS_URL", slow_server.url)
    child = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()  # the job exists and is awaited
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert err.strip() == (
        f"interrupted: job {name} continues; {resume.format(name)}, and client.jobs.cancel({name!r}) "
        "cancels it"
    )
    assert child.returncode == -signal.SIGINT
    client = slow_server.client()
    assert not client.jobs.get(name).done  # it goes on
    client.jobs.cancel(name)


def test_an_interrupt_that_the_program_handles_is_an_ordinary_one(sync_client: Client) -> None:
    from maas_client.flows.job_events import interrupt_note

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    hook = sys.excepthook
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            sync_client.fine_tune(TRAIN, "Phi-3-mini", on_event=interrupt)
    finally:
        sys.excepthook = hook
    assert type(caught.value) is KeyboardInterrupt
    # The server runs inside this program, so the job does not go on.
    assert "ends with this program" in interrupt_note(sync_client._io, "a")
    assert caught.value._render_traceback_()[0].startswith("interrupted: job ")  # type: ignore[attr-defined]
