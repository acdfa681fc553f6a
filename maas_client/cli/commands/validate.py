"""``maas-client validate``: check chat files and report every problem and how to fix it.

The report goes to stdout, progress and notes go to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client.cli import _connection, _report
from maas_client.cli._messages import command
from maas_client.cli._output import print_json, print_note, report_overwrites
from maas_client.cli._parser import positive_int, refuse_unused
from maas_client.cli._stdin import spool_streams
from maas_client.errors import ConfigError, DatasetError
from maas_client.types.report import ValidationReport

if TYPE_CHECKING:
    from maas_client.chat import ChatTemplate

INVALID = 3
_MAX_LISTED_CHANGES = 10
"""Number of lines listed for each kind of change, and for what could not be fixed."""
_DEFAULT_MASK_MODEL = "Phi-4-mini-instruct"
_PRICES = {
    "price_training": ("training_per_million_tokens", "one million training tokens"),
    "price_hosting": ("hosting_per_hour", "one hour of hosting"),
}
"""Option to (field of ``Prices``, what the price is for)."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("files", nargs="*", metavar="FILE",
                        help="chat files: JSON Lines (also .gz) or Parquet; - is standard input")  # fmt: skip
    parser.add_argument("--explain", metavar="CODE",
                        help="explain a problem code and exit; all or JSON_* lists codes")  # fmt: skip
    parser.add_argument(
        "--model",
        help="validate for this model, with its template and its limits (default: no "
        "rules of a model)",
    )
    parser.add_argument(
        "--target",
        choices=("azureml", "foundry", "local"),
        help="validate for this service (default: --backend, else azureml)",
    )
    parser.add_argument("--method", metavar="METHOD", help="DPO: the rows are preferences")
    parser.add_argument("--validation", metavar="FILE", help="validation file to check as well")
    parser.add_argument("--epochs", type=float, metavar="X",
                        help="epochs for the limit on billed tokens and for the cost (default: 1)")  # fmt: skip
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE",
                        help="skip checks with this code or group, such as QUALITY_* (repeatable)")  # fmt: skip
    parser.add_argument("--warn", action="append", default=[], metavar="CODE",
                        help="make this code a warning (repeatable)")  # fmt: skip
    parser.add_argument("--format-only", action="store_true",
                        help="check format and service rules only: no secrets, duplicates, tokens")  # fmt: skip
    parser.add_argument("--fix", metavar="OUT",
                        help="write a fixed copy to OUT and validate it; 'drop' writes FILE.fixed.jsonl "
                        "without the lines that cannot be fixed")  # fmt: skip
    parser.add_argument("--drop", action="store_true",
                        help="with --fix: move lines that cannot be fixed to OUT.dropped.jsonl")  # fmt: skip
    parser.add_argument("--in-place", action="store_true",
                        help="with --fix: allow OUT to be the file itself")  # fmt: skip
    for name, (_, unit) in _PRICES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="P",
                            help=f"price of {unit}, for a cost forecast")  # fmt: skip
    parser.add_argument("--hours", type=float, default=0, metavar="H",
                        help="hours of hosting in the forecast (default: 0; a month has 730)")  # fmt: skip
    parser.add_argument(
        "--currency", metavar="NAME", default="USD", help="currency of the prices (default USD)"
    )
    parser.add_argument("--html", metavar="FILE", help="also write the report as an HTML page")
    parser.add_argument("--all", action="store_true",
                        help="print every problem; default: a summary by code")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="do not report valid files")
    parser.add_argument("--show-mask", action="store_true",
                        help="print rows as the model reads them, with the trained text marked; with "
                        "--target or --html, then the report")  # fmt: skip
    parser.add_argument("--rows", type=positive_int, default=3, metavar="N",
                        help="number of rows for --show-mask (default 3)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Validate the files; return 0 if all are valid, else 3."""
    _refuse_unused_options(args)
    if args.explain:
        return _explain(args)
    if not args.files:
        from maas_client.cli._parser import UsageError

        raise UsageError("no file given", hint="Try: maas-client validate --help")
    if args.method and args.method.upper() == "DPO" and (args.fix or args.show_mask):
        raise ConfigError(
            "--fix and --show-mask read chats, and with --method DPO the rows are preferences",
            hint="Leave out one of the options.",
        )
    if args.show_mask and not _has_report(args):
        with spool_streams(args) as names:
            return _print_mask(args, names)
    if args.html:
        from maas_client.dataset.edit.atomic_write import require_distinct_paths

        for file in (*args.files, *filter(None, (args.validation, args.fix))):
            require_distinct_paths(file, args.html)
    fixed = _fix_file(args) if args.fix else None
    with spool_streams(args) as names:
        return _report_files(args, names, fixed)


def _has_report(args: argparse.Namespace) -> bool:
    """Return whether ``--show-mask`` prints the report after the rows."""
    return bool(args.html or args.target)


def _refuse_unused_options(args: argparse.Namespace) -> None:
    """Raise ``ConfigError`` for an option that has no effect without another, or that contradicts another."""
    add_or_leave = "Add {needed}, or leave out {{}}."
    for needed, names in (
        ("--fix OUT", ("drop", "in_place")),
        ("--show-mask", ("rows",)),
        ("--price-hosting P", ("hours",)),
    ):
        flag = needed.partition(" ")[0]
        if not getattr(args, flag[2:].replace("-", "_")):
            refuse_unused(args, f"without {flag}", names, add_or_leave.format(needed=needed))
    if not any(getattr(args, name) for name in _PRICES):
        hint = add_or_leave.format(needed="--price-training or --price-hosting")
        refuse_unused(args, "without a price", ["currency"], hint)
    if args.explain and args.files:
        raise ConfigError("--explain reads no file", hint="Leave out --explain or the files.")
    others = {option.dest for option in args.parser._actions} - {"files", "json"}
    if args.explain:
        refuse_unused(args, "with --explain", others - {"explain"}, "Leave out {} or --explain.")
    if args.show_mask and not _has_report(args):
        reason, hint = "with --show-mask", "Leave out {}, or add --target TARGET or --html REPORT."
        refuse_unused(args, reason, others - {"show_mask", "rows", "model"}, hint)
    _connection.refuse_options(args, allowed=("backend",))
    if args.json:
        refuse_unused(args, "with --json, which has every file", ["quiet"], "Leave out {}.")
    if args.target and args.backend and args.target != args.backend:
        raise ConfigError(
            f"--target is {args.target}, but --backend is {args.backend}",
            hint="Leave out one of them.",
        )


def _explain(args: argparse.Namespace) -> int:
    """Print the page of the code ``args.explain``, or an index for ``all`` or a group such as ``JSON_*``."""
    from maas_client.dataset.codes import all_codes, resolve_codes
    from maas_client.dataset.codes.markdown import index_to_markdown, to_markdown

    is_index = args.explain.strip().lower() == "all"
    names = frozenset(all_codes()) if is_index else resolve_codes([args.explain])
    codes = [code for name, code in all_codes().items() if name in names]
    if args.json:
        print_json([code.to_dict() for code in codes])
    elif len(codes) == 1:
        print(to_markdown(codes[0]), end="")
    else:
        print(index_to_markdown(codes, link=False), end="")
    return 0


def _report_files(
    args: argparse.Namespace, names: Mapping[str, str], fixed: dict[str, Any] | None
) -> int:
    """Validate the files and print the report. ``names``: the name to show for each copied stream."""
    report = _rename_files(validate_files(args), names)
    _note_retired_model(args)
    cost = _forecast_cost(args, report)
    if args.html:
        _write_html(args.html, report)
        print_note(f"wrote {args.html}")
    if args.show_mask:
        _print_mask(args, names)
    if not args.json:
        report = _report.name_files(report)
    if args.show_mask and args.json:
        pass  # standard output holds one JSON document: the rows
    elif args.json:
        extra = {"fixed": fixed, "bill": cost}
        print_json(report.model_dump() | {key: value for key, value in extra.items() if value})
    elif _runs_on_github():
        print("\n".join(_report.github_annotations(report)))
    elif not args.all:
        _report.print_summary(report, quiet=args.quiet, terminal=sys.stdout.isatty())
    elif sys.stdout.isatty():
        copies = {name: copy for copy, name in names.items()}
        _report.print_report(report, quiet=args.quiet, copy_paths=copies)
    else:
        print("\n".join(_report.text_lines(report, quiet=args.quiet)))
    if cost and not args.json:
        print("\n".join(_cost_lines(cost)))
    return 0 if report.ok else INVALID


def validate_files(args: argparse.Namespace) -> ValidationReport:
    """Validate the files that the arguments name, with a progress bar on a terminal."""
    from maas_client.dataset import validate

    sizes = sum(os.path.getsize(file) for file in args.files if os.path.isfile(file))
    with _report.ProgressBar(total=sizes, visible=sys.stderr.isatty()) as bar:
        return validate(
            *args.files,
            model=args.model,
            target=args.target or args.backend,
            method=args.method,
            validation=args.validation,
            ignore=args.ignore,
            warn=args.warn,
            epochs=args.epochs,
            content=not args.format_only,
            progress=bar.update,
        )


def _rename_files(report: ValidationReport, names: Mapping[str, str]) -> ValidationReport:
    """Return the report with the names of streams in place of the paths of their copies."""
    files = [
        file.model_copy(update={"path": names.get(file.path, file.path)}) for file in report.files
    ]
    return report.model_copy(update={"files": tuple(files)})


def _note_retired_model(args: argparse.Namespace) -> None:
    """Print a note if Azure has retired the model. It does not affect the report."""
    if not args.model or (args.target or args.backend or "azureml") == "local":
        return
    from datetime import UTC, datetime

    from maas_client import catalog
    from maas_client._settings import Settings

    facts = catalog.find_model(args.model, override=Settings.load().catalog_file())
    notice = facts and catalog.retirement_notice(facts, datetime.now(UTC).date())
    if notice:
        print_note(
            f"note: {notice}. The report does not depend on it, and the local server still trains it."
        )


def _write_html(path: str, report: ValidationReport) -> None:
    from maas_client.dataset.edit.atomic_write import atomic_write
    from maas_client.dataset.html_report import render_html

    with report_overwrites(path), atomic_write(path) as (file,):
        file.write(render_html(report).encode("utf-8", "replace"))


def _runs_on_github() -> bool:
    from maas_client._settings import Settings

    return Settings.load().is_enabled("github_actions")


def _forecast_cost(args: argparse.Namespace, report: ValidationReport) -> dict[str, Any] | None:
    """Return the cost forecast, ready for JSON, or None if no price was given."""
    from maas_client.dataset import cost

    prices = {field: getattr(args, name) for name, (field, _) in _PRICES.items()}
    if not any(prices.values()):
        return None
    total, *validation_ranges = (cost.TokenRange.from_stats(file.stats) for file in report.files)
    for tokens in validation_ranges:
        total = total + tokens
    billed = cost.billed_tokens(total, epochs=args.epochs or 1)
    forecast = cost.forecast_cost(
        billed,
        cost.Prices(**prices, currency=args.currency),
        cost.ExpectedUsage(hosting_hours=args.hours),
    )
    billed_tokens = {
        "likely": billed.likely,
        "at_least": billed.at_least,
        "at_most": billed.at_most,
    }
    return {"billed_tokens": billed_tokens, **forecast.to_dict()}


def _cost_lines(forecast: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cost forecast as text."""
    currency = forecast["currency"]
    for item in forecast["costs"]:
        is_exact = item["at_least"] == item["at_most"]
        bounds = "" if is_exact else f", between {item['at_least']} and {item['at_most']}"
        yield f"{item['what']}: {currency} {item['amount']} ({item['how']}{bounds})"
    yield f"total: {currency} {forecast['total']}, at the given prices"


def _print_mask(args: argparse.Namespace, names: Mapping[str, str]) -> int:
    """Print the first rows of each file as the model reads them, with the trained text marked.

    Returns 0, or 3 if there is no row. ``names``: the name to show for each copied stream.
    """
    from maas_client._settings import Settings
    from maas_client.catalog import find_model
    from maas_client.chat import get_template
    from maas_client.dataset.edit.atomic_write import require_regular_file

    for file in args.files:
        require_regular_file(file)
    facts = find_model(args.model, override=Settings.load().catalog_file()) if args.model else None
    template = get_template(facts.template if facts else args.model or _DEFAULT_MASK_MODEL)
    print_note(f"template {template.name} ({template.revision})")
    rows = [
        row | {"path": names.get(file, file)}
        for file in args.files
        for row in _segmented_rows(file, template, args)
    ]
    if args.json:
        print_json(rows)
        return 0 if rows else INVALID
    for row in rows:
        print(f"{row['path']}, line {row['line']}:")
        _print_segments(row["segments"])
    mark = "green" if sys.stdout.isatty() else "between ⟦ and ⟧"
    print_note(f"trained text is {mark}; the model reads the rest but is not trained on it")
    return 0 if rows else INVALID


def _segmented_rows(
    path: str, template: ChatTemplate, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    from maas_client.chat import render
    from maas_client.dataset.rows import read_rows

    for line, row in islice(read_rows(path, model=args.model), max(0, args.rows)):
        segments = render(row["messages"], row.get("tools"), template)
        yield {
            "path": path,
            "line": line.number,
            "segments": [{"text": s.text, "learned": s.in_loss} for s in segments],
        }


def _print_segments(segments: list[dict[str, Any]]) -> None:
    if not sys.stdout.isatty():
        print("".join(f"⟦{s['text']}⟧" if s["learned"] else s["text"] for s in segments))
        return
    from rich.console import Console
    from rich.text import Text

    text = Text()
    for segment in segments:
        printable = "".join(c if c.isprintable() or c == "\n" else "·" for c in segment["text"])
        text.append(printable, "green" if segment["learned"] else "dim")
    Console(highlight=False).print(text)


def _fix_file(args: argparse.Namespace) -> dict[str, Any]:
    """Fix the one file named in ``args.files``, and replace it there by the fixed file."""
    from maas_client.dataset.edit.atomic_write import require_regular_file
    from maas_client.dataset.edit.fix import dropped_path_for, fix
    from maas_client.dataset.sources import stem_of

    if len(args.files) != 1:
        raise ConfigError("--fix takes one file at a time", hint="Pass one file.")
    [source] = args.files
    require_regular_file(source)
    drop, out = args.drop, args.fix
    if out == "drop":
        if args.in_place:
            fix_in_place = command(
                "validate", str(source), "--fix", str(source), "--drop", "--in-place"
            )
            raise ConfigError(
                "--fix drop writes a new file, and --in-place does not apply to it",
                hint=f"Leave out --in-place, or change the file itself: {fix_in_place}",
            )
        drop, out = True, str(Path(source).with_name(f"{stem_of(source)}.fixed.jsonl"))
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
        listed = numbers[:_MAX_LISTED_CHANGES]
        ellipsis = ", ..." if count > len(listed) and listed else ""
        lines = f" (line {', '.join(listed)}{ellipsis})" if listed else ""
        times = f", {count:,} x" if count > 1 else ""
        print_note(f"fixed: {repair}{times}{lines}")
    for line in result.unfixed_lines[:_MAX_LISTED_CHANGES]:
        label = "dropped" if drop else "not fixed"
        print_note(f"{label}: line {line.line} ({', '.join(line.codes)})")
    if result.unfixed_count > _MAX_LISTED_CHANGES:
        print_note(f"... and {result.unfixed_count - _MAX_LISTED_CHANGES:,} more")
    if any("JSON_UTF8" in line.codes for line in result.unfixed_lines):
        print_note(
            "Lines that are neither UTF-8 nor clearly Windows-1252 are left unchanged. "
            "Find out their encoding and convert them."
        )
    codes = (code for line in result.unfixed_lines for code in line.codes)
    if any(code.startswith("CHAT_SHAPE_") for code in codes):
        _print_conversion(result.dropped_path or out)
    if not result.repairs and not result.unfixed_count:
        print_note("nothing to fix")
    dropped_note = f", and {result.dropped_path}" if result.dropped_path else ""
    unit = "line" if result.rows == 1 else "lines"
    print_note(f"wrote {out}: {result.rows:,} {unit}{dropped_note}")
    return result.to_dict()


def _print_conversion(path: str) -> None:
    """Print the command that converts the rows of another format, if there is one that succeeds."""
    from tempfile import TemporaryDirectory

    from maas_client.dataset.edit.convert import convert

    note = "--fix does not convert rows of another format."
    try:
        with TemporaryDirectory(prefix="maas-client-") as folder:
            result = convert(path, Path(folder, "out.jsonl"), skip_invalid=True)
    except DatasetError:
        print_note(f"{note} They cannot be converted by datasets convert either.")
        return
    skip = ["--skip"] if result.rejected else []
    words = command("datasets", "convert", str(path), "OUT.jsonl", *skip)
    print_note(f"{note} Convert them: {words}")
