"""ARM lists: ``value`` and a ``nextLink`` whose ``$skip`` is an opaque token (docs/azure-http.md 7.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maas_client.local.http.app import RequestContext
from maas_client.local.resources.errors import user_error
from maas_client.local.state.store import Record

PAGE_SIZE = 100
_BATCH_SIZE = 200


def list_page(
    context: RequestContext,
    read_page: Callable[[int | None, int], list[Record]],
    to_json: Callable[[Record], dict[str, Any]],
    include: Callable[[Record], bool] = lambda record: True,
) -> dict[str, Any]:
    """Return one page of what ``read(before, limit)`` gives, newest first."""
    before = _parse_skip_token(context)
    items: list[dict[str, Any]] = []
    while records := read_page(before, _BATCH_SIZE):
        for record in records:
            before = record.seq
            if include(record):
                items.append(to_json(record))
            if len(items) == PAGE_SIZE:
                has_more = bool(read_page(before, 1))
                link = context.url(**{"$skip": f"s{before}"}) if has_more else None
                return {"value": items, "nextLink": link}
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
        raise user_error("$skip is not a token of this server.", target="$skip")
    return int(digits)


def system_data(created: str) -> dict[str, str]:
    """Return ARM's note on who made a thing, and when."""
    return {
        "createdAt": created,
        "createdBy": "maas-client local server",
        "createdByType": "Application",
        "lastModifiedAt": created,
    }
