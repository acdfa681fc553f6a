"""What the OpenAI-shaped routes share: lists with ``after`` and ``limit``, and responses to a creation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import RequestContext
from maas_client.local.resources.foundry_files import FoundryFiles, invalid_payload
from maas_client.local.state.store import Record

T = TypeVar("T")


def file_store(context: RequestContext) -> FoundryFiles:
    """Return the files of the resource."""
    services = context.services
    return FoundryFiles(services.store, services.files, durable=services.config.durable)


def list_response(
    context: RequestContext,
    items: Sequence[T],
    key: Callable[[T], str],
    to_json: Callable[[T], dict[str, Any]],
    *,
    default_limit: int,
    max_limit: int = 100,
) -> dict[str, Any]:
    """Return the page of ``items`` that the query selects. ``items`` are newest first."""
    if _is_ascending(context):
        items = list(reversed(items))
    limit = _parse_limit(context, default_limit, max_limit)
    after = context.query_params.get("after")
    if after:
        keys = [key(item) for item in items]
        if after not in keys:
            raise _unknown_after()
        items = items[keys.index(after) + 1 :]
    return _page([to_json(item) for item in items[:limit]], has_more=len(items) > limit)


def record_list_response(
    context: RequestContext,
    *,
    find: Callable[[str], Record | None],
    newest: Callable[[int | None, int], Sequence[Record]],
    oldest: Callable[[int, int], Sequence[Record]],
    to_json: Callable[[Record], dict[str, Any]],
    default_limit: int,
) -> dict[str, Any]:
    """Return the page of stored records that the query selects, without reading the others.

    Args:
        context: The request.
        find: Returns the record with an id.
        newest: Returns up to N records that are older than a record (its ``seq``), newest first.
        oldest: Returns up to N records that are newer than a record, oldest first.
        to_json: Converts a record for the response.
        default_limit: How many records a page has if the query does not say.
    """
    is_ascending, limit = _is_ascending(context), _parse_limit(context, default_limit, 100)
    after = context.query_params.get("after")
    last = find(after) if after else None
    if after and last is None:
        raise _unknown_after()
    if is_ascending:
        records = oldest(last.seq if last else 0, limit + 1)
    else:
        records = newest(last.seq if last else None, limit + 1)
    return _page([to_json(record) for record in records[:limit]], has_more=len(records) > limit)


def _is_ascending(context: RequestContext) -> bool:
    order = context.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid_payload("order must be asc or desc.", param="order")
    return order == "asc"


def _unknown_after() -> Exception:
    return invalid_payload("after must be the id of an item in this list.", param="after")


def _page(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def _parse_limit(context: RequestContext, default: int, max_limit: int) -> int:
    text = context.query_params.get("limit")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= max_limit):
        raise invalid_payload(f"limit must be a whole number from 1 to {max_limit}.", param="limit")
    return int(text)


def created_response(context: RequestContext, document: dict[str, Any]) -> Response:
    """Return the response to a creation: 200 on v1, 201 with a Location on the dated api-versions.

    See docs/azure-http.md section 4.2.
    """
    if context.op.path.startswith("/v1/"):
        return JSONResponse(document, 200)
    location = (
        f"{context.urls.scheme}://{context.urls.host}{context.request.url.path}/{document['id']}"
    )
    version = context.query_params.get("api-version")
    return JSONResponse(
        document, 201, {"Location": f"{location}?api-version={version}" if version else location}
    )


def to_unix_seconds(iso_time: str | None) -> int | None:
    """Return an ISO time as seconds since 1970."""
    if iso_time is None:
        return None
    return int(datetime.fromisoformat(iso_time.replace("Z", "+00:00")).timestamp())
