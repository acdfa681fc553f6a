"""``maas-client datasets convert``: turn what other tools write into chat lines."""

from __future__ import annotations

import argparse

from maas_client.cli._output import print_json, print_note, report_overwrites


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    from maas_client.dataset.edit.formats import ROW_FORMATS

    parser.add_argument("file", metavar="FILE", help="JSON Lines, a JSON array or CSV")
    parser.add_argument("out", metavar="OUT", help="the chat file to write (.jsonl)")
    parser.add_argument(
        "--form", choices=tuple(ROW_FORMATS), help="what the rows are (default: by keys)"
    )
    parser.add_argument("--column", action="append", default=[], metavar="THEIRS=OURS", type=_pair,
                        help="read this column under another name")  # fmt: skip
    parser.add_argument("--system", metavar="TEXT", help="a system message for rows without one")
    parser.add_argument("--skip", action="store_true",
                        help="leave out rows that cannot be converted")  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    theirs, mark, ours = text.rpartition("=")
    if not mark or not theirs or not ours:
        raise argparse.ArgumentTypeError("write THEIRS=OURS")
    return theirs, ours


def run(args: argparse.Namespace) -> int:
    """Convert; return 0."""
    from maas_client.dataset.edit.convert import convert

    with report_overwrites(args.out):
        done = convert(
            args.file,
            args.out,
            row_format=args.form,
            columns=args.column,
            system=args.system,
            skip_invalid=args.skip,
        )
    if args.json:
        print_json(done.to_dict())
        return 0
    forms = ", ".join(f"{count:,} {name}" for name, count in done.row_formats.most_common())
    lines = f"{done.rows:,} chat line{'' if done.rows == 1 else 's'}"
    print(f"{done.out}: {lines}, from {done.file_format} ({forms})")
    for what, count in done.omitted.most_common():
        print_note(f"not taken over: {what} ({_rows(count)})")
    for reason, count in done.rejected.most_common():
        print_note(f"left out: {_rows(count)} ({reason})")
    print_note(f"next: maas-client validate {done.out}")
    return 0


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
