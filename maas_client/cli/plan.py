"""``maas-client plan``: memory and time of a job before anything is downloaded, and which method fits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.cli._output import align_columns, print_json, print_note
from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client.catalog import Architecture
    from maas_client.local.planning.measure import RowStats
    from maas_client.local.planning.plan import Plan

_ASSUMED = (1000, 300.0, 0.4)
"""Rows, tokens a row and learned share where no file is given."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "data", nargs="?", metavar="FILE", help="training file (default: 1,000 rows of 300 tokens)"
    )
    parser.add_argument("--model", required=True, help="a catalog name, or a folder with weights")
    parser.add_argument(
        "--method", help="LoRA, QLoRA, DoRA, rsLoRA or Full (default: compare them)"
    )
    parser.add_argument(
        "--machine",
        action="append",
        metavar="SIZE",
        help="an Azure GPU size instead of this machine (may be repeated; all: every one)",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="examples per step (default 1)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the data (default 1)")
    parser.add_argument("--lora-r", type=int, default=8, help="rank of the adapters (default 8)")
    parser.add_argument(
        "--no-measure",
        action="store_true",
        help="formulas only; else a few blocks of the model's shape are timed here",
    )


def run(args: argparse.Namespace) -> int:
    """Plan and print. Exit code 1 when nothing fits anywhere."""
    from maas_client.local.machine import hardware
    from maas_client.local.planning import plan

    shape = _shape(args.model)
    data = _data(args.data, args.model)
    methods = (_method(args.method),) if args.method else plan.COMPARED_METHODS
    sizes = _sizes(args.machine)
    if not sizes and not args.no_measure:
        print_note("measuring a few blocks of the model's shape on this machine ...")
    plans = [
        plan.plan(
            args.model,
            shape,
            data,
            hardware.azure_hardware(size) if size else hardware.detect_hardware(),
            batch_size=args.batch_size,
            r=args.lora_r,
            methods=methods,
            probe=not args.no_measure,
        )
        for size in (sizes or [""])
    ]
    if args.json:
        print_json([one.as_dict() for one in plans] if sizes else plans[0].as_dict())
    else:
        for one in plans:
            _tell(one, args.epochs, assumed=args.data is None)
    return 0 if any(one.choice for one in plans) else 1


def _shape(model: str) -> Architecture:
    """Return the model's shape: a folder's, or the catalog's."""
    from maas_client import catalog
    from maas_client.local.machine import model_shape

    folder = Path(model).expanduser()
    if folder.is_dir():
        return model_shape.read_shape(folder)
    override = Settings.load().catalog
    facts = catalog.get_model(model, override=Path(override) if override else None)
    if facts.architecture is None:
        raise ConfigError(
            f"the shape of {facts.name} is not published", hint="Give a folder with its weights."
        )
    return facts.architecture


def _data(path: str | None, model: str) -> RowStats:
    from maas_client.local.planning.measure import RowStats

    if path is None:
        return RowStats(*_ASSUMED)
    from maas_client import catalog
    from maas_client.dataset import validate

    known = model if catalog.find_model(model) else None
    report = validate(path, model=known, target="local")
    report.raise_if_invalid()
    told = report.files[0].stats["tokens"]
    rows = max(1, report.files[0].examples)
    return RowStats(rows, max(2.0, told["total"] / rows), told["learned"] / max(1, told["total"]))


def _method(said: str) -> str:
    from maas_client.local.planning.plan import METHODS

    found = next((name for name in METHODS if name.lower() == said.lower()), None)
    if found is None:
        raise ConfigError(f"no method is called {said!r}", hint=f"It is {', '.join(METHODS)}.")
    return found


def _sizes(asked: list[str] | None) -> list[str]:
    from maas_client import catalog

    return list(catalog.load_machines()) if asked and "all" in asked else asked or []


def _tell(plan: Plan, epochs: int, *, assumed: bool) -> None:
    from maas_client.local.planning.plan import format_bytes

    print(f"{plan.model}, {plan.parameters / 1e9:.2f} B parameters, on {plan.hardware.name} "
          f"with {format_bytes(plan.hardware.memory_bytes)}")  # fmt: skip
    print(f"{plan.data.rows:,} rows of {plan.data.mean_length:.0f} tokens, batches of {plan.batch_size}"
          + (" (assumed: no file was given)" if assumed else ""))  # fmt: skip
    rows = [["METHOD", "FITS", "PEAK", "EPOCH", "ALL EPOCHS", "WHY"]]
    for row in plan.estimates:
        how = "measured" if row.measured else "estimated"
        each = "-" if row.epoch_s is None else _time(row.epoch_s)
        whole = "-" if row.epoch_s is None else _time(row.epoch_s * epochs)
        fits = "yes" if row.fits else "no"
        rows.append(
            [row.method, fits, f"{format_bytes(row.peak_bytes)} {how}", each, whole, row.why]
        )
    print(align_columns(rows))
    print(plan.advice)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
