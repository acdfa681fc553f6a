"""Where a resource answers, how its lists page, and what to do when an answer was lost."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from maas_client.errors import MaasError, ServiceError, TransportError
from maas_client.flows._arm import poll_intervals
from maas_client.flows._io import IO
from maas_client.wire.foundry_models import ListPage
from maas_client.wire.op import Op, Plane

T = TypeVar("T")

MAX_ATTEMPTS = 3
"""How often a create is sent whose outcome is unknown and of which nothing is found."""
LOOKUPS_PER_ATTEMPT = 4


def dated_base_url(io: IO) -> str:
    """Return the base of the dated api-versions: the resource's own, never a project's, which answers
    404 for uploads (docs/azure-http.md section 4.2)."""
    base = re.sub(r"/api/projects/[^/]+(?=/openai$)", "", io.scope.base_urls[Plane.FOUNDRY.value])
    return base.replace(".services.ai.azure.com/", ".openai.azure.com/")


async def list_items(
    io: IO, op: Op[ListPage], *, query: Mapping[str, str] | None = None, job: str | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the items of an OpenAI-shaped list, page after page."""
    path: Any = {} if job is None else {"job": job}
    after: str | None = None
    while True:
        asked = {**(query or {}), **({"after": after} if after else {})}
        page: ListPage = (await io.send(op, query=asked, **path)).value
        for item in page.data:
            yield item
        last = page.last_id or (page.data[-1].get("id") if page.data else None)
        if not page.has_more or not last or last == after:
            return
        after = str(last)


async def create_once(
    io: IO, create: Callable[[], Awaitable[T]], find: Callable[[], Awaitable[T | None]]
) -> T:
    """Create something that the service names itself, and never twice.

    When the outcome of ``send`` is unknown (no answer, or a 5xx), ``look`` is asked for what it may
    have made, several times, before it is sent again.
    """
    for _ in range(MAX_ATTEMPTS):
        try:
            return await create()
        except MaasError as lost:
            if not _unknown(lost):
                raise
            error = lost
        for pause in islice(poll_intervals(io), LOOKUPS_PER_ATTEMPT):
            found = await find()
            if found is not None:
                return found
            await io.sleep(pause)
    raise error


def _unknown(error: MaasError) -> bool:
    if isinstance(error, TransportError):
        return True
    return isinstance(error, ServiceError) and (error.status or 0) >= 500


def to_datetime(seconds: int | None) -> datetime | None:
    """Return a time of the service (seconds since 1970) as a moment in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
