"""Jobs on ARM (docs/azure-http.md sections 1.2 to 1.5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import ENVELOPE, accepts, stored_properties
from maas_client.local.http.routes.arm import (
    COMPLETED_TOKEN,
    has_all,
    list_page,
    location_headers,
    matches_list_view_type,
    system_data,
)
from maas_client.local.requests.azureml_job import read_job
from maas_client.local.resources.assets import Workspace
from maas_client.local.resources.errors import user_error
from maas_client.local.resources.foundry_deployments import deployable_checkpoints
from maas_client.local.resources.job_states import visible_state
from maas_client.local.resources.jobs import JobRef
from maas_client.local.state.store import Record
from maas_client.wire import azureml as ops
from maas_client.wire.operation import Operation


def job_ref(context: RequestContext) -> JobRef:
    """Return the reference of the job in the path; a run has the name of its job."""
    name = context.path_params.get("job") or context.path_params.get("run") or ""
    return JobRef(context.workspace.guid, name.casefold())


_PROPERTIES = (
    "jobType", "displayName", "experimentName", "isArchived", "description", "tags", "properties",
    "fineTuningDetails", "outputs", "resources", "computeId", "queueSettings",
)  # fmt: skip
_DETAILS = (
    "modelProvider", "taskType", "model", "trainingData", "validationData", "hyperParameters",
)  # fmt: skip
_INPUT_MEMBERS = ("jobInputType", "uri", "mode", "description", "pathOnCompute")
"""A job reads the file where it is, so that the mode and the path on a compute change nothing."""
_OUTPUT_MEMBERS = ("jobOutputType", "assetName", "mode", "description", "uri", "pathOnCompute")
_JOB_TIERS = ("null", "spot", "basic", "standard", "premium")


@accepts(fields=ENVELOPE)
def create(context: RequestContext) -> Response:
    """PUT a job: 201 for a new one, 200 when the same job exists."""
    properties = stored_properties(
        context.op, context.json.get("properties"), "properties", stored_names=_PROPERTIES,
        read_only=("status", "services"),
    )  # fmt: skip
    if (services := context.json["properties"].get("services")) is not None:
        names = _services(context, context.workspace, "")  # what clients send back
        stored_properties(context.op, services, "properties.services", stored_names=names)
    if isinstance(details := properties.get("fineTuningDetails"), dict):
        stored_properties(
            context.op, details, "properties.fineTuningDetails", stored_names=_DETAILS
        )
    version = context.query_params.get("api-version", "")
    job = read_job(
        context.services, context.workspace, context.path_params["job"], context.json, version
    )
    _check_inputs(context.op, properties["fineTuningDetails"])
    _check_outputs(context.op, properties.get("outputs") or {})
    _check_compute(context.op, properties)
    services, scope = context.services, context.workspace.guid
    if text := services.jobs.find_refusal(scope, job, services.required_examples("azureml")):
        raise user_error(text, target="trainingData")
    record, is_new = context.services.jobs.create(context.workspace.guid, job)
    return JSONResponse(job_to_json(context, record), 201 if is_new else 200)


def _check_inputs(op: Operation[Any], details: dict[str, Any]) -> None:
    for name in ("model", "trainingData", "validationData"):
        place = f"properties.fineTuningDetails.{name}"
        if details.get(name) is not None:
            value = stored_properties(op, details[name], place, stored_names=_INPUT_MEMBERS)
            allowed = ("mlflow_model", "custom_model") if name == "model" else ("uri_file",)
            _check_one_of(value.get("jobInputType"), allowed, f"{place}.jobInputType")


def _check_outputs(op: Operation[Any], outputs: Any) -> None:
    for name, output in stored_properties(
        op, outputs, "properties.outputs", stored_names=("registered_model",)
    ).items():
        place = f"properties.outputs.{name}"
        value = stored_properties(op, output, place, stored_names=_OUTPUT_MEMBERS)
        _check_one_of(value.get("jobOutputType"), ("mlflow_model",), f"{place}.jobOutputType")


def _check_compute(op: Operation[Any], properties: dict[str, Any]) -> None:
    """Check what Azure chooses a machine by. It changes nothing here: every job runs on this machine."""
    if (resources := properties.get("resources")) is not None:
        place = "properties.resources"
        names = ("instanceTypes", "instanceCount")
        types = stored_properties(op, resources, place, stored_names=names).get("instanceTypes", [])
        if not isinstance(types, list) or not all(isinstance(value, str) for value in types):
            raise user_error("instanceTypes must be a list of strings.", target=place)
    if (queue := properties.get("queueSettings")) is not None:
        place = "properties.queueSettings"
        tier = stored_properties(op, queue, place, stored_names=("jobTier",)).get("jobTier")
        if tier is not None:
            _check_one_of(tier, _JOB_TIERS, f"{place}.jobTier")


def _check_one_of(value: Any, allowed: Collection[str], place: str) -> None:
    if not isinstance(value, str) or value.casefold() not in allowed:
        raise user_error(f"{place} must be one of {', '.join(allowed)}.", target=place)


def get(context: RequestContext) -> dict[str, Any]:
    """GET one job."""
    return job_to_json(context, context.services.jobs.get(job_ref(context)))


@accepts(query=("$skip", "jobType", "listViewType", "tag", "properties"))
def list_jobs(context: RequestContext) -> dict[str, Any]:
    """GET all jobs, newest first, with ARM's filters."""
    scope = context.workspace.guid
    return list_page(
        context,
        lambda before, limit: context.services.jobs.list_page(scope, before, limit),
        lambda record: job_to_json(context, record),
        lambda record: _matches_filters(context, record),
    )


def _matches_filters(context: RequestContext, record: Record) -> bool:
    properties = record.body["request"]["properties"]
    kind = context.query_params.get("jobType")
    if kind and kind.casefold() != "finetuning":
        return False
    if not matches_list_view_type(context, is_archived=bool(properties.get("isArchived"))):
        return False
    return all(
        has_all(properties.get(field), context.query_params.get(name))
        for name, field in (("tag", "tags"), ("properties", "properties"))
    )


def cancel(context: RequestContext) -> Response:
    """POST cancel: 202 while the worker ends, 200 when there is nothing to cancel."""
    ref = job_ref(context)
    state = context.services.jobs.cancel(ref)
    if state != "CancelRequested":
        return Response(None, 200)
    context.services.scheduler.cancel(ref)
    return Response(None, 202, location_headers(context, f"cancel.{ref.scope}.{ref.key}"))


def pause(context: RequestContext) -> Response:
    """POST pause (local server only): the job stops after its current step."""
    ref = job_ref(context)
    if context.services.jobs.pause(ref) == "PauseRequested":
        context.services.scheduler.pause(ref)
    return Response(None, 200)


def resume(context: RequestContext) -> Response:
    """POST resume (local server only)."""
    context.services.jobs.resume(job_ref(context))
    return Response(None, 200)


def save_checkpoint(context: RequestContext) -> Response:
    """POST checkpoints (local server only): a running job writes one after its current step and continues."""
    ref = job_ref(context)
    context.services.jobs.check_running(ref)
    context.services.scheduler.save_checkpoint(ref)
    return Response(None, 200)


def list_checkpoints(context: RequestContext) -> dict[str, Any]:
    """GET the checkpoints of a job (local server only), newest first."""
    job = context.services.jobs.get(job_ref(context))
    job_id = job.body["id"]
    times = {
        event["step"]: event["at"]
        for event in context.services.jobs.events(job_id)
        if event.get("kind") == "checkpoint"
    }
    values: dict[int, dict[str, float]] = {}
    for point in context.services.jobs.points(job_id):
        values.setdefault(point.step, {})[point.name] = point.value
    return {
        "value": [
            {
                "step": step,
                "metrics": values.get(step, {}),
                "createdAt": times.get(step) or job.body.get("ended"),
            }
            for step in sorted(deployable_checkpoints(context.services.store, job), reverse=True)
        ]
    }


def delete(context: RequestContext) -> Response:
    """DELETE a job: 202 with a completed operation, 204 when there is none."""
    if not context.services.jobs.delete(job_ref(context)):
        return Response(None, 204)
    return Response(None, 202, location_headers(context, COMPLETED_TOKEN))


def job_to_json(context: RequestContext, record: Record) -> dict[str, Any]:
    """Return a job as ARM represents it: the request, and its results."""
    body = record.body
    ws = Workspace(**body["workspace"])
    arm_id = f"{ws.arm_id}/jobs/{body['name']}"
    properties = body["request"]["properties"]
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
            **properties,
            "status": visible_state(str(record.state)),
            "outputs": _outputs(context, record),
            "properties": {
                **(properties.get("properties") or {}),
                **context.services.job_properties(body),
                **_result_properties(body),
            },
            "services": _services(context, ws, body["name"]),
        },
        "systemData": system_data(body["created"]),
    }


def _result_properties(body: dict[str, Any]) -> dict[str, str]:
    """Return the totals of training as properties; properties are strings."""
    result = body.get("result") or {}
    values = {"trained_tokens": result.get("trained_tokens"), "steps": result.get("steps")}
    return {f"maas_client.{k}": str(v) for k, v in values.items() if v is not None}


def _outputs(context: RequestContext, record: Record) -> dict[str, Any]:
    requested = record.body["request"]["properties"].get("outputs") or {}
    model = record.body.get("model")
    uri = None
    if model:
        assets = context.services.assets
        uri = assets.asset_id("models", record.body["scope"], model["name"], model["version"])
    return {
        name: {
            "mode": "ReadWriteMount",
            **(value or {}),
            "uri": uri if name == "registered_model" else None,
        }
        for name, value in {
            "registered_model": {"jobOutputType": "mlflow_model"},
            **requested,
        }.items()
    }


def _services(context: RequestContext, ws: Workspace, name: str) -> dict[str, Any]:
    plane = context.urls.data_plane.split("://", 1)[1]
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


HANDLERS: dict[Operation[Any], Handler] = {
    ops.JOB_CREATE: create,
    ops.JOB_GET: get,
    ops.JOB_LIST: list_jobs,
    ops.JOB_CANCEL: cancel,
    ops.JOB_DELETE: delete,
}
LOCAL_HANDLERS: dict[Operation[Any], Handler] = {
    ops.JOB_PAUSE: pause,
    ops.JOB_RESUME: resume,
    ops.JOB_SAVE_CHECKPOINT: save_checkpoint,
    ops.JOB_CHECKPOINTS: list_checkpoints,
}
