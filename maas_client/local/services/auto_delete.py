"""Timer of the server that deletes deployments when their ``delete_after`` has passed.

The deadline is a tag of the deployment, so it is kept across restarts of the server and of the client that
set it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from maas_client._clock import utc_time
from maas_client.local.resources.deployments import Deployments
from maas_client.local.state.store import Record

_LOG = logging.getLogger(__name__)
_MAX_WAIT_S = 60.0
"""Longest wait between two checks: the system clock may be set, and a laptop may be suspended."""


class AutoDelete:
    """Deletes overdue deployments.

    ``run`` belongs on the server's event loop; ``check_now`` is callable from any thread.
    """

    def __init__(self, deployments: Deployments, unload: Callable[[Record], None]) -> None:
        self._deployments = deployments
        self._unload = unload
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    def check_now(self) -> None:
        """Check again at once, because tags may have changed. Callable from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Delete overdue deployments until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                wait_s = await self._delete_overdue()
            except Exception:
                _LOG.exception("could not delete overdue deployments")
                wait_s = _MAX_WAIT_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _delete_overdue(self) -> float | None:
        """Delete overdue deployments; return the seconds until the next deadline, if any."""
        now = utc_time()
        deleted, next_deadline = await asyncio.to_thread(self._deployments.delete_expired, now)
        for record in deleted:
            _LOG.info("deleted the deployment %s: its delete_after has passed", record.body["name"])
            self._unload(record)
        return min((next_deadline - now).total_seconds(), _MAX_WAIT_S) if next_deadline else None
