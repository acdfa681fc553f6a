"""``client.jobs.export``: an existing job as files that run it on another platform."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from maas_client import catalog, platforms
from maas_client._hyperparameter_table import NAMES_BY_WIRE_NAME
from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError
from maas_client.flows import jobs
from maas_client.flows._io import IO
from maas_client.flows._requests import canonical_method
from maas_client.platforms import ExportSpec, Files, Places
from maas_client.types import Hyperparameters, Job, Method


async def export(
    io: IO,
    job: Job | str,
    to: str,
    *,
    training_data: str | None = None,
    validation: bool = True,
    method: Method | None = None,
    compute: str | tuple[str, ...] | None = None,
    places: Places | None = None,
) -> Files:
    """Return files that run a job on another platform. Nothing is written or started.

    Args:
        job: A job, its id or its name.
        to: The platform: ``azureml``, ``kaito``, ``cluster``, ``olive`` or ``aitoolkit``.
        training_data: The training data as the platform sees it; default: the job's. Other platforms
            cannot read the data of a workspace, so they need it.
        validation: Include the job's validation data. False omits it for platforms that take none. Default:
            True.
        method: ``LoRA``, ``QLoRA``, ``DoRA``, ``Full`` or ``rsLoRA``; default: the job's.
        compute: azureml: the name of a compute, or instance types; default: serverless.
        places: Where the platform reads data and writes results; default: none.

    Returns:
        The contents of the files by name.

    Raises:
        UnsupportedError: The platform does not support something that the job uses.
        ConfigError: The platform is unknown, or the job's data or model is not known.
        NotFoundError: There is no such job.

    Example:
        >>> for name, text in client.jobs.export(job, "cluster", training_data="train.jsonl").items():
        ...     Path(name).write_text(text)
    """
    source = job if isinstance(job, Job) else await jobs.get(io, job)
    spec = to_export_spec(
        source, training_data, validation=validation, method=method, compute=compute
    )
    if to != "azureml" and re.match(r"azureml:|/subscriptions/|file-", spec.training_data):
        raise ConfigError(
            f"the data of {source.name} is in its workspace, where {to} cannot read it",
            hint=Text.format("Pass your copy of the file: {}.", Argument("training_data")),
        )
    return platforms.export_job(spec, to, places)


def to_export_spec(
    job: Job,
    training_data: str | None = None,
    *,
    validation: bool = True,
    method: Method | None = None,
    compute: str | tuple[str, ...] | None = None,
) -> ExportSpec:
    """Return a job as an ``ExportSpec``. Raises ``ConfigError`` if its model or data is not known."""
    if not job.model or not (training_data or job.training_data):
        raise ConfigError(
            f"job {job.name} does not say which model and data it used",
            hint="Export the data file instead: maas-client export FILE --model NAME --to ...",
        )
    info = catalog.find_model(job.model)
    hyperparameters, job_method = _parse_hyperparameters(job.hyperparameters)
    return ExportSpec(
        name=job.name,
        model=info.name if info else job.model,
        model_info=info,
        training_data=training_data or str(job.training_data),
        validation_data=job.validation_data if validation else None,
        method=canonical_method(method or job_method),
        hyperparameters=hyperparameters,
        compute=(compute,) if isinstance(compute, str) else compute or (),
    )


_CHOSEN_BY_THE_SERVICE = (None, "auto", -1, "-1")


def _parse_hyperparameters(values: Mapping[str, Any]) -> tuple[Hyperparameters, str | None]:
    """Return a job's hyperparameters, and its method. Unknown names are kept in ``extra``."""
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    method: str | None = None
    for name, value in values.items():
        if name == "method":
            method = str(value)
        elif name == "learning_rate_multiplier" and value == 1:
            continue  # reported for every Foundry job; other platforms have no such setting
        elif name in NAMES_BY_WIRE_NAME and value not in _CHOSEN_BY_THE_SERVICE:
            fields[NAMES_BY_WIRE_NAME[name]] = value
        elif name not in NAMES_BY_WIRE_NAME:
            extra[name] = value
    modules = fields.get("target_modules")
    if isinstance(modules, str):
        fields["target_modules"] = tuple(modules.split(","))
    return Hyperparameters.model_validate({**fields, "extra": extra}), method
