"""Lists that page by themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from maas_client.flows._io import IO
from maas_client.wire.azureml_models import Page
from maas_client.wire.op import Op


async def list_items(
    io: IO, op: Op[Page], *, query: Mapping[str, str] | None = None, **path: str
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the items of an ARM list; ``nextLink`` is followed verbatim (docs/azure-http.md section 7.4)."""
    page = (await io.send(op, query=query, **path)).value  # type: ignore[arg-type]  # a str, never a deadline
    while True:
        for item in page.value:
            yield item
        if not page.next_link:
            return
        page = (await io.send(op, url=page.next_link)).value
