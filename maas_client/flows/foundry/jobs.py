"""Fine-tuning jobs of a Foundry resource. The id is the service's; the mark in the suffix is ours."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Any

from maas_client import catalog
from maas_client.errors import NotFoundError, StatusError, UnsupportedError
from maas_client.flows import identifiers
from maas_client.flows._backend import JobRequest
from maas_client.flows._io import IO
from maas_client.flows.foundry import create_once, marks
from maas_client.flows.foundry.create_once import dated_base_url
from maas_client.types import Job, JobError
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m
from maas_client.wire import local_extensions as own
from maas_client.wire.hyperparameters import FOUNDRY_WIRE_NAMES

_OVER = frozenset({"failed", "cancelled", "canceled"})
TRAINING_TYPE_FIELD = "trainingType"
"""May be given in ``Hyperparameters(extra={"trainingType": "developerTier"})``."""


def check_request(io: IO, order: JobRequest) -> None:
    """Refuse what this backend cannot take; nothing has been sent."""
    if catalog.is_asset_uri(order.model):
        raise UnsupportedError(
            f"foundry takes models by name, not by address ({order.model})",
            hint="Give the model's name, or use Client.azureml for an azureml:// address.",
        )
    if order.compute:
        raise UnsupportedError(
            "foundry trains on its own machines and takes no compute=",
            hint="azureml takes compute=.",
        )
    if order.method is not None:
        raise UnsupportedError(
            f"foundry runs its own LoRA recipe and lets nobody choose {order.method}",
            hint="Leave method= out, or use the azureml dialect: Client.local(), or Client.azureml with "
            "compute=.",
        )
    if order.tags:
        raise UnsupportedError("foundry keeps no tags with a job", hint="azureml does.")
    _hyperparameters(order)


def _hyperparameters(order: JobRequest) -> dict[str, Any]:
    given = order.hyperparameters.model_dump(exclude_none=True, exclude={"extra", "seed"})
    refused = sorted(set(given) - FOUNDRY_WIRE_NAMES.keys())
    if refused == ["learning_rate"]:
        raise UnsupportedError(
            "foundry takes learning_rate_multiplier=, a factor on its own rate, and no learning_rate=",
            hint="azureml and the local server (dialect azureml) take learning_rate=.",
        )
    if refused:
        raise UnsupportedError(
            f"foundry does not take {', '.join(f'{name}=' for name in refused)}",
            hint="It takes epochs=, batch_size=, learning_rate_multiplier= and seed=; the local server and "
            "azureml with compute= (dialect azureml) take the others.",
        )
    extra = {k: v for k, v in order.hyperparameters.extra.items() if k != TRAINING_TYPE_FIELD}
    return {**{FOUNDRY_WIRE_NAMES[key]: value for key, value in given.items()}, **extra}


def _body(io: IO, order: JobRequest, mark: str) -> dict[str, Any]:
    supervised = {"hyperparameters": _hyperparameters(order)}
    body: dict[str, Any] = {
        "model": order.model,
        "training_file": order.training.id,
        "suffix": marks.job_suffix(order, mark),
        "method": {"type": "supervised", "supervised": supervised},
        TRAINING_TYPE_FIELD: _training_type(io, order),
    }
    if order.validation is not None:
        body["validation_file"] = order.validation.id
    if order.hyperparameters.seed is not None:
        body["seed"] = order.hyperparameters.seed
    return body


def _training_type(io: IO, order: JobRequest) -> str:
    """Return the tier: as asked for, or the first that the catalog knows for the model.

    Every open model needs it; left out, the service complains about the model (section 4.4).
    """
    said = order.hyperparameters.extra.get(TRAINING_TYPE_FIELD)
    if said:
        return str(said)
    facts = catalog.find_model(order.model_name, override=identifiers.catalog_override(io))
    known = facts.training_types[0] if facts and facts.training_types else "globalStandard"
    return known[:1].lower() + known[1:]


async def create(io: IO, order: JobRequest) -> Job:
    """Create the job, or return the live or succeeded one with the same inputs."""
    mark = marks.job_fingerprint(order)
    there = await _marked(io, mark)
    alive = [job for job in there if job.status.lower() not in _OVER]
    if alive and not order.force_new:
        return to_job(alive[-1]).model_copy(update={"attached": True})
    known = {job.id for job in there}

    async def look() -> m.Job | None:
        fresh = [job for job in await _marked(io, mark) if job.id not in known]
        return fresh[-1] if fresh else None

    async def send() -> m.Job:
        return (await io.send(ops.JOB_CREATE, _body(io, order, mark))).value

    made = await create_once.create_once(io, send, look)
    return to_job(made) if order.force_new else await _first(io, made, mark, known)


async def _first(io: IO, made: m.Job, mark: str, known: set[str]) -> Job:
    """Two programs may have looked at the same moment and both started one: the older job stays, the
    other is cancelled by the program that made it."""
    twins = [
        job
        for job in await _marked(io, mark)
        if job.id not in known and job.status.lower() not in _OVER
    ]
    if not twins or twins[0].id == made.id or made.id not in {job.id for job in twins}:
        return to_job(made)
    await cancel(io, made.id)
    return to_job(twins[0]).model_copy(update={"attached": True})


async def _marked(io: IO, mark: str) -> list[m.Job]:
    """Return the jobs that carry the mark, oldest first."""
    found = []
    async for item in create_once.list_items(io, ops.JOB_LIST, query={"limit": "100"}):
        job = m.Job.model_validate(item)
        if mark in (
            marks.suffix_fingerprint(job.suffix),
            marks.suffix_fingerprint(job.fine_tuned_model),
        ):
            found.append(job)
    # The list is newest first; times are whole seconds, and within one only the list knows the order.
    found.reverse()
    return sorted(found, key=lambda job: job.created_at or 0)


async def get(io: IO, job: str) -> Job:
    """Return the job as it is now, by id or by name (its newest bearer)."""
    return to_job((await io.send(ops.JOB_GET, job=await resolve_job_id(io, job))).value)


async def resolve_job_id(io: IO, job: str) -> str:
    """Return the id of a job given by id or name."""
    if re.match(r"(?i)ftjob[-_]", job) or marks.suffix_fingerprint(job) is None:
        return job
    async for item in create_once.list_items(io, ops.JOB_LIST, query={"limit": "100"}):
        if item.get("suffix") == job:
            return str(item.get("id"))
    raise NotFoundError(f"there is no job {job!r}", status=404, operation="fine_tuning.list")


async def list_all(io: IO) -> AsyncGenerator[Job, None]:
    """Yield the resource's fine-tuning jobs, newest first as the service lists them."""
    async for item in create_once.list_items(io, ops.JOB_LIST, query={"limit": "100"}):
        yield to_job(m.Job.model_validate(item))


async def cancel(io: IO, job: str) -> Job:
    """Ask the service to cancel; a job that has ended already is returned as it is."""
    name = await resolve_job_id(io, job)
    try:
        return to_job((await io.send(ops.JOB_CANCEL, job=name)).value)
    except StatusError as refused:
        if refused.status not in (400, 409):
            raise
        now = await get(io, name)
        if not now.done:
            raise
        return now


async def pause(io: IO, job: str) -> Job:
    """Ask the service to pause. It does so for OpenAI's own models, once a step is done (section 4.2)."""
    return to_job((await io.send(ops.JOB_PAUSE, job=await resolve_job_id(io, job))).value)


async def resume(io: IO, job: str) -> Job:
    """Ask the service to go on with a paused job."""
    return to_job((await io.send(ops.JOB_RESUME, job=await resolve_job_id(io, job))).value)


async def save_checkpoint(io: IO, job: str) -> Job:
    """Ask the local server for a checkpoint; Foundry documents no such operation."""
    if not io.scope.local:
        raise UnsupportedError(
            "foundry documents no way to ask a job for a checkpoint",
            hint="It keeps one at the end of an epoch, and one when a job is paused.",
        )
    return to_job(
        (await io.send(own.FOUNDRY_JOB_SAVE_CHECKPOINT, job=await resolve_job_id(io, job))).value
    )


async def delete(io: IO, job: str) -> None:
    """Delete the job's record, on the dated base: v1 has no such operation."""
    await io.send(ops.JOB_DELETE, base_url=dated_base_url(io), job=await resolve_job_id(io, job))


def to_job(value: m.Job) -> Job:
    """Return the public noun. Its name is the suffix this library gave, or the service's id."""
    status = value.status or "unknown"
    marked = value.suffix if marks.suffix_fingerprint(value.suffix) else None
    held = ((value.method or {}).get("supervised") or {}).get("hyperparameters")
    error = value.error if value.error and (value.error.message or value.error.code) else None
    return Job(
        id=value.id,
        name=marked or value.id,
        status=status,
        done=status.lower() in ops.TERMINAL_STATUSES,
        succeeded=status.lower() == "succeeded",
        model=value.model,
        fine_tuned_model=value.fine_tuned_model or None,
        error=JobError(code=error.code, message=error.message or "", param=error.param)
        if error
        else None,
        properties={
            **(value.metadata or {}),
            "suffix": value.suffix,
            "result_files": value.result_files or [],
        },
        hyperparameters=dict(held or value.hyperparameters or {}),
        training_data=value.training_file,
        validation_data=value.validation_file,
        created_at=create_once.to_datetime(value.created_at),
        finished_at=create_once.to_datetime(value.finished_at),
        trained_tokens=value.trained_tokens,
        raw=value.dump(),
    )
