"""Fine-tuning jobs of a workspace. The name is ours, so a job is never created twice.

A job's name hashes what decides its result; the same call finds the live or completed job, and after
Failed or Canceled the next is ``NAME-2`` (design.md section 2). The fingerprint also travels in the job's
properties, so that a name somebody else chose is never taken for ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from maas_client.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    StatusError,
    UnsupportedError,
)
from maas_client.flows import _pages
from maas_client.flows._arm import wait_for_operation
from maas_client.flows._backend import JobRequest
from maas_client.flows._io import IO
from maas_client.flows.azureml import runs
from maas_client.flows.identifiers import arm_name
from maas_client.types import Job
from maas_client.wire import azureml as ops
from maas_client.wire import azureml_models as m
from maas_client.wire import local_extensions as own
from maas_client.wire.hyperparameters import SERVERLESS_HYPERPARAMETERS, WIRE_NAMES, to_wire_value
from maas_client.wire.op import Op

FINGERPRINT_PROPERTY = "maas_client.fingerprint"


def to_wire_hyperparameters(io: IO, order: JobRequest) -> dict[str, str]:
    """Return the service's own names with string values, as the Custom provider wants them.

    Raises ``UnsupportedError`` for what the serverless service does not take.
    """
    given = order.hyperparameters.model_dump(exclude_none=True, exclude={"extra"})
    if "learning_rate_multiplier" in given:
        raise UnsupportedError(
            "azureml takes learning_rate=, not learning_rate_multiplier=", hint="foundry takes it."
        )
    free = io.scope.local or bool(order.compute)
    refused = sorted(set(given) - SERVERLESS_HYPERPARAMETERS) if not free else []
    if refused:
        raise UnsupportedError(
            f"serverless fine-tuning on Azure does not take {', '.join(f'{name}=' for name in refused)}",
            hint="It takes epochs=, batch_size= and learning_rate=; your own GPUs (compute=) and the "
            "local server take all of them.",
        )
    if order.method is not None and not free:
        raise UnsupportedError(
            f"serverless fine-tuning on Azure runs its own LoRA recipe and lets nobody choose {order.method}",
            hint="Leave method= out, or use compute= or the local server.",
        )
    said = {WIRE_NAMES[key]: to_wire_value(value) for key, value in given.items()}
    if order.method is not None:
        said["method"] = order.method
    return {
        **said,
        **{key: to_wire_value(value) for key, value in order.hyperparameters.extra.items()},
    }


def check_request(io: IO, order: JobRequest) -> None:
    """Refuse what this backend cannot take; nothing has been sent."""
    to_wire_hyperparameters(io, order)
    _compute(io, order.compute)
    if order.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", order.name):
        raise ConfigError(
            f"{order.name!r} cannot be a job's name",
            hint="It takes letters, digits, '-', '_' and '.', and begins with a letter or a digit.",
        )


def fingerprint(order: JobRequest) -> str:
    """Return what decides the job's result, hashed: model, both data sets, method, hyperparameters."""
    said = {
        "model": order.model,
        "training": order.training.sha256 or order.training.id,
        "validation": order.validation and (order.validation.sha256 or order.validation.id),
        "method": order.method,
        "hyperparameters": order.hyperparameters.model_dump(mode="json", exclude_none=True),
        "compute": list(order.compute),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


async def create(io: IO, order: JobRequest) -> Job:
    """Create the job, or return the live or completed one with the same inputs."""
    mark = fingerprint(order)
    body = _body(io, order, mark)
    stem = order.name or f"{_slug(order.model_name)}-{mark[:12]}"
    for attempt in range(1, 1000):
        name = stem if attempt == 1 else f"{stem}-{attempt}"
        try:
            there = (await io.send(ops.JOB_GET, job=name)).value
        except NotFoundError:
            body["properties"]["outputs"]["registered_model"]["assetName"] = f"{name}-model"
            made = (await io.send(ops.JOB_CREATE, body, job=name)).value
            return await to_job(io, made, name)
        ours = there.properties.properties.get(FINGERPRINT_PROPERTY) == mark
        if not ours and order.name is not None:
            raise ConflictError(
                f"job {name!r} exists with other inputs",
                operation="jobs.create",
                hint="Choose another name, or leave name= out: it is then made from the inputs.",
            )
        over = (there.properties.status or "").lower() in ("failed", "canceled")
        if ours and not over and not order.force_new:
            return (await to_job(io, there, name)).model_copy(update={"attached": True})
    raise ConflictError(f"a thousand jobs are called {stem!r}", operation="jobs.create")


def _slug(model: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40] or "job"


def _body(io: IO, order: JobRequest, mark: str) -> dict[str, Any]:
    details: dict[str, Any] = {
        "modelProvider": "Custom",
        "taskType": "ChatCompletion",
        "model": {"jobInputType": "mlflow_model", "uri": order.model},
        "trainingData": {"jobInputType": "uri_file", "uri": order.training.id},
        "hyperParameters": to_wire_hyperparameters(io, order),
    }
    if order.validation is not None:
        details["validationData"] = {"jobInputType": "uri_file", "uri": order.validation.id}
    properties: dict[str, Any] = {
        "jobType": "FineTuning",
        "displayName": order.display_name or order.name or _slug(order.model_name),
        "experimentName": "maas-client",
        "isArchived": False,
        "tags": dict(order.tags),
        "properties": {FINGERPRINT_PROPERTY: mark},
        "fineTuningDetails": details,
        "outputs": {"registered_model": {"jobOutputType": "mlflow_model"}},
        **_compute(io, order.compute),
    }
    return {"properties": properties}


def _compute(io: IO, compute: tuple[str, ...]) -> dict[str, Any]:
    """Return what makes it Model as a Platform: a compute's id, or instance types."""
    if not compute:
        return {}
    if all(re.match(r"(?i)standard_", c) for c in compute):
        return {"resources": {"instanceTypes": list(compute)}}
    if len(compute) > 1:
        raise UnsupportedError("a job runs on one compute, or on a list of instance types")
    if compute[0].startswith("/"):
        return {"computeId": compute[0]}
    here = ops.WORKSPACE_PATH.format(**io.scope.values)
    return {"computeId": f"{here}/computes/{compute[0]}"}


def job_name(job: str) -> str:
    """Return the name in a name or an ARM id."""
    return arm_name(job)


async def get(io: IO, job: str) -> Job:
    """Return the job as it is now; when it has ended, with its model or its reason."""
    name = job_name(job)
    return await to_job(io, (await io.send(ops.JOB_GET, job=name)).value, name)


async def list_all(io: IO) -> AsyncGenerator[Job, None]:
    """Yield the workspace's fine-tuning jobs, newest first as the service lists them."""
    query = {"jobType": "FineTuning", "listViewType": "ActiveOnly"}
    async for item in _pages.list_items(io, ops.JOB_LIST, query=query):
        if str(item.get("properties", {}).get("jobType", "")).lower() == "finetuning":
            yield _noun(m.Job.model_validate(item), str(item.get("name")))


async def cancel(io: IO, job: str) -> Job:
    """Ask the service to cancel, wait until it has taken note, and return the job as it is then."""
    name = job_name(job)
    answer = await io.send(ops.JOB_CANCEL, job=name)
    await wait_for_operation(io, answer, operation="jobs.cancel", timeout_s=600)
    return await get(io, name)


async def pause(io: IO, job: str) -> Job:
    """Ask the local server to pause; Azure Machine Learning documents no such operation."""
    return await _own(io, own.JOB_PAUSE, job)


async def resume(io: IO, job: str) -> Job:
    """Ask the local server to go on with a paused job."""
    return await _own(io, own.JOB_RESUME, job)


async def save_checkpoint(io: IO, job: str) -> Job:
    """Ask the local server for a checkpoint; Azure Machine Learning documents no such operation."""
    return await _own(io, own.JOB_SAVE_CHECKPOINT, job)


async def _own(io: IO, op: Op[None], job: str) -> Job:
    if not io.scope.local:
        raise UnsupportedError(
            "azureml documents no way to pause a job, to resume it or to ask for a checkpoint",
            hint="foundry pauses jobs of OpenAI's own models; the local server does all of it.",
        )
    await io.send(op, job=job_name(job))
    return await get(io, job)


async def delete(io: IO, job: str) -> None:
    """Delete the job and wait until it is gone; the model it made stays."""
    # ARM answers 204 for what was never there: a mistyped name must not read as deleted.
    await io.send(ops.JOB_GET, job=job_name(job))
    answer = await io.send(ops.JOB_DELETE, job=job_name(job))
    await wait_for_operation(io, answer, operation="jobs.delete", timeout_s=600)


async def to_job(io: IO, value: m.Job, name: str) -> Job:
    """Return the public noun, with what only run history knows about a job that has ended."""
    job = _noun(value, name)
    if not job.done:
        return job
    try:
        ended = await runs.run_details(io, name)
        job = job.model_copy(update={"finished_at": runs.parse_time(ended.end_time_utc)})
        if job.succeeded:
            return job.model_copy(
                update={"fine_tuned_model": await runs.registered_model(io, name)}
            )
        return job.model_copy(update={"error": runs.to_job_error(ended)})
    except StatusError as hidden:
        if hidden.status not in (401, 403, 404):
            raise
        return job  # without a role on run history the job itself is still worth showing


def _noun(value: m.Job, name: str) -> Job:
    held = value.properties
    details = held.fine_tuning_details
    status = held.status or "Unknown"
    studio = held.services.get("Studio")
    return Job(
        id=value.id or name,
        name=value.name or name,
        status=status,
        done=status.lower() in ops.TERMINAL_STATUSES,
        succeeded=status.lower() == "completed",
        model=details.model.uri,
        properties=dict(held.properties),
        hyperparameters=dict(details.hyper_parameters or {}),
        training_data=details.training_data.uri,
        validation_data=details.validation_data.uri if details.validation_data else None,
        created_at=value.system_data.created_at if value.system_data else None,
        fine_tuned_model=_made(held) if status.lower() == "completed" else None,
        trained_tokens=_count(held.properties.get("maas_client.trained_tokens")),
        studio_url=studio.get("endpoint") if isinstance(studio, dict) else None,
        raw=value.dump(),
    )


def _made(held: m.JobProperties) -> str | None:
    """Return the model that the job itself names, so that a list need not ask for each; None: it does not."""
    output = held.outputs.get("registered_model")
    uri = output.uri if output else None
    return uri if uri and re.fullmatch(r"azureml:.+/models/[^/]+/versions/[^/]+", uri) else None


def _count(text: str | None) -> int | None:
    """Return what our own server counted; Azure's jobs do not say."""
    return int(text) if text and text.isdigit() else None
