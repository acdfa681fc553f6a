"""Following a job: a line per event or a live display, and how to resume after an interrupt."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from maas_client.cli._messages import command
from maas_client.cli._output import print_json, print_note

if TYPE_CHECKING:
    from maas_client.types import Job, JobEvent


class JobObserver(Protocol):
    """Receives a job and its events."""

    def on_job(self, job: Job) -> None:
        """Receive the job, as soon as it exists."""

    def on_event(self, event: JobEvent) -> None:
        """Receive an event."""


@contextmanager
def follow_job(
    args: argparse.Namespace,
    *,
    events_to_stdout: bool = False,
    next_step: str = "",
    interrupt_message: str = "",
) -> Iterator[JobObserver]:
    """Show a job and its events while the block runs. After Ctrl-C, print how to resume.

    Args:
        args: The parsed command line.
        events_to_stdout: Print events on stdout; with ``--json`` one object per line.
        next_step: What the same command does after the job, for the message after Ctrl-C.
        interrupt_message: Replaces that message where the job does not continue without this program.
    """
    observer: _LinePrinter | _LiveDisplay
    if events_to_stdout and args.json:
        observer = _JsonPrinter()
    elif sys.stderr.isatty():
        observer = _LiveDisplay()
    elif events_to_stdout:
        observer = _LinePrinter(sys.stdout)
    else:
        observer = _LinePrinter(sys.stderr, quiet_s=5.0)
    try:
        with observer:
            yield observer
    except KeyboardInterrupt:
        print_note(interrupt_message or _describe_resume(observer.name, next_step))
        raise


def _describe_resume(name: str | None, next_step: str) -> str:
    if name is None:
        return "No job was started, or its start was not confirmed. Run the same command again."
    attach = (
        f"Run the same command again: it attaches to the job and then {next_step}. "
        if next_step
        else ""
    )
    return (
        f"job {name} continues. {attach}Watch it: {command('jobs', 'watch', name)}. "
        f"Cancel it: {command('jobs', 'cancel', name)}"
    )


class _LinePrinter:
    """Prints a line per event.

    Training losses are limited to one line every ``quiet_s`` seconds; the newest is printed before any event of
    another type. A status that was printed with the job is not repeated.
    """

    def __init__(self, stream: TextIO, quiet_s: float = 0.0) -> None:
        self.name: str | None = None
        self._stream = stream
        self._quiet_s = quiet_s
        self._last_print = -quiet_s
        self._pending: JobEvent | None = None
        self._initial_status: str | None = None

    def __enter__(self) -> _LinePrinter:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def on_job(self, job: Job) -> None:
        self.name = job.name
        self._initial_status = job.status if self._quiet_s else None
        print_note(f"job {job.name}: {job.status}" + (" (already existed)" if job.attached else ""))

    def on_event(self, event: JobEvent) -> None:
        initial_status, self._initial_status = self._initial_status, None
        if event.type == "status" and event.status == initial_status:
            return
        if event.type == "metrics" and "valid_loss" not in event.metrics:
            now = time.monotonic()
            if now - self._last_print < self._quiet_s:
                self._pending = event
                return
            self._last_print = now
        elif event.type != "metrics" and self._pending is not None:
            self._print(self._pending)
        self._pending = None
        self._print(event)

    def _print(self, event: JobEvent) -> None:
        prefix = "" if event.level == "info" or event.type == "status" else f"{event.level}: "
        print(f"{prefix}{event.message}", file=self._stream, flush=True)


class _JsonPrinter(_LinePrinter):
    """Prints a JSON object per event, one per line."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def on_event(self, event: JobEvent) -> None:
        print_json(event, indent=None)


class _LiveDisplay(_LinePrinter):
    """Shows a live display on stderr."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        from maas_client._display.job_display import JobDisplay

        self._display = JobDisplay()

    def __enter__(self) -> _LiveDisplay:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def on_job(self, job: Job) -> None:
        self.name = job.name
        self._display.on_job(job)

    def on_event(self, event: JobEvent) -> None:
        self._display.on_event(event)
