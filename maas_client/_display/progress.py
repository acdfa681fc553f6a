"""Who receives the progress of an upload and a job: a display, a function, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from maas_client._hyperparameter_table import read_epochs

if TYPE_CHECKING:
    from maas_client._display.job_display import JobDisplay
    from maas_client.types import Job, JobEvent

ProgressCallback = Callable[[int, int], None]
"""Called with what is done and the total: bytes of an upload, steps of a job. 0 is an unknown total."""


class Progress:
    """Receives what happens, and shows nothing."""

    wants_events = False
    """Whether the events of a job must be requested."""

    @property
    def on_upload(self) -> ProgressCallback | None:
        """What to call with the bytes of an upload; None: nothing."""
        return None

    def on_status(self, status: str) -> None:
        """Receive what happens now, before or after the job."""

    def on_job(self, job: Job) -> None:
        """Receive the job, as soon as it exists, and again when its status is requested."""

    def on_event(self, event: JobEvent) -> None:
        """Receive an event of the job."""


class _Display(Progress):
    """Shows a live display."""

    wants_events = True
    is_active: ClassVar[bool] = False
    """Two displays would overwrite each other, so others show nothing meanwhile."""

    def __init__(self, display: JobDisplay) -> None:
        self._display = display
        self._job: str | None = None

    @property
    def on_upload(self) -> ProgressCallback | None:
        return self._display.on_upload

    def on_status(self, status: str) -> None:
        self._display.on_status(status)

    def on_job(self, job: Job) -> None:
        if self._job != job.id:
            self._job = job.id
            self._display.on_job(job)

    def on_event(self, event: JobEvent) -> None:
        self._display.on_event(event)


class _Callback(Progress):
    """Calls a function with the bytes of uploads and the steps of a job."""

    wants_events = True

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback
        self._epochs = 0.0
        self._step = 0

    @property
    def on_upload(self) -> ProgressCallback | None:
        return self._callback

    def on_job(self, job: Job) -> None:
        self._epochs = read_epochs(job.hyperparameters) or 0.0

    def on_event(self, event: JobEvent) -> None:
        if event.type != "metrics" or event.step is None or event.step <= self._step:
            return
        self._step = event.step
        epoch = event.metrics.get("epoch", 0.0)
        total = round(event.step / epoch * self._epochs) if epoch > 0 else 0
        self._callback(event.step, max(total, event.step) if total else 0)


@contextmanager
def show_progress(
    option: bool | ProgressCallback | None, status: str, *, is_shown_by_caller: bool = False
) -> Iterator[Progress]:
    """Yield what receives the progress while the block runs.

    Args:
        option: True: a display; False: nothing; a function: call it; None: a display in a terminal or notebook.
        status: What is shown first.
        is_shown_by_caller: Whether the caller receives events itself, so that None shows nothing.
    """
    if callable(option):
        yield _Callback(option)
        return
    update = _notebook_output()
    if option is None:
        option = not is_shown_by_caller and (update is not None or _is_terminal())
    if not option or _Display.is_active:
        yield Progress()
        return
    from maas_client._display.job_display import JobDisplay

    display = JobDisplay(status, update)
    _Display.is_active = True
    display.start()
    try:
        yield _Display(display)
    finally:
        display.stop()
        _Display.is_active = False


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _notebook_output() -> Callable[[str], None] | None:
    """Return what replaces a text below the running cell of a notebook; None outside of notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    handle: list[Any] = []

    def update(text: str) -> None:
        from importlib import import_module

        data = {"text/plain": text}
        if handle:
            handle[0].update(data, raw=True)
        else:
            display = import_module("IPython.display").display
            handle.append(display(data, raw=True, display_id=True))

    return update
