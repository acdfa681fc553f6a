"""Keep a session alive in a ``with`` block: heartbeats in a thread or a task, and its completion on exit."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from maas_client.errors import ConflictError, MaasError, NotFoundError

HEARTBEAT_INTERVAL_S = 30.0
"""As in azure-ai-finetuningsessions 1.0.0b1; after how long a session expires is not documented."""
_GONE = (NotFoundError, ConflictError)
"""The errors for a session that does not exist or has ended."""
_log = logging.getLogger("maas_client")


def _note_failure(session: str, error: MaasError) -> None:
    _log.warning("the heartbeat of session %s failed: %s", session, error.message)


class KeepAlive:
    """Sends heartbeats of a session from a thread.

    Args:
        session: The session's id.
        heartbeat: Sends one heartbeat.
        complete: Completes the session.
    """

    def __init__(
        self, session: str, heartbeat: Callable[[], Any], complete: Callable[[], Any]
    ) -> None:
        self._session = session
        self._heartbeat = heartbeat
        self._complete = complete
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the heartbeats."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="maas-client heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(HEARTBEAT_INTERVAL_S):
            try:
                self._heartbeat()
            except MaasError as error:
                if self._stopping.is_set():
                    return
                _note_failure(self._session, error)
                if isinstance(error, _GONE):
                    return

    def stop(self) -> None:
        """Stop the heartbeats, and complete the session unless it is gone."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        with suppress(*_GONE):  # deleted or completed inside the block
            self._complete()


class AsyncKeepAlive:
    """Sends heartbeats of a session from a task.

    Args:
        session: The session's id.
        heartbeat: Sends one heartbeat.
        complete: Completes the session.
    """

    def __init__(
        self,
        session: str,
        heartbeat: Callable[[], Awaitable[Any]],
        complete: Callable[[], Awaitable[Any]],
    ) -> None:
        self._session = session
        self._heartbeat = heartbeat
        self._complete = complete
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the heartbeats."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            try:
                await self._heartbeat()
            except MaasError as error:
                _note_failure(self._session, error)
                if isinstance(error, _GONE):
                    return

    async def stop(self) -> None:
        """Stop the heartbeats, and complete the session unless it is gone."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(*_GONE):  # deleted or completed inside the block
            await self._complete()
