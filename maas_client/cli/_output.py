"""What a command prints: data on stdout (JSON, a table, or fields), words on stderr."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any
from urllib.parse import unquote, urlsplit

Row = Mapping[str, Any]


def print_note(text: str) -> None:
    """Say something to the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def report_overwrites(*paths: str | PathLike[str]) -> Iterator[None]:
    """Say, when the block has ended well, which of the files it wrote had been there before."""
    before = [os.fspath(path) for path in paths if os.path.isfile(path)]
    yield
    for path in before:
        if os.path.isfile(path):
            print_note(f"{path} was there already and has been replaced")


def adapt_install_command(text: str) -> str:
    """Return ``text`` with its ``pip install`` of this package in the form that works here: a checkout that is
    installed editable has no such name on an index."""
    if "pip install 'maas-client[" not in text:
        return text
    from importlib import metadata

    try:
        place = json.loads(
            metadata.distribution("maas-client").read_text("direct_url.json") or "{}"
        )
    except (metadata.PackageNotFoundError, ValueError):
        return text
    if not place.get("dir_info", {}).get("editable"):
        return text
    folder = unquote(urlsplit(str(place.get("url"))).path)
    return re.sub(r"pip install 'maas-client\[", lambda _: f"pip install -e '{folder}[", text)


def strip_control_chars(text: str) -> str:
    """Return text that cannot move a terminal's cursor or change its colours: of a line that was drawn over
    (a progress bar) the last state, and other control characters written out."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        drawn = [part for part in line.split("\r") if part]
        lines.append(_CONTROL.sub(_escaped, drawn[-1] if drawn else ""))
    return "\n".join(lines)


_SEQUENCE = r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
_CONTROL = re.compile(rf"{_SEQUENCE}|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _escaped(found: re.Match[str]) -> str:
    """Drop a whole escape sequence; write a lone control character as ``\\xNN``."""
    return "" if len(found[0]) > 1 else f"\\x{ord(found[0]):02x}"


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Return JSON for a noun, a list or a mapping of them. The service's own answer (``raw``) stays out."""
    text = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(_plain(value), indent=indent, ensure_ascii=not text, default=str)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON on stdout."""
    print(to_json(value, indent=indent), flush=True)


def print_table(
    args: argparse.Namespace, columns: Sequence[str], items: Iterable[Any], *, empty_message: str
) -> None:
    """Print a list: JSON with ``--json``, a table on a terminal, aligned text elsewhere.

    ``columns`` are fields of the nouns, shown where any row has a value; ``empty`` is said on stderr when
    there are none.
    """
    rows = [_plain(noun) for noun in items]
    if args.json:
        print_json(rows)
        return
    if not rows:
        print_note(empty_message)
        return
    columns = [name for name in columns if any(_cell(row.get(name)) for row in rows)]
    cells = [[_short(_cell(row.get(name))) for name in columns] for row in rows]
    heads = [name.replace("_", " ").upper() for name in columns]
    if sys.stdout.isatty():
        from maas_client.cli import _render

        _render.print_table(heads, cells)
        return
    print(align_columns([heads, *cells]))


def print_fields(args: argparse.Namespace, fields: Row, item: Any = None) -> None:
    """Print one thing: JSON with ``--json`` (of ``noun``, if given), else a line per field that says
    something."""
    if args.json:
        print_json(fields if item is None else item)
        return
    told = [(name.replace("_", " "), _cell(value)) for name, value in fields.items()]
    print(align_columns([[name, value] for name, value in told if value]))


def print_confirmation(args: argparse.Namespace, action: str, name: str) -> None:
    """Say what was done to ``name``: JSON on stdout with ``--json``, words on stderr else."""
    if args.json:
        print_json({action: name})
    else:
        print_note(f"{action} {name}")


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, columns two blanks apart and wide enough for the widest cell."""
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join(
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _width(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _cell(value: Any) -> str:
    """Return a value as one line without control characters: names come from a service."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = ", ".join(f"{k}={v}" for k, v in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(
            sorted(map(str, value)) if isinstance(value, set | frozenset) else map(str, value)
        )
    return "".join(c if c.isprintable() else " " for c in str(value))


def _short(text: str) -> str:
    """Return an asset's address as ``NAME:VERSION``, and a moment to the second: a table is for reading."""
    if found := re.fullmatch(r"azureml:.*/models/([^/]+)(?:/(?:versions|labels)/([^/]+))?", text):
        return ":".join(part for part in found.groups() if part)
    if found := re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)", text):
        return f"{found[1]} {found[2]}Z"
    return text


def _plain(value: Any) -> Any:
    """Return what ``json.dumps`` takes."""
    if hasattr(value, "model_dump"):
        own = {name: getattr(value, name) for name in type(value).model_fields if name != "raw"}
        return _plain({**own, **(value.model_extra or {})})
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(v) for v in value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
