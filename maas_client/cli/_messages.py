"""Messages of the library, written with the flags and commands of the command line.

The library writes an argument as ``force_new=True`` and a call as ``client.jobs.wait(job)``. Messages that
contain such parts are a ``maas_client._messages.Text``, which this module renders: ``--force-new``,
``maas-client jobs watch NAME``.
"""

from __future__ import annotations

from maas_client._hyperparameter_table import HYPERPARAMETERS
from maas_client._messages import Argument, Call, Constructor, Text
from maas_client.errors import MaasError

FLAGS: dict[str, str | None] = {
    "account_id": "--account-id",
    "allow_retired": "--allow-retired",
    "backend": "--backend",
    "by": "--by",
    "cloud": "--cloud",
    "capacity": "--capacity",
    "columns": "--column KEY=NAME",
    "compute": "--compute",
    "data": "--data",
    "delete_after": "--delete-after",
    "deploy": "--deploy",
    "dialect": "--dialect",
    "endpoint": "--endpoint",
    "engine": "--engine",
    "extra": "--set NAME=VALUE",
    "force_new": "--force-new",
    "ignore": "--ignore",
    "ignore_keys": "--ignore-key KEY",
    "input_image": "--input-image",
    "input_pvc": "--input-pvc",
    "input_url": "--input-url",
    "keep": "--keep",
    "limit": "--limit",
    "max_billed_tokens": "--max-billed-tokens",
    "method": "--method",
    "model": "--model",
    "name": "--name",
    "output_image": "--output-image",
    "output_pvc": "--output-pvc",
    "processes": "--processes",
    "push_secret": "--push-secret",
    "resource_group": "--resource-group",
    "resource_id": "--resource-id",
    "row_format": "--form",
    "skip_invalid": "--skip",
    "sku": "--sku",
    "subscription_id": "--subscription-id",
    "target": "--target",
    "training_data": "DATA",
    "training_type": "--training-type",
    "url": "--url",
    "validation_data": "--validation",
    "validation_share": "--share",
    "workspace": "--workspace",
    # These have an environment variable or no equivalent.
    "api_key": None,
    "ca_file": None,
    "credential": None,
    "timeout": None,
} | {spec.name: spec.flag for spec in HYPERPARAMETERS.values()}
"""Argument to its flag, or to how the help calls it; None if there is no flag."""

_FLAG_VALUES = {
    ("content", "True"): "its content, without --format-only",
    ("engine", "'instant'"): "--engine instant",
    ("keep", "True"): "--keep",
    ("validation", "False"): "--no-validation",
}
"""Arguments with a value that have a flag of their own."""

_COMMANDS = {"jobs.wait": "jobs watch NAME", "fine_tune": "fine-tune"}
"""Calls whose command has another name or takes the name of a resource."""


def _argument(part: Argument) -> str | None:
    return _FLAG_VALUES.get((part.name, part.code)) or FLAGS.get(part.name)


def _call(part: Call) -> str:
    command = _COMMANDS.get(part.name) or part.name.replace(".", " ").replace("_", "-")
    return f"maas-client {command}"


def _constructor(part: Constructor) -> str:
    options = [f"--{argument.name} {argument.code.strip(chr(39))}" for argument in part.arguments]
    return " ".join([f"--backend {part.backend}", *options])


def to_cli_terms(text: str) -> str:
    """Return a message with flags and commands in place of Python's arguments and calls."""
    return Text(text).render(argument=_argument, call=_call, constructor=_constructor).strip()


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


def full_error(error: MaasError) -> str:
    """Return what happened, where, and what to do."""
    return to_cli_terms(error.to_text())
