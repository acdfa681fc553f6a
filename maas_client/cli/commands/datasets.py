"""``maas-client datasets``: data sets of the backend; ``convert`` and ``split`` work on local files."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from maas_client.cli import _connection
from maas_client.cli._messages import command
from maas_client.cli._output import (
    CONTINUE_UPLOAD,
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_on_interrupt,
    print_table,
    report_overwrites,
)
from maas_client.cli._parser import add_subcommand, add_subcommands, refuse_unused

_COLUMNS = ("name", "version", "status", "bytes", "created_at")
_DEFAULT_SHARE = 0.1
"""Share of the rows for validation."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    group = add_subcommands(parser)
    _add_convert(group)
    _add_split(group)
    upload = add_subcommand(group, "upload", "validate a file and upload it", _upload)
    upload.add_argument("file", metavar="FILE", help="chats, one JSON object per line")
    upload.add_argument("--name", help="the data set's name (default: the file's name)")
    upload.add_argument("--model", help="also validate it for this model")
    upload.add_argument("--method", metavar="METHOD", help="DPO: the rows are preferences")
    upload.add_argument("--ignore", action="append", default=[], metavar="CODE",
                        help="skip checks with this code (repeatable)")  # fmt: skip
    listing = add_subcommand(group, "list", "list the backend's data sets", _list)
    show = add_subcommand(group, "show", "show one data set", _show)
    delete = add_subcommand(group, "delete", "delete a data set", _delete)
    for parser_ in (show, delete):
        parser_.add_argument("dataset", metavar="NAME", help="name or id of the data set")
    for parser_ in (upload, listing, show, delete):
        _connection.add_options(parser_)


def _upload(args: argparse.Namespace) -> int:
    with print_on_interrupt(CONTINUE_UPLOAD), _connection.connect(args) as client:
        dataset = client.datasets.upload(
            args.file,
            name=args.name,
            model=args.model,
            method=args.method,
            ignore=tuple(args.ignore),
            progress=_print_progress if sys.stderr.isatty() else None,
        )
    if dataset.attached:
        print_note("the same file was uploaded before; nothing was sent")
    print_fields(args, _fields(dataset), dataset)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        print_table(args, _COLUMNS, client.datasets.list(), empty_message="there are no data sets")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        dataset = client.datasets.get(args.dataset)
    print_fields(args, _fields(dataset), dataset)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        client.datasets.delete(args.dataset)
    print_confirmation(args, "deleted", args.dataset)
    return 0


def _fields(dataset: object) -> dict[str, object]:
    names = ("name", "version", "id", "uri", "filename", "bytes", "sha256", "status", "created_at")
    return {name: getattr(dataset, name) for name in names}


def _print_progress(sent_bytes: int, total: int) -> None:
    """Print an upload's progress on one line of the terminal that overwrites itself."""
    percent = 100 * sent_bytes // max(1, total)
    end = "\n" if sent_bytes >= total else ""
    print(f"\rsent {sent_bytes / 2**20:,.1f} of {total / 2**20:,.1f} MB ({percent} %)", end=end,
          file=sys.stderr, flush=True)  # fmt: skip


def _add_convert(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from maas_client.dataset.formats import FORMAT_BY_NAME

    text = "convert CSV, Alpaca, ShareGPT and other formats to chat lines"
    parser = add_subcommand(group, "convert", text, convert)
    parser.add_argument("file", metavar="FILE", help="JSON Lines, a JSON array or CSV")
    parser.add_argument("out", metavar="OUT", help="the chat file to write (.jsonl, .jsonl.gz)")
    parser.add_argument("--to", choices=("chat", "preference"), default="chat",
                        help="chat (default), or preference: both answers, for --method DPO")  # fmt: skip
    parser.add_argument("--form", choices=tuple(FORMAT_BY_NAME),
                        help="format of the rows (default: detected from their keys)")  # fmt: skip
    parser.add_argument("--column", action="append", default=[], metavar="KEY=NAME",
                        type=_column, help="read the key or column KEY of the file under another name, such as "
                             "frage=prompt (repeatable)")  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", help="system message for rows without one")
    parser.add_argument("--skip", action="store_true",
                        help="skip rows that cannot be converted")  # fmt: skip
    parser.add_argument("--ignore-key", action="append", default=[], metavar="KEY",
                        help="convert rows without this key (repeatable)")  # fmt: skip


def _column(text: str) -> tuple[str, str]:
    key, separator, name = text.rpartition("=")
    if not separator or not key or not name:
        raise argparse.ArgumentTypeError("write KEY=NAME")
    return key, name


def convert(args: argparse.Namespace) -> int:
    """Convert a file and return 0."""
    _connection.refuse_options(args)
    from maas_client.dataset.edit.convert import convert

    with report_overwrites(args.out):
        result = convert(
            args.file,
            args.out,
            row_format=args.form,
            columns=args.column,
            system=args.system,
            to=args.to,
            skip_invalid=args.skip,
            ignore_keys=args.ignore_key,
        )
    if args.json:
        print_json(result.to_dict())
        return 0
    formats = ", ".join(f"{count:,} {name}" for name, count in result.row_formats.most_common())
    lines = f"{result.rows:,} {args.to} line{'' if result.rows == 1 else 's'}"
    read = f" of {_count_rows(result.rows_read)}" if result.rows_read != result.rows else ""
    print(f"{result.out}: {lines}{read}, from {result.file_format} ({formats})")
    for key in result.unused_keys:
        print_note(f"no row has the key {key}")
    for part, count in result.omitted.most_common():
        print_note(f"not converted: {part} ({_count_rows(count)})")
    for reason, count in result.rejected.most_common():
        print_note(f"skipped: {_count_rows(count)} ({reason})")
    method = ["--method", "DPO"] if args.to == "preference" else []
    print_note(f"next: {command('validate', str(result.out), *method)}")
    return 0


def _count_rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _add_split(group: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "split a file into training and validation files that share no prompt"
    parser = add_subcommand(group, "split", text, split)
    parser.add_argument("file", metavar="FILE", help="JSON Lines")
    parser.add_argument("--train", metavar="OUT",
                        help="training file to write (default: FILE.train.jsonl)")  # fmt: skip
    parser.add_argument("--validation", metavar="OUT",
                        help="validation file to write (default: FILE.validation.jsonl)")  # fmt: skip
    parser.add_argument("--share", type=float, default=None,
                        help="share of the rows for validation (default 0.1; --azure-split: 0.2)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0,
                        help="seed of the shuffle; the same seed gives the same files (default 0)")  # fmt: skip
    parser.add_argument("--by", choices=("conversation", "prompt", "row"), default="conversation",
                        help="rows to keep together (default conversation)")  # fmt: skip
    parser.add_argument("--no-shuffle", action="store_true", help="keep the order of the rows")
    parser.add_argument("--azure-split", action="store_true",
                        help="split as Azure ML does: at the end of the file, unshuffled")  # fmt: skip


def split(args: argparse.Namespace) -> int:
    """Split a file and return 0."""
    _connection.refuse_options(args)
    if args.azure_split:
        refuse_unused(args, "with --azure-split", ["by", "seed"], "Leave out {} or --azure-split.")
    if args.no_shuffle:
        refuse_unused(args, "with --no-shuffle", ["seed"], "Leave out {} or --no-shuffle.")
    from maas_client.dataset.edit.atomic_write import require_regular_file
    from maas_client.dataset.edit.split import AZURE_SHARE, split, split_like_azure
    from maas_client.dataset.sources import stem_of

    require_regular_file(args.file)
    stem = Path(args.file).with_name(stem_of(args.file))
    training = args.train or f"{stem}.train.jsonl"
    validation = args.validation or f"{stem}.validation.jsonl"
    with report_overwrites(training, validation):
        if args.azure_split:
            share = AZURE_SHARE if args.share is None else args.share
            result = split_like_azure(args.file, training, validation, validation_share=share)
        else:
            result = split(
                args.file,
                training,
                validation,
                validation_share=_DEFAULT_SHARE if args.share is None else args.share,
                seed=args.seed,
                by=args.by,
                shuffle=not args.no_shuffle,
            )
    if args.json:
        print_json(result.to_dict())
        return 0
    print(f"{result.training}: {result.training_rows:,} rows")
    print(f"{result.validation}: {result.validation_rows:,} rows")
    if args.azure_split:
        print_note("split at the end of the file, unshuffled, as Azure ML does by itself")
    else:
        print_note(
            f"{result.groups:,} groups by {result.by}, each in one file only; seed {result.seed}"
        )
    files = (
        f"{shlex.quote(str(result.training))} --validation {shlex.quote(str(result.validation))}"
    )
    print_note(f"train with both: maas-client fine-tune {files} --model MODEL")
    return 0
