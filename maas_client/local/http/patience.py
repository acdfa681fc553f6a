"""A connection that does not wait for ever: whoever opens one must get to the point.

uvicorn ends idle keep-alive connections, but not those that never send a request, or that send its
head a byte a minute. A few hundred of those would use up the process's descriptors.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import (  # noqa: TID253 - only the server imports this module
    H11Protocol,
)

HEADER_TIMEOUT_S = 30.0
"""How long the head of a request may take, from the connection or its first byte."""


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 with a deadline on each request's head."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._update_deadline()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the deadline ends with a whole head and begins with the next one's first byte."""
        super().data_received(data)
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def _update_deadline(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self._close_on_timeout)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_on_timeout(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
