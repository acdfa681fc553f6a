"""Long-running operations: the addresses that clients poll (docs/azure-http.md section 7.3)."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.resources.errors import not_found
from maas_client.wire import azureml as ops
from maas_client.wire.op import Op, expand_path

_RETRY_S = "1"
_SOON = {"Retry-After": _RETRY_S}
"""Without it azure-core waits 30 s between two looks."""
COMPLETED_TOKEN = "done"  # noqa: S105 - names an operation
"""Stands for an operation that was over when it was answered."""


def _url(call: RequestContext, op: Op[Any], token: str) -> str:
    values = {
        "subscription": call.path_params["subscription"],
        "location": call.services.config.region,
        "operation": token,
    }
    return f"{call.urls.arm}{expand_path(op.path, values)}?api-version={ops.API_VERSION}"


def location_headers(call: RequestContext, token: str) -> dict[str, str]:
    """Return the headers of an answer whose end is found behind ``Location``."""
    return {
        "Location": _url(call, ops.OPERATION_RESULT, token),
        "Retry-After": _RETRY_S,
        "x-ms-async-operation-timeout": "PT1H",
    }


def async_operation_headers(call: RequestContext, operation: str) -> dict[str, str]:
    """Return the headers of an answer whose end is found behind ``Azure-AsyncOperation``."""
    return {
        "Azure-AsyncOperation": _url(call, ops.OPERATION_STATUS, operation),
        **_SOON,
        "x-ms-async-operation-timeout": "PT1H",
    }


def status(call: RequestContext) -> Response:
    """GET behind ``Azure-AsyncOperation``."""
    found = call.services.deployments.get_operation(call.path_params["operation"])
    body = {
        "id": call.request.url.path,
        "name": found.key,
        "status": found.state,
        "startTime": found.body["started"],
    }
    if "ended" in found.body:
        body["endTime"] = found.body["ended"]
    if "error" in found.body:
        body["error"] = found.body["error"]
    return JSONResponse(body, headers=_SOON if found.state == "InProgress" else {})


def result(call: RequestContext) -> Response:
    """GET behind ``Location``: 202 until it is over."""
    token = call.path_params["operation"]
    if token == COMPLETED_TOKEN:
        return Response(None, 200)
    if match := re.fullmatch(r"cancel\.([0-9a-f]{32})", token):
        over = call.services.jobs.active_state(match[1]) is None
    elif re.fullmatch(r"[0-9a-f]{32}", token):
        over = call.services.deployments.get_operation(token).state != "InProgress"
    else:
        raise not_found("The operation")
    if over:
        return JSONResponse({}, 200)
    return Response(None, 202, location_headers(call, token))


HANDLERS: dict[Op[Any], Handler] = {
    ops.OPERATION_STATUS: status,
    ops.OPERATION_RESULT: result,
}
