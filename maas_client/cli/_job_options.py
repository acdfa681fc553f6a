"""The options of a fine-tuning job, shared by ``fine-tune`` and ``jobs create``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from maas_client._settings import Settings
from maas_client.cli._output import print_note

_HYPERPARAMETERS: tuple[tuple[str, type, str], ...] = (
    ("epochs", int, "passes over the data"),
    ("batch_size", int, "examples per step, of each process"),
    ("learning_rate", float, "for example 2e-4"),
    ("learning_rate_multiplier", float, "foundry: a factor on the service's own rate"),
    ("seed", int, "for the order of the data and the first weights"),
    ("max_steps", int, "end after this many steps"),
    ("warmup_steps", int, "steps until the full learning rate"),
    ("warmup_ratio", float, "the same as a share of all steps"),
    ("lr_scheduler", str, "cosine, linear, constant, ..."),
    ("weight_decay", float, "for example 0.1"),
    ("gradient_accumulation_steps", int, "batches per step"),
    ("max_seq_length", int, "in tokens; longer rows are cut"),
    ("lora_r", int, "rank of the adapters"),
    ("lora_alpha", float, "their scale is alpha / r"),
    ("lora_dropout", float, "between 0 and 1"),
)


def add_options(parser: argparse.ArgumentParser, *, model_required: bool = True) -> None:
    """Add what a job may be told."""
    parser.add_argument(
        "--model", required=model_required, help="Phi-4-mini-instruct, Phi-3-mini, ..."
    )
    parser.add_argument(
        "--validation", metavar="FILE", help="held-out chats: their loss is told while it trains"
    )
    parser.add_argument("--name", help="the job's name (default: made from everything it is told)")
    parser.add_argument(
        "--method", help="LoRA, QLoRA, DoRA, rsLoRA or Full, where the backend lets one choose"
    )
    parser.add_argument(
        "--compute",
        action="append",
        metavar="NAME",
        help="your own GPUs: a compute's name or an instance type (may be repeated)",
    )
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE",
                        help="let problems of this code pass")  # fmt: skip
    parser.add_argument("--max-billed-tokens", type=int, metavar="N",
                        help="refuse before the upload what would cost more")  # fmt: skip
    parser.add_argument(
        "--force-new", action="store_true", help="start another job where one like it exists"
    )
    parser.add_argument(
        "--allow-retired", action="store_true", help="ask Azure for a retired model all the same"
    )
    add_hyperparameters(parser)


def add_hyperparameters(parser: argparse.ArgumentParser) -> None:
    """Add the hyperparameters."""
    recipe = parser.add_argument_group(
        "training", "what is left out is the service's default; what it cannot take is an error"
    )
    for name, kind, text in _HYPERPARAMETERS:
        recipe.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text, metavar="X")
    recipe.add_argument(
        "--target-modules", metavar="A,B", help="linear layers to adapt (default: all of a block)"
    )
    recipe.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_pair,
        help="one more hyperparameter under the service's own name, passed on as it is",
    )


def job_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of ``client.fine_tune`` and ``client.jobs.create``."""
    return {
        "model": note_resolved_model(args.model),
        "validation_data": args.validation,
        "hyperparameters": hyperparameters(args),
        "method": args.method,
        "name": args.name,
        "compute": args.compute,
        "force_new": args.force_new,
        "allow_retired": args.allow_retired,
        "max_billed_tokens": args.max_billed_tokens,
        "ignore": tuple(args.ignore),
    }


def hyperparameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the hyperparameters that were given, in our names."""
    given = {
        name: getattr(args, name)
        for name, _, _ in _HYPERPARAMETERS
        if getattr(args, name) is not None
    }
    if args.target_modules:
        given["target_modules"] = tuple(args.target_modules.split(","))
    if args.set:
        given["extra"] = dict(args.set)
    return given


def note_resolved_model(model: str) -> str:
    """Return ``model``, after saying which one a short name was taken for."""
    from pathlib import Path

    from maas_client import catalog

    override = Settings.load().catalog
    facts = catalog.find_model(model, override=Path(override) if override else None)
    if facts is not None and facts.name != model and not catalog.is_asset_uri(model):
        print_note(f"{model} -> {facts.name}")
    return model


def _pair(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``; the value is JSON where it is JSON, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
