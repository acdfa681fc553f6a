"""The command line: verbs, loaded when chosen, and what their errors look like.

Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 error, 2 usage, 3 data set invalid,
4 job failed or cancelled, 130 interrupted. An error is one sentence; ``MAAS_DEBUG=1`` adds the traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from maas_client._version import __version__
from maas_client.cli._parser import CommandTable, UsageError, add_commands
from maas_client.errors import DatasetError, JobFailedError, MaasError, NotFoundError

OK, ERROR, USAGE, DATASET_INVALID, JOB_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130

COMMANDS: CommandTable = {
    "validate": ("validate", "check chat files: every problem, its line, and how to mend it"),
    "fine-tune": ("fine_tune", "check, upload, train and, with --deploy, deploy"),
    "datasets": ("datasets", "upload, list, show, delete, convert or split data sets"),
    "jobs": ("jobs", "create, list, show, watch, cancel, delete fine-tuning jobs, read their logs"),
    "models": ("models", "what can be tuned, where and until when; pull and import weights"),
    "deployments": ("deployments", "create, list, show, delete deployments, see their keys"),
    "chat": ("chat", "ask a deployment, once or in a talk"),
    "evaluate": ("evaluate", "score a deployment on held-out chats"),
    "serve": ("serve", "run the local server: the same HTTP as Azure, on this machine"),
    "plan": ("plan", "memory and time a job needs, and which method fits which machine"),
    "export": ("export", "take a job or a model elsewhere: adapter, ONNX, YAML, KAITO, ..."),
    "config": ("config", "show every setting, its value and where it comes from"),
    "doctor": ("doctor", "look at this machine and this backend before anything is paid for"),
    "demo": ("demo", "the whole road on this machine, base and tuned answers side by side"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(_parse(argv))
    except UsageError as error:
        _print_error(error, as_json="--json" in (sys.argv[1:] if argv is None else argv))
        return USAGE
    except SystemExit as end:  # argparse: help, version, a usage error
        return end.code if isinstance(end.code, int) else USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)
        return ERROR


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    from maas_client.cli._parser import Parser

    parser = Parser(
        prog="maas-client",
        description="Fine-tune small language models on Azure, and offline on this machine.",
        epilog="maas-client VERB --help says more. Settings: maas-client config.",
    )
    parser.add_argument("--version", action="version", version=f"maas-client {__version__}")
    add_commands(parser, COMMANDS)
    given = argparse.Namespace(json=False, backend=None, url=None, run=None)
    return parser.parse_args(argv, given)


def _run(args: argparse.Namespace) -> int:
    from maas_client._settings import Settings

    debug = Settings.load().is_enabled("debug")
    try:
        _configure_logging(debug)
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        _print_error(error, as_json=args.json)
        return exit_code(error)
    return code


def exit_code(error: Exception) -> int:
    """Return the exit code that tells a script what kind of error ended the command."""
    if isinstance(error, DatasetError):
        return DATASET_INVALID
    return JOB_FAILED if isinstance(error, JobFailedError) else ERROR


def _print_error(error: Exception, *, as_json: bool) -> None:
    """Say an error on stderr: one sentence, or with ``--json`` one object on one line."""
    if not as_json:
        print(f"error: {_format_error(error)}", file=sys.stderr)
        return
    import json

    from maas_client.cli import _messages
    from maas_client.cli._output import adapt_install_command

    parts = {
        name: getattr(error, name)
        for name in ("status", "code", "request_id", "operation", "target", "retry_after")
        if getattr(error, name, None) is not None
    }
    message, hint = _format_error(error), ""
    if isinstance(error, MaasError):
        message, hint = (
            _messages.error_message(error),
            f"{_messages.error_hint(error)}{_more(error)}".lstrip(". "),
        )
    job = getattr(getattr(error, "job", None), "name", None)
    said = {
        "type": _public(error),
        "message": message,
        "hint": adapt_install_command(hint.strip()) or None,
        **parts,
        **({"job": job} if job else {}),
    }
    print(json.dumps({"error": said}, default=str), file=sys.stderr)


def _public(error: Exception) -> str:
    """Return the name of an error's class as ``maas_client.errors`` has it, where it is one of them."""
    known = (kind for kind in type(error).__mro__ if kind.__module__ == MaasError.__module__)
    return next(known, type(error)).__name__


def _format_error(error: Exception) -> str:
    if isinstance(error, MaasError):
        from maas_client.cli import _messages
        from maas_client.cli._output import adapt_install_command

        return adapt_install_command(
            " ".join(f"{_messages.full_error(error)}{_more(error)}".split())
        )
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    said = " ".join(str(error).split()) or "no more is known"
    return (
        f"{type(error).__name__}: {said}. This is a bug of maas-client; MAAS_DEBUG=1 shows where."
    )


def _more(error: MaasError) -> str:
    """Return which command says more: about a file's problems, or about the names that there are."""
    if isinstance(error, DatasetError) and error.report:
        bad = [file.path for file in error.report.files if not file.ok]
        return f" Every problem: maas-client validate {' '.join(bad)}"
    if isinstance(error, NotFoundError) and not error.hint:
        verb = _LISTS.get((error.operation or "").partition(".")[0])
        return f". See what there is: maas-client {verb}" if verb else ""
    return ""


_LISTS = {
    noun: verb
    for verb, nouns in {
        "deployments list": ("endpoints", "deployments", "foundry_chat"),
        "jobs list": ("jobs", "runs", "fine_tuning"),
        "datasets list": ("data", "data_versions", "files"),
        "models list, or models list --mine": ("models", "model_versions"),
    }.items()
    for noun in nouns
}
"""What an operation's name begins with, to the command that lists such things."""


def _configure_logging(debug: bool) -> None:
    """Let the library's warnings be read on stderr, and keep azure-identity's pages of them for debugging."""
    import logging

    if not debug:
        logging.getLogger("azure").addHandler(logging.NullHandler())

    class Spoken(logging.Formatter):
        """The library's warnings, in the command line's words."""

        def format(self, record: logging.LogRecord) -> str:
            from maas_client.cli import _messages

            return _messages.to_cli_terms(super().format(record))

    log = logging.getLogger("maas_client")
    log.handlers = [one for one in log.handlers if one.get_name() != "command line"]
    handler = logging.StreamHandler()
    handler.set_name("command line")
    handler.setFormatter(Spoken("%(levelname)s: %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO if debug else logging.WARNING)


def _silence(stream: object) -> None:
    """Point a stream whose reader has gone at nothing, so that the interpreter's last flush is quiet."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]  # stdout, real or captured
        os.close(nowhere)
    except (OSError, AttributeError, ValueError):
        return
