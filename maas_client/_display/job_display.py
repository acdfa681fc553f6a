"""The live display of an upload and a job in a terminal or a notebook, with rich.

Besides ``cli/_tables.py`` the only module that uses rich at import time.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType  # noqa: TID253 - imported for a display only
from rich.live import Live  # noqa: TID253 - as above
from rich.progress_bar import ProgressBar  # noqa: TID253 - as above
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above

from maas_client._hyperparameter_table import read_epochs

if TYPE_CHECKING:
    from maas_client.types import Job, JobEvent

_BLOCKS = "▁▂▃▄▅▆▇█"
_CHART_WIDTH = 48
_BAR_WIDTH_MIN = 8
_BESIDE_BAR = 60
"""Columns for epoch, step, speed and remaining time beside the bar."""


def sparkline(values: Sequence[float]) -> str:
    """Return a curve of ``values``, each character of which is the mean of its part."""
    if not values:
        return ""
    cells = min(_CHART_WIDTH, len(values))
    edges = [len(values) * i // cells for i in range(cells + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] for mean in means)


class JobDisplay:
    """A live display of a job: status, steps, losses and elapsed time, with messages above it.

    Args:
        status: What is shown until there is a job.
        update: Shows a text in a notebook, replacing the one before; None: draw on stderr.
    """

    def __init__(
        self,
        status: str = "checking and uploading",
        update: Callable[[str], None] | None = None,
    ) -> None:
        self._start = time.monotonic()
        self._name = ""
        self._status = status
        self._upload: tuple[int, int] | None = None
        self._step = 0
        self._epoch = 0.0
        self._epochs: float | None = None
        self._speed: float | None = None
        self._first: tuple[datetime, float] | None = None
        self._last: tuple[datetime, float] | None = None
        self._train: dict[int, float] = {}
        self._valid: dict[int, float] = {}
        self._update = update
        self._updated_at = 0.0
        self._console = (
            Console(file=sys.stderr)
            if update is None
            else Console(file=io.StringIO(), width=100, force_jupyter=False)
        )
        self._live: Live | None = None
        if update is None:
            self._live = Live(
                console=self._console, refresh_per_second=8, get_renderable=self._build_renderable
            )

    def start(self) -> None:
        """Start drawing."""
        if self._live is not None:
            self._live.start()

    def stop(self) -> None:
        """Draw once more and stop, leaving the last state on the screen."""
        if self._live is not None:
            self._live.stop()
        else:
            self._draw()

    def _draw(self, *, every_s: float = 0.0) -> None:
        """Draw in a notebook, at most once in ``every_s`` seconds."""
        now = time.monotonic()
        if self._update is None or now - self._updated_at < every_s:
            return
        self._updated_at = now
        with self._console.capture() as capture:
            self._console.print(self._build_renderable())
        self._update(capture.get().rstrip())

    def on_status(self, status: str) -> None:
        """Show what happens before or after the job."""
        self._status = status
        self._draw()

    def on_upload(self, sent: int, total: int) -> None:
        """Show how much of a file is uploaded."""
        self._upload = (sent, total) if sent < total else None
        self._draw(every_s=0.5)

    def on_job(self, job: Job) -> None:
        """Show the job's name and its number of epochs."""
        self._name, self._status, self._upload = job.name, job.status, None
        self._epochs = read_epochs(job.hyperparameters)

    def on_event(self, event: JobEvent) -> None:
        """Show an event."""
        if event.type == "status":
            self._status = event.message
        elif event.type == "metrics":
            self._metrics(event)
        else:
            style = {"warning": "yellow", "error": "red"}.get(event.level, "dim")
            if self._live is not None:
                self._console.print(Text(event.message, style=style))
        self._draw(every_s=0.5)

    def _metrics(self, event: JobEvent) -> None:
        step = event.step or 0
        self._step = max(self._step, step)
        epoch = event.metrics.get("epoch", 0.0)
        self._epoch = max(self._epoch, epoch)
        self._speed = event.metrics.get("tokens_per_s", self._speed)
        if event.created_at is not None and epoch:
            self._first = self._first or (event.created_at, epoch)
            self._last = (event.created_at, epoch)
        for name, losses in (("train_loss", self._train), ("valid_loss", self._valid)):
            if name in event.metrics:
                losses[step] = event.metrics[name]

    def _build_renderable(self) -> RenderableType:
        elapsed = time.monotonic() - self._start
        header = Text.assemble(
            (self._name or "job", "bold"), "  ", (self._status, _colour(self._status)),
            f"  {_format_time(elapsed)}",
        )  # fmt: skip
        parts: list[RenderableType] = [header]
        if self._upload is not None:
            parts.append(_upload_bar(*self._upload))
        if self._epochs and self._epoch:
            grid = Table.grid(padding=(0, 1))
            for _ in range(4):
                grid.add_column(no_wrap=True)
            width = max(_BAR_WIDTH_MIN, min(_CHART_WIDTH, self._console.width - _BESIDE_BAR))
            grid.add_row(
                ProgressBar(total=self._epochs, completed=self._epoch, width=width),
                f"epoch {min(self._epoch, self._epochs):.1f} of {self._epochs:g}, step {self._step}",
                f"{self._speed:,.0f} tokens/s" if self._speed else "",
                self._remaining_time(self._epochs),
            )
            parts.append(grid)
        elif self._step:
            parts.append(Text(f"step {self._step}"))
        for name, losses in (("train_loss", self._train), ("valid_loss", self._valid)):
            if losses:
                values = [losses[step] for step in sorted(losses)]
                curve = f"{sparkline(values)}  {values[0]:.3f} to {values[-1]:.3f}"
                parts.append(Text(f"{name:<11}{curve}"))
        return Group(*parts)

    def _remaining_time(self, epochs: float) -> str:
        """Return the remaining time, from the events' own timestamps: old events may arrive all at once."""
        if self._first is None or self._last is None or self._last[1] >= epochs:
            return ""
        (first_time, first_epoch), (last_time, last_epoch) = self._first, self._last
        elapsed_s = (last_time - first_time).total_seconds()
        if last_epoch <= first_epoch or elapsed_s < 1:
            return ""
        remaining_s = elapsed_s / (last_epoch - first_epoch) * (epochs - last_epoch)
        return f"{_format_time(remaining_s)} left"


def _upload_bar(sent: int, total: int) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    text = f"{sent / 1e6:,.1f} of {total / 1e6:,.1f} MB"
    grid.add_row(ProgressBar(total=total, completed=sent, width=_CHART_WIDTH), text)
    return grid


def _format_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _colour(status: str) -> str:
    status = status.lower()
    if status.startswith(("completed", "succeeded")):
        return "green"
    return "red" if status.startswith(("failed", "cancel")) else "cyan"
