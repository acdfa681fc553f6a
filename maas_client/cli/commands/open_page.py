"""``maas-client open``: open the page of the local server in a browser."""

from __future__ import annotations

import argparse
import sys

from maas_client import Client
from maas_client._local_server.probe import new_page_link
from maas_client._local_server.process import LocalServer
from maas_client._local_server.record import ServerRecord, find_key
from maas_client._secret import hide
from maas_client._settings import Settings, has_display
from maas_client.cli._output import print_json, print_note
from maas_client.errors import ConfigError


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="state directory of the server (default: MAAS_STATE_DIR, else the usual one). "
        "A server is started there if none runs",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the link and open no browser"
    )


def run(args: argparse.Namespace) -> int:
    """Print a link that works once, and open it."""
    if args.backend not in (None, "local"):
        raise ConfigError(
            f"the backend {args.backend} has no page of this library",
            hint="Leave out --backend. Azure has its own: https://ai.azure.com",
        )
    link = new_page_link(_find_server(args))
    if args.json:
        print_json({"url": link})
    else:
        print(link)
    if args.no_browser:
        return 0
    sys.stdout.flush()
    if not (has_display() and _open(link)):
        print_note("no browser was found: open the link in one. It works once, within an hour")
    return 0


def _find_server(args: argparse.Namespace) -> ServerRecord:
    """Return the server at ``--url`` or MAAS_URL, else the one of the state directory."""
    settings = Settings.load(state_dir=args.state_dir, url=args.url)
    if settings.origin("url") == "default" or args.state_dir:
        if args.url:
            raise ConfigError("--url and --state-dir both name a server", hint="Leave out one.")
        return LocalServer(settings).ensure_running()
    known = find_key(settings)
    url = settings.require("url").rstrip("/")
    with Client.local(url=url):  # checks the address, the key and the certificate; sends nothing
        pass
    key = settings.api_key if settings.origin("api_key") != "default" else None
    return ServerRecord(
        url,
        api_key=hide(key) or (known.api_key if known else None),
        ca_file=settings.ca_file or (known.ca_file if known else None),
    )


def _open(link: str) -> bool:
    import webbrowser

    try:
        return webbrowser.open(link)
    except webbrowser.Error:
        return False
