"""Long-running operations and lists of ARM: polling URLs and pages.

See docs/azure-http.md sections 7.3 and 7.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import stored_properties
from maas_client.local.resources.errors import ApiError, not_found, user_error
from maas_client.local.resources.jobs import JobRef
from maas_client.local.state.store import Record
from maas_client.wire import azureml as ops
from maas_client.wire.operation import Operation, expand_path

_RETRY_AFTER_S = "1"
_RETRY_AFTER = {"Retry-After": _RETRY_AFTER_S}
"""Without this header azure-core waits 30 s between two polls."""
COMPLETED_TOKEN = "done"  # noqa: S105 - names an operation
"""Token of an operation that was complete when its request was answered."""


def _url(context: RequestContext, op: Operation[Any], token: str) -> str:
    values = {
        "subscription": context.path_params["subscription"],
        "location": context.services.config.region,
        "operation": token,
    }
    return f"{context.urls.arm}{expand_path(op.path, values)}?api-version={ops.API_VERSION}"


def location_headers(context: RequestContext, token: str) -> dict[str, str]:
    """Return the headers of a response whose operation is polled at ``Location``."""
    return {
        "Location": _url(context, ops.OPERATION_RESULT, token),
        "Retry-After": _RETRY_AFTER_S,
        "x-ms-async-operation-timeout": "PT1H",
    }


def async_operation_headers(context: RequestContext, operation: str) -> dict[str, str]:
    """Return the headers of a response whose operation is polled at ``Azure-AsyncOperation``."""
    return {
        "Azure-AsyncOperation": _url(context, ops.OPERATION_STATUS, operation),
        **_RETRY_AFTER,
        "x-ms-async-operation-timeout": "PT1H",
    }


def get_operation_status(context: RequestContext) -> Response:
    """GET the URL in ``Azure-AsyncOperation``."""
    operation = context.services.deployments.get_operation(context.path_params["operation"])
    body = {
        "id": context.request.url.path,
        "name": operation.key,
        "status": operation.state,
        "startTime": operation.body["started"],
    }
    if "ended" in operation.body:
        body["endTime"] = operation.body["ended"]
    if "error" in operation.body:
        body["error"] = operation.body["error"]
    return JSONResponse(body, headers=_RETRY_AFTER if operation.state == "InProgress" else {})


def get_operation_result(context: RequestContext) -> Response:
    """GET the URL in ``Location``: 202 until the operation is complete."""
    token = context.path_params["operation"]
    if token == COMPLETED_TOKEN:
        return Response(None, 200)
    if match := re.fullmatch(r"cancel\.([0-9a-f-]{36})\.([^/]{1,255})", token):
        is_done = not context.services.jobs.is_cancelling(JobRef(match[1], match[2].casefold()))
    elif re.fullmatch(r"[0-9a-f]{32}", token):
        is_done = context.services.deployments.get_operation(token).state != "InProgress"
    else:
        raise not_found("The operation")
    if is_done:
        return JSONResponse({}, 200)
    return Response(None, 202, location_headers(context, token))


# -- lists -----------------------------------------------------------------------------------------

PAGE_SIZE = 100
_BATCH_SIZE = PAGE_SIZE + 1
"""Without filters one read returns a page, and shows whether another follows."""


def list_page(
    context: RequestContext,
    read_page: Callable[[int | None, int], list[Record]],
    to_json: Callable[[Record], dict[str, Any]],
    include: Callable[[Record], bool] = lambda record: True,
) -> dict[str, Any]:
    """Return one page of the records that ``read_page(before, limit)`` returns, newest first.

    ``nextLink`` carries an opaque ``$skip`` token.
    """
    matches_list_view_type(
        context, is_archived=False
    )  # refuses a wrong value also when nothing is listed
    before = _parse_skip_token(context)
    items: list[dict[str, Any]] = []
    has_more = True
    while has_more:
        records = read_page(before, _BATCH_SIZE)
        has_more = len(records) == _BATCH_SIZE
        for record in records:
            if len(items) == PAGE_SIZE:
                return {"value": items, "nextLink": context.url(**{"$skip": f"s{before}"})}
            before = record.seq
            if include(record):
                items.append(to_json(record))
    return {"value": items, "nextLink": None}


def _parse_skip_token(context: RequestContext) -> int | None:
    token = context.query_params.get("$skip")
    if not token:
        return None
    digits = token.removeprefix("s")
    if (
        not token.startswith("s")
        or not digits.isascii()
        or not digits.isdigit()
        or len(digits) > 18
    ):
        raise user_error("$skip must be a token from nextLink.", target="$skip")
    return int(digits)


def matches_list_view_type(context: RequestContext, *, is_archived: bool) -> bool:
    """Return whether a list includes a record: ``listViewType`` is ActiveOnly, ArchivedOnly or All."""
    value = context.query_params.get("listViewType", "ActiveOnly")
    # azure-ai-ml sends "ListViewType.ACTIVE_ONLY" to registries.
    view = value.casefold().removeprefix("listviewtype.").replace("_", "")
    if view not in ("activeonly", "archivedonly", "all"):
        raise user_error(
            "listViewType must be ActiveOnly, ArchivedOnly or All.", target="listViewType"
        )
    return view == "all" or is_archived == (view == "archivedonly")


def page_of(
    context: RequestContext, items: list[tuple[int, dict[str, Any]]], *, limit: str
) -> dict[str, Any]:
    """Return one page of (position, document) pairs that are ordered by falling position.

    Honours ``$skip``, ``$orderBy`` (createdtime, rising or falling) and the parameter named ``limit``: the
    number of documents in total.
    """
    matches_list_view_type(
        context, is_archived=False
    )  # refuses a wrong value also when nothing is listed
    rising = _is_rising(context)
    token = _parse_skip_token(context)
    ordered = items[::-1] if rising else items
    remaining = [
        item
        for item in ordered
        if token is None or (item[0] > token if rising else item[0] < token)
    ]
    count = _parse_limit(context, limit)
    page = remaining[: min(count, PAGE_SIZE)]
    link = None
    if page and len(page) < min(count, len(remaining)):
        changes = {"$skip": f"s{page[-1][0]}"}
        if limit in context.query_params:
            changes[limit] = str(count - len(page))
        link = context.url(**changes)
    return {"value": [document for _, document in page], "nextLink": link}


def _parse_limit(context: RequestContext, name: str) -> int:
    value = context.query_params.get(name) or "999999999"
    if not re.fullmatch(r"[1-9]\d{0,8}", value, re.ASCII):
        raise user_error(f"{name} must be a positive number.", target=name)
    return int(value)


def _is_rising(context: RequestContext) -> bool:
    """Return whether ``$orderBy`` asks for the oldest first; lists are the newest first by default."""
    order = context.query_params.get("$orderBy") or "createdtime desc"
    field, _, direction = order.casefold().partition(" ")
    if field not in ("createdtime", "createdtimeutc") or direction not in ("", "asc", "desc"):
        raise ApiError(
            501,
            "NotImplemented",
            "The local server orders lists by createdtime desc or createdtime asc only.",
            target="$orderBy",
        )
    return direction != "desc"


def check_sku(context: RequestContext, members: tuple[str, ...]) -> None:
    """Refuse a ``sku`` that is no object, and members of it that have no effect."""
    if context.json.get("sku") is not None:
        sku = stored_properties(context.op, context.json["sku"], "sku", stored_names=members)
        if not isinstance(sku.get("name", ""), str):
            raise user_error("sku.name must be a string.", target="sku.name")


def has_all(values: dict[str, Any] | None, condition: str | None) -> bool:
    """Return whether tags or properties contain every ``key`` or ``key=value`` (separated by commas)."""
    for part in (condition or "").split(","):
        key, equals, value = part.partition("=")
        if key and (key not in (values or {}) or (equals and str((values or {})[key]) != value)):
            return False
    return True


def system_data(created: str, modified: str | None = None) -> dict[str, str]:
    """Return ARM's ``systemData``: who created a resource, when, and when it was changed."""
    return {
        "createdAt": created,
        "createdBy": "maas-client local server",
        "createdByType": "Application",
        "lastModifiedAt": modified or created,
    }


HANDLERS: dict[Operation[Any], Handler] = {
    ops.OPERATION_STATUS: get_operation_status,
    ops.OPERATION_RESULT: get_operation_result,
}
