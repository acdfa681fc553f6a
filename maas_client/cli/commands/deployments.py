"""``maas-client deployments``: create, list and delete deployments, and show their keys."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from maas_client.cli import _connection
from maas_client.cli._job_options import add_deployment_options, note_resolved_model
from maas_client.cli._messages import command
from maas_client.cli._output import (
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_simulated_note,
    print_table,
)
from maas_client.cli._parser import add_subcommand, add_subcommands

_COLUMNS = ("name", "status", "model", "url", "delete_at")
_SIMULATED = "simulated answers: the instant engine runs no model for"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    group = add_subcommands(parser)
    create = add_subcommand(group, "create", "deploy a model and wait until it answers", _create)
    listing = add_subcommand(group, "list", "list deployments", _list)
    show = add_subcommand(group, "show", "show one deployment", _show)
    text = "delete a deployment, which ends its cost on Azure"
    delete = add_subcommand(group, "delete", text, _delete)
    keys = add_subcommand(group, "keys", "show or regenerate a deployment's keys", _keys)
    for parser_ in (create, show, keys):
        parser_.add_argument("name", metavar="NAME", help="name of the deployment")
    target = delete.add_mutually_exclusive_group(required=True)
    target.add_argument("name", metavar="NAME", nargs="?", help="name of the deployment")
    target.add_argument("--overdue", action="store_true",
                        help="delete all whose --delete-after has passed")  # fmt: skip
    model = create.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", help="id or name of a tuned model, or name of a base model")
    model.add_argument("--job", help="deploy the model of this job, which must have succeeded")
    add_deployment_options(create)
    create.add_argument("--allow-retired", action="store_true",
                        help="send the request to Azure even if the base model is retired")  # fmt: skip
    create.add_argument("--delete-after", metavar="TIME",
                        help="lifetime, such as 2h, 90m or 1d, stored as a tag. The local server deletes the "
                        "deployment then; on Azure, run: deployments delete --overdue")  # fmt: skip
    keys.add_argument("--show", action="store_true", help="print the complete keys")
    keys.add_argument("--regenerate", choices=("primary", "secondary"),
                      help="regenerate this key first (default: neither)")  # fmt: skip
    for parser_ in (create, listing, show, delete, keys):
        _connection.add_options(parser_)


def _create(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        model = client.jobs.get(args.job) if args.job else note_resolved_model(args.model)
        deployment = client.deployments.create(
            args.name,
            model,
            sku=args.sku,
            capacity=args.capacity,
            allow_retired=args.allow_retired,
            delete_after=args.delete_after,
        )
    if deployment.delete_at and _connection.resolve_backend(args) != "local":
        print_note(
            f"due for deletion at {deployment.delete_at:%Y-%m-%d %H:%M}Z. Azure does not delete it; "
            "after that time, run: maas-client deployments delete --overdue"
        )
    if (deployment.properties.get("sku") or {}).get("name") == "DeveloperTier":
        print_note("Azure deletes a deployment of SKU DeveloperTier after 24 hours")
    print_note(f"chat with it: {command('chat', deployment.name, 'Hello')}")
    print_fields(args, _fields(deployment), deployment)
    print_simulated_note([deployment], _SIMULATED)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        deployments = list(client.deployments.list())
    print_table(args, _COLUMNS, deployments, empty_message="there are no deployments")
    print_simulated_note(deployments, _SIMULATED)
    now = datetime.now(UTC)
    if overdue := [d.name for d in deployments if d.delete_at and d.delete_at <= now]:
        names = ", ".join(overdue)
        print_note(f"overdue: {names}. Delete them: maas-client deployments delete --overdue")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        deployment = client.deployments.get(args.name)
    print_fields(args, _fields(deployment), deployment)
    print_simulated_note([deployment], _SIMULATED)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        if not args.overdue:
            client.deployments.delete(args.name)
            print_confirmation(args, "deleted", args.name)
            return 0
        names = [deployment.name for deployment in client.deployments.delete_overdue()]
    if args.json:
        print_json({"deleted": names})
    else:
        print_note(f"deleted {', '.join(names)}" if names else "nothing is overdue")
    return 0


def _keys(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        pair = client.deployments.keys(args.name, regenerate=args.regenerate)
    keys = {name: getattr(pair, name).get_secret_value() for name in ("primary", "secondary")}
    if not args.show:
        keys = {name: f"...{key[-4:]}" for name, key in keys.items()}
    if args.json:
        print_json(keys)
    else:
        print_fields(args, keys)
    if not args.show:
        print_note("use --show to print the complete keys")
    return 0


def _fields(deployment: object) -> dict[str, object]:
    names = ("name", "status", "ready", "model", "url", "delete_at", "id")
    return {name: getattr(deployment, name) for name in names}
