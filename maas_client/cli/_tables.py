"""Tables, with rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console  # noqa: TID253 - one of the two files for it
from rich.table import Table  # noqa: TID253 - as above
from rich.text import Text  # noqa: TID253 - as above


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
