"""Jobs on ARM (docs/azure-http.md sections 1.2 to 1.5)."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.arm import COMPLETED_TOKEN, location_headers
from maas_client.local.http.routes.paging import list_page, system_data
from maas_client.local.requests.azureml_job import read_job
from maas_client.local.resources.assets import Workspace
from maas_client.local.resources.job_spec import JobRef
from maas_client.local.resources.job_states import visible_state
from maas_client.local.state.store import Record
from maas_client.wire import azureml as ops
from maas_client.wire import local_extensions as own
from maas_client.wire.op import Op


def job_ref(call: RequestContext) -> JobRef:
    """Return where the job in the path stands; a run has its job's name."""
    name = call.path_params.get("job") or call.path_params.get("run") or ""
    return JobRef(call.workspace.guid, name.casefold())


def create(call: RequestContext) -> Response:
    """PUT: 201 for a new job, 200 for the same one again."""
    version = call.query_params.get("api-version", "")
    job = read_job(call.services, call.workspace, call.path_params["job"], call.json, version)
    fact, new = call.services.jobs.create(call.workspace.guid, job)
    return JSONResponse(job_to_json(call, fact), 201 if new else 200)


def get(call: RequestContext) -> dict[str, Any]:
    """GET one."""
    return job_to_json(call, call.services.jobs.get(job_ref(call)))


def listing(call: RequestContext) -> dict[str, Any]:
    """GET all, newest first, with ARM's filters."""
    scope = call.workspace.guid
    return list_page(
        call,
        lambda before, limit: call.services.jobs.list_page(scope, before, limit),
        lambda fact: job_to_json(call, fact),
        lambda fact: _wanted(call, fact),
    )


def _wanted(call: RequestContext, fact: Record) -> bool:
    held = fact.body["request"]["properties"]
    kind = call.query_params.get("jobType")
    if kind and kind.casefold() != "finetuning":
        return False
    view = call.query_params.get("listViewType", "ActiveOnly").casefold()
    archived = bool(held.get("isArchived"))
    if view != "all" and archived != (view == "archivedonly"):
        return False
    return all(
        _has(held.get(field) or {}, call.query_params.get(name))
        for name, field in (("tag", "tags"), ("properties", "properties"))
    )


def _has(held: dict[str, Any], wanted: str | None) -> bool:
    """Tell whether ``key`` or ``key=value`` (several by comma) is among tags or properties."""
    for part in (wanted or "").split(","):
        key, equals, value = part.partition("=")
        if key and (key not in held or (equals and str(held[key]) != value)):
            return False
    return True


def cancel(call: RequestContext) -> Response:
    """POST cancel: 202 while the worker ends, 200 when there is nothing left to end."""
    where = job_ref(call)
    state = call.services.jobs.cancel(where)
    if state != "CancelRequested":
        return Response(None, 200)
    call.services.scheduler.cancel(where)
    return Response(
        None, 202, location_headers(call, f"cancel.{call.services.jobs.get(where).body['id']}")
    )


def pause(call: RequestContext) -> Response:
    """POST pause, this server's own: the job rests after its step."""
    where = job_ref(call)
    if call.services.jobs.pause(where) == "PauseRequested":
        call.services.scheduler.pause(where)
    return Response(None, 200)


def resume(call: RequestContext) -> Response:
    """POST resume, this server's own."""
    call.services.jobs.resume(job_ref(call))
    return Response(None, 200)


def save(call: RequestContext) -> Response:
    """POST checkpoints, this server's own: a running job writes one after its step and goes on."""
    where = job_ref(call)
    call.services.jobs.check_running(where)
    call.services.scheduler.save_checkpoint(where)
    return Response(None, 200)


def delete(call: RequestContext) -> Response:
    """DELETE: 202 with a Location that is done at once, 204 when there was none."""
    if not call.services.jobs.delete(job_ref(call)):
        return Response(None, 204)
    return Response(None, 202, location_headers(call, COMPLETED_TOKEN))


def job_to_json(call: RequestContext, fact: Record) -> dict[str, Any]:
    """Return a job as ARM shows it: what was sent, and what became of it."""
    body = fact.body
    ws = Workspace(**body["workspace"])
    arm_id = f"{ws.arm_id}/jobs/{body['name']}"
    sent = body["request"]["properties"]
    return {
        **{k: v for k, v in body["request"].items() if k != "properties"},
        "id": arm_id,
        "name": body["name"],
        "type": "Microsoft.MachineLearningServices/workspaces/jobs",
        "properties": {
            "displayName": body["name"],
            "experimentName": "Default",
            "isArchived": False,
            "tags": {},
            **sent,
            "status": visible_state(str(fact.state)),
            "outputs": _outputs(call, fact),
            "properties": {
                **(sent.get("properties") or {}),
                **body["properties"],
                **_learned(body),
            },
            "services": _services(call, ws, body["name"]),
        },
        "systemData": system_data(body["created"]),
    }


def _learned(body: dict[str, Any]) -> dict[str, str]:
    """Return what training told at its end; properties are strings."""
    told = body.get("result") or {}
    kept = {"trained_tokens": told.get("trained_tokens"), "steps": told.get("steps")}
    return {f"maas_client.{k}": str(v) for k, v in kept.items() if v is not None}


def _outputs(call: RequestContext, fact: Record) -> dict[str, Any]:
    sent = fact.body["request"]["properties"].get("outputs") or {}
    made = fact.body.get("model")
    uri = None
    if made:
        assets = call.services.assets
        uri = assets.asset_id("models", fact.body["scope"], made["name"], made["version"])
    return {
        name: {
            "mode": "ReadWriteMount",
            **(value or {}),
            "uri": uri if name == "registered_model" else None,
        }
        for name, value in {"registered_model": {"jobOutputType": "mlflow_model"}, **sent}.items()
    }


def _services(call: RequestContext, ws: Workspace, name: str) -> dict[str, Any]:
    plane = call.urls.data_plane.split("://", 1)[1]
    return {
        "Tracking": {
            "jobServiceType": "Tracking",
            "endpoint": f"azureml://{plane}/mlflow/v1.0{ws.arm_id}?",
        },
        "Studio": {
            "jobServiceType": "Studio",
            "endpoint": f"https://ml.azure.com/runs/{name}?wsid={ws.arm_id}",
        },
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.JOB_CREATE: create,
    ops.JOB_GET: get,
    ops.JOB_LIST: listing,
    ops.JOB_CANCEL: cancel,
    ops.JOB_DELETE: delete,
}
LOCAL_HANDLERS: dict[Op[Any], Handler] = {
    own.JOB_PAUSE: pause,
    own.JOB_RESUME: resume,
    own.JOB_SAVE_CHECKPOINT: save,
}
