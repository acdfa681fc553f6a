"""Sessions of interactive training: their requests, and one process and queue for each.

A session's record and checkpoints (``records.py``) outlive it; its process, queue and results are in memory
(``live_session.py``): when the server or the process ends, the session has failed, and a new one resumes from
its last checkpoint. All methods that change something run on the event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from maas_client.local.config import ServerConfig
from maas_client.local.machine.child_processes import ProcessPool
from maas_client.local.resources.errors import ApiError
from maas_client.local.sessions import checks
from maas_client.local.sessions.live_session import LiveSession
from maas_client.local.sessions.records import ACTIVE, PREFIX, SessionRecords, utc_now
from maas_client.local.sessions.results import (
    end_code,
    ended_message,
    failed,
    sampling_session,
    saved_kind,
    to_result,
)
from maas_client.local.sessions.step_history import GradientSum, step_points
from maas_client.local.state.files import FileStore, new_id
from maas_client.local.state.store import Record, Store
from maas_client.wire import sessions as wire

_MAX_LOADED = 4
"""Sessions with a process; further ones are ``queued``."""
_ENDED_KEPT = 8
"""Ended sessions whose results can still be polled."""
_WATCH_S = 5.0
_DEFAULT_ALPHA = 32.0


class Sessions:
    """All sessions of a server, by project."""

    def __init__(
        self,
        store: Store,
        files: FileStore,
        compute: ProcessPool,
        config: ServerConfig,
        base_for: Callable[[str], dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.records = SessionRecords(store, files)
        self._files, self._compute, self._config = files, compute, config
        self._base_for, self._clock = base_for, clock
        self._live: dict[str, LiveSession] = {}
        self._capacity = asyncio.Semaphore(_MAX_LOADED)
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Mark the sessions of an earlier server as failed, and begin to look for expired ones."""
        for scope, record in await asyncio.to_thread(self.records.unfinished):
            await asyncio.to_thread(self.records.remove_drafts, record.key)
            await self._set_status(scope, record.key, "failed", "the server was restarted")
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End all tasks; ``ProcessPool`` ends the processes."""
        sessions = list(self._live.values())
        tasks = [self._watcher, *(s.task for s in sessions), *(s.warming for s in sessions)]
        for task in filter(None, tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    # -- sessions -----------------------------------------------------------------------------------

    async def create(self, scope: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create a session and start to load its model. Returns the accepted request."""
        if self._config.engine != "peft":
            raise ApiError(
                501,
                "NotImplemented",
                "Interactive training needs torch, and this server simulates training. "
                "Start it with: maas-client serve --engine peft",
            )
        lora = checks.lora_config(body["lora_config"], _DEFAULT_ALPHA)
        if body.get("ejectable"):
            raise checks.not_implemented("ejectable", "true")
        base = await asyncio.to_thread(self._base_for, body["base_model"])
        limits = checks.BaseLimits.of(Path(base["folder"]), str(base["name"]))
        checks.check_rank(lora["rank"], limits)
        resume = self.records.resume_folder(scope, body.get("from_checkpoint"), base, lora)
        lora.setdefault("seed", secrets.randbits(31))
        session_id = PREFIX + new_id()
        record = {
            "scope": scope,
            "base_model": body["base_model"],
            "base": base,
            "lora_config": lora,
            "user_metadata": body.get("user_metadata"),
            "training_type": body.get("training_type"),
            "created": (created := utc_now()),
            "last_request_time": created,
        }
        await asyncio.to_thread(self.records.insert, scope, session_id, record)
        spec = {
            "base": base,
            "lora_config": lora,
            "device": self._config.device,
            "threads": self._config.process_threads,
            "folder": str(self.records.folder(session_id)),
            "fingerprint": _fingerprint(base, lora),
            "log": str(self._files.log_path(session_id.removeprefix(PREFIX))),
            "resume": None if resume is None else str(resume),
        }
        live = LiveSession(scope, session_id, spec, self._clock(), limits)
        self._live[session_id] = live
        request = live.enqueue("load", spec)
        live.task = asyncio.create_task(self._run(live))
        return request

    def list(self, scope: str, limit: int, offset: int) -> dict[str, Any]:
        """Return a page of the project's sessions, newest first."""
        records = self.records.newest(scope)
        return {
            "data": [
                {
                    "session_id": record.key,
                    "base_model": record.body["base_model"],
                    "status": record.state,
                    "is_lora": True,
                    "lora_rank": record.body["lora_config"]["rank"],
                    "corrupted": False,
                    "last_request_time": self.last_request_time(record),
                }
                for record in records[offset : offset + limit]
            ],
            "cursor": {"offset": offset, "limit": limit, "total_count": len(records)},
        }

    def last_request_time(self, record: Record) -> str:
        """Return when a session got its last request, or ended."""
        live = self._live.get(record.key)
        is_active = live is not None and record.state in ACTIVE
        return live.last_request_time if live and is_active else record.body["last_request_time"]

    def waiting_requests(self, session_id: str) -> dict[str, int]:
        """Return the number of requests without a result, by operation, in the order of the queue."""
        live = self._live.get(session_id)
        return dict(Counter(request.op for request in live.pending.values())) if live else {}

    async def heartbeat(self, scope: str, session_id: str) -> dict[str, Any]:
        """Keep a session alive."""
        self._active(scope, session_id)
        return {"session_id": session_id}

    async def complete(self, scope: str, session_id: str) -> dict[str, Any]:
        """Carry out the waiting requests, then unload a session. Its checkpoints stay."""
        async with self._turn(scope, session_id) as live:
            return live.enqueue("complete", {})

    async def delete(self, scope: str, session_id: str) -> None:
        """End a session and delete its checkpoints."""
        self.records.get(scope, session_id)
        await self._end(session_id, "failed", "it was deleted")
        await asyncio.to_thread(self.records.remove, scope, session_id)

    # -- requests -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, scope: str, session_id: str) -> AsyncIterator[LiveSession]:
        """Wait until the requests that arrived earlier are checked, so that the queue has their order."""
        async with self._active(scope, session_id).arrivals:
            yield self._active(scope, session_id)  # it may have ended in the meantime

    async def train(
        self, scope: str, session_id: str, op: str, read: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Accept a forward or forward_backward request. ``read`` returns its batch, and runs in a thread."""
        async with self._turn(scope, session_id) as live:
            fields = await asyncio.to_thread(lambda: checks.loss_request(read(), live.limits))
            return self._active(scope, session_id).enqueue(op, fields)

    async def optim_step(self, scope: str, session_id: str, adam: dict[str, Any]) -> dict[str, Any]:
        """Accept an optimiser step."""
        async with self._turn(scope, session_id) as live:
            return live.enqueue("optim_step", adam)

    async def save_checkpoint(
        self, scope: str, session_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Accept a request to write a training checkpoint."""
        async with self._turn(scope, session_id) as live:
            name = body["path"]
            self._check_new(live, "training", name)
            given = {k: body[k] for k in ("step_number", "metrics") if body.get(k) is not None}
            base, lora = live.spec["base"]["name"], live.spec["lora_config"]
            extra = {"base": base, "lora_config": lora, **given}
            return live.enqueue("save_checkpoint", {"checkpoint_id": name, "extra": extra})

    async def save_sampler(
        self, scope: str, session_id: str, name: str, seq_id: int | None, *, persist: bool
    ) -> dict[str, Any]:
        """Accept a request to keep the weights for sampling: in memory, or on disk with ``persist``."""
        async with self._turn(scope, session_id) as live:
            if persist:
                self._check_new(live, "sampler", name)
            fields = {"checkpoint_id": name, "persist": persist}
            accepted = live.enqueue("save_sampler", fields)
            live.samplers[name] = seq_id
            return accepted

    def _check_new(self, live: LiveSession, kind: str, name: str) -> None:
        """Raise ``ApiError`` for a name in use. Each kind has its own names: recipes save both under one."""
        if name in self.records.names(live.session_id, kind) or (kind, name) in live.saving:
            raise ApiError(
                409,
                "conflict",
                f"This session already has a {kind} checkpoint {name[:60]}. Choose another name.",
                target="path",
            )

    async def sample(
        self, scope: str, session_id: str, checkpoint_id: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Accept a sample request."""
        async with self._turn(scope, session_id) as live:
            on_disk = checkpoint_id in self.records.names(session_id, "sampler")
            if checkpoint_id not in live.samplers and not on_disk:
                raise ApiError(
                    404,
                    "not_found",
                    f"This session has no sampler checkpoint {checkpoint_id[:60]}. "
                    "Save the sampler weights first.",
                    target="checkpoint_id",
                )
            request = checks.sample_request(body, live.limits)
            checks.check_sampler(
                body, live.samplers.get(checkpoint_id), sampling_session(live.session_id)
            )
            return live.enqueue("sample", {**request, "checkpoint_id": checkpoint_id})

    async def request(self, scope: str, session_id: str, request_id: str) -> dict[str, Any]:
        """Return the envelope of a request: pending, completed or failed. Waits some time for the result."""
        self.records.get(scope, session_id)
        live = self._live.get(session_id)
        if live is not None and request_id in live.pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(wire.REQUEST_GET.long_poll_s):
                    await live.pending[request_id].finished.wait()
        record = self.records.get(scope, session_id)
        if live is not None and (request_id in live.pending or request_id in live.results):
            live.last_used_at = self._clock()
            return live.results.get(request_id, {"status": "pending"})
        if live is None or live.task is None or live.task.done():
            return failed(end_code(record), ended_message(record))
        raise ApiError(404, "not_found", f"Request {request_id[:60]} was not found.")

    # -- the queue ----------------------------------------------------------------------------------

    def _active(self, scope: str, session_id: str) -> LiveSession:
        """Return a session that takes requests. Raises ``ApiError`` for one that has ended."""
        record = self.records.get(scope, session_id)
        self._expire(session_id)
        live = self._live.get(session_id)
        if live is None or record.state not in ACTIVE or live.task is None or live.task.done():
            record = self.records.get(scope, session_id)
            raise ApiError(409, end_code(record), ended_message(record))
        live.last_used_at, live.last_request_time = self._clock(), utc_now()
        return live

    async def _run(self, live: LiveSession) -> None:
        """Carry out a session's requests in order, until it ends."""
        status, reason = "failed", "its process ended"
        try:
            async with self._capacity:
                live.child = await self._compute.take_worker()
                await self._set_status(live.scope, live.session_id, "running", None)
                while (entry := await live.queue.get()) is not None:
                    request_id, message = entry
                    if message["op"] == "complete":
                        status, reason = "succeeded", "it was completed"
                        await self._set_status(live.scope, live.session_id, status, reason)
                        live.finish(
                            request_id, {"status": "completed", "result": {}}, self._clock()
                        )
                        break
                    if not await self._carry_out(live, request_id, message):
                        break
        except asyncio.CancelledError:
            status = ""
            raise
        finally:
            if live.child is not None:
                await live.child.stop(0.0 if status != "succeeded" else 1.0)
                await asyncio.to_thread(self.records.remove_drafts, live.session_id)
            if status:
                await self._set_status(live.scope, live.session_id, status, reason)
                record = self.records.find(live.scope, live.session_id)
                if record is not None:
                    live.fail_pending(record, self._clock())
            self._forget_old()

    def _forget_old(self) -> None:
        """Drop the results of sessions that ended before the newest ones."""
        ended = [key for key, live in self._live.items() if live.task and live.task.done()]
        for session_id in ended[:-_ENDED_KEPT]:
            del self._live[session_id]

    async def _carry_out(self, live: LiveSession, request_id: str, message: dict[str, Any]) -> bool:
        """Send a request to the process and store its result; return False if the session has ended."""
        assert live.child is not None
        await live.child.send({"id": request_id, **message})
        event = await live.child.read_event()
        if event is None:
            reason = await live.child.wait() or "exit code 0"
            crash = failed("worker_crashed", f"The session's process ended: {reason}.")
            live.finish(request_id, crash, self._clock())
            return False
        op = message["op"]
        if kind := saved_kind(message):
            live.saving.discard((kind, message["checkpoint_id"]))
        gradients = live.gradients
        if op == "forward_backward" and "result" in event:
            live.gradients = gradients.add(event["result"])
        elif op == "optim_step":
            live.gradients = GradientSum()
        if error := event.get("error"):
            live.finish(request_id, failed(error["code"], error["message"]), self._clock())
            return bool(op != "load")
        if op == "optim_step":
            points = step_points(gradients, message, event["result"], utc_now())
            await asyncio.to_thread(self.records.add_points, live.session_id, points)
        result = to_result(live.session_id, message, event["result"])
        live.finish(request_id, {"status": "completed", "result": result}, self._clock())
        if op == "load":
            live.warming = asyncio.create_task(
                self._compute.warm_up(self._config.spare_worker_delay_s)
            )
        return True

    # -- the end of sessions ------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(_WATCH_S, self._config.session_idle_s / 4))
            for session_id in list(self._live):
                self._expire(session_id)

    def _expire(self, session_id: str) -> None:
        """End a session that has heard nothing for too long and has no work."""
        live = self._live.get(session_id)
        if live is None or live.pending or live.task is None or live.task.done():
            return
        if self._clock() - live.last_used_at >= self._config.session_idle_s:
            reason = f"it had no request and no heartbeat for {self._config.session_idle_s:g} s"
            self.records.mark(live.scope, session_id, "failed", f"expired: {reason}")
            live.task.cancel()

    async def _end(self, session_id: str, status: str, reason: str) -> None:
        live = self._live.pop(session_id, None)
        if live is None or live.task is None or live.task.done():
            return
        live.task.cancel()
        with suppress(asyncio.CancelledError):
            await live.task
        await self._set_status(live.scope, session_id, status, reason)

    async def _set_status(
        self, scope: str, session_id: str, status: str, reason: str | None
    ) -> None:
        await asyncio.to_thread(self.records.mark, scope, session_id, status, reason)


def _fingerprint(base: dict[str, Any], lora: dict[str, Any]) -> str:
    return f"session {base['name']} {lora['rank']} {float(lora['alpha']):g}"
