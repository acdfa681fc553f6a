"""Following a job: plain lines anywhere, a live display on a terminal, and how to resume when stopped."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from maas_client.cli._output import print_json, print_note

if TYPE_CHECKING:
    from maas_client.types import Job, JobEvent


class JobObserver(Protocol):
    """What is told of a job as it goes on."""

    def on_job(self, job: Job) -> None:
        """Take the job, as soon as there is one."""

    def on_event(self, event: JobEvent) -> None:
        """Take what has happened."""


@contextmanager
def follow_job(
    args: argparse.Namespace,
    *,
    events_to_stdout: bool = False,
    next_step: str = "",
    interrupt_message: str = "",
) -> Iterator[JobObserver]:
    """Show a job while the block runs. Interrupted, or with the wait over, say how to go on watching.

    ``events_to_stdout`` prints the events on stdout where that is no terminal: with ``--json`` one object
    a line. ``next_step`` is what the same command would still do after the job; ``interrupt_message`` is
    shown instead where the job does not go on without this program.
    """
    shown: _LinePrinter | _LiveDisplay
    if events_to_stdout and args.json:
        shown = _JsonPrinter()
    elif sys.stderr.isatty():
        shown = _LiveDisplay()
    else:
        shown = (
            _LinePrinter(sys.stdout) if events_to_stdout else _LinePrinter(sys.stderr, quiet_s=5.0)
        )
    try:
        with shown:
            yield shown
    except KeyboardInterrupt:
        print_note(interrupt_message or _resume(shown.name, next_step))
        raise


def _resume(name: str | None, again: str) -> str:
    if name is None:
        return "Nothing was started, or its start was not seen: run the same command again."
    attach = (
        f"Run the same command again: it attaches to the job and then {again}. " if again else ""
    )
    return (
        f"job {name} goes on. {attach}Watch it again: maas-client jobs watch {name}; "
        f"end it: maas-client jobs cancel {name}"
    )


class _LinePrinter:
    """A line per event; training losses at most one line every ``quiet_s`` seconds, and the newest before
    anything but numbers is told. A status that was told with the job is not told again right behind it."""

    def __init__(self, stream: TextIO, quiet_s: float = 0.0) -> None:
        self.name: str | None = None
        self._stream = stream
        self._quiet_s = quiet_s
        self._last = -quiet_s
        self._held: JobEvent | None = None
        self._told: str | None = None

    def __enter__(self) -> _LinePrinter:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def on_job(self, job: Job) -> None:
        self.name = job.name
        self._told = job.status if self._quiet_s else None
        print_note(
            f"job {job.name}: {job.status}" + (" (it was there already)" if job.attached else "")
        )

    def on_event(self, event: JobEvent) -> None:
        told, self._told = self._told, None
        if event.type == "status" and event.status == told:
            return
        if event.type == "metrics" and "valid_loss" not in event.metrics:
            now = time.monotonic()
            if now - self._last < self._quiet_s:
                self._held = event
                return
            self._last = now
        elif event.type != "metrics" and self._held is not None:
            self._print(self._held)
        self._held = None
        self._print(event)

    def _print(self, event: JobEvent) -> None:
        prefix = "" if event.level == "info" or event.type == "status" else f"{event.level}: "
        print(f"{prefix}{event.message}", file=self._stream, flush=True)


class _JsonPrinter(_LinePrinter):
    """A JSON object per event, one a line."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def on_event(self, event: JobEvent) -> None:
        print_json(event, indent=None)


class _LiveDisplay(_LinePrinter):
    """A display that is drawn over, on stderr."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        from maas_client.cli import _render

        self._display = _render.JobDisplay()

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
