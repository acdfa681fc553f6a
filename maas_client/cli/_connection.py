"""From a command's options to a client. What is not given comes from the settings."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client import Client

_OPTIONS = (
    ("--dialect", "what to speak to the local server: azureml (default) or foundry"),
    ("--subscription-id", "azureml: the subscription"),
    ("--resource-group", "azureml: the resource group"),
    ("--workspace", "azureml: the workspace or hub project"),
    ("--resource-id", "azureml: the workspace's ARM id, instead of the three above"),
    ("--endpoint", "foundry: https://NAME.openai.azure.com"),
    ("--account-id", "foundry: the account's ARM id, for deployments"),
    ("--cloud", "public, usgov or china"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the backend is. Keys are never options: they would be seen by
    every process of this machine; ``maas-client config`` names their variables."""
    group = parser.add_argument_group("connection", "each has a setting, see: maas-client config")
    for option, text in _OPTIONS:
        if option == "--dialect":
            group.add_argument(option, help=text, choices=("azureml", "foundry"))
        else:
            group.add_argument(option, help=text, metavar="X")


def resolve_backend(args: argparse.Namespace) -> str:
    """Return which backend is meant: ``--backend``, else ``--url`` (which is the local server's), else
    the settings. Raises ``ConfigError`` for both at odds, and for a name nobody knows."""
    if args.url and args.backend not in (None, "local"):
        raise ConfigError(
            f"--url is the local server's address, and --backend is {args.backend}",
            hint="Leave one of them out.",
        )
    said = "local" if args.url else Settings.load(backend=args.backend).require("backend").lower()
    if said not in ("local", "azureml", "foundry"):
        raise ConfigError(f"no backend is called {said!r}", hint="It is local, azureml or foundry.")
    return said


def connect(args: argparse.Namespace) -> Client:
    """Return a client for the backend that is meant."""
    from maas_client import Client

    where = resolve_backend(args)
    if where == "local":
        return Client.local(url=args.url, dialect=getattr(args, "dialect", None))
    if where == "foundry":
        return Client.foundry(
            endpoint=_given(args, "endpoint"),
            account_id=_given(args, "account_id"),
            cloud=_given(args, "cloud"),
        )
    return Client.azureml(
        subscription_id=_given(args, "subscription_id"),
        resource_group=_given(args, "resource_group"),
        workspace=_given(args, "workspace"),
        resource_id=_given(args, "resource_id"),
        cloud=_given(args, "cloud"),
    )


def _given(args: argparse.Namespace, name: str) -> str | None:
    value: str | None = getattr(args, name, None)
    return value
