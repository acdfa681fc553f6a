"""The only file that draws: tables and the live display of a job, by rich. Imported late, on terminals."""

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
"""Columns that epoch, step, speed and remaining time take beside the bar."""


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, folded to the terminal's width."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        drawn.add_column(Text(head), overflow="fold", no_wrap=number == 0)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(drawn)


def print_side_by_side(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of long texts, each column an equal share of the terminal."""
    drawn = Table(show_lines=True, header_style="bold", expand=True)
    for head in heads:
        drawn.add_column(Text(head), ratio=1, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(drawn)


def sparkline(values: Sequence[float], width: int = _CHART_WIDTH) -> str:
    """Return a curve of ``values`` in ``width`` characters or fewer; each is the mean of its share."""
    if not values:
        return ""
    cells = min(width, len(values))
    edges = [len(values) * i // cells for i in range(cells + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), (max(means) - min(means)) or 1.0
    return "".join(_BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] for mean in means)


class JobDisplay:
    """Status, steps, losses and elapsed time of one job; messages stay above it as lines."""

    def __init__(self) -> None:
        self._since = time.monotonic()
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
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Draw once more, and leave it standing."""
        self._live.stop()

    def on_job(self, job: Job) -> None:
        """Take the job's name and how long it is meant to be."""
        self._name, self._status = job.name, job.status
        said = job.hyperparameters
        for name in ("num_train_epochs", "n_epochs", "epochs"):
            if name in said:
                self._epochs = _number(said[name])

    def on_event(self, event: JobEvent) -> None:
        """Take what has happened."""
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
        for name, held in (("train_loss", self._train), ("valid_loss", self._valid)):
            if name in event.metrics:
                held[step] = event.metrics[name]

    def _build_renderable(self) -> RenderableType:
        spent = time.monotonic() - self._since
        head = Text.assemble(
            (self._name or "job", "bold"), "  ", (self._status, _colour(self._status)),
            f"  {_clock(spent)}",
        )  # fmt: skip
        parts: list[RenderableType] = [head]
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
        for name, held in (("train_loss", self._train), ("valid_loss", self._valid)):
            if held:
                values = [held[step] for step in sorted(held)]
                curve = f"{sparkline(values)}  {values[0]:.3f} to {values[-1]:.3f}"
                parts.append(Text(f"{name:<11}{curve}"))
        return Group(*parts)

    def _remaining_time(self, epochs: float) -> str:
        """Return the time that is left, by the service's own clock: old events may come in one burst."""
        if self._first is None or self._last is None or self._last[1] >= epochs:
            return ""
        (began, before), (now, done) = self._first, self._last
        spent = (now - began).total_seconds()
        if done <= before or spent < 1:
            return ""
        return f"{_clock(spent / (done - before) * (epochs - done))} left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _colour(status: str) -> str:
    word = status.lower()
    if word.startswith(("completed", "succeeded")):
        return "green"
    return "red" if word.startswith(("failed", "cancel")) else "cyan"
