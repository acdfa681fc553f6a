"""A session that has not ended: its process, its queue and the results of its requests, in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from maas_client.local.machine.child_processes import ChildProcess
from maas_client.local.resources.errors import ApiError
from maas_client.local.sessions import checks
from maas_client.local.sessions.records import utc_now
from maas_client.local.sessions.results import end_code, ended_message, failed, saved_kind
from maas_client.local.sessions.step_history import GradientSum
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record

_MAX_WAITING = 1024
"""Requests of one session that have not been carried out; further ones are refused with 429."""
_RESULTS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A request that has no result yet."""

    op: str
    finished: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class LiveSession:
    """A session that this server has accepted and that has not ended."""

    scope: str
    session_id: str
    spec: dict[str, Any]
    last_used_at: float
    limits: checks.BaseLimits
    queue: asyncio.Queue[tuple[str, dict[str, Any]] | None] = field(default_factory=asyncio.Queue)
    results: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict)
    samplers: dict[str, int | None] = field(default_factory=dict)
    """``seq_id`` by the name of a sampler checkpoint saved in this session, in memory or on disk."""
    arrivals: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a request is checked and put into the queue."""
    pending: dict[str, PendingRequest] = field(default_factory=dict)
    """The requests that have no result yet, by id."""
    saving: set[tuple[str, str]] = field(default_factory=set)
    """Kind and name of the checkpoints that waiting requests write to disk."""
    child: ChildProcess | None = None
    task: asyncio.Task[None] | None = None
    warming: asyncio.Task[None] | None = None
    """Starts the worker of the next session or job."""
    last_request_time: str = field(default_factory=utc_now)
    gradients: GradientSum = field(default_factory=GradientSum)
    """The losses whose gradients wait for the next optimiser step."""

    def enqueue(self, op: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Put a request into the queue and return it, accepted. Raises ``ApiError`` (429) if too many wait."""
        if len(self.pending) >= _MAX_WAITING:
            raise ApiError(
                429,
                "rate_limited",
                f"{_MAX_WAITING} requests of this session wait. Try again in 1 s.",
                headers={"Retry-After": "1"},
            )
        request_id = f"request_{new_id()}"
        self.pending[request_id] = PendingRequest(op)
        self.queue.put_nowait((request_id, {"op": op, **fields}))
        if kind := saved_kind({"op": op, **fields}):
            self.saving.add((kind, fields["checkpoint_id"]))
        accepted = {"request_id": request_id, "session_id": self.session_id}
        return {**accepted, "status": "pending"}

    def finish(self, request_id: str, envelope: dict[str, Any], now: float) -> None:
        """Store the result of a request."""
        self.results[request_id] = envelope
        self.pending.pop(request_id).finished.set()
        self.last_used_at = now
        if len(self.results) > _RESULTS_KEPT:
            self.results.popitem(last=False)

    def fail_pending(self, record: Record, now: float) -> None:
        """Let the requests without a result fail, as the session has ended."""
        for request_id in list(self.pending):
            self.finish(request_id, failed(end_code(record), ended_message(record)), now)
