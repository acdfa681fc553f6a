"""What the OpenAI-shaped routes share: lists with ``after`` and ``limit``, and how a creation answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Call
from maas_client.local.rules.foundry.files import TrainingFiles, wrong

T = TypeVar("T")


def training_files(call: Call) -> TrainingFiles:
    """Return the resource's files."""
    services = call.services
    return TrainingFiles(services.store, services.files, durable=services.config.durable)


def listed(
    call: Call,
    items: Sequence[T],
    key: Callable[[T], str],
    show: Callable[[T], dict[str, Any]],
    *,
    limit: int,
    most: int = 100,
) -> dict[str, Any]:
    """Return the page of ``items`` that the query asks for; ``limit`` is the default."""
    if call.query.get("order", "desc") == "asc":
        items = list(reversed(items))
    elif call.query.get("order", "desc") != "desc":
        raise wrong("order must be asc or desc.", param="order")
    limit = _limit(call, limit, most)
    after = call.query.get("after")
    if after:
        keys = [key(item) for item in items]
        if after not in keys:
            raise wrong("after must be the id of an item of this list.", param="after")
        items = items[keys.index(after) + 1 :]
    data = [show(item) for item in items[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(items) > limit,
    }


def _limit(call: Call, default: int, most: int) -> int:
    said = call.query.get("limit")
    if not said:
        return default
    if not (said.isascii() and said.isdigit() and 1 <= int(said[:9]) <= most):
        raise wrong(f"limit must be a whole number from 1 to {most}.", param="limit")
    return int(said)


def created(call: Call, document: dict[str, Any]) -> Response:
    """Return what was created: v1 answers 200, the dated versions 201 with a Location (section 4.2)."""
    if call.op.path.startswith("/v1/"):
        return JSONResponse(document, 200)
    at = f"{call.at.scheme}://{call.at.host}{call.request.url.path}/{document['id']}"
    version = call.query.get("api-version")
    return JSONResponse(
        document, 201, {"Location": f"{at}?api-version={version}" if version else at}
    )


def seconds(stamp: str | None) -> int | None:
    """Return a time of ours as seconds since 1970."""
    if stamp is None:
        return None
    return int(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp())
