"""Command line of the benchmarks: print a table, or one JSON object with ``--json``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

Row = Sequence[str]


def main(
    text: str,
    measure: Callable[[argparse.Namespace], tuple[dict[str, Any], list[Row]]],
    options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Parse the command line, measure and print. ``measure`` returns the JSON object and the table rows."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    if options is not None:
        options(parser)
    args = parser.parse_args()
    figures, rows = measure(args)
    if args.json:
        print(json.dumps(figures))
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
