"""Connection options of a command, and the client they describe. Options left out come from the settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.cli._parser import group_options, refuse_unused
from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client import Client

_OPTIONS = (
    ("--subscription-id", "azureml", "ID", "the subscription"),
    ("--resource-group", "azureml", "NAME", "the resource group"),
    ("--workspace", "azureml", "NAME", "the workspace or hub-based project"),
    ("--resource-id", "azureml", "ID", "the workspace's ARM id, instead of the three above"),
    ("--endpoint", "foundry", "URL", "https://NAME.openai.azure.com"),
    ("--account-id", "foundry", "ID", "the account's ARM id, needed for deployments"),
)
"""Option, the one backend that takes it, its metavar and what it is."""
_GROUPS = ("connection", "local server")
_LOCAL_OPTIONS = ("dialect", "engine", "keep")
_AZURE_OPTIONS = {
    backend: [option[2:].replace("-", "_") for option, owner, _, _ in _OPTIONS if owner == backend]
    for backend in ("azureml", "foundry")
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the connection options.

    Keys are never options, because every process on the machine could read them; ``maas-client config`` lists
    their environment variables.
    """
    connection, server = _GROUPS
    group = parser.add_argument_group(
        connection, "each option has a setting, listed by: maas-client config"
    )
    group.add_argument("--dialect", choices=("azureml", "foundry"),
                       help="API to use with the local server: azureml (default) or foundry")  # fmt: skip
    for option, backend, metavar, text in _OPTIONS:
        group.add_argument(option, help=f"{backend}: {text}", metavar=metavar)
    group.add_argument("--cloud", help="azureml, foundry: public, usgov or china", metavar="NAME")
    group = parser.add_argument_group(server, "one is started if none runs")
    group.add_argument(
        "--engine",
        choices=("peft", "instant"),
        help="peft trains; instant simulates and needs no torch (default: MAAS_ENGINE, else peft)",
    )
    group.add_argument("--keep", action="store_true",
                       help="keep the server running when it is idle (default: 30 minutes)")  # fmt: skip


def refuse_options(
    args: argparse.Namespace,
    reason: str = "on a command that connects to no backend",
    hint: str = "Leave out {}.",
    *,
    allowed: tuple[str, ...] = (),
) -> None:
    """Raise ``ConfigError`` for an option that says where to connect, if it is given; ``allowed`` may be."""
    names = {"backend", "url", *group_options(args, *_GROUPS)}
    refuse_unused(args, reason, names.difference(allowed), hint)


def resolve_backend(args: argparse.Namespace) -> str:
    """Return the backend: ``--backend``, else local if ``--url`` is given, else from the settings.

    Raises ``ConfigError`` if ``--url`` contradicts ``--backend``, and for an unknown backend.
    """
    if args.url and args.backend not in (None, "local"):
        raise ConfigError(
            f"--url is the URL of the local server, but --backend is {args.backend}",
            hint="Leave one of them out.",
        )
    name = "local" if args.url else Settings.load(backend=args.backend).require("backend").lower()
    if name not in ("local", "azureml", "foundry"):
        raise ConfigError(f"unknown backend {name!r}", hint="Use one of: local, azureml, foundry.")
    return name


def connect(args: argparse.Namespace) -> Client:
    """Return a client for the backend."""
    from maas_client import Client

    backend = resolve_backend(args)
    _refuse_options_of_other_backends(args, backend)
    if backend == "local":
        return Client.local(
            url=args.url,
            dialect=getattr(args, "dialect", None),
            engine=_option(args, "engine"),
            keep=getattr(args, "keep", False),
        )
    if backend == "foundry":
        return Client.foundry(
            endpoint=_option(args, "endpoint"),
            account_id=_option(args, "account_id"),
            cloud=_option(args, "cloud"),
        )
    return Client.azureml(
        subscription_id=_option(args, "subscription_id"),
        resource_group=_option(args, "resource_group"),
        workspace=_option(args, "workspace"),
        resource_id=_option(args, "resource_id"),
        cloud=_option(args, "cloud"),
    )


def _refuse_options_of_other_backends(args: argparse.Namespace, backend: str) -> None:
    for owner, names in {"local": _LOCAL_OPTIONS, **_AZURE_OPTIONS}.items():
        if owner != backend:
            hint = f"Leave out {{}}, or add --backend {owner}."
            refuse_unused(args, f"with the backend {backend}", names, hint)
    if backend == "local":
        hint = "Leave out {}, or add --backend azureml or --backend foundry."
        refuse_unused(args, "with the backend local", ["cloud"], hint)


def _option(args: argparse.Namespace, name: str) -> str | None:
    value: str | None = getattr(args, name, None)
    return value
