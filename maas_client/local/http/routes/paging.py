"""ARM lists: ``value`` and a ``nextLink`` whose ``$skip`` is an opaque token (docs/azure-http.md 7.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maas_client.local.http.app import RequestContext
from maas_client.local.resources.errors import user_error
from maas_client.local.state.store import Record

PAGE_SIZE = 100
_READ = 200


def list_page(
    call: RequestContext,
    read_page: Callable[[int | None, int], list[Record]],
    to_json: Callable[[Record], dict[str, Any]],
    include: Callable[[Record], bool] = lambda fact: True,
) -> dict[str, Any]:
    """Return one page of what ``read(before, limit)`` gives, newest first."""
    before = _token(call)
    shown: list[dict[str, Any]] = []
    while facts := read_page(before, _READ):
        for fact in facts:
            before = fact.seq
            if include(fact):
                shown.append(to_json(fact))
            if len(shown) == PAGE_SIZE:
                more = bool(read_page(before, 1))
                link = call.url(**{"$skip": f"s{before}"}) if more else None
                return {"value": shown, "nextLink": link}
    return {"value": shown, "nextLink": None}


def _token(call: RequestContext) -> int | None:
    said = call.query_params.get("$skip")
    if not said:
        return None
    digits = said.removeprefix("s")
    if not said.startswith("s") or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
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
