"""``maas-client deployments``: models that answer under a name."""

from __future__ import annotations

import argparse

from maas_client.cli import _connection
from maas_client.cli._output import note, print_done, print_fields, print_json, print_table
from maas_client.cli._training import known_as
from maas_client.cli._verbs import action, actions

_COLUMNS = ("name", "status", "model", "url")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    group = actions(parser)
    create = action(group, "create", "deploy a model; returns once it answers", _create)
    listing = action(group, "list", "list the deployments", _list)
    show = action(group, "show", "show one deployment", _show)
    delete = action(group, "delete", "delete a deployment; on Azure it costs until then", _delete)
    keys = action(group, "keys", "see a deployment's keys, or make new ones", _keys)
    for one in (create, show, delete, keys):
        one.add_argument("name", metavar="NAME", help="the deployment's name")
    what = create.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a model: a tuned one's id or name, or a base model's name")
    what.add_argument("--job", help="a job that has succeeded: its model")
    create.add_argument("--allow-retired", action="store_true",
                        help="ask Azure for a retired base model all the same")  # fmt: skip
    keys.add_argument("--show", action="store_true", help="print them in full")
    keys.add_argument("--regenerate", choices=("primary", "secondary"), help="make one new first")
    for one in (create, listing, show, delete, keys):
        _connection.add(one)


def _create(args: argparse.Namespace) -> int:
    with _connection.client(args) as client:
        model = client.jobs.get(args.job) if args.job else known_as(args.model)
        made = client.deployments.create(args.name, model, allow_retired=args.allow_retired)
    note(f"{made.name} answers: maas-client chat {made.name} 'Hello'")
    print_fields(args, _fields(made), made)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.client(args) as client:
        print_table(args, _COLUMNS, client.deployments.list(), empty="there are no deployments")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _connection.client(args) as client:
        held = client.deployments.get(args.name)
    print_fields(args, _fields(held), held)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.client(args) as client:
        client.deployments.delete(args.name)
    print_done(args, "deleted", args.name)
    return 0


def _keys(args: argparse.Namespace) -> int:
    with _connection.client(args) as client:
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
        note("--show prints them in full")
    return 0


def _shown(key: str, *, whole: bool) -> str:
    return key if whole else f"...{key[-4:]}"


def _fields(held: object) -> dict[str, object]:
    return {name: getattr(held, name) for name in ("name", "status", "ready", "model", "url", "id")}
