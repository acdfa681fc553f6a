"""``maas-client datasets``: files the backend holds; ``convert`` and ``split`` work on files here."""

from __future__ import annotations

import argparse
import sys

from maas_client.cli import _connection
from maas_client.cli._output import print_confirmation, print_fields, print_note, print_table
from maas_client.cli._parser import CommandTable, add_commands, add_subcommand

_FILES: CommandTable = {
    "convert": ("datasets_convert", "turn CSV, Alpaca, ShareGPT, ... into chat lines"),
    "split": ("datasets_split", "split a file into training and validation, without leakage"),
}
_COLUMNS = ("name", "version", "status", "bytes", "created_at")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    group = add_commands(parser, _FILES)
    upload = add_subcommand(group, "upload", "check a file, then upload it", _upload)
    upload.add_argument("file", metavar="FILE", help="chats, one JSON object a line")
    upload.add_argument("--name", help="the data set's name (default: the file's)")
    upload.add_argument("--model", help="check it for this model too")
    upload.add_argument("--ignore", action="append", default=[], metavar="CODE",
                        help="let problems of this code pass")  # fmt: skip
    listing = add_subcommand(group, "list", "list the data sets the backend holds", _list)
    show = add_subcommand(group, "show", "show one data set", _show)
    delete = add_subcommand(group, "delete", "delete a data set", _delete)
    for one in (show, delete):
        one.add_argument("dataset", metavar="NAME", help="its name or id")
    for one in (upload, listing, show, delete):
        _connection.add_options(one)


def _upload(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        shown = _Bytes() if sys.stderr.isatty() else None
        made = client.datasets.upload(
            args.file, name=args.name, model=args.model, ignore=tuple(args.ignore), progress=shown
        )
    if made.already_there:
        print_note("these bytes lay there already; nothing was sent")
    print_fields(args, _fields(made), made)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        print_table(args, _COLUMNS, client.datasets.list(), empty_message="there are no data sets")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        held = client.datasets.get(args.dataset)
    print_fields(args, _fields(held), held)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        client.datasets.delete(args.dataset)
    print_confirmation(args, "deleted", args.dataset)
    return 0


def _fields(held: object) -> dict[str, object]:
    names = ("name", "version", "id", "uri", "filename", "bytes", "sha256", "status", "created_at")
    return {name: getattr(held, name) for name in names}


class _Bytes:
    """An upload's progress, for a terminal: one line on stderr that is written over."""

    def __call__(self, done: int, total: int) -> None:
        share = 100 * done // max(1, total)
        end = "\n" if done >= total else ""
        print(f"\rsent {done / 2**20:,.1f} of {total / 2**20:,.1f} MB ({share} %)", end=end,
              file=sys.stderr, flush=True)  # fmt: skip
