"""What the OpenAI-shaped routes share: lists with ``after`` and ``limit``, and responses to a creation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import RequestContext
from maas_client.local.resources.foundry_files import FoundryFiles, invalid_payload

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
    """Return the page of ``items`` that the query selects."""
    if context.query_params.get("order", "desc") == "asc":
        items = list(reversed(items))
    elif context.query_params.get("order", "desc") != "desc":
        raise invalid_payload("order must be asc or desc.", param="order")
    default_limit = _parse_limit(context, default_limit, max_limit)
    after = context.query_params.get("after")
    if after:
        keys = [key(item) for item in items]
        if after not in keys:
            raise invalid_payload("after must be the id of an item in this list.", param="after")
        items = items[keys.index(after) + 1 :]
    data = [to_json(item) for item in items[:default_limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(items) > default_limit,
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
