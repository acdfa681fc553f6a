"""``maas-client validate``: check chat files, say every problem and how to mend it.

The report is the data of this command and goes to stdout; progress and advice go to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from maas_client.cli import _bill, _fix, _report
from maas_client.cli._output import print_json, print_note, report_overwrites
from maas_client.cli._parser import positive_int
from maas_client.cli._stdin import spool_streams
from maas_client.errors import ConfigError
from maas_client.types.report import ValidationReport

INVALID = 3


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="chat files, JSON Lines; - is standard input"
    )
    parser.add_argument("--model", help="check for this model: its template, its length")
    parser.add_argument(
        "--target",
        choices=("azureml", "foundry", "local"),
        help="check for this service (default: --backend, else azureml)",
    )
    parser.add_argument("--validation", metavar="FILE", help="a validation file, checked as well")
    parser.add_argument("--epochs", type=float, help="for the ceiling on tokens times epochs")
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE",
                        help="pass over this code; QUALITY_* means all of a group")  # fmt: skip
    parser.add_argument("--warn", action="append", default=[], metavar="CODE",
                        help="make this code a warning")  # fmt: skip
    parser.add_argument("--format-only", action="store_true",
                        help="format and service rules alone: no secrets, duplicates, tokens")  # fmt: skip
    _fix.add_fix_options(parser)
    _bill.add_cost_options(parser)
    parser.add_argument("--html", metavar="FILE", help="also write the report as one HTML page")
    parser.add_argument("--quiet", action="store_true", help="say nothing of files that are good")
    parser.add_argument("--show-mask", action="store_true",
                        help="print rows as the model reads them, what it learns in colour")  # fmt: skip
    parser.add_argument(
        "--rows", type=positive_int, default=3, metavar="N", help="rows for --show-mask (3)"
    )


def run(args: argparse.Namespace) -> int:
    """Check the files; return 0 if all are valid, else 3."""
    if args.show_mask and not args.html:
        from maas_client.cli import _mask

        with spool_streams(args) as names:
            return _mask.print_mask(args, names)
    if args.in_place and not args.fix:
        raise ConfigError("--in-place belongs to --fix", hint="Add --fix FILE, the file itself.")
    if args.html:
        from maas_client.dataset.edit.atomic_write import require_distinct_paths

        for file in (*args.files, *filter(None, (args.validation, args.fix))):
            require_distinct_paths(file, args.html)
    fixed = _fix.fix_file(args) if args.fix else None
    with spool_streams(args) as names:
        return _tell(args, names, fixed)


def _tell(args: argparse.Namespace, names: dict[str, str], fixed: dict[str, Any] | None) -> int:
    """Check the files and say what was found; ``names`` are to be shown in the places of copies."""
    report = _named(validate_files(args), names)
    _tell_of_retirement(args)
    bill = _bill.forecast_cost(args, report)
    if args.html:
        _write_page(args.html, report)
    if args.show_mask:
        from maas_client.cli import _mask

        _mask.print_mask(args, names)
    elif args.json:
        more = {"fixed": fixed, "bill": bill}
        print_json(report.model_dump() | {name: said for name, said in more.items() if said})
    elif _on_github():
        print("\n".join(_report.github_annotations(report)))
    elif sys.stdout.isatty():
        copies = {name: copy for copy, name in names.items()}
        _report.print_report(report, quiet=args.quiet, copy_paths=copies)
    else:
        print("\n".join(_report.text_lines(report, quiet=args.quiet)))
    if bill and not args.json:
        print("\n".join(_bill.cost_lines(bill)))
    return 0 if report.ok else INVALID


def _named(report: ValidationReport, names: dict[str, str]) -> ValidationReport:
    """Return a report that calls copies by the names of what they are copies of."""
    files = [
        file.model_copy(update={"path": names.get(file.path, file.path)}) for file in report.files
    ]
    return report.model_copy(update={"files": tuple(files)})


def _tell_of_retirement(args: argparse.Namespace) -> None:
    """Say on stderr that Azure has retired the model: no fault of the file, and it changes nothing else."""
    if not args.model or (args.target or args.backend or "azureml") == "local":
        return
    from datetime import UTC, datetime

    from maas_client import catalog
    from maas_client._settings import Settings

    facts = catalog.find_model(args.model, override=Settings.load().catalog_file())
    said = facts and catalog.retirement_notice(facts, datetime.now(UTC).date())
    if said:
        print_note(
            f"note: {said}. The file is judged all the same; the local server still tunes it."
        )


def _write_page(path: str, report: ValidationReport) -> None:
    from maas_client.dataset.edit.atomic_write import atomic_write
    from maas_client.dataset.html_report import render_html

    with report_overwrites(path), atomic_write(path) as (file,):
        file.write(render_html(report).encode("utf-8", "replace"))


def validate_files(args: argparse.Namespace) -> ValidationReport:
    """Check the files that the arguments name."""
    from maas_client.dataset import validate

    sizes = sum(os.path.getsize(file) for file in args.files if os.path.isfile(file))
    with _report.ProgressBar(total=sizes, visible=sys.stderr.isatty()) as bar:
        return validate(
            *args.files,
            model=args.model,
            target=args.target or args.backend,
            validation=args.validation,
            ignore=args.ignore,
            warn=args.warn,
            epochs=args.epochs,
            content=not args.format_only,
            progress=bar.update,
        )


def _on_github() -> bool:
    from maas_client._settings import Settings

    return Settings.load().is_enabled("github_actions")
