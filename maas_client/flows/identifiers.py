"""Resolve what a caller passes (an object, a name, an id, a path) to what a service is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from os import PathLike
from pathlib import Path

from maas_client import catalog
from maas_client._messages import Argument, Call, PythonOnly, Text
from maas_client.catalog import ModelInfo
from maas_client.errors import ConfigError, DatasetError
from maas_client.flows._io import IO
from maas_client.flows._requests import catalog_override, service_model_id, validation_target
from maas_client.types import Dataset, Deployment, Job, Model, Session

StrPath = str | Path


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A base model to fine-tune."""

    id: str
    """As the service names it."""
    name: str
    info: ModelInfo | None
    """The catalog's entry, if there is one."""
    notices: tuple[str, ...] = ()
    """Warnings: the model's retirement, a former name."""


def check_number(
    name: str, value: object, *, at_least: float = 0, is_whole: bool = False, may_equal: bool = True
) -> None:
    """Check a numeric argument of a call before anything is sent.

    Args:
        name: The argument.
        value: Its value.
        at_least: The lower bound.
        is_whole: Whether only whole numbers are valid.
        may_equal: Whether the bound itself is valid.

    Raises:
        ConfigError: The value is of another type, not a number, or out of bounds.
    """
    number: float | None = None
    if isinstance(value, int if is_whole else int | float) and not isinstance(value, bool):
        number = value
        if number > at_least or (may_equal and number == at_least):
            return
    kind = "a whole number" if is_whole else "a number"
    bound = f"of at least {at_least:g}" if may_equal else f"above {at_least:g}"
    actual = f"{number:g}" if number is not None else f"of type {type(value).__name__}"
    raise ConfigError(Text.format("{} must be {} {}, not {}", Argument(name), kind, bound, actual))


def check_new_name(name: str | None, kind: str = "name") -> None:
    """Raise ``ConfigError`` if what will be created is given an empty or invalid name."""
    if name is None or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", name):
        return
    if not name.strip():
        option = Argument("name")
        raise ConfigError(
            Text.format("{} is empty", option),
            hint=Text.format("Choose a name, or leave out {}.", option),
        )
    raise ConfigError(
        f"{name!r} is not a valid {kind}"
        if len(name) < 256
        else f"the {kind} is too long: {len(name)}",
        hint="Use up to 255 letters, digits, '-', '_' and '.'; the first must be a letter or a digit.",
    )


async def resolve_base_model(
    io: IO,
    model: str | Model,
    *,
    allow_retired: bool,
    has_compute: bool,
    method: str | None = None,
) -> ResolvedModel:
    """Return the model for a new job. Nothing is sent.

    A model that is given by an asset URI is never refused because of its age.

    Raises:
        ConfigError: The name is unknown; the error suggests the nearest ones.
        ModelRetiredError: The model is retired on this backend, and neither ``allow_retired`` nor
            ``has_compute`` is set.
        UnsupportedError: This backend cannot fine-tune the model.
    """
    name = model.id if isinstance(model, Model) else model
    info = catalog.find_model(name, override=catalog_override(io))
    if catalog.is_asset_uri(name):
        short_name = info.name if info else name.split("/models/")[-1].split("/")[0]
        return ResolvedModel(name, short_name, info)
    if info is None:
        info = catalog.get_model(name, override=catalog_override(io))
    target = validation_target(io)
    notices = [] if name == info.name else [catalog.name_notice(info, name)]
    if target != "local":
        today = await io.call(date.today)
        if method == "DPO":
            catalog.check_method(info, method)
        if not has_compute:
            catalog.check_retirement(info, target, today, allow_retired=allow_retired)
            catalog.check_tunable(info, target)
        notices.append(catalog.retirement_notice(info, today))
    known_notices = tuple(notice for notice in notices if notice)
    return ResolvedModel(service_model_id(io, info), info.name, info, known_notices)


def local_file(data: str | PathLike[str]) -> Path | None:
    """Return the path if ``data`` names a file on this machine, None if it is an id.

    Raises ``DatasetError`` for a text that looks like a path to a file that does not exist.
    """
    path = Path(data)
    text = str(data) if isinstance(data, str) else str(path)
    if path.is_file():
        return path
    if text.startswith(("azureml:", "/subscriptions/", "file-")) and isinstance(data, str):
        return None
    if not isinstance(data, str) or path.suffix or "/" in text or "\\" in text:
        if path.exists():
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise DatasetError(f"{text} is not a file: {kind}", hint="Give the data file itself.")
        raise DatasetError(f"file not found: {text}", hint="Check the path.")
    return None


def job_id(job: Job | str) -> str:
    """Return the id of a job given as an object, an id or a name."""
    return job.id if isinstance(job, Job) else _check_text(job, "job")


def dataset_id(dataset: Dataset | str) -> str:
    """Return the id of a dataset given as an object, an id or a name."""
    return dataset.id if isinstance(dataset, Dataset) else _check_text(dataset, "dataset")


def model_id(model: Model | Job | str) -> str:
    """Return the id of a model to deploy: a model, a job's model, an id or a base model's name.

    Raises ``ConfigError`` for a job that has no model yet.
    """
    if isinstance(model, Job):
        if not model.fine_tuned_model:
            verb = "jobs.logs" if model.done else "jobs.wait"
            raise ConfigError(
                f"job {model.name} has no model: its status is {model.status}",
                hint=Text.format(
                    "{}: {}",
                    "Read its log" if model.done else "Wait for it",
                    Call(verb, repr(model.name)),
                ),
            )
        return model.fine_tuned_model
    return model.id if isinstance(model, Model) else _check_text(model, "model")


def deployment_id(deployment: Deployment | str) -> str:
    """Return the name of a deployment given as an object or a name."""
    if isinstance(deployment, Deployment):
        return deployment.name
    return _check_text(deployment, "deployment")


def session_id(session: Session | str) -> str:
    """Return the id of a session given as an object or an id."""
    return session.id if isinstance(session, Session) else _check_text(session, "session")


def _check_text(value: object, kind: str) -> str:
    """Return ``value`` if it is a text with a character other than a space.

    Raises ``ConfigError`` for anything else. None is most often the ``fine_tuned_model`` of a job that
    has none.
    """
    if isinstance(value, str) and value.strip():
        return value
    ways = "its id" if kind == "session" else "its name or its id"
    hint = Text.format("Pass {}{}.", PythonOnly(f"the {kind} itself, or "), ways)
    if value is None and kind == "model":
        hint += Text.format(
            " A job has a model once it has succeeded: {}.", Call("jobs.wait", "job")
        )
    name = "None" if value is None else f"a value of type {type(value).__name__}"
    if isinstance(value, str):
        name = "an empty text"
    raise ConfigError(f"{name} is not a {kind}", hint=hint)


def arm_name(name_or_id: str) -> str:
    """Return the last segment of an ARM id or ``azureml:`` URI.

    Any other text is a name as a whole, so that ``a/b`` never means ``b``.
    """
    if name_or_id.startswith(("/", "azureml:")):
        return name_or_id.rsplit("/", 1)[-1]
    return name_or_id
