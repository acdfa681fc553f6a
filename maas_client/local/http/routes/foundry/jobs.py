"""Fine-tuning jobs of a Foundry resource (azure-api.md sections 4.2 to 4.5), Azure's oddities included:
``pending``, null ``organization_id``, 201 on the dated versions."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Call, Handler
from maas_client.local.http.routes.foundry import results
from maas_client.local.http.routes.foundry.lists import created, listed, seconds, training_files
from maas_client.local.http.routes.foundry.story import shown, story
from maas_client.local.rules.foundry import SCOPE
from maas_client.local.rules.foundry.deployments import checkpoints as kept_checkpoints
from maas_client.local.rules.foundry.files import absent, wrong
from maas_client.local.rules.refusal import Refusal
from maas_client.local.services.foundry_jobs import WORDS, read_job, ref, tuned_model
from maas_client.local.state.store import Fact
from maas_client.wire import foundry as ops
from maas_client.wire import local as own
from maas_client.wire.op import Op


def create(call: Call) -> Response:
    """POST a job."""
    job = read_job(call.services, training_files(call), call.json)
    fact, _ = call.services.jobs.create(SCOPE, job)
    return created(call, document(fact))


def _fact(call: Call) -> Fact:
    try:
        return call.services.jobs.get(ref(call.path["job"]))
    except Refusal:
        raise absent("fine-tuning job") from None


def get(call: Call) -> dict[str, Any]:
    """GET one."""
    return document(_fact(call))


def listing(call: Call) -> dict[str, Any]:
    """GET all, newest first."""
    jobs = call.services.jobs.page(SCOPE, None, -1)
    return listed(call, jobs, lambda f: str(f.body["name"]), document, limit=20)


def cancel(call: Call) -> dict[str, Any]:
    """POST cancel: what runs is called cancelled at once, what has ended is refused."""
    fact = _fact(call)
    if WORDS[str(fact.state)] in ops.TERMINAL:
        raise wrong(f"The job has ended: it is {WORDS[str(fact.state)]}.", status=400)
    where = ref(call.path["job"])
    if call.services.jobs.cancel(where) == "CancelRequested":
        call.services.scheduler.cancel(where)
    return document(_fact(call))


def delete(call: Call) -> Response:
    """DELETE: 204; on the dated versions only."""
    _fact(call)
    call.services.jobs.delete(ref(call.path["job"]))
    return Response(None, 204)


def pause(call: Call) -> dict[str, Any]:
    """POST pause: as there, of a running job; unlike there, whatever its model."""
    fact, where = _fact(call), ref(call.path["job"])
    try:
        if call.services.jobs.pause(where) == "PauseRequested":
            call.services.scheduler.pause(where)
    except Refusal:
        raise wrong(f"Only a running job can be paused: it is {WORDS[str(fact.state)]}.") from None
    return document(_fact(call))


def resume(call: Call) -> dict[str, Any]:
    """POST resume: the job goes on from the checkpoint that pausing has written."""
    fact = _fact(call)
    try:
        call.services.jobs.resume(ref(call.path["job"]))
    except Refusal:
        raise wrong(f"Only a paused job can be resumed: it is {WORDS[str(fact.state)]}.") from None
    return document(_fact(call))


def save(call: Call) -> dict[str, Any]:
    """POST checkpoints, this server's own: a running job writes one after its step and goes on."""
    fact, where = _fact(call), ref(call.path["job"])
    try:
        call.services.jobs.check_running(where)
    except Refusal:
        said = f"Only a running job writes a checkpoint: it is {WORDS[str(fact.state)]}."
        raise wrong(said) from None
    call.services.scheduler.save(where)
    return document(fact)


def events(call: Call) -> dict[str, Any]:
    """GET what happened, newest first."""
    told = story(call, _fact(call))
    return listed(call, told, lambda event: event.id, shown, limit=20)


def checkpoints(call: Call) -> dict[str, Any]:
    """GET the checkpoints that are kept, newest first; each can be deployed."""
    job = _fact(call)
    steps = sorted(kept_checkpoints(call.services.store, job), reverse=True)
    kept = [_checkpoint(call, job, step) for step in steps]
    return listed(call, kept, lambda c: str(c["id"]), lambda c: c, limit=10)


def _checkpoint(call: Call, job: Fact, step: int) -> dict[str, Any]:
    at = {p.name: p.value for p in call.services.jobs.points(job.body["id"]) if p.step == step}
    measured = {
        wire: at[ours]
        for wire, ours in results.COLUMNS.items()
        if ours in at and not wire.startswith("validation_")
    }
    if "valid_token_accuracy" in at:
        measured["valid_mean_token_accuracy"] = at["valid_token_accuracy"]
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": f"ftchkpt-{job.body['id']}{step:08d}",
        "created_at": seconds(job.body.get("ended") or job.body["created"]),
        "fine_tuned_model_checkpoint": f"{job.body['spec']['output']}:ckpt-step-{step}",
        "fine_tuning_job_id": job.body["name"],
        "step_number": step,
        "metrics": {"step": step, **measured},
    }


def document(fact: Fact) -> dict[str, Any]:
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
        "status": WORDS[state],
        "created_at": seconds(body["created"]),
        "finished_at": seconds(body.get("ended")),
        "fine_tuned_model": tuned_model(fact),
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
    own.TUNING_SAVE: save,
}
