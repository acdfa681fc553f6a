"""``validate --fix OUT``: write a fixed copy of a file and report the changes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from maas_client.cli._output import print_note, report_overwrites
from maas_client.errors import ConfigError

MAX_LISTED = 10
"""Number of lines listed for each kind of change, and for what could not be fixed."""


def add_fix_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--fix", metavar="OUT",
                        help="write a fixed copy to OUT and validate it; 'drop' writes FILE.fixed.jsonl "
                        "without the lines that cannot be fixed")  # fmt: skip
    parser.add_argument("--drop", action="store_true",
                        help="with --fix: move lines that cannot be fixed to OUT.dropped.jsonl")  # fmt: skip
    parser.add_argument("--in-place", action="store_true",
                        help="with --fix: allow OUT to be the file itself")  # fmt: skip


def fix_file(args: argparse.Namespace) -> dict[str, Any]:
    """Fix the one file named in ``args.files``, and replace it there by the fixed file."""
    from maas_client.dataset.edit.atomic_write import require_regular_file
    from maas_client.dataset.edit.fix import dropped_path_for, fix

    if len(args.files) != 1:
        raise ConfigError("--fix takes one file at a time", hint="Pass one file.")
    [source] = args.files
    require_regular_file(source)
    drop, out = args.drop, args.fix
    if out == "drop":
        drop, out = True, str(Path(source).with_suffix(".fixed.jsonl"))
    with report_overwrites(out, *([dropped_path_for(out)] if drop else [])):
        result = fix(
            source,
            out,
            drop=drop,
            in_place=args.in_place,
            target=args.target or args.backend,
            model=args.model,
        )
    args.files = [out]
    for repair, count in result.repairs.most_common():
        numbers = [str(line) for line, name in result.repaired_lines if name == repair and line]
        listed = numbers[:MAX_LISTED]
        ellipsis = ", ..." if count > len(listed) and listed else ""
        lines = f" (line {', '.join(listed)}{ellipsis})" if listed else ""
        times = f", {count:,} x" if count > 1 else ""
        print_note(f"fixed: {repair}{times}{lines}")
    for line in result.unfixed_lines[:MAX_LISTED]:
        label = "dropped" if drop else "not fixed"
        print_note(f"{label}: line {line.line} ({', '.join(line.codes)})")
    if result.unfixed_count > MAX_LISTED:
        print_note(f"... and {result.unfixed_count - MAX_LISTED:,} more")
    if any("JSON_UTF8" in line.codes for line in result.unfixed_lines):
        print_note(
            "Lines that are neither UTF-8 nor clearly Windows-1252 are left unchanged. "
            "Find out their encoding and convert them."
        )
    codes = (code for line in result.unfixed_lines for code in line.codes)
    if any(code.startswith("CHAT_SHAPE_") for code in codes):
        print_note(
            "--fix does not convert rows of another format. "
            f"Convert them: maas-client datasets convert {source} OUT.jsonl"
        )
    if not result.repairs and not result.unfixed_count:
        print_note("nothing to fix")
    dropped_note = f", and {result.dropped_path}" if result.dropped_path else ""
    print_note(f"wrote {out}: {result.rows:,} lines{dropped_note}")
    return result.to_dict()
