"""``maas-client deployments``: models that answer under a name."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from maas_client.cli import _connection
from maas_client.cli._job_options import note_resolved_model
from maas_client.cli._output import (
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_table,
)
from maas_client.cli._parser import add_subcommand, add_subcommands

_COLUMNS = ("name", "status", "model", "url", "delete_at")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    group = add_subcommands(parser)
    create = add_subcommand(group, "create", "deploy a model; returns once it answers", _create)
    listing = add_subcommand(group, "list", "list the deployments", _list)
    show = add_subcommand(group, "show", "show one deployment", _show)
    delete = add_subcommand(
        group, "delete", "delete a deployment; on Azure it costs until then", _delete
    )
    keys = add_subcommand(group, "keys", "see a deployment's keys, or make new ones", _keys)
    for one in (create, show, keys):
        one.add_argument("name", metavar="NAME", help="the deployment's name")
    gone = delete.add_mutually_exclusive_group(required=True)
    gone.add_argument("name", metavar="NAME", nargs="?", help="the deployment's name")
    gone.add_argument("--overdue", action="store_true",
                      help="all whose --delete-after has passed")  # fmt: skip
    what = create.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a model: a tuned one's id or name, or a base model's name")
    what.add_argument("--job", help="a job that has succeeded: its model")
    create.add_argument("--allow-retired", action="store_true",
                        help="ask Azure for a retired base model all the same")  # fmt: skip
    create.add_argument("--delete-after", metavar="TIME",
                        help="2h, 90m, 1d: written on the deployment as a tag. The local server deletes "
                        "it then; on Azure somebody must run: deployments delete --overdue")  # fmt: skip
    keys.add_argument("--show", action="store_true", help="print them in full")
    keys.add_argument("--regenerate", choices=("primary", "secondary"), help="make one new first")
    for one in (create, listing, show, delete, keys):
        _connection.add_options(one)


def _create(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        model = client.jobs.get(args.job) if args.job else note_resolved_model(args.model)
        made = client.deployments.create(
            args.name, model, allow_retired=args.allow_retired, delete_after=args.delete_after
        )
    if made.delete_at and _connection.resolve_backend(args) != "local":
        print_note(
            f"to be deleted at {made.delete_at:%Y-%m-%d %H:%M}Z, but not by Azure: then run "
            "maas-client deployments delete --overdue"
        )
    print_note(f"{made.name} answers: maas-client chat {made.name} 'Hello'")
    print_fields(args, _fields(made), made)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        found = list(client.deployments.list())
    print_table(args, _COLUMNS, found, empty_message="there are no deployments")
    now = datetime.now(UTC)
    if late := [one.name for one in found if one.delete_at and one.delete_at <= now]:
        print_note(
            f"overdue: {', '.join(late)}. Delete them: maas-client deployments delete --overdue"
        )
    return 0


def _show(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        held = client.deployments.get(args.name)
    print_fields(args, _fields(held), held)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        if not args.overdue:
            client.deployments.delete(args.name)
            print_confirmation(args, "deleted", args.name)
            return 0
        gone = client.deployments.delete_overdue()
    if args.json:
        print_json({"deleted": [one.name for one in gone]})
    else:
        print_note(
            f"deleted {', '.join(one.name for one in gone)}" if gone else "nothing is overdue"
        )
    return 0


def _keys(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        held = client.deployments.keys(args.name, regenerate=args.regenerate)
    told = {
        name: _shown(getattr(held, name).get_secret_value(), whole=args.show)
        for name in ("primary", "secondary")
    }
    if args.json:
        print_json(told)
    else:
        print_fields(args, told)
    if not args.show:
        print_note("--show prints them in full")
    return 0


def _shown(key: str, *, whole: bool) -> str:
    return key if whole else f"...{key[-4:]}"


def _fields(held: object) -> dict[str, object]:
    names = ("name", "status", "ready", "model", "url", "delete_at", "id")
    return {name: getattr(held, name) for name in names}
