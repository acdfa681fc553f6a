"""``maas-client serve``: the local server in the foreground."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client.local.config import ServerConfig


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8765, help="0 picks a free one")
    parser.add_argument("--state-dir", metavar="DIR", help="where jobs, files and models are kept")
    parser.add_argument(
        "--base",
        default="auto",
        help="what model names run on: auto, tiny, smollm2-135m, a folder, or a hub id",
    )
    parser.add_argument(
        "--engine",
        choices=("peft", "instant"),
        default="peft",
        help="peft trains for real; instant needs no torch and simulates",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where it trains and answers",
    )
    parser.add_argument("--ready-file", metavar="F", help="written once requests are answered")
    parser.add_argument(
        "--api-key", metavar="K", help="the one credential that passes; auto makes a random one"
    )
    parser.add_argument(
        "--tls", action="store_true", help="HTTPS, under a certificate of its own CA"
    )
    parser.add_argument(
        "--proxy",
        action="store_true",
        help="also a proxy that takes Azure's host names to this server and refuses all others",
    )
    parser.add_argument(
        "--print-env",
        action="store_true",
        help="print the variables an application for Azure needs to come here (with --proxy)",
    )
    parser.add_argument("--threads", type=_positive, help="threads of each training process")
    parser.add_argument("--max-jobs", type=_positive, default=1, help="jobs that train at once")
    parser.add_argument(
        "--retention", type=_days, metavar="DAYS", help="forget jobs that ended longer ago"
    )
    parser.add_argument(
        "--realistic",
        action="store_true",
        help="keep the limits and lags that Azure documents: requests and tokens a minute, and more",
    )
    parser.add_argument("--reset", action="store_true", help="begin with an empty state directory")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; then exit 0."""
    from maas_client.local.config import check_extra_installed

    if args.print_env and not args.proxy:
        raise ConfigError("--print-env prints a proxy's variables", hint="Add --proxy.")
    check_extra_installed(args.engine)
    from maas_client.local.resources.base_choice import check_base
    from maas_client.local.server import Server

    config = _config(args)
    if config.engine == "peft":
        check_base(config)
    logging.getLogger("maas_client").setLevel(logging.INFO)
    server = Server(config)

    def announce() -> None:
        told = server.environment if args.print_env else {}
        _announce(server.url, config.engine, config.state_dir, told, as_json=args.json)

    server.run(announce)
    print("stopped", file=sys.stderr)
    return 0


def _config(args: argparse.Namespace) -> ServerConfig:
    from maas_client.local.config import ServerConfig, default_threads

    settings = Settings.load(state_dir=args.state_dir)
    folder = settings.state_path().expanduser().resolve()
    return ServerConfig(
        state_dir=folder,
        host=args.host,
        port=args.port,
        base=args.base,
        engine=args.engine,
        device=args.device,
        api_key=_key(args.api_key, folder),
        threads=args.threads or default_threads(),
        max_jobs=args.max_jobs,
        retention_days=args.retention,
        ready_file=Path(args.ready_file).expanduser().resolve() if args.ready_file else None,
        cache_dir=settings.cache_path(),
        realistic=args.realistic,
        reset=args.reset,
        tls=args.tls,
        proxy=args.proxy,
    )


def _announce(
    url: str, engine: str, folder: Path, environment: dict[str, str], *, as_json: bool
) -> None:
    if as_json:
        told = {"environment": environment} if environment else {}
        print(json.dumps({"url": url, "pid": os.getpid(), **told}), flush=True)
    elif environment:
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
    note = ", simulated: nothing is trained" if engine == "instant" else ""
    print(f"serving on {url} (engine {engine}{note}; state in {folder})", file=sys.stderr)
    at_home = url == Settings.load({}).url
    command = "" if at_home else f"; for commands: export MAAS_URL={url}"
    said = f"  a client: maas.Client.local(url={url!r}){command}. Ctrl-C stops."
    print(said, file=sys.stderr, flush=True)


def _key(given: str | None, folder: Path) -> str | None:
    """Return the key; ``auto`` makes one and puts it into a file only this user can read."""
    if given != "auto":
        if given is not None and not given.strip():
            raise ConfigError("--api-key is empty", hint="Give a key, or auto for a random one.")
        return given
    from maas_client.local.state.files import make_private_folder, write_private_file

    key = secrets.token_urlsafe(32)
    path = make_private_folder(folder) / "api-key"
    write_private_file(path, key + "\n")
    use = f'export MAAS_API_KEY="$(cat {shlex.quote(str(path))})"'
    print(f"the key is in {path}; for clients: {use}", file=sys.stderr)
    return key


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if 0 <= days < 1e6:
        return days
    raise argparse.ArgumentTypeError("a number of days")


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= 1024:
        return int(text)
    raise argparse.ArgumentTypeError("a number from 1 to 1024")
