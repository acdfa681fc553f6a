"""``validate --fix OUT``: mend a file, say what was done, and check what was written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from maas_client.cli._output import note, telling_replaced
from maas_client.errors import ConfigError

SHOWN = 10
"""Places named of what was done and of what was left."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--fix", metavar="OUT",
                        help="write a mended copy to OUT, then check that; 'drop' for FILE.fixed.jsonl "
                        "without what cannot be mended")  # fmt: skip
    parser.add_argument("--drop", action="store_true",
                        help="with --fix: leave out what cannot be mended, in OUT.dropped.jsonl")  # fmt: skip
    parser.add_argument("--in-place", action="store_true",
                        help="with --fix: OUT may be the file itself")  # fmt: skip


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Mend the one file named; from then on ``args.files`` names the mended one."""
    from maas_client.dataset.atomic import regular
    from maas_client.dataset.fix import beside_of, fix

    if len(args.files) != 1:
        raise ConfigError("--fix mends one file at a time", hint="Name one file.")
    [source] = args.files
    regular(source)
    drop, out = args.drop, args.fix
    if out == "drop":
        drop, out = True, str(Path(source).with_suffix(".fixed.jsonl"))
    with telling_replaced(out, *([beside_of(out)] if drop else [])):
        done = fix(
            source,
            out,
            drop=drop,
            in_place=args.in_place,
            target=args.target or args.backend,
            model=args.model,
        )
    args.files = [out]
    for what, count in done.repairs.most_common():
        lines = [str(line) for line, repair in done.places if repair == what and line][:SHOWN]
        more = ", ..." if count > len(lines) and lines else ""
        where = f" (line {', '.join(lines)}{more})" if lines else ""
        note(f"mended: {what}, {count:,} x{where}" if count > 1 else f"mended: {what}{where}")
    for left in done.left[:SHOWN]:
        note(f"{'left out' if drop else 'left'}: line {left.line} ({', '.join(left.codes)})")
    if done.bad > SHOWN:
        note(f"... and {done.bad - SHOWN:,} more")
    if any("JSON_UTF8" in left.codes for left in done.left):
        note(
            "what is neither UTF-8 nor surely Windows-1252 stays as it is: only its author knows what it says"
        )
    if any(code.startswith("CHAT_SHAPE_") for left in done.left for code in left.codes):
        note(
            "rows of another form are not mended but converted: "
            f"maas-client datasets convert {source} OUT.jsonl"
        )
    if not done.repairs and not done.bad:
        note("nothing to mend")
    note(f"wrote {out}: {done.rows:,} lines" + (f", and {done.beside}" if done.beside else ""))
    return done.as_dict()
