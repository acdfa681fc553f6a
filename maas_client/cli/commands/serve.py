"""``maas-client serve``: run the local server in the foreground; stop or show the one that runs."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from maas_client._settings import Settings
from maas_client.cli._output import print_fields, print_json
from maas_client.cli._parser import refuse_unused
from maas_client.errors import ConfigError, MaasError

if TYPE_CHECKING:
    from maas_client.local.config import Engine, ServerConfig
    from maas_client.local.server import Server

_ENV_FORMATS: dict[str, Callable[[str, str], str]] = {
    "sh": lambda name, value: f"export {name}={shlex.quote(value)}",
    "fish": lambda name, value: f"set -gx {name} {shlex.quote(value)}",
    "powershell": lambda name, value: "$env:{} = '{}'".format(name, value.replace("'", "''")),
    "dotenv": lambda name, value: f"{name}={json.dumps(value)}",
}
"""How each shell, and a .env file, set an environment variable."""
_ENV_FAILURES = {
    "sh": "echo 'maas-client serve failed' >&2; false",
    "fish": "echo 'maas-client serve failed' >&2; false",
    "powershell": "throw 'maas-client serve failed'",
}
"""What ``--print-env`` prints in place of the variables, so that a shell that reads them does not go on."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8765,
        help="port to listen on; 0 chooses a free one (default 8765)",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="folder for jobs, files and models (default: MAAS_STATE_DIR, else the usual one)",
    )
    parser.add_argument(
        "--base",
        default="auto",
        help="base weights for all models: auto (default: the model's own if they are here, else a stand-in), "
        "tiny, smollm2-135m, a folder or a hub id",
    )
    parser.add_argument(
        "--engine",
        choices=("peft", "instant"),
        help="peft trains; instant simulates and needs no torch (default: MAAS_ENGINE, else peft)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="device for training and answering (default auto)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "int8"),
        help="weights to answer with: auto (unquantised) or int8, which is faster for one answer at a time "
        "on a CPU, and prints how far its answers are from unquantised ones (default: MAAS_PRECISION, else "
        "auto). Training and sessions never use int8",
    )
    parser.add_argument(
        "--ready-file", metavar="F", help="file to write once the server answers requests"
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="the only API key to accept: auto (a random one), @FILE (read from a file) or the key",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="serve HTTPS, with a certificate from the server's own CA",
    )
    parser.add_argument(
        "--proxy",
        action="store_true",
        help="also run a proxy that forwards Azure's host names to this server and rejects all others",
    )
    parser.add_argument(
        "--print-env",
        nargs="?",
        const="sh",
        choices=sorted(_ENV_FORMATS),
        help="with --proxy: print the environment variables that make an Azure application use this "
        "server, for sh (default), fish, powershell or a dotenv file",
    )
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads per training process (default: the cores divided by --max-jobs)",
    )
    parser.add_argument(
        "--max-jobs",
        type=_positive,
        metavar="N",
        default=1,
        help="number of jobs that train at the same time (default 1)",
    )
    parser.add_argument(
        "--retention",
        type=_days,
        metavar="DAYS",
        help="delete jobs that ended more than DAYS ago (default: never)",
    )
    parser.add_argument(
        "--min-examples",
        type=_positive,
        metavar="N",
        help="refuse jobs with fewer training examples (default: Azure's minimum, 10)",
    )
    parser.add_argument(
        "--realistic",
        action="store_true",
        help="apply the limits and delays that Azure documents, such as requests and tokens per minute",
    )
    parser.add_argument(
        "--idle-timeout",
        type=_seconds,
        metavar="SECONDS",
        help="stop after this time without running jobs and requests (default: never)",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--status",
        action="store_true",
        help="show the running server of the state directory; exit code 1 if there is none",
    )
    action.add_argument(
        "--stop",
        action="store_true",
        help="stop the running server of the state directory; its jobs continue with the next one",
    )
    parser.add_argument(
        "--faults",
        metavar="PLAN",
        help="make requests fail on purpose, by the JSON file PLAN (docs/reliability.md)",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="with --engine instant: jobs on a virtual clock, and POST /control/... to seed jobs, plan "
        "faults and advance the clock (docs/how-to/testing.md)",
    )
    parser.add_argument("--reset", action="store_true", help="empty the state directory first")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM, then return 0. With ``--status`` or ``--stop``, look for a server."""
    if args.status or args.stop:
        return _show_or_stop(args)
    _hide_key(args.api_key)
    if not args.proxy:
        refuse_unused(args, "without --proxy", ["print_env"], "Add --proxy, or leave out {}.")
    refuse_unused(
        args, "on a server that is started", ["url"], "Choose its address with --host and --port."
    )
    if args.backend not in (None, "local"):
        raise ConfigError(
            f"serve starts the local server, but --backend is {args.backend}",
            hint="Leave out --backend.",
        )
    is_announced = False
    try:
        server = _create_server(args)
        config = server.config

        def announce() -> None:
            nonlocal is_announced
            is_announced = True
            environment = server.environment if args.print_env else {}
            if args.print_env and not args.json:
                for name, value in environment.items():
                    print(_ENV_FORMATS[args.print_env](name, value), flush=True)
            _announce(server.url, config, environment, as_json=args.json)
            _announce_page(server.new_page_link(), args.state_dir)

        server.run(announce)
    except MaasError:
        if args.print_env in _ENV_FAILURES and not args.json and not is_announced:
            print(_ENV_FAILURES[args.print_env], flush=True)
        raise
    print("stopped", file=sys.stderr)
    return 0


def _create_server(args: argparse.Namespace) -> Server:
    config = _config(args)
    from maas_client.local.resources.base_models import check_base
    from maas_client.local.server import Server

    if config.engine == "peft":
        check_base(config)
    logging.getLogger("maas_client").setLevel(logging.INFO)
    return Server(config)


def _show_or_stop(args: argparse.Namespace) -> int:
    """Show or stop the server of the state directory."""
    from maas_client._local_server.process import stop
    from maas_client._local_server.record import KEEP_FILE, read_running

    action = "--stop" if args.stop else "--status"
    others = {option.dest for option in args.parser._actions} - {
        "json",
        "state_dir",
        "status",
        "stop",
    }
    refuse_unused(args, f"with {action}", others, "Leave out {}.")
    folder = Settings.load(state_dir=args.state_dir).state_path().resolve()
    record = stop(folder) if args.stop else read_running(folder)
    if record is None:
        print(f"no local server uses {folder}", file=sys.stderr)
        if args.json:
            print_json({"running": False, "state_dir": folder})
        return 0 if args.stop else 1
    if args.stop:
        print(f"stopped the local server at {record.url} (process {record.pid})", file=sys.stderr)
    elif not args.json:
        keeps = record.idle_timeout_s is None or (folder / KEEP_FILE).exists()
        lifetime = "with: maas-client serve --stop"
        if record.idle_timeout_s is not None and not keeps:
            lifetime = f"after {record.idle_timeout_s / 60:g} idle minutes"
        fields = {"url": record.url, "process": record.pid, "engine": record.engine}
        fields |= {"started_at": record.started_at, "stops": lifetime, "state_dir": folder}
        print_fields(args, fields)
    if args.json:
        print_json(
            {
                "running": not args.stop,
                "url": record.url,
                "pid": record.pid,
                "engine": record.engine,
                "started_at": record.started_at,
                "idle_timeout_s": record.idle_timeout_s,
                "state_dir": folder,
            }
        )
    return 0


def _config(args: argparse.Namespace) -> ServerConfig:
    from maas_client.local.config import (
        ServerConfig,
        check_extra_installed,
        check_precision,
    )
    from maas_client.local.fault_plan import FaultPlan

    settings = Settings.load(state_dir=args.state_dir, engine=args.engine, precision=args.precision)
    engine = settings.require("engine").lower()
    check_extra_installed(cast("Engine", engine))
    if engine == "instant":
        reason = "with the engine instant, which loads no weights"
        hint = "Leave out {}, or use --engine peft."
        refuse_unused(args, reason, ["base", "device", "threads"], hint)
    precision = check_precision(settings.require("precision").lower(), engine, args.device)
    folder = settings.state_path().expanduser().resolve()
    return ServerConfig(
        state_dir=folder,
        host=args.host,
        port=args.port,
        base=args.base,
        engine=cast("Engine", engine),
        device=args.device,
        precision=precision,
        api_key=_key(args.api_key, folder),
        threads=args.threads,
        max_jobs=args.max_jobs,
        retention_days=args.retention,
        idle_timeout_s=args.idle_timeout,
        ready_file=Path(args.ready_file).expanduser().resolve() if args.ready_file else None,
        cache_dir=settings.cache_path(),
        min_examples=args.min_examples,
        realistic=args.realistic,
        faults=FaultPlan.from_file(args.faults) if args.faults else None,
        control=args.control,
        reset=args.reset,
        tls=args.tls,
        proxy=args.proxy,
    )


def _announce(
    url: str, config: ServerConfig, environment: dict[str, str], *, as_json: bool
) -> None:
    if as_json:
        extra = {"environment": environment} if environment else {}
        print(json.dumps({"url": url, "pid": os.getpid(), **extra}), flush=True)
    note = ", simulated: nothing is trained" if config.engine == "instant" else ""
    if config.precision != "auto":
        note = f", answers with {config.precision} weights"
    engine = f"engine {config.engine}{note}"
    print(f"serving on {url} ({engine}; state in {config.state_dir})", file=sys.stderr)
    is_default = url == Settings.load({}).url
    command = "" if is_default else f"; for commands: export MAAS_URL={url}"
    usage = f"  in Python: maas.Client.local(url={url!r}){command}. Stop with Ctrl-C."
    print(usage, file=sys.stderr, flush=True)


def _announce_page(link: str, state_dir: str | None) -> None:
    folder = f" --state-dir {shlex.quote(state_dir)}" if state_dir else ""
    text = f"  in a browser: {link} (works once; for another link: maas-client open{folder})"
    print(text, file=sys.stderr, flush=True)


def _key(option: str | None, folder: Path) -> str | None:
    """Return the API key; ``auto`` generates one and writes it to a file that only this user can read."""
    if option is None:
        return None
    if option != "auto":
        text = _read_key(option[1:]) if option.startswith("@") else option
        if not text.strip():
            raise ConfigError("the API key is empty", hint="Pass a key, or auto for a random one.")
        return text
    from maas_client.local.state.files import (
        explain_state_errors,
        make_private_folder,
        write_private_file,
    )

    key = secrets.token_urlsafe(32)
    path = make_private_folder(folder) / "api-key"
    with explain_state_errors(folder):
        write_private_file(path, key + "\n")
    command = f'export MAAS_API_KEY="$(cat {shlex.quote(str(path))})"'
    print(f"the key is in {path}; for clients: {command}", file=sys.stderr)
    return key


def _read_key(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(
            f"the API key cannot be read from {path}: {reason}",
            hint="Write the key into a file that you can read, and pass --api-key @FILE.",
        ) from error


def _hide_key(key: str | None) -> None:
    """Run this command again without the key in its arguments, which every user of the machine can list.

    The key is passed on through a pipe. The process keeps its id.
    """
    arguments = sys.orig_argv
    if os.name != "posix" or not key or key == "auto" or key.startswith("@"):
        return
    places = [
        index
        for index, argument in enumerate(arguments)
        if argument == f"--api-key={key}"
        or (argument == key and arguments[index - 1] == "--api-key")
    ]
    if not places:
        return  # called from Python
    reading, writing = os.pipe()
    os.write(writing, key.encode())
    os.close(writing)
    os.set_inheritable(reading, True)
    new = f"@/dev/fd/{reading}"
    hidden = [
        argument if index not in places else new if argument == key else f"--api-key={new}"
        for index, argument in enumerate(arguments)
    ]
    os.execv(sys.executable, hidden)  # noqa: S606 - this command again


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError("must be a number from 0 to 65535")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if 0 <= days < 1e6:
        return days
    raise argparse.ArgumentTypeError("must be a number of days")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0 < seconds < 1e9:
        return seconds
    raise argparse.ArgumentTypeError("must be a number of seconds above 0")


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= 1024:
        return int(text)
    raise argparse.ArgumentTypeError("must be a number from 1 to 1024")
