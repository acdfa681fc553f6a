"""Output of a command: data on stdout (JSON, a table or fields); notes on stderr, and those after Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

Row = Mapping[str, Any]


def print_note(text: str) -> None:
    """Print a line for the user on stderr; commands in it get the connection options of this one."""
    from maas_client.cli._messages import with_connection_options

    print(with_connection_options(text), file=sys.stderr, flush=True)


@contextmanager
def report_overwrites(*paths: str | PathLike[str]) -> Iterator[None]:
    """Report, after a successful block, which of these files existed before and were replaced."""
    before = [os.fspath(path) for path in paths if os.path.isfile(path)]
    yield
    for path in before:
        if os.path.isfile(path):
            print_note(f"{path} already existed and was replaced")


def adapt_install_command(text: str) -> str:
    """Return ``text`` with ``pip install 'maas-client[...]'`` adapted to an installation from a folder.

    What is installed from a folder need not be on a package index, so the folder is named instead.
    """
    if "pip install 'maas-client[" not in text:
        return text
    from importlib import metadata

    try:
        origin = json.loads(
            metadata.distribution("maas-client").read_text("direct_url.json") or "{}"
        )
    except (metadata.PackageNotFoundError, ValueError):
        return text
    if "dir_info" not in origin:
        return text
    folder = unquote(urlsplit(str(origin.get("url"))).path)
    flag = "-e " if origin["dir_info"].get("editable") else ""
    return re.sub(r"pip install 'maas-client\[", lambda _: f"pip install {flag}'{folder}[", text)


def strip_control_chars(text: str) -> str:
    """Return text that cannot move a terminal's cursor or change its colours.

    Of a line that overwrites itself with carriage returns (a progress bar) the last state is kept. Escape
    sequences are removed, other control characters are written as ``\\xNN``.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        states = [state for state in line.split("\r") if state]
        lines.append(_CONTROL.sub(_escape, states[-1] if states else ""))
    return "\n".join(lines)


_SEQUENCE = r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
_CONTROL = re.compile(rf"{_SEQUENCE}|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _escape(match: re.Match[str]) -> str:
    return "" if len(match[0]) > 1 else f"\\x{ord(match[0]):02x}"


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Return a model, or a list or mapping of models, as JSON. The service's response (``raw``) is left out."""
    is_utf = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(_to_plain(value), indent=indent, ensure_ascii=not is_utf, default=str)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON on stdout."""
    print(to_json(value, indent=indent), flush=True)


def print_table(
    args: argparse.Namespace, columns: Sequence[str], items: Iterable[Any], *, empty_message: str
) -> None:
    """Print a list: JSON with ``--json``, a table on a terminal, aligned text elsewhere.

    ``columns`` are fields of the items; a column without any value is left out. ``empty_message`` is printed on
    stderr if there are no items.
    """
    rows = [_to_plain(item) for item in items]
    if args.json:
        print_json(rows)
        return
    if not rows:
        print_note(empty_message)
        return
    columns = [name for name in columns if any(_cell(row.get(name)) for row in rows)]
    cells = [[shorten(_cell(row.get(name))) for name in columns] for row in rows]
    headers = [name.replace("_", " ").upper() for name in columns]
    if sys.stdout.isatty():
        from maas_client.cli import _tables

        _tables.print_table(headers, cells)
        return
    print(align_columns([headers, *cells]))


def print_fields(args: argparse.Namespace, fields: Row, item: Any = None) -> None:
    """Print one item: JSON with ``--json`` (of ``item``, if given), else one line per field with a value."""
    if args.json:
        print_json(fields if item is None else item)
        return
    rows = [(name.replace("_", " "), _cell(value)) for name, value in fields.items()]
    print(align_columns([[name, text] for name, text in rows if text]))


def print_confirmation(args: argparse.Namespace, action: str, name: str) -> None:
    """Confirm an action on ``name``: JSON on stdout with ``--json``, else a note on stderr."""
    if args.json:
        print_json({action: name})
    else:
        print_note(f"{action} {name}")


def print_simulated_note(items: Iterable[Any], text: str) -> None:
    """Print on stderr which of these resources the instant engine simulated, after ``text``."""
    names = [item.name for item in items if item.simulated]
    if names:
        others = f" and {len(names) - _NAMES_IN_NOTE} more" if names[_NAMES_IN_NOTE:] else ""
        print_note(f"{text} {', '.join(names[:_NAMES_IN_NOTE])}{others}")


_NAMES_IN_NOTE = 3


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns, two spaces apart and as wide as their widest cell."""
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
    """Return a value as one line. Control characters are replaced, because values come from a service."""
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


def shorten(text: str) -> str:
    """Return a model's asset URI as ``NAME:VERSION`` and a time without fractions of a second."""
    if match := re.fullmatch(r"azureml:.*/models/([^/]+)(?:/(?:versions|labels)/([^/]+))?", text):
        return ":".join(part for part in match.groups() if part)
    if match := re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)", text):
        return f"{match[1]} {match[2]}Z"
    return text


def _to_plain(value: Any) -> Any:
    """Return a value in types that ``json.dumps`` accepts."""
    if hasattr(value, "model_dump"):
        fields = {name: getattr(value, name) for name in type(value).model_fields if name != "raw"}
        return _to_plain({**fields, **(value.model_extra or {})})
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): _to_plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_to_plain(v) for v in value)
    if isinstance(value, list | tuple):
        return [_to_plain(v) for v in value]
    return value


CONTINUE_UPLOAD = "Run the same command again: parts that were sent are not sent again."


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived."""


@contextmanager
def print_on_interrupt(message: str = "") -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C while the block runs, and print ``message`` after either of them."""
    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        if is_default:
            signal.signal(signal.SIGTERM, _terminate)
    except ValueError:  # only the main thread may set handlers
        is_default = False
    try:
        yield
    except KeyboardInterrupt:
        if message:
            print_note(message)
        raise
    finally:
        if is_default:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
