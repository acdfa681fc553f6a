"""Options of a fine-tuning job, shared by ``fine-tune``, ``jobs create`` and ``export``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from maas_client._hyperparameter_table import HYPERPARAMETERS
from maas_client._settings import Settings
from maas_client.cli._output import print_note
from maas_client.errors import ConfigError


def add_options(parser: argparse.ArgumentParser, *, model_required: bool = True) -> None:
    """Add all options of a job. ``model_required``: whether ``--model`` must be given."""
    parser.add_argument(
        "--model", required=model_required, help="base model: Phi-4-mini-instruct, Phi-3-mini, ..."
    )
    parser.add_argument(
        "--validation",
        metavar="FILE",
        help="held-out chats; their loss is reported during training",
    )
    parser.add_argument("--name", help="the job's name (default: derived from its inputs)")
    parser.add_argument(
        "--method",
        help="LoRA, QLoRA, DoRA, rsLoRA or Full, where the backend has a choice; DPO for preferences",
    )
    parser.add_argument(
        "--compute",
        action="append",
        metavar="NAME",
        help="run on your own GPUs: a compute name or an instance type (repeatable)",
    )
    parser.add_argument("--training-type", metavar="TYPE",
                        help="foundry: GlobalStandard, Standard, Developer, or DataZoneStandard (a name "
                        "inferred from the SKU)")  # fmt: skip
    parser.add_argument("--ignore", action="append", default=[], metavar="CODE",
                        help="skip checks with this code (repeatable)")  # fmt: skip
    parser.add_argument("--max-billed-tokens", type=int, metavar="N",
                        help="fail before the upload if the job would be billed for more tokens "
                        "(default: no limit)")  # fmt: skip
    parser.add_argument(
        "--force-new", action="store_true", help="start another job even if the same job exists"
    )
    parser.add_argument(
        "--allow-retired",
        action="store_true",
        help="send the request to Azure even if the model is retired",
    )
    add_hyperparameters(parser)


_METAVARS = {int: "N", float: "X", str: "NAME", tuple: "A,B"}


def add_hyperparameters(parser: argparse.ArgumentParser) -> None:
    """Add the hyperparameters."""
    group = parser.add_argument_group(
        "training",
        "the defaults are the local server's; Azure has its own, and an option that the service does not "
        "support is an error",
    )
    for spec in HYPERPARAMETERS.values():
        default = f" (default: {spec.default.replace('``', '')})"
        group.add_argument(
            spec.flag,
            type=_names if spec.type is tuple else spec.type,
            metavar=_METAVARS[spec.type],
            help=spec.help + ("" if "(default" in spec.help else default),
        )
    group.add_argument(
        "--report-to",
        metavar="A,B",
        help="local server: report metrics to tensorboard, mlflow or wandb by their own libraries",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_pair,
        help="another hyperparameter, sent to the service under this name (repeatable)",
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
        "training_type": args.training_type,
    }


def add_deployment_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a deployment that both ``deployments create`` and ``fine-tune`` have."""
    parser.add_argument("--sku", help="foundry: GlobalStandard, DataZoneStandard, Standard, "
                        "DeveloperTier, ProvisionedManaged, ... (default: the model's first)")  # fmt: skip
    parser.add_argument("--capacity", type=int, metavar="N",
                        help="foundry: in units of 1,000 tokens a minute (default: 100)")  # fmt: skip


def hyperparameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the hyperparameters on the command line, by their names in ``Hyperparameters``."""
    values = {
        name: getattr(args, name) for name in HYPERPARAMETERS if getattr(args, name) is not None
    }
    extra: dict[str, Any] = {"report_to": args.report_to} if args.report_to else {}
    for name, value in args.set:
        if extra.setdefault(name, value) != value:
            option = "--report-to" if name == "report_to" and args.report_to else f"--set {name}"
            raise ConfigError(
                f"{option} is given twice, with different values", hint="Give it once."
            )
    if extra:
        values["extra"] = extra
    return values


def note_resolved_model(model: str) -> str:
    """Return ``model``, after printing the full name that a short name stands for."""
    from pathlib import Path

    from maas_client import catalog

    override = Settings.load().catalog
    facts = catalog.find_model(model, override=Path(override) if override else None)
    if facts is not None and facts.name != model and not catalog.is_asset_uri(model):
        print_note(catalog.name_notice(facts, model) or f"{model} -> {facts.name}")
    return model


def _names(text: str) -> tuple[str, ...]:
    """Parse a list of names, separated by commas."""
    return tuple(text.split(","))


def _pair(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``; the value is parsed as JSON if possible, else it is text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
