"""``validate --show-mask``: rows as the model reads them, and which part of them it learns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from maas_client.cli._output import print_json, print_note

if TYPE_CHECKING:
    from maas_client.chat import ChatTemplate

_DEFAULT = "Phi-4-mini-instruct"


def print_mask(args: argparse.Namespace, names: Mapping[str, str]) -> int:
    """Print the first rows of each file; return 0, or 3 if there is none to print.

    ``names``: what files are to be called that have another name.
    """
    from maas_client._settings import Settings
    from maas_client.catalog import find_model
    from maas_client.chat import get_template
    from maas_client.dataset.edit.atomic_write import require_regular_file

    for file in args.files:
        require_regular_file(file)
    facts = find_model(args.model, override=Settings.load().catalog_file()) if args.model else None
    template = get_template(facts.template if facts else args.model or _DEFAULT)
    print_note(f"template {template.name} ({template.revision})")
    shown = [
        row | {"path": names.get(file, file)}
        for file in args.files
        for row in _rows(file, template, args)
    ]
    if args.json:
        print_json(shown)
        return 0 if shown else 3
    for row in shown:
        print(f"{row['path']}, line {row['line']}:")
        _draw(row["segments"])
    print_note("learned text is green; everything else is only read" if sys.stdout.isatty() else
         "learned text stands between ⟦ and ⟧; everything else is only read")  # fmt: skip
    return 0 if shown else 3


def _rows(path: str, template: ChatTemplate, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from maas_client.chat import render
    from maas_client.dataset.parsing.lines import read_rows

    for line, row in islice(read_rows(path, model=args.model), max(0, args.rows)):
        segments = render(row["messages"], row.get("tools"), template)
        yield {
            "path": path,
            "line": line.number,
            "segments": [{"text": s.text, "learned": s.in_loss} for s in segments],
        }


def _draw(segments: list[dict[str, Any]]) -> None:
    if not sys.stdout.isatty():
        print("".join(f"⟦{s['text']}⟧" if s["learned"] else s["text"] for s in segments))
        return
    from rich.console import Console
    from rich.text import Text

    text = Text()
    for segment in segments:
        safe = "".join(c if c.isprintable() or c == "\n" else "·" for c in segment["text"])
        text.append(safe, "green" if segment["learned"] else "dim")
    Console(highlight=False).print(text)
