"""``validate --fix OUT``: mend a file, say what was done, and check what was written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from maas_client.cli._output import print_note, report_overwrites
from maas_client.errors import ConfigError

MAX_LISTED = 10
"""Places named of what was done and of what was left."""


def add_fix_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--fix", metavar="OUT",
                        help="write a mended copy to OUT, then check that; 'drop' for FILE.fixed.jsonl "
                        "without what cannot be mended")  # fmt: skip
    parser.add_argument("--drop", action="store_true",
                        help="with --fix: leave out what cannot be mended, in OUT.dropped.jsonl")  # fmt: skip
    parser.add_argument("--in-place", action="store_true",
                        help="with --fix: OUT may be the file itself")  # fmt: skip


def fix_file(args: argparse.Namespace) -> dict[str, Any]:
    """Mend the one file named; from then on ``args.files`` names the mended one."""
    from maas_client.dataset.edit.atomic_write import require_regular_file
    from maas_client.dataset.edit.fix import dropped_path_for, fix

    if len(args.files) != 1:
        raise ConfigError("--fix mends one file at a time", hint="Name one file.")
    [source] = args.files
    require_regular_file(source)
    drop, out = args.drop, args.fix
    if out == "drop":
        drop, out = True, str(Path(source).with_suffix(".fixed.jsonl"))
    with report_overwrites(out, *([dropped_path_for(out)] if drop else [])):
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
        lines = [str(line) for line, repair in done.repaired_lines if repair == what and line][
            :MAX_LISTED
        ]
        more = ", ..." if count > len(lines) and lines else ""
        where = f" (line {', '.join(lines)}{more})" if lines else ""
        print_note(f"mended: {what}, {count:,} x{where}" if count > 1 else f"mended: {what}{where}")
    for left in done.unfixed_lines[:MAX_LISTED]:
        print_note(f"{'left out' if drop else 'left'}: line {left.line} ({', '.join(left.codes)})")
    if done.unfixed_count > MAX_LISTED:
        print_note(f"... and {done.unfixed_count - MAX_LISTED:,} more")
    if any("JSON_UTF8" in left.codes for left in done.unfixed_lines):
        print_note(
            "what is neither UTF-8 nor surely Windows-1252 stays as it is: only its author knows what it says"
        )
    if any(code.startswith("CHAT_SHAPE_") for left in done.unfixed_lines for code in left.codes):
        print_note(
            "rows of another form are not mended but converted: "
            f"maas-client datasets convert {source} OUT.jsonl"
        )
    if not done.repairs and not done.unfixed_count:
        print_note("nothing to mend")
    print_note(
        f"wrote {out}: {done.rows:,} lines"
        + (f", and {done.dropped_path}" if done.dropped_path else "")
    )
    return done.to_dict()
