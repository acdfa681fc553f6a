"""Fine-tuning jobs of a Foundry resource (docs/azure-http.md sections 4.2 to 4.5).

Includes where Azure differs from OpenAI: ``pending``, null ``organization_id``, 201 on the dated
api-versions.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.foundry import results
from maas_client.local.http.routes.foundry.events import event_to_json, list_events
from maas_client.local.http.routes.foundry.responses import (
    created_response,
    file_store,
    list_response,
    record_list_response,
    to_unix_seconds,
)
from maas_client.local.requests.foundry_job import (
    STATUS_BY_STATE,
    fine_tuned_model,
    job_ref,
    read_job,
)
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_deployments import (
    checkpoint_id,
)
from maas_client.local.resources.foundry_deployments import (
    deployable_checkpoints as kept_checkpoints,
)
from maas_client.local.resources.foundry_files import foundry_not_found, invalid_payload
from maas_client.local.resources.jobs import RESUMABLE
from maas_client.local.state.store import Record
from maas_client.wire import foundry as ops
from maas_client.wire import statuses
from maas_client.wire.operation import Operation


def create(context: RequestContext) -> Response:
    """POST a job."""
    services = context.services
    job = read_job(services, file_store(context), context.json)
    if text := services.jobs.find_refusal(
        FOUNDRY_SCOPE, job, services.required_examples("foundry")
    ):
        raise invalid_payload(text, param="training_file")
    record, _ = services.jobs.create(FOUNDRY_SCOPE, job)
    return created_response(context, job_to_json(context, record))


def _get_job(context: RequestContext) -> Record:
    try:
        return context.services.jobs.get(job_ref(context.path_params["job"]))
    except ApiError:
        raise foundry_not_found("fine-tuning job") from None


def get(context: RequestContext) -> dict[str, Any]:
    """GET one job."""
    return job_to_json(context, _get_job(context))


@accepts(query=("limit", "after", "order"))
def list_jobs(context: RequestContext) -> dict[str, Any]:
    """GET all jobs, newest first."""
    jobs = context.services.jobs
    return record_list_response(
        context,
        find=lambda key: context.services.store.read.get("job", *job_ref(key)),
        newest=lambda before, limit: jobs.list_page(FOUNDRY_SCOPE, before, limit),
        oldest=lambda after, limit: jobs.list_oldest(FOUNDRY_SCOPE, after, limit),
        to_json=lambda record: job_to_json(context, record),
        default_limit=20,
    )


def cancel(context: RequestContext) -> dict[str, Any]:
    """POST cancel: a running job is reported as cancelled at once; a finished one is refused."""
    record = _get_job(context)
    if statuses.is_final(STATUS_BY_STATE[str(record.state)]):
        raise invalid_payload(
            f"The job has already ended: its status is {STATUS_BY_STATE[str(record.state)]}.",
            status=400,
        )
    ref = job_ref(context.path_params["job"])
    if context.services.jobs.cancel(ref) == "CancelRequested":
        context.services.scheduler.cancel(ref)
    return job_to_json(context, _get_job(context))


def delete(context: RequestContext) -> Response:
    """DELETE a job: 204; on the dated api-versions only."""
    _get_job(context)
    context.services.jobs.delete(job_ref(context.path_params["job"]))
    return Response(None, 204)


def pause(context: RequestContext) -> dict[str, Any]:
    """POST pause of a running job; unlike Azure, for any model."""
    record, ref = _get_job(context), job_ref(context.path_params["job"])
    try:
        if context.services.jobs.pause(ref) == "PauseRequested":
            context.services.scheduler.pause(ref)
    except ApiError:
        raise invalid_payload(
            f"Only a running job can be paused: it is {STATUS_BY_STATE[str(record.state)]}."
        ) from None
    return job_to_json(context, _get_job(context))


def resume(context: RequestContext) -> dict[str, Any]:
    """POST resume: the job continues from the checkpoint that pausing wrote."""
    record = _get_job(context)
    try:
        context.services.jobs.resume(job_ref(context.path_params["job"]))
    except ApiError:
        raise invalid_payload(f"{RESUMABLE}: it is {STATUS_BY_STATE[str(record.state)]}.") from None
    return job_to_json(context, _get_job(context))


def save_checkpoint(context: RequestContext) -> dict[str, Any]:
    """POST checkpoints (local server only): a running job writes one after its current step and continues."""
    record, ref = _get_job(context), job_ref(context.path_params["job"])
    try:
        context.services.jobs.check_running(ref)
    except ApiError:
        message = f"Only a running job can write a checkpoint: it is {STATUS_BY_STATE[str(record.state)]}."
        raise invalid_payload(message) from None
    context.services.scheduler.save_checkpoint(ref)
    return job_to_json(context, record)


@accepts(query=("limit", "after", "order"))
def list_job_events(context: RequestContext) -> dict[str, Any]:
    """GET the events of a job, newest first."""
    events = list_events(context, _get_job(context))
    return list_response(context, events, lambda event: event.id, event_to_json, default_limit=20)


@accepts(query=("limit", "after", "order"))
def list_checkpoints(context: RequestContext) -> dict[str, Any]:
    """GET the stored checkpoints, newest first; each can be deployed."""
    job = _get_job(context)
    steps = sorted(kept_checkpoints(context.services.store, job), reverse=True)
    checkpoints = [_checkpoint(context, job, step) for step in steps]
    return list_response(
        context, checkpoints, lambda c: str(c["id"]), lambda c: c, default_limit=10
    )


def _checkpoint(context: RequestContext, job: Record, step: int) -> dict[str, Any]:
    values = {
        p.name: p.value for p in context.services.jobs.points(job.body["id"]) if p.step == step
    }
    metrics = {
        column: values[metric]
        for column, metric in results.CSV_COLUMNS.items()
        if metric in values and not column.startswith("validation_")
    }
    if "valid_token_accuracy" in values:
        metrics["valid_mean_token_accuracy"] = values["valid_token_accuracy"]
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": checkpoint_id(job, step),
        "created_at": to_unix_seconds(job.body.get("ended") or job.body["created"]),
        "fine_tuned_model_checkpoint": f"{job.body['spec']['output']}:ckpt-step-{step}",
        "fine_tuning_job_id": job.body["name"],
        "step_number": step,
        "metrics": {"step": step, **metrics},
    }


def job_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    """Return a job as the API represents it."""
    body, request = record.body, record.body["request"]
    state = str(record.state)
    requested = body["spec"]["hyperparameters"]
    hyperparameters = {name: requested.get(name, -1) for name in ("n_epochs", "batch_size")}
    hyperparameters["learning_rate_multiplier"] = requested.get("learning_rate_multiplier", 1.0)
    kind = "supervised"
    if requested.get("method") == "DPO":
        kind = "dpo"
        hyperparameters["beta"] = requested.get("beta", "auto")
    is_completed = state == "Completed"
    return {
        "object": "fine_tuning.job",
        "id": body["name"],
        "model": request["model"],
        "status": STATUS_BY_STATE[state],
        "created_at": to_unix_seconds(body["created"]),
        "finished_at": to_unix_seconds(body.get("ended")),
        "fine_tuned_model": fine_tuned_model(record),
        "training_file": request["training_file"],
        "validation_file": request.get("validation_file"),
        "result_files": [results.file_id(record)] if is_completed else None,
        "organization_id": None,
        "trained_tokens": body["result"].get("trained_tokens") if is_completed else None,
        "hyperparameters": hyperparameters,
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "estimated_finish": None,
        "seed": request["seed"],
        "suffix": request["suffix"],
        "trainingType": request.get("trainingType"),
        "integrations": [],
        "metadata": {
            **(request.get("metadata") or {}),
            **context.services.job_properties(body),
        },
        "error": _error_to_json(body) if state == "Failed" else None,
    }


def _error_to_json(body: dict[str, Any]) -> dict[str, Any]:
    """Return the error of a job as the API represents it; data errors name the file."""
    error = body["error"]
    is_data_error = error["code"] == "UserError"
    first = (error.get("details") or [{}])[0].get("message", "")
    file = "validation_file" if str(first).startswith("validation") else "training_file"
    return {
        "code": "jsonlValidationFailed" if is_data_error else "internalFailure",
        "message": error["message"],
        "param": file if is_data_error else None,
    }


HANDLERS: dict[Operation[Any], Handler] = {
    ops.JOB_CREATE: create,
    ops.JOB_LIST: list_jobs,
    ops.JOB_GET: get,
    ops.JOB_CANCEL: cancel,
    ops.JOB_DELETE: delete,
    ops.JOB_PAUSE: pause,
    ops.JOB_RESUME: resume,
    ops.JOB_EVENTS: list_job_events,
    ops.JOB_CHECKPOINTS: list_checkpoints,
    ops.JOB_SAVE_CHECKPOINT: save_checkpoint,
}
