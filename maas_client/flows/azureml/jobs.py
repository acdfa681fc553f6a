"""Fine-tuning jobs of a workspace. The client chooses the name, so a job is never created twice.

A job's name contains a hash of everything that decides its result. The same call finds the live or
completed job; after Failed or Canceled the next one is ``NAME-2``. The hash is also stored in the job's
properties, so that a job with the same name and other inputs is recognized.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from maas_client._hyperparameter_table import SERVERLESS_HYPERPARAMETERS, WIRE_NAMES, to_wire_value
from maas_client._messages import Argument, Call, Constructor, Text
from maas_client.errors import (
    ConflictError,
    NotFoundError,
    StatusError,
    UnsupportedError,
)
from maas_client.flows import _arm
from maas_client.flows._create_once import create_once
from maas_client.flows._io import IO
from maas_client.flows._requests import JobRequest
from maas_client.flows.azureml import runs
from maas_client.flows.identifiers import arm_name
from maas_client.types import Job
from maas_client.wire import azureml as ops
from maas_client.wire import azureml_models as m
from maas_client.wire import statuses
from maas_client.wire.operation import Operation
from maas_client.wire.parsing import parse_item, parse_time, translate_parse_errors

FINGERPRINT_PROPERTY = "maas_client.fingerprint"
_MAX_ATTEMPTS = 1000


def to_wire_hyperparameters(io: IO, request: JobRequest) -> dict[str, str]:
    """Return the hyperparameters with the service's names, and values as text, as it requires.

    Raises ``UnsupportedError`` for what serverless fine-tuning does not support.
    """
    values = request.hyperparameters.model_dump(exclude_none=True, exclude={"extra"})
    if "learning_rate_multiplier" in values:
        raise UnsupportedError(
            Text.format(
                "azureml takes {}, not {}",
                Argument("learning_rate"),
                Argument("learning_rate_multiplier"),
            ),
            hint=Text.format("Use {}. Only foundry takes a multiplier.", Argument("learning_rate")),
        )
    is_serverless = not io.scope.local and not request.compute
    unsupported = sorted(set(values) - SERVERLESS_HYPERPARAMETERS) if is_serverless else []
    if unsupported:
        raise UnsupportedError(
            Text("serverless fine-tuning on Azure does not support ")
            + Text(", ").join(map(Argument, unsupported)),
            hint=Text.format(
                "It supports {}, {} and {}; your own GPUs ({}) and the local server support all.",
                Argument("epochs"),
                Argument("batch_size"),
                Argument("learning_rate"),
                Argument("compute"),
            ),
        )
    if request.method is not None and is_serverless:
        raise UnsupportedError(
            "serverless fine-tuning on Azure always uses LoRA with its own settings; "
            f"{request.method} cannot be chosen",
            hint=Text.format(
                "Leave out {}, or use {} or the local server.",
                Argument("method"),
                Argument("compute"),
            ),
        )
    wire_values = {WIRE_NAMES[name]: to_wire_value(value) for name, value in values.items()}
    if request.method is not None:
        wire_values["method"] = request.method
    if "report_to" in request.hyperparameters.extra and not io.scope.local:
        raise UnsupportedError(
            Text.format("a job on Azure ML has no {}: it cannot be chosen", Argument("report_to")),
            hint=Text.format(
                "Leave out {}: the workspace's MLflow has the metrics. The local server supports it.",
                Argument("report_to"),
            ),
        )
    extra = request.hyperparameters.extra.items()
    return {**wire_values, **{name: to_wire_value(value) for name, value in extra}}


def check_request(io: IO, request: JobRequest) -> None:
    """Raise for what this backend does not support. Nothing is sent."""
    if request.training_type is not None:
        raise UnsupportedError(
            Text.format(
                "an azureml job has no field for the training type: {} cannot be chosen",
                Argument("training_type"),
            ),
            hint=Text.format(
                "Leave out {}. {} supports it.", Argument("training_type"), Constructor("foundry")
            ),
        )
    if request.method == "DPO" and not io.scope.local:
        raise UnsupportedError(
            "Azure ML tunes no model by DPO, and no service of Azure tunes a Phi by it",
            hint=Text.format(
                "Foundry tunes gpt-4o and gpt-4.1 by DPO: {}. {} trains every model by it on this machine.",
                Constructor("foundry"),
                Constructor("local"),
            ),
        )
    to_wire_hyperparameters(io, request)
    _compute_properties(io, request.compute)


def fingerprint(request: JobRequest) -> str:
    """Return a hash of what decides the job's result: model, data, method, hyperparameters, compute."""
    validation = request.validation
    inputs = {
        "model": request.model,
        "training": request.training.sha256 or request.training.id,
        "validation": validation and (validation.sha256 or validation.id),
        "method": request.method,
        "hyperparameters": request.hyperparameters.model_dump(mode="json", exclude_none=True),
        "compute": list(request.compute),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


async def create(io: IO, request: JobRequest) -> Job:
    """Create the job, or return the live or completed one with the same inputs."""
    job_fingerprint = fingerprint(request)
    body = _body(io, request, job_fingerprint)
    names = _names(request, job_fingerprint)
    for name in names:
        existing = await _find(io, name)
        is_new = existing is None
        if existing is None:
            existing = await _put(io, request, body, name)
        stored = existing.properties.properties.get(FINGERPRINT_PROPERTY)
        has_same_inputs = stored == job_fingerprint
        if is_new and stored in (job_fingerprint, None):
            return await to_job(io, existing, name)
        if not has_same_inputs and request.name is not None:
            raise ConflictError(
                f"job {name!r} exists with other inputs",
                operation="jobs.create",
                hint=Text.format(
                    "Choose another name, or leave out {} to derive it from the inputs.",
                    Argument("name"),
                ),
            )
        is_reusable = has_same_inputs and _is_reusable(existing)
        if is_reusable and not request.force_new:
            return (await to_job(io, existing, name)).model_copy(update={"attached": True})
    raise ConflictError(
        f"there are already {len(names)} jobs named {names[0]!r}",
        operation="jobs.create",
        hint=Text.format("Delete some of them, or choose another {}.", Argument("name")),
    )


async def is_created(io: IO, request: JobRequest) -> bool:
    """Return whether ``create`` would return a job that exists."""
    job_fingerprint = fingerprint(request)
    for name in _names(request, job_fingerprint):
        existing = await _find(io, name)
        if existing is None:
            return False
        has_same_inputs = (
            existing.properties.properties.get(FINGERPRINT_PROPERTY) == job_fingerprint
        )
        if has_same_inputs and _is_reusable(existing):
            return not request.force_new
    return False


def _is_reusable(job: m.Job) -> bool:
    return statuses.is_reusable(job.properties.status, job.properties.properties)


def _names(request: JobRequest, job_fingerprint: str) -> list[str]:
    """Return the names that ``create`` tries, one after the other."""
    stem = request.name or f"{_slug(request.model_name)}-{job_fingerprint[:12]}"
    return [stem, *(f"{stem}-{attempt}" for attempt in range(2, _MAX_ATTEMPTS))]


async def _find(io: IO, name: str) -> m.Job | None:
    try:
        return (await io.send(ops.JOB_GET, job=name)).value
    except NotFoundError:
        return None


async def _put(io: IO, request: JobRequest, body: dict[str, Any], name: str) -> m.Job:
    """Create the job, or return the one that has this name after all."""
    body["properties"]["outputs"]["registered_model"]["assetName"] = f"{name}-model"

    async def send() -> m.Job:
        return (await io.send(ops.JOB_CREATE, body, job=name)).value

    def hint() -> Text:
        call = Call("jobs.get", repr(name))
        if request.force_new:
            return Text.format("Before another call, see whether the job exists: {}.", call)
        return Text.format(
            "Run the same call again: it looks for the job first, and never creates a second one. "
            "{} returns it, if it exists.",
            call,
        )

    return await create_once(
        io, send, lambda: _find(io, name), operation=ops.JOB_CREATE.name, hint=hint
    )


def _slug(model: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:40] or "job"


def _body(io: IO, request: JobRequest, job_fingerprint: str) -> dict[str, Any]:
    details: dict[str, Any] = {
        "modelProvider": "Custom",
        "taskType": "ChatCompletion",
        "model": {"jobInputType": "mlflow_model", "uri": request.model},
        "trainingData": {"jobInputType": "uri_file", "uri": request.training.id},
        "hyperParameters": to_wire_hyperparameters(io, request),
    }
    if request.validation is not None:
        details["validationData"] = {"jobInputType": "uri_file", "uri": request.validation.id}
    properties: dict[str, Any] = {
        "jobType": "FineTuning",
        "displayName": request.display_name or request.name or _slug(request.model_name),
        "experimentName": "maas-client",
        "isArchived": False,
        "tags": dict(request.tags),
        "properties": {FINGERPRINT_PROPERTY: job_fingerprint},
        "fineTuningDetails": details,
        "outputs": {"registered_model": {"jobOutputType": "mlflow_model"}},
        **_compute_properties(io, request.compute),
    }
    return {"properties": properties}


def _compute_properties(io: IO, compute: tuple[str, ...]) -> dict[str, Any]:
    """Return the properties for a job on one's own GPUs: a compute's id, or instance types."""
    if not compute:
        return {}
    if all(re.match(r"(?i)standard_", name) for name in compute):
        return {"resources": {"instanceTypes": list(compute)}}
    if len(compute) > 1:
        raise UnsupportedError(
            "a job runs on one compute, or on a list of instance types",
            hint="Name one compute, or sizes such as Standard_NC24ads_A100_v4.",
        )
    if compute[0].startswith("/"):
        return {"computeId": compute[0]}
    workspace = ops.WORKSPACE_PATH.format(**io.scope.values)
    return {"computeId": f"{workspace}/computes/{compute[0]}"}


async def get(io: IO, job: str) -> Job:
    """Return the job as it is now; once it has ended, with its model or its error."""
    name = arm_name(job)
    return await to_job(io, (await io.send(ops.JOB_GET, job=name)).value, name)


async def list_all(io: IO) -> AsyncGenerator[Job, None]:
    """Yield the workspace's fine-tuning jobs, newest first as the service lists them."""
    query = {"jobType": "FineTuning", "listViewType": "ActiveOnly"}
    async for item in _arm.list_items(io, ops.JOB_LIST, query=query):
        if _is_fine_tuning(item):
            yield _to_job(parse_item(ops.JOB_LIST, m.Job, item), str(item.get("name")))


def _is_fine_tuning(item: dict[str, Any]) -> bool:
    properties = item.get("properties")
    # What has no properties is no other kind of job: the guard says what is wrong with it.
    return (
        not isinstance(properties, dict) or str(properties.get("jobType")).lower() == "finetuning"
    )


async def cancel(io: IO, job: str) -> Job:
    """Request cancellation, wait until the service has accepted it, and return the job."""
    name = arm_name(job)
    response = await io.send(ops.JOB_CANCEL, job=name)
    await _arm.wait_for_operation(io, response, operation="jobs.cancel", timeout_s=600)
    return await get(io, name)


async def pause(io: IO, job: str) -> Job:
    """Request a pause from the local server; Azure Machine Learning documents no such operation."""
    return await _send_local(io, ops.JOB_PAUSE, job)


async def resume(io: IO, job: str) -> Job:
    """Request that the local server resume a job."""
    return await _send_local(io, ops.JOB_RESUME, job)


async def save_checkpoint(io: IO, job: str) -> Job:
    """Request a checkpoint from the local server; Azure Machine Learning documents no such operation."""
    return await _send_local(io, ops.JOB_SAVE_CHECKPOINT, job)


async def _send_local(io: IO, op: Operation[None], job: str) -> Job:
    if not io.scope.local:
        raise UnsupportedError(
            "azureml documents no operation to pause or resume a job or to save a checkpoint",
            hint="Use the local server, which does all of it. Foundry pauses jobs of OpenAI's models.",
        )
    await io.send(op, job=arm_name(job))
    return await get(io, job)


async def delete(io: IO, job: str) -> None:
    """Delete the job and wait until it is gone. The model it produced stays."""
    # ARM responds 204 for what never existed, so a mistyped name would seem deleted.
    await io.send(ops.JOB_GET, job=arm_name(job))
    response = await io.send(ops.JOB_DELETE, job=arm_name(job))
    await _arm.wait_for_operation(io, response, operation="jobs.delete", timeout_s=600)


async def to_job(io: IO, value: m.Job, name: str) -> Job:
    """Convert to a ``Job``; one that has ended is completed with what only run history knows."""
    job = _to_job(value, name)
    if not job.done:
        return job
    try:
        details = await runs.run_details(io, name)
        job = job.model_copy(update={"finished_at": parse_time(details.end_time_utc)})
        if job.succeeded:
            return job.model_copy(
                update={"fine_tuned_model": await runs.registered_model(io, name)}
            )
        return job.model_copy(update={"error": runs.to_job_error(details)})
    except StatusError as error:
        if error.status not in (401, 403, 404):
            raise
        return job  # the caller has no role for run history; the job itself is still useful


@translate_parse_errors("jobs.get")
def _to_job(value: m.Job, name: str) -> Job:
    properties = value.properties
    details = properties.fine_tuning_details
    status = properties.status or "Unknown"
    is_completed = statuses.is_succeeded(status)
    is_local = "maas_client.engine" in properties.properties
    # Azure's studio does not know the jobs of a local server.
    studio = None if is_local else properties.services.get("Studio")
    return Job(
        id=value.id or name,
        name=value.name or name,
        status=status,
        done=statuses.is_final(status),
        succeeded=is_completed,
        model=details.model.uri,
        properties=dict(properties.properties),
        hyperparameters=dict(details.hyper_parameters or {}),
        training_data=details.training_data.uri,
        validation_data=details.validation_data.uri if details.validation_data else None,
        created_at=parse_time(value.system_data.created_at) if value.system_data else None,
        fine_tuned_model=_output_model(properties) if is_completed else None,
        trained_tokens=_parse_count(properties.properties.get("maas_client.trained_tokens")),
        studio_url=studio.get("endpoint") if isinstance(studio, dict) else None,
        raw=value.dump(),
    )


def _output_model(properties: m.JobProperties) -> str | None:
    """Return the model that the job's body names, so that a list needs no request for each job."""
    output = properties.outputs.get("registered_model")
    uri = output.uri if output else None
    return uri if uri and re.fullmatch(r"azureml:.+/models/[^/]+/versions/[^/]+", uri) else None


def _parse_count(text: str | None) -> int | None:
    """Return the number of tokens that the local server counted; Azure does not report it."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None
