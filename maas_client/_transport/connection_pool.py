"""Give back what a cancelled request leaves in the connection pool of an ``httpx.AsyncClient``.

httpcore 1.0 frees a connection in steps that wait (locks, closing). If a task is cancelled there, the
connection stays in the pool as active for ever: after some hundred cancelled calls every call fails with a
``PoolTimeout``. So whatever a request that has ended still occupies is removed here, without waiting.

httpcore has no public way to do that, hence the private attributes; ``tests/unit/transport`` fails if they
move.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

MARK = "maas_client.request"
"""The extension of an ``httpx.Request`` whose value identifies the request in the pool."""


async def release(client: httpx.AsyncClient, mark: object) -> None:
    """Remove a request that has ended, and connections that belong to no request, from the pools.

    Args:
        client: The client that sent the request.
        mark: The value of the request's extension ``MARK``.
    """
    for pool in _pools(client):
        for entry in list(pool._requests):
            if entry.request.extensions.get(MARK) is mark:
                pool._requests.remove(entry)
        used = [entry.connection for entry in pool._requests]
        for connection in list(pool._connections):
            is_free = connection.is_idle() or connection.is_closed() or connection.has_expired()
            if not is_free and not any(connection is other for other in used):
                pool._connections.remove(connection)
                # This closes the socket before it waits for anything: a second cancellation cannot prevent it.
                await connection.aclose()
        for connection in pool._assign_requests_to_connections():
            await connection.aclose()


def _pools(client: httpx.AsyncClient) -> Iterator[Any]:
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None and hasattr(pool, "_assign_requests_to_connections"):
            yield pool
