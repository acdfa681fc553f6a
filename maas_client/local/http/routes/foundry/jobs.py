"""Fine-tuning jobs of a Foundry resource (docs/azure-http.md sections 4.2 to 4.5), Azure's oddities included:
``pending``, null ``organization_id``, 201 on the dated versions."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.foundry import results
from maas_client.local.http.routes.foundry.events import event_to_json, list_events
from maas_client.local.http.routes.foundry.responses import (
    created_response,
    file_store,
    list_response,
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
    deployable_checkpoints as kept_checkpoints,
)
from maas_client.local.resources.foundry_files import foundry_not_found, invalid_payload
from maas_client.local.state.store import Record
from maas_client.wire import foundry as ops
from maas_client.wire import local_extensions as own
from maas_client.wire.op import Op


def create(call: RequestContext) -> Response:
    """POST a job."""
    job = read_job(call.services, file_store(call), call.json)
    fact, _ = call.services.jobs.create(FOUNDRY_SCOPE, job)
    return created_response(call, job_to_json(fact))


def _fact(call: RequestContext) -> Record:
    try:
        return call.services.jobs.get(job_ref(call.path_params["job"]))
    except ApiError:
        raise foundry_not_found("fine-tuning job") from None


def get(call: RequestContext) -> dict[str, Any]:
    """GET one."""
    return job_to_json(_fact(call))


def listing(call: RequestContext) -> dict[str, Any]:
    """GET all, newest first."""
    jobs = call.services.jobs.list_page(FOUNDRY_SCOPE, None, -1)
    return list_response(call, jobs, lambda f: str(f.body["name"]), job_to_json, default_limit=20)


def cancel(call: RequestContext) -> dict[str, Any]:
    """POST cancel: what runs is called cancelled at once, what has ended is refused."""
    fact = _fact(call)
    if STATUS_BY_STATE[str(fact.state)] in ops.TERMINAL_STATUSES:
        raise invalid_payload(
            f"The job has ended: it is {STATUS_BY_STATE[str(fact.state)]}.", status=400
        )
    where = job_ref(call.path_params["job"])
    if call.services.jobs.cancel(where) == "CancelRequested":
        call.services.scheduler.cancel(where)
    return job_to_json(_fact(call))


def delete(call: RequestContext) -> Response:
    """DELETE: 204; on the dated versions only."""
    _fact(call)
    call.services.jobs.delete(job_ref(call.path_params["job"]))
    return Response(None, 204)


def pause(call: RequestContext) -> dict[str, Any]:
    """POST pause: as there, of a running job; unlike there, whatever its model."""
    fact, where = _fact(call), job_ref(call.path_params["job"])
    try:
        if call.services.jobs.pause(where) == "PauseRequested":
            call.services.scheduler.pause(where)
    except ApiError:
        raise invalid_payload(
            f"Only a running job can be paused: it is {STATUS_BY_STATE[str(fact.state)]}."
        ) from None
    return job_to_json(_fact(call))


def resume(call: RequestContext) -> dict[str, Any]:
    """POST resume: the job goes on from the checkpoint that pausing has written."""
    fact = _fact(call)
    try:
        call.services.jobs.resume(job_ref(call.path_params["job"]))
    except ApiError:
        raise invalid_payload(
            f"Only a paused job can be resumed: it is {STATUS_BY_STATE[str(fact.state)]}."
        ) from None
    return job_to_json(_fact(call))


def save(call: RequestContext) -> dict[str, Any]:
    """POST checkpoints, this server's own: a running job writes one after its step and goes on."""
    fact, where = _fact(call), job_ref(call.path_params["job"])
    try:
        call.services.jobs.check_running(where)
    except ApiError:
        said = f"Only a running job writes a checkpoint: it is {STATUS_BY_STATE[str(fact.state)]}."
        raise invalid_payload(said) from None
    call.services.scheduler.save_checkpoint(where)
    return job_to_json(fact)


def events(call: RequestContext) -> dict[str, Any]:
    """GET what happened, newest first."""
    told = list_events(call, _fact(call))
    return list_response(call, told, lambda event: event.id, event_to_json, default_limit=20)


def checkpoints(call: RequestContext) -> dict[str, Any]:
    """GET the checkpoints that are kept, newest first; each can be deployed."""
    job = _fact(call)
    steps = sorted(kept_checkpoints(call.services.store, job), reverse=True)
    kept = [_checkpoint(call, job, step) for step in steps]
    return list_response(call, kept, lambda c: str(c["id"]), lambda c: c, default_limit=10)


def _checkpoint(call: RequestContext, job: Record, step: int) -> dict[str, Any]:
    at = {p.name: p.value for p in call.services.jobs.points(job.body["id"]) if p.step == step}
    measured = {
        wire: at[ours]
        for wire, ours in results.CSV_COLUMNS.items()
        if ours in at and not wire.startswith("validation_")
    }
    if "valid_token_accuracy" in at:
        measured["valid_mean_token_accuracy"] = at["valid_token_accuracy"]
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": f"ftchkpt-{job.body['id']}{step:08d}",
        "created_at": to_unix_seconds(job.body.get("ended") or job.body["created"]),
        "fine_tuned_model_checkpoint": f"{job.body['spec']['output']}:ckpt-step-{step}",
        "fine_tuning_job_id": job.body["name"],
        "step_number": step,
        "metrics": {"step": step, **measured},
    }


def job_to_json(fact: Record) -> dict[str, Any]:
    """Return a job as the service shows it."""
    body, sent = fact.body, fact.body["request"]
    state = str(fact.state)
    asked = body["spec"]["hyperparameters"]
    recipe = {name: asked.get(name, -1) for name in ("n_epochs", "batch_size")}
    recipe["learning_rate_multiplier"] = asked.get("learning_rate_multiplier", 1.0)
    done = state == "Completed"
    return {
        "object": "fine_tuning.job",
        "id": body["name"],
        "model": sent["model"],
        "status": STATUS_BY_STATE[state],
        "created_at": to_unix_seconds(body["created"]),
        "finished_at": to_unix_seconds(body.get("ended")),
        "fine_tuned_model": fine_tuned_model(fact),
        "training_file": sent["training_file"],
        "validation_file": sent.get("validation_file"),
        "result_files": [results.file_id(fact)] if done else None,
        "organization_id": None,
        "trained_tokens": body["result"].get("trained_tokens") if done else None,
        "hyperparameters": recipe,
        "method": {"type": "supervised", "supervised": {"hyperparameters": recipe}},
        "estimated_finish": None,
        "seed": sent["seed"],
        "suffix": sent["suffix"],
        "integrations": [],
        "metadata": {**(sent.get("metadata") or {}), **body["properties"]},
        "error": _error(body) if state == "Failed" else None,
    }


def _error(body: dict[str, Any]) -> dict[str, Any]:
    """Return why a job failed, in the service's words: data errors name the file."""
    error = body["error"]
    data_is_wrong = error["code"] == "UserError"
    first = (error.get("details") or [{}])[0].get("message", "")
    file = "validation_file" if str(first).startswith("validation") else "training_file"
    return {
        "code": "jsonlValidationFailed" if data_is_wrong else "internalFailure",
        "message": error["message"],
        "param": file if data_is_wrong else None,
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.JOB_CREATE: create,
    ops.JOB_LIST: listing,
    ops.JOB_GET: get,
    ops.JOB_CANCEL: cancel,
    ops.JOB_DELETE: delete,
    ops.JOB_PAUSE: pause,
    ops.JOB_RESUME: resume,
    ops.JOB_EVENTS: events,
    ops.JOB_CHECKPOINTS: checkpoints,
    own.FOUNDRY_JOB_SAVE_CHECKPOINT: save,
}
