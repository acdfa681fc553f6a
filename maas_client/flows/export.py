"""``client.jobs.export``: a job that exists, as the files that run it on another platform."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from maas_client import catalog, platforms
from maas_client.errors import ConfigError
from maas_client.flows import jobs
from maas_client.flows._io import IO
from maas_client.platforms import ExportSpec, Files, Places
from maas_client.types import Hyperparameters, Job, Method
from maas_client.wire.hyperparameters import NAMES_BY_WIRE_NAME


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
    """Return the files that run ``job`` on a platform (``azureml``, ``kaito``, ``cluster``, ``olive``,
    ``aitoolkit``), by name. Nothing is written and nothing is started.

    ``training_data`` names the data as that platform sees it: a workspace's addresses mean nothing
    elsewhere. ``validation=False`` leaves the validation file out where the platform takes none.
    Raises ``UnsupportedError`` for what the platform cannot take.
    """
    held = job if isinstance(job, Job) else await jobs.get(io, job)
    spec = to_export_spec(
        held, training_data, validation=validation, method=method, compute=compute
    )
    if to != "azureml" and re.match(r"azureml:|/subscriptions/|file-", spec.training_data):
        raise ConfigError(
            f"the data of {held.name} is in its workspace, where {to} cannot read it",
            hint="Name your copy of the file: training_data=.",
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
    """Return a job in the form that platforms take."""
    if not job.model or not (training_data or job.training_data):
        raise ConfigError(
            f"{job.name} does not say which model and data it was made of",
            hint="Export the data file instead: maas-client export FILE --model NAME --to ...",
        )
    facts = catalog.find_model(job.model)
    said, chosen = _hyperparameters(job.hyperparameters)
    return ExportSpec(
        name=job.name,
        model=facts.name if facts else job.model,
        model_info=facts,
        training_data=training_data or str(job.training_data),
        validation_data=job.validation_data if validation else None,
        method=method or chosen,
        hyperparameters=said,
        compute=(compute,) if isinstance(compute, str) else compute or (),
    )


def _hyperparameters(held: Mapping[str, Any]) -> tuple[Hyperparameters, str | None]:
    """Return hyperparameters in our names, and the method; what we have no name for stays as it is."""
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    method: str | None = None
    for name, value in held.items():
        if name == "method":
            method = str(value)
        elif name in NAMES_BY_WIRE_NAME and value not in (None, "auto"):
            known[NAMES_BY_WIRE_NAME[name]] = value
        elif name not in NAMES_BY_WIRE_NAME:
            extra[name] = value
    modules = known.get("target_modules")
    if isinstance(modules, str):
        known["target_modules"] = tuple(modules.split(","))
    return Hyperparameters.model_validate({**known, "extra": extra}), method
