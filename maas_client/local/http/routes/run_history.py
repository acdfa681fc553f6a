"""Run history and metrics: why a job failed, what it logged, what it registered (section 1.6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.jobs import job_ref, job_to_json
from maas_client.local.resources.assets import format_time
from maas_client.local.resources.errors import not_found, user_error
from maas_client.local.resources.job_spec import JobRef
from maas_client.local.resources.job_states import visible_state
from maas_client.local.state.store import MetricPoint, Record
from maas_client.wire import azureml as ops
from maas_client.wire.op import Op

LOG_PATH = "user_logs/std_log.txt"
LOG_CONTAINER = "azureml"
_POINTS_PER_PAGE = 1000

METRIC_NAMES = {"train_loss": "loss", "valid_loss": "eval_loss"}
"""Our names to the trainer's usual ones; which a serverless run really has is not known."""


def _run(call: RequestContext, fact: Record) -> dict[str, Any]:
    """Return the run record of a job."""
    body = fact.body
    sent = body["request"]["properties"]
    record = {
        "runId": body["name"],
        "rootRunId": body["name"],
        "experimentId": body["scope"],
        "dataContainerId": f"dcid.{body['name']}",
        "displayName": sent.get("displayName") or body["name"],
        "description": sent.get("description"),
        "status": visible_state(str(fact.state)),
        "runType": "FineTuning",
        "hidden": bool(sent.get("isArchived")),
        "createdUtc": body["created"],
        "startTimeUtc": body.get("started"),
        "endTimeUtc": body.get("ended"),
        "tags": sent.get("tags") or {},
        "properties": {**(sent.get("properties") or {}), **body["properties"]},
        "parameters": body["spec"]["hyperparameters"],
        "warnings": _warnings(call, fact),
    }
    if "error" in body:
        record["error"] = _error(body["error"], body["ended"])
    made = body.get("model")
    if made:
        assets = call.services.assets
        asset = assets.asset_id("models", body["scope"], made["name"], made["version"])
        record["outputs"] = {"registered_model": {"assetId": asset, "type": "MLFlowModel"}}
    return record


def _warnings(call: RequestContext, fact: Record) -> list[dict[str, Any]]:
    """Return a job's messages; those that warn of nothing say so in their source. Azure's warnings have no
    time, so its SDK drops ours; this library's client orders a job's story by it."""
    return [
        {
            "source": f"maas-client:{event.get('level', 'info')}",
            "message": str(event.get("message") or ""),
            "createdUtc": event["at"],
        }
        for event in call.services.jobs.events(fact.body["id"])
        if event["kind"] == "message"
    ]


def _error(error: dict[str, Any], when: str) -> dict[str, Any]:
    return {
        "error": {
            "code": error["code"],
            "severity": None,
            "message": error["message"],
            "messageFormat": None,
            "messageParameters": {},
            "referenceCode": None,
            "detailsUri": None,
            "target": None,
            "details": error.get("details") or [],
            "innerError": None,
            "additionalInfo": None,
        },
        "correlation": {},
        "environment": "local",
        "location": "local",
        "time": when,
        "componentName": "finetuning",
    }


def get_run(call: RequestContext) -> dict[str, Any]:
    """GET the record."""
    return _run(call, call.services.jobs.get(job_ref(call)))


def details(call: RequestContext) -> dict[str, Any]:
    """GET status, error, warnings and the log file's address."""
    fact = call.services.jobs.get(job_ref(call))
    body = fact.body
    logs = {}
    if call.services.files.log_path(body["id"]).exists():
        logs[LOG_PATH] = call.urls.blob(
            LOG_CONTAINER, f"ExperimentRun/dcid.{body['id']}/{LOG_PATH}"
        )
    return {**_run(call, fact), "logFiles": logs, "createdTimeUtc": body["created"]}


def children(call: RequestContext) -> dict[str, Any]:
    """GET the runs below: there are none."""
    call.services.jobs.get(job_ref(call))
    return {"value": [], "continuationToken": None, "nextLink": None}


def run_data(call: RequestContext) -> dict[str, Any]:
    """POST: a read of the record and of what the job was sent as."""
    name = call.json.get("runId")
    if not isinstance(name, str) or not name:
        raise user_error("runId: Field required", target="runId")
    fact = call.services.jobs.get(JobRef(call.workspace.guid, name.casefold()))
    answer: dict[str, Any] = {"runMetadata": _run(call, fact)}
    if call.json.get("selectJobSpecification"):
        answer["jobSpecification"] = job_to_json(call, fact)
    if call.json.get("selectRunDefinition"):
        answer["runDefinition"] = None
    return answer


def patch(call: RequestContext) -> dict[str, Any]:
    """PATCH what may change: the name shown, description, tags, properties, hidden."""
    sent = call.json
    for name in ("tags", "properties"):
        if name in sent and not isinstance(sent[name], dict | None):
            raise user_error(f"{name}: must be an object", target=name)

    def change(request: dict[str, Any]) -> None:
        held = request["properties"]
        held.update({k: sent[k] for k in ("displayName", "description") if k in sent})
        for name in ("tags", "properties"):
            if sent.get(name):
                held[name] = {**(held.get(name) or {}), **sent[name]}
        if "hidden" in sent:
            held["isArchived"] = bool(sent["hidden"])

    return _run(call, call.services.jobs.patch(job_ref(call), change))


def cancel(call: RequestContext) -> Response:
    """POST cancel on the data plane."""
    where = job_ref(call)
    if call.services.jobs.cancel(where) == "CancelRequested":
        call.services.scheduler.cancel(where)
    return JSONResponse(_run(call, call.services.jobs.get(where)))


# -- metrics --------------------------------------------------------------------------------------


def metric_list(call: RequestContext) -> dict[str, Any]:
    """POST list: which metrics there are."""
    fact = call.services.jobs.get(job_ref(call))
    names = sorted(METRIC_NAMES.get(n, n) for n in call.services.jobs.metric_names(fact.body["id"]))
    return {"value": [_definition(fact, name) for name in names], "continuationToken": None}


def _definition(fact: Record, name: str) -> dict[str, Any]:
    return {
        "metricKey": {
            "dataContainerId": f"dcid.{fact.body['name']}",
            "name": name,
            "namespace": "",
        },
        "columns": {name: "Double"},
        "properties": {"uxMetricType": "azureml.v1.scalar"},
    }


def metric_values(call: RequestContext) -> dict[str, Any]:
    """POST full: every point of one metric, or those since ``startTime``, a page at a time."""
    after = _after(call.json.get("continuationToken"))
    fact, name, points = _asked(call, after, _POINTS_PER_PAGE + 1)
    page = points[:_POINTS_PER_PAGE]
    token = str(page[-1].step) if len(points) > len(page) else None
    return _series(fact, name, page, token)


def metric_sample(call: RequestContext) -> dict[str, Any]:
    """POST sample: at most a thousand points, evenly spread, the last one among them."""
    fact, name, points = _asked(call, -1, -1)
    every = max(1, -(-len(points) // _POINTS_PER_PAGE))
    kept = points[::-1][::every][::-1]
    return _series(fact, name, kept, None)


def _asked(call: RequestContext, after: int, limit: int) -> tuple[Record, str, list[MetricPoint]]:
    fact = call.services.jobs.get(job_ref(call))
    name = call.json.get("metricName")
    ours = next((k for k, v in METRIC_NAMES.items() if v == name), name)
    if not isinstance(name, str) or ours not in call.services.jobs.metric_names(fact.body["id"]):
        raise not_found(f"Metric {str(name)[:60]}")
    points = call.services.jobs.series(
        fact.body["id"],
        str(ours),
        after=after,
        since=_since(call.json.get("startTime")),
        limit=limit,
    )
    return fact, name, points


def _since(said: Any) -> str:
    """Read ``startTime``: what is older was told before. In the form that points are kept in."""
    if said is None:
        return ""
    try:
        when = datetime.fromisoformat(str(said))
    except ValueError:
        raise user_error("startTime is not an ISO time.", target="startTime") from None
    return format_time(when if when.tzinfo else when.replace(tzinfo=UTC))


def _after(token: Any) -> int:
    """Read a continuation token: the last step of the page before."""
    if token is None:
        return -1
    if not isinstance(token, str) or not token.isascii() or not token.isdigit() or len(token) > 12:
        raise user_error("continuationToken is not one of this server.", target="continuationToken")
    return int(token)


def _series(
    fact: Record, name: str, points: list[MetricPoint], token: str | None
) -> dict[str, Any]:
    return {
        "dataContainerId": f"dcid.{fact.body['name']}",
        "name": name,
        "columns": {name: "Double"},
        "properties": {"uxMetricType": "azureml.v1.scalar"},
        "namespace": None,
        "value": [
            {
                "metricId": f"{name}-{p.step}",
                "createdUtc": p.at,
                "step": p.step,
                "data": {name: p.value},
            }
            for p in points
        ],
        "continuationToken": token,
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.RUN_GET: get_run,
    ops.RUN_DETAILS: details,
    ops.RUN_CHILDREN: children,
    ops.RUN_DATA: run_data,
    ops.RUN_PATCH: patch,
    ops.RUN_CANCEL: cancel,
    ops.METRIC_LIST: metric_list,
    ops.METRIC_VALUES: metric_values,
    ops.METRIC_SAMPLE: metric_sample,
}
