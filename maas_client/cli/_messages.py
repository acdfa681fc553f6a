"""Messages of the library, written with the flags and commands of the command line.

The library writes an argument as ``force_new=True`` and a call as ``client.jobs.wait(job)``. Messages that
contain such parts are a ``maas_client._messages.Text``, which this module renders: ``--force-new``,
``maas-client jobs watch NAME``.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from maas_client._hyperparameter_table import HYPERPARAMETERS
from maas_client._messages import Argument, Call, Constructor, Text
from maas_client.errors import MaasError

if TYPE_CHECKING:
    from maas_client.types import Job

CONNECTION_OPTIONS = (
    "dialect",
    "subscription_id",
    "resource_group",
    "workspace",
    "resource_id",
    "endpoint",
    "account_id",
    "cloud",
)
"""The options of a command that say where it connects to, besides backend and address."""

FLAGS: dict[str, str | None] = {
    "account_id": "--account-id",
    "allow_retired": "--allow-retired",
    "backend": "--backend",
    "by": "--by",
    "cloud": "--cloud",
    "capacity": "--capacity",
    "columns": "--column KEY=prompt",
    "compute": "--compute",
    "control": "--control",
    "data": "--data",
    "delete_after": "--delete-after",
    "deploy": "--deploy",
    "dialect": "--dialect",
    "endpoint": "--endpoint",
    "engine": "--engine",
    "extra": "--set NAME=VALUE",
    "force_new": "--force-new",
    "report_to": "--report-to",
    "ignore": "--ignore",
    "ignore_keys": "--ignore-key KEY",
    "grader": "--grader",
    "hosting_hours": "--hours",
    "hosting_per_hour": "--price-hosting",
    "input_image": "--input-image",
    "input_pvc": "--input-pvc",
    "input_url": "--input-url",
    "keep": "--keep",
    "limit": "--limit",
    "max_jobs": "--max-jobs",
    "max_tokens": "--max-tokens",
    "max_billed_tokens": "--max-billed-tokens",
    "method": "--method",
    "model": "--model",
    "name": "--name",
    "output_image": "--output-image",
    "output_pvc": "--output-pvc",
    "precision": "--precision",
    "processes": "--processes",
    "push_secret": "--push-secret",
    "resource_group": "--resource-group",
    "resource_id": "--resource-id",
    "row_format": "--form",
    "skip_invalid": "--skip",
    "sku": "--sku",
    "subscription_id": "--subscription-id",
    "target": "--target",
    "temperature": "--temperature",
    "top_p": "--top-p",
    "training_data": "DATA",
    "training_per_million_tokens": "--price-training",
    "training_type": "--training-type",
    "url": "--url",
    "validation_data": "--validation",
    "validation_share": "--share",
    "warn": "--warn",
    "workspace": "--workspace",
    # These have an environment variable or no equivalent.
    "api_key": None,
    "ca_file": None,
    "credential": None,
    "hyperparameters": None,
    "kind": None,
    "metrics": None,
    "prompt": None,
    "step": None,
    "tags": None,
    "timeout": None,
} | {spec.name: spec.flag for spec in HYPERPARAMETERS.values()}
"""Argument to its flag, or to how the help calls it; None if there is no flag."""

_FLAG_VALUES = {
    ("content", "True"): "its content, without --format-only",
    ("engine", "'instant'"): "--engine instant",
    ("keep", "True"): "--keep",
    ("method", "'DPO'"): "--method DPO",
    ("validation", "False"): "--no-validation",
}
"""Arguments with a value that have a flag of their own."""

_COMMANDS = {
    "chat.complete": "chat",
    "datasets.get": "datasets show",
    "deployments.get": "deployments show",
    "jobs.get": "jobs show",
    "jobs.save_checkpoint": "jobs save",
    "jobs.wait": "jobs watch",
    "models.get": "models show",
    "models.list": "models list --mine",
    "models.upload": "models import",
    "sessions.get": "sessions show",
}
"""Calls whose command has another name."""

_CONNECTED_COMMAND = re.compile(
    r"maas-client (?:fine-tune|chat|evaluate|doctor|export|(?:jobs|deployments|sessions) [a-z]+"
    r"|datasets (?:upload|list|show|delete)|models (?:list --mine|import|delete))(?![\w-])"
)
"""A command that connects, in a text; ``models show`` of a model of the catalog does not."""

_connection_options = ""


@contextmanager
def connection_options(args: argparse.Namespace) -> Iterator[None]:
    """Give commands that messages recommend in the block the connection options of this one."""
    global _connection_options
    names = ("profile", "backend", "url", *CONNECTION_OPTIONS, "engine")
    options = [
        f"--{name.replace('_', '-')} {shlex.quote(value)}"
        for name in names
        if (value := getattr(args, name, None))
    ]
    before, _connection_options = _connection_options, " ".join(options)
    try:
        yield
    finally:
        _connection_options = before


def with_connection_options(text: str) -> str:
    """Return a text in which every command that connects has the options of the one that runs."""
    if not _connection_options:
        return text
    return _CONNECTED_COMMAND.sub(lambda match: f"{match[0]} {_connection_options}", text)


def deploy_command(job: Job) -> str:
    """Return the command that deploys a job's model, under a name that the job's suggests."""
    return command("deployments", "create", deployment_name(job.name), "--job", job.name)


def deployment_name(text: str) -> str:
    """Return a valid name of a deployment that is as similar to ``text`` as possible."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text)[:52].strip("-") or "tuned"


def command(*words: str) -> str:
    """Return a command to paste, such as ``command("jobs", "watch", job.name)``."""
    return f"maas-client {shlex.join(words)}"


_LIST_MARKS = "[']"
"""Around the one text of a list in Python code."""


def _argument(part: Argument) -> str | None:
    if part.name == "ignore_keys" and part.code:
        return f"--ignore-key {part.code.strip(_LIST_MARKS)}"
    return _FLAG_VALUES.get((part.name, part.code)) or FLAGS.get(part.name)


def _call(part: Call) -> str:
    words = _COMMANDS.get(part.name) or part.name.replace(".", " ").replace("_", "-")
    arguments = [*map(_positional, part.arguments)]
    if part.name == "deployments.create":
        arguments[1:1] = ["--job"] if arguments[1:] else []
    return " ".join(["maas-client", words, *arguments])


def _positional(argument: str | Argument) -> str:
    """Return an argument of a call as a word of a command: a name as it is, a variable as NAME."""
    try:
        return shlex.quote(str(ast.literal_eval(str(argument))))
    except (ValueError, SyntaxError):
        return "NAME"


def _constructor(part: Constructor) -> str:
    options = [f"--{argument.name} {argument.code.strip(chr(39))}" for argument in part.arguments]
    return " ".join([f"--backend {part.backend}", *options])


def to_cli_terms(text: str) -> str:
    """Return a message with flags and commands in place of Python's arguments and calls."""
    text = Text(text).render(argument=_argument, call=_call, constructor=_constructor).strip()
    return with_connection_options(text)


def error_message(error: MaasError) -> str:
    """Return what happened, without where and what to do."""
    return to_cli_terms(error.message)


def error_summary(error: MaasError) -> str:
    """Return what happened and where, without what to do and without a full stop."""
    where = error.where()
    message = error_message(error).rstrip(".")
    return f"{message} ({where})" if where else message


def error_hint(error: MaasError) -> str:
    """Return what to do, or an empty string."""
    return to_cli_terms(error.hint or "")


def name_file(text: str, path: str) -> str:
    """Return a text whose commands name a file instead of ``FILE``, so that they can be pasted.

    A stream and rows in memory have no path: for them ``FILE`` stays.
    """
    if "FILE" not in text or not Path(path).is_file():
        return text
    return _FILE_ARGUMENT.sub(lambda match: match[1] + shlex.quote(path), text)


_FILE_ARGUMENT = re.compile(r"(maas-client (?:datasets convert|validate) )FILE\b")


def full_error(error: MaasError) -> str:
    """Return what happened, where, and what to do."""
    return to_cli_terms(error.to_text())
