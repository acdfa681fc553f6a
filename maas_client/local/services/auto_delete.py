"""Deployments that go by themselves: ``delete_after``, held by the server.

A deadline is a tag of the deployment, so it outlives the server and whoever wrote it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from maas_client.local.resources.deployments import Deployments
from maas_client.local.state.store import Record

_LOG = logging.getLogger(__name__)
_MAX_WAIT_S = 60.0
"""One sleep: the clock may be set, and a laptop may be closed."""


class AutoDelete:
    """``run`` on the server's loop; ``look`` from any thread, when tags may have changed."""

    def __init__(self, deployments: Deployments, release: Callable[[Record], None]) -> None:
        self._deployments = deployments
        self._release = release
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    def check_now(self) -> None:
        """Look again at once. Any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Delete what is overdue, for ever."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            try:
                wait_s = await self._delete_overdue()
            except Exception:
                _LOG.exception("deployments that are overdue")
                wait_s = _MAX_WAIT_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _delete_overdue(self) -> float | None:
        """Delete what is overdue; return how long to wait for the next, None: there is none."""
        now = datetime.now(UTC)
        deleted, next_deadline = await asyncio.to_thread(self._deployments.delete_expired, now)
        for record in deleted:
            _LOG.info("deleted the deployment %s: its time has come", record.body["name"])
            self._release(record)
        return min((next_deadline - now).total_seconds(), _MAX_WAIT_S) if next_deadline else None
