"""The ``maas-client`` command line: the commands, exit codes and error output.

Data goes to stdout, everything else to stderr. Exit codes: 0 success, 1 error, 2 wrong usage, 3 invalid
data set, 4 job failed or cancelled, 130 interrupted. An error is one sentence; ``MAAS_DEBUG=1`` adds the
traceback.
"""

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
from collections.abc import Sequence

from maas_client._version import __version__
from maas_client.cli._parser import CommandTable, Parser, PrintCompletion, UsageError, add_commands
from maas_client.errors import (
    ConfigError,
    DatasetError,
    JobFailedError,
    MaasError,
    MissingExtraError,
)

OK, ERROR, USAGE, DATASET_INVALID, JOB_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
_TERMINATED = 143

COMMANDS: CommandTable = {
    "validate": ("validate", "check chat files and report every problem with its line and a fix"),
    "fine-tune": ("fine_tune", "validate, upload, train and, with --deploy, deploy"),
    "datasets": ("datasets", "upload, list, show, delete, convert and split data sets"),
    "jobs": ("jobs", "create, list, show, watch, pause, cancel and delete fine-tuning jobs"),
    "models": ("models", "list models and where they can be tuned; pull and import weights"),
    "deployments": ("deployments", "create, list, show and delete deployments; show their keys"),
    "sessions": ("sessions", "list, show, end and delete sessions of interactive training"),
    "chat": ("chat", "send a message to a deployment, or chat with it"),
    "evaluate": ("evaluate", "score a deployment on held-out chats"),
    "serve": ("serve", "run the local server: Azure's HTTP API on this machine"),
    "open": (
        "open_page",
        "open the local server's page in a browser: jobs, data, models, playground",
    ),
    "plan": ("plan", "estimate a job's memory and time, and which method fits which machine"),
    "export": ("export", "export a model or a job: adapter, ONNX, Azure ML YAML, KAITO, ..."),
    "config": ("config", "show every setting, its value and where the value comes from"),
    "doctor": ("doctor", "check this machine and the backend before you spend money"),
    "demo": (
        "demo",
        "run the complete workflow on this machine and compare base and tuned answers",
    ),
}


_GC_THRESHOLD = 20_000
"""Modules create thousands of objects that stay: searching them for garbage takes a twentieth of the time of a
short command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED if type(interrupt) is KeyboardInterrupt else _TERMINATED


def _main(argv: Sequence[str] | None) -> int:
    gc.set_threshold(_GC_THRESHOLD)
    is_stdout_closed = _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if is_stdout_closed:
        print(
            "error: standard output is closed, so the result cannot be printed. "
            "Redirect it to a file, or to the null device to discard it.",
            file=sys.stderr,
        )
        return ERROR
    try:
        return _run(_parse(argv))
    except (ConfigError, MissingExtraError) as error:
        _print_error(error, as_json="--json" in (sys.argv[1:] if argv is None else argv))
        return USAGE if isinstance(error, UsageError) else ERROR
    except SystemExit as exit_:  # argparse: help and version
        return exit_.code if isinstance(exit_.code, int) else USAGE
    except BrokenPipeError:
        _silence(sys.stdout)
        return ERROR


def _replace_closed_streams() -> bool:
    """Open the null device in place of streams that the caller closed; return whether stdout was.

    Python sets such a stream to None, which ``print`` takes for stdout. The null device also takes the
    number of the descriptor, which the next file or socket would get otherwise.
    """
    is_stdout_closed = sys.stdout is None
    for name, mode, number in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            if number:  # stdin stays None: a closed one is not an empty one
                setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115 - until the end
    return is_stdout_closed


def build_parser() -> Parser:
    """Return the parser of the command line. It imports the module of a command when that is chosen."""
    parser = Parser(
        prog="maas-client",
        description="Fine-tune small language models on Azure, or offline on this machine.",
        epilog="First steps: maas-client demo --base tiny. Help for a command: maas-client COMMAND --help. "
        "Settings: maas-client config.",
    )
    parser.add_argument("--version", action="version", version=f"maas-client {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print the completion script for a shell (extra completion)",
    )
    add_commands(parser, COMMANDS)
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    defaults = argparse.Namespace(json=False, backend=None, profile=None, url=None, run=None)
    return build_parser().parse_args(argv, defaults)


def _run(args: argparse.Namespace) -> int:
    from maas_client.cli._messages import connection_options

    with connection_options(args):
        return _run_command(args)


def _run_command(args: argparse.Namespace) -> int:
    from maas_client._settings import Settings, report_unknown_variables

    debug = False
    try:
        with Settings.use_profile(args.profile):
            debug = Settings.load().is_enabled("debug")
            _configure_logging(debug)
            for sentence in report_unknown_variables():
                print(sentence, file=sys.stderr)
            code: int = args.run(args)
        sys.stdout.flush()
    except (BrokenPipeError, UsageError):
        raise
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        _flush_or_discard()
        _print_error(error, as_json=args.json)
        return exit_code(error)
    return code


def _flush_or_discard() -> None:
    """Write what is left for stdout; discard it if that fails, or Python would try again at the end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _silence(sys.stdout)


def exit_code(error: Exception) -> int:
    """Return the exit code for an error."""
    if isinstance(error, DatasetError):
        return DATASET_INVALID
    return JOB_FAILED if isinstance(error, JobFailedError) else ERROR


def _print_error(error: Exception, *, as_json: bool) -> None:
    """Print an error on stderr: one sentence, or one JSON object with ``--json``."""
    if not as_json:
        print(f"error: {_format_error(error)}", file=sys.stderr)
        return
    import json

    from maas_client.cli import _messages
    from maas_client.cli._output import adapt_install_command

    details = {
        name: getattr(error, name)
        for name in ("status", "code", "request_id", "operation", "target", "retry_after")
        if getattr(error, name, None) is not None
    }
    message, hint = _format_error(error), ""
    if isinstance(error, MaasError):
        message = _messages.error_message(error)
        hint = f"{_messages.error_hint(error)}{_suggest_command(error)}".lstrip(". ")
    job_name = getattr(getattr(error, "job", None), "name", None)
    fields = {
        "type": _class_name(error),
        "message": message,
        "hint": adapt_install_command(hint.strip()) or None,
        **details,
        **({"job": job_name} if job_name else {}),
    }
    print(json.dumps({"error": fields}, default=str), file=sys.stderr)


def _class_name(error: Exception) -> str:
    """Return the name of the error's class, or of its nearest base in ``maas_client.errors``."""
    public = (base for base in type(error).__mro__ if base.__module__ == MaasError.__module__)
    return next(public, type(error)).__name__


def _format_error(error: Exception) -> str:
    """Return an error as one sentence on one line."""
    if isinstance(error, MaasError):
        from maas_client.cli import _messages
        from maas_client.cli._output import adapt_install_command

        text = _messages.full_error(error)
        if isinstance(error, DatasetError) and error.report:
            invalid = next((file.path for file in error.report.files if not file.ok), "")
            text = _messages.name_file(text, invalid)
        suggestion = _suggest_command(error)
        if suggestion.startswith(" ") and not text.endswith("."):  # the text ends with a command
            suggestion = f"; {suggestion[1].lower()}{suggestion[2:]}"
        text += suggestion
        return adapt_install_command(" ".join(text.split()))
    if isinstance(error, OSError) and error.strerror:
        if error.filename:
            return f"{error.filename}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"standard output or a file cannot be written: {error.strerror}. Make room on its disk."
        return error.strerror
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("maas_client"):
        return (
            f"{text} in {sys.executable}. Install maas-client and its dependencies there, with pip."
        )
    return (
        f"{type(error).__name__}: {text}. This is a bug in maas-client. "
        "Set MAAS_DEBUG=1 to see the traceback."
    )


def _suggest_command(error: MaasError) -> str:
    """Return the command that shows more: all problems of a file, or the existing names."""
    from maas_client.cli._messages import command

    if isinstance(error, DatasetError) and error.report:
        report = error.report
        paths = [f.path for f in report.files if not f.ok and "FILE_NOT_FOUND" not in f.counts]
        if not paths:
            return ""
        options = [f"--{n}={v}" for n in ("model", "target") if (v := getattr(report, n))]
        return f" List all problems: {command('validate', '--all', *paths, *options)}"
    return ""


def _configure_logging(debug: bool) -> None:
    """Print the library's warnings on stderr; hide azure-identity's long ones unless debugging."""
    import logging

    if not debug:
        logging.getLogger("azure").addHandler(logging.NullHandler())

    class CliFormatter(logging.Formatter):
        """Formats log records with flags and commands in place of Python names."""

        def format(self, record: logging.LogRecord) -> str:
            from maas_client.cli._messages import to_cli_terms

            args = record.args if isinstance(record.args, tuple) else ()
            rendered = tuple(to_cli_terms(arg) if isinstance(arg, str) else arg for arg in args)
            fields = {"msg": to_cli_terms(record.msg), "args": rendered or record.args}
            record = logging.makeLogRecord(record.__dict__ | fields)
            if getattr(record, "is_notice", False):  # what happened, not a warning
                return record.getMessage()
            return super().format(record)

    logger = logging.getLogger("maas_client")
    logger.handlers = [h for h in logger.handlers if h.get_name() != "command line"]
    handler = logging.StreamHandler()
    handler.set_name("command line")
    handler.setFormatter(CliFormatter("%(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if debug else logging.WARNING)


def _silence(stream: object) -> None:
    """Redirect a closed pipe to the null device, so that the flush at exit does not fail."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[attr-defined]  # stdout, real or captured
        os.close(null)
    except (OSError, AttributeError, ValueError):
        return
