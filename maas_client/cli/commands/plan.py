"""``maas-client plan``: estimate a job's memory and time, and which method fits which machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.cli import _connection
from maas_client.cli._output import align_columns, print_json, print_note
from maas_client.cli._parser import positive_int, refuse_unused
from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client.catalog import Architecture
    from maas_client.local.planning.measure import RowStats
    from maas_client.local.planning.plan import MethodEstimate, Plan

_DEFAULT_DATA = (1000, 300.0, 0.4)
"""Rows, tokens per row and share of trained tokens, if no file is given."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "data", nargs="?", metavar="FILE", help="training file (default: 1,000 rows of 300 tokens)"
    )
    parser.add_argument(
        "--model", required=True, help="a model of the catalog, or a folder with weights"
    )
    parser.add_argument(
        "--method",
        help="LoRA, QLoRA, DoRA, rsLoRA or Full (default: compare them); DPO: the rows are preferences",
    )
    parser.add_argument(
        "--machine",
        action="append",
        metavar="SIZE",
        help="plan for this Azure GPU size, not for this machine (repeatable; all: every size)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        default=1,
        help="examples per step (default 1)",
    )
    parser.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        default=1,
        help="passes over the data (default 1)",
    )
    parser.add_argument(
        "--lora-r",
        type=positive_int,
        metavar="N",
        default=8,
        help="rank of the LoRA matrices (default 8)",
    )
    parser.add_argument(
        "--no-measure",
        action="store_true",
        help="estimate from formulas only, without timing a few blocks of the model on this machine",
    )


def run(args: argparse.Namespace) -> int:
    """Print the plans; exit code 1 if no method fits on any of the machines."""
    from maas_client.local.machine import hardware
    from maas_client.local.planning import measure, plan

    _connection.refuse_options(args)
    if (args.method or "").lower() == "full":
        refuse_unused(args, "with --method Full", ["lora_r"], "Leave out {} or --method.")
    shape = _shape(args.model)
    is_dpo = (args.method or "").upper() == "DPO"
    stats = row_stats(args.data, args.model, "DPO" if is_dpo else None) if args.data else None
    data = stats or measure.RowStats(*_DEFAULT_DATA)
    methods = (_method(args.method),) if args.method and not is_dpo else plan.COMPARED_METHODS
    sizes = _sizes(args.machine)
    if not sizes and not args.no_measure:
        print_note("timing a few blocks of the model on this machine; --no-measure skips it")
    if not sizes:
        _note_stand_in(args.model)
    if is_dpo:
        print_note(
            "DPO needs the memory of what it trains (--adapter): its reference is computed before the first "
            "step, without a second copy of the model, in one further pass over the data"
        )
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
            progress=lambda method: print_note(f"measuring {method} ..."),
        )
        for size in (sizes or [""])
    ]
    if args.json:
        reports = [each.as_dict() for each in plans]
        print_json(reports if sizes else reports[0])
    elif len(plans) == 1:
        _print_plan(plans[0], args.epochs, has_file=args.data is not None)
    else:
        _print_comparison(plans, args.epochs, has_file=args.data is not None)
    return 0 if any(each.choice for each in plans) else 1


def _note_stand_in(model: str) -> None:
    """Print a note if a job on this machine would train other weights than those of the model."""
    from maas_client.local import bases

    if Path(model).expanduser().is_dir():
        return
    try:
        name = bases.find_stand_in(model, Settings.load().cache_path())
    except ConfigError:
        return  # weights that cannot be read; a plan needs only the architecture
    if name:
        pull = bases.find_pull_command(model)
        print_note(
            f"note: {model} is not on this machine. A job of the local server would train {name} as a "
            "stand-in, for which this plan does not apply."
            + (f" Download its own weights with: {pull}" if pull else "")
        )


def _shape(model: str) -> Architecture:
    """Return the architecture of a folder with weights or of a model in the catalog."""
    from maas_client import catalog
    from maas_client.local.machine import model_architecture

    folder = Path(model).expanduser()
    if folder.is_dir():
        return model_architecture.load_architecture(folder)
    info = catalog.get_model(model, override=Settings.load().catalog_file())
    if info.architecture is None:
        raise ConfigError(
            f"the architecture of {info.name} is not published",
            hint="Pass a folder with its weights as --model.",
        )
    return info.architecture


def row_stats(path: str, model: str, method: str | None = None) -> RowStats:
    """Return the size of a data file in tokens of ``model``. Raises ``DatasetError`` for an invalid file.

    With ``method`` DPO the rows are preferences, and a row has the tokens of both answers.
    """
    from maas_client import catalog
    from maas_client.dataset import validate
    from maas_client.local.planning.measure import RowStats

    is_known = catalog.find_model(model) is not None
    report = validate(path, model=model if is_known else None, target="local", method=method)
    report.raise_if_invalid()
    [file] = report.files
    tokens, rows = file.stats["tokens"], max(1, file.examples)
    trained_share = tokens["learned"] / max(1, tokens["total"])
    return RowStats(rows, max(2.0, tokens["total"] / rows), trained_share)


def _method(text: str) -> str:
    from maas_client.local.planning.plan import METHODS

    method = next((name for name in METHODS if name.lower() == text.lower()), None)
    if method is None:
        raise ConfigError(
            f"unknown method {text!r}", hint=f"Use one of: {', '.join(METHODS)}, DPO."
        )
    return method


def _sizes(names: list[str] | None) -> list[str]:
    from maas_client import catalog

    return list(catalog.load_machines()) if names and "all" in names else names or []


def _print_comparison(plans: Sequence[Plan], epochs: int, *, has_file: bool) -> None:
    """Print one table of machines and methods: memory of each GPU and time for all epochs."""
    from maas_client.local.planning.plan import ASSUMED_UTILIZATION, format_bytes, recommend

    first = plans[0]
    print(f"{first.model}, {first.parameters / 1e9:.2f} B parameters")
    print(_describe_data(first, has_file=has_file) + (f", {epochs} epochs" if epochs > 1 else ""))
    rows = [["MACHINE", "GPUS", *(estimate.method.upper() for estimate in first.estimates)]]
    for each in plans:
        name, _, gpus = each.hardware.name.partition(" (")
        size = format_bytes(each.hardware.memory_bytes).replace(".0", "")
        cells = [_describe_estimate(estimate, epochs) for estimate in each.estimates]
        gpu = gpus.rstrip(")").replace("NVIDIA ", "")
        rows.append([name.removeprefix("Standard_"), f"{gpu}, {size}", *cells])
    print(align_columns(rows))
    print(
        "Memory is for each GPU, by formula. Time is an estimate without start-up: one process on each GPU\n"
        f"(fine-tune --set processes=N) at {ASSUMED_UTILIZATION:.0%} of its published rate, without the "
        "additional work of DoRA and QLoRA (docs/reference/catalog.md); - if no rate is known."
    )
    print(recommend(plans, epochs))


def _describe_estimate(estimate: MethodEstimate, epochs: int) -> str:
    from maas_client.local.planning.plan import format_bytes, format_duration

    memory = format_bytes(estimate.peak_bytes)
    if not estimate.fits:
        return f"no: {memory}"
    time = "-" if estimate.epoch_s is None else format_duration(estimate.epoch_s * epochs)
    return f"{memory}, {time}"


def _describe_data(plan: Plan, *, has_file: bool) -> str:
    text = f"{plan.data.rows:,} rows of {plan.data.mean_length:.0f} tokens, batches of {plan.batch_size}"
    return text + ("" if has_file else " (assumed: no file was given)")


def _print_plan(plan: Plan, epochs: int, *, has_file: bool) -> None:
    from maas_client.local.planning.plan import format_bytes, format_duration

    print(f"{plan.model}, {plan.parameters / 1e9:.2f} B parameters, on {plan.hardware.name} "
          f"with {format_bytes(plan.hardware.memory_bytes)}")  # fmt: skip
    print(_describe_data(plan, has_file=has_file))
    rows = [["METHOD", "FITS", "PEAK", "EPOCH", "ALL EPOCHS", "WHY"]]
    for estimate in plan.estimates:
        origin = "measured" if estimate.measured else "estimated"
        if estimate.measured and not estimate.fits:
            origin = "extrapolated"
        epoch_s = estimate.epoch_s
        rows.append(
            [
                estimate.method,
                "yes" if estimate.fits else "no",
                f"{format_bytes(estimate.peak_bytes)} {origin}",
                "-" if epoch_s is None else format_duration(epoch_s),
                "-" if epoch_s is None else format_duration(epoch_s * epochs),
                estimate.why,
            ]
        )
    print(align_columns(rows))
    if any(row.epoch_s is not None and not row.measured for row in plan.estimates):
        print("Times are estimates from the GPU's published rate (docs/reference/catalog.md).")
    print(plan.advice)
