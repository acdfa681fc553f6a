"""Tables and the live display of a job, with rich. The only module that uses rich at import time."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType  # noqa: TID253 - the one file for it
from rich.live import Live  # noqa: TID253 - the one file for it
from rich.progress_bar import ProgressBar  # noqa: TID253 - the one file for it
from rich.table import Table  # noqa: TID253 - the one file for it
from rich.text import Text  # noqa: TID253 - the one file for it

if TYPE_CHECKING:
    from maas_client.types import Job, JobEvent

_BLOCKS = "▁▂▃▄▅▆▇█"
_CHART_WIDTH = 48
_BAR_WIDTH_MIN = 8
_BESIDE_BAR = 60
"""Columns for epoch, step, speed and remaining time beside the bar."""


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, folded to the terminal's width."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        table.add_column(Text(header), overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def print_side_by_side(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of long texts in columns of equal width."""
    table = Table(show_lines=True, header_style="bold", expand=True)
    for header in headers:
        table.add_column(Text(header), ratio=1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def sparkline(values: Sequence[float], width: int = _CHART_WIDTH) -> str:
    """Return a curve of ``values`` in at most ``width`` characters, each the mean of its part."""
    if not values:
        return ""
    cells = min(width, len(values))
    edges = [len(values) * i // cells for i in range(cells + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] for mean in means)


class JobDisplay:
    """A live display of a job: status, steps, losses and elapsed time, with messages above it."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._name = ""
        self._status = "checking and uploading"
        self._step = 0
        self._epoch = 0.0
        self._epochs: float | None = None
        self._speed: float | None = None
        self._first: tuple[datetime, float] | None = None
        self._last: tuple[datetime, float] | None = None
        self._train: dict[int, float] = {}
        self._valid: dict[int, float] = {}
        self._console = Console(file=sys.stderr)
        self._live = Live(
            console=self._console, refresh_per_second=8, get_renderable=self._build_renderable
        )

    def start(self) -> None:
        """Start drawing."""
        self._live.start()

    def stop(self) -> None:
        """Draw once more and stop, leaving the last state on the terminal."""
        self._live.stop()

    def on_job(self, job: Job) -> None:
        """Show the job's name and its number of epochs."""
        self._name, self._status = job.name, job.status
        for name in ("num_train_epochs", "n_epochs", "epochs"):
            if name in job.hyperparameters:
                self._epochs = _parse_number(job.hyperparameters[name])

    def on_event(self, event: JobEvent) -> None:
        """Show an event."""
        if event.type == "status":
            self._status = event.message
        elif event.type == "metrics":
            self._metrics(event)
        else:
            style = {"warning": "yellow", "error": "red"}.get(event.level, "dim")
            self._console.print(Text(event.message, style=style))

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


def _format_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _parse_number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _colour(status: str) -> str:
    status = status.lower()
    if status.startswith(("completed", "succeeded")):
        return "green"
    return "red" if status.startswith(("failed", "cancel")) else "cyan"
