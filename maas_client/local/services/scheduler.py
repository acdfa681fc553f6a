"""Which job runs now: a queue, at most ``max_jobs`` workers, and what their events mean."""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from maas_client.local.config import ServerConfig, default_threads
from maas_client.local.machine.child_processes import ChildProcess, ProcessPool
from maas_client.local.resources.assets import utc_now
from maas_client.local.resources.errors import failure_message
from maas_client.local.resources.job_spec import JobRef
from maas_client.local.resources.jobs import Jobs
from maas_client.local.state.files import FileStore
from maas_client.local.state.reserve import is_disk_full
from maas_client.local.state.store import MetricPoint, Record

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_FLUSH_S = 0.2
"""How long a metric point may wait for others before it is committed."""
_AGAIN_S = 1.0
"""How often a change is tried again that found no room on the disk."""
_PATIENCE_S = 5.0
"""How long a start waits for the last server's jobs to be taken up before it answers without them."""
_NOT_METRICS = frozenset({"step", "steps"})


class Scheduler:
    """Runs on the server's event loop; its changes to the store run in threads."""

    def __init__(
        self, jobs: Jobs, compute: ProcessPool, files: FileStore, config: ServerConfig
    ) -> None:
        self._jobs = jobs
        self._compute = compute
        self._files = files
        self._config = config
        self._running: dict[JobRef, asyncio.Task[None]] = {}
        self._children: dict[JobRef, ChildProcess] = {}
        self._pumping = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recovered: asyncio.Future[None] | None = None
        """Done once the jobs of the last server are taken up: none is begun before."""

    async def start(self) -> None:
        """Take up what the last server left, then keep the queue moving."""
        self._loop = asyncio.get_running_loop()
        self._jobs.on_job_queued = self._wake
        self._recovered = asyncio.ensure_future(self._write_with_reserve(self._jobs.recover))
        done, _ = await asyncio.wait({self._recovered}, timeout=_PATIENCE_S)
        for one in done:
            one.result()
        await self._compute.warm_up()
        self._spawn(self._start_queued())

    async def close(self) -> None:
        """Stop following; the children end with their stdin. Jobs stay as they are: the next start
        runs them again from their checkpoints."""
        self._loop = None
        early = [self._recovered] if self._recovered else []
        tasks = [*self._running.values(), *self._tasks, *early]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def cancel(self, ref: JobRef) -> None:
        """End a running job's worker: it is asked, and after a grace it is killed. Any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._end(ref)))

    def pause(self, ref: JobRef) -> None:
        """Have a running job's worker write a checkpoint after its step, and end. Any thread."""
        self._ask(ref, "pause")

    def save_checkpoint(self, ref: JobRef) -> None:
        """Have a running job's worker write a checkpoint after its step, and go on. Any thread."""
        self._ask(ref, "save")

    def _ask(self, ref: JobRef, word: str) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._send(ref, word)))

    async def _send(self, ref: JobRef, word: str) -> None:
        child = self._children.get(ref)
        if child is not None:
            await child.send({word: True})

    async def _end(self, ref: JobRef) -> None:
        child = self._children.get(ref)
        if child is None:
            return
        await child.send({"cancel": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.cancel_grace_s):
                await child.wait()
        child.kill()

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._start_queued()))

    def _spawn(self, step: Any) -> None:
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_queued(self) -> None:
        if self._recovered:
            await asyncio.shield(self._recovered)
        async with self._pumping:
            for ref in await asyncio.to_thread(self._jobs.list_queued):
                if ref in self._running:
                    continue
                if len(self._running) < self._config.max_jobs:
                    task = asyncio.create_task(self._run(ref))
                    self._running[ref] = task
                    task.add_done_callback(partial(self._over, ref))
                else:
                    await asyncio.to_thread(self._jobs.mark_queued, ref)

    def _renew_spare(self) -> None:
        """Have another warm worker made, where it takes nothing from a job that trains."""
        busy = self.cores_in_use()
        if busy < default_threads():
            self._spawn(self._compute.warm_up())

    def cores_in_use(self) -> int:
        """Return the threads that the running jobs may use together."""
        return sum(self._threads(ref) for ref in list(self._running))

    def _threads(self, ref: JobRef) -> int:
        """Return how many cores a job keeps busy. Half a million parameters: more threads than one
        would only wait for each other."""
        tiny = self._jobs.get(ref).body["base"]["name"] == "tiny"
        return 1 if tiny else self._config.threads

    def _over(self, ref: JobRef, _: asyncio.Task[None]) -> None:
        self._running.pop(ref, None)
        self._children.pop(ref, None)
        if self._loop is not None:
            self._spawn(self._start_queued())
            self._renew_spare()

    async def _run(self, ref: JobRef) -> None:
        job = await self._write_when_possible(partial(self._jobs.start_attempt, ref))
        if job is None:
            return
        await asyncio.to_thread(self._files.reserve.allocate)
        try:
            await self._attempt(ref, job)
        except Exception as error:
            _LOG.exception("job %s", job.body["id"])
            if child := self._children.get(ref):
                child.kill()
            said = f"{type(error).__name__} while the job was followed; see the server's log"
            end = partial(self._jobs.fail, ref, "ServiceError", failure_message(error) or said)
            await self._write_with_reserve(end)

    async def _write_with_reserve(self, change: Callable[[], _T]) -> _T:
        """Make a change of the store that must not be lost, with the room that is kept if need be."""
        return await self._write_when_possible(change, last_word=True)

    async def _write_when_possible(
        self, change: Callable[[], _T], *, last_word: bool = False
    ) -> _T:
        """Make a change of the store, once the disk has room for it."""
        told = False
        while True:
            try:
                return await asyncio.to_thread(change)
            except (OSError, sqlite3.OperationalError) as error:
                if not is_disk_full(error):
                    raise
                if last_word and await asyncio.to_thread(self._files.reserve.release):
                    continue
                if not told:
                    _LOG.error("The disk is full: a job's state is written once there is room.")
                told = True
            await asyncio.sleep(_AGAIN_S)

    async def _attempt(self, ref: JobRef, job: Record) -> None:
        missing = next(
            (d for d in (job.body["train"], job.body["validation"]) if d and not d["content"]), None
        )
        if missing:
            text = f"The data was not found: {missing['uri']}"
            await asyncio.to_thread(self._jobs.fail, ref, "UserError", text)
            return
        child = self._children[ref] = await self._compute.take_worker()
        await child.send(self._order(job))
        if not await asyncio.to_thread(self._jobs.advance, ref, "Preparing"):
            self.cancel(ref)
        follower = _Follower(
            self._jobs, ref, job.body["id"], self._renew_spare, self._write_with_reserve
        )
        ended = await follower.follow(child)
        if ended:
            return
        reason = await child.wait() or "it ended without a result"
        tail = await asyncio.to_thread(self._tail, job.body["id"])
        await self._write_with_reserve(
            partial(self._jobs.record_crash, ref, reason + tail, self._config.max_attempts)
        )

    def _order(self, job: Record) -> dict[str, Any]:
        """Return what the worker is told: the job's spec, with files of ours for its data."""
        body = job.body
        run = self._files.run_folder(body["id"])
        (run / "out").mkdir(mode=0o700, exist_ok=True)
        data = {
            k: body[k] and str(self._files.content_path(body[k]["content"]))
            for k in ("train", "validation")
        }
        return {
            "engine": self._config.engine,
            "job": body["name"],
            "model": body["spec"]["model"],
            "base": body["base"],
            "recipe": body["spec"]["hyperparameters"],
            **data,
            "out": str(run / "out"),
            "threads": self._threads(JobRef(body["scope"], job.key)),
            "device": self._config.device,
            "log": str(self._files.log_path(body["id"])),
            "lock": str(run / "lock"),
            "pace_s": self._config.step_delay_s,
        }

    def _tail(self, own: str) -> str:
        """Return the last lines of a job's log, for the error of a job that crashed."""
        try:
            lines = self._files.log_path(own).read_text("utf-8", "replace").splitlines()[-5:]
        except OSError:
            return ""
        return "; its last words: " + " | ".join(line[:200] for line in lines) if lines else ""


class _Follower:
    """Turns one worker's events into states, points and events of its job."""

    def __init__(
        self,
        jobs: Jobs,
        ref: JobRef,
        own: str,
        on_start: Callable[[], None],
        last_word: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._jobs = jobs
        self._last_word = last_word
        self._on_start = on_start
        self._ref = ref
        self._own = own
        self._points: list[MetricPoint] = []
        self._events: list[dict[str, Any]] = []
        self._since = time.monotonic()

    async def follow(self, child: ChildProcess) -> bool:
        """Return True when the worker told how the job ended, False when it just went."""
        while True:
            try:
                async with asyncio.timeout(_FLUSH_S if self._points or self._events else None):
                    event = await child.read_event()
            except TimeoutError:
                await self._flush()
                continue
            if event is None:
                await self._flush()
                return False
            if await self._take(event):
                return True
            if time.monotonic() - self._since > _FLUSH_S:
                await self._flush()

    async def _take(self, event: dict[str, Any]) -> bool:
        kind = event.get("event")
        if kind == "started":
            await asyncio.to_thread(self._jobs.advance, self._ref, "Running", started=utc_now())
            self._on_start()
        elif kind in ("step", "eval"):
            self._points += _points(event)
        if kind in ("started", "eval", "message", "checkpoint"):
            rest = {k: v for k, v in event.items() if k != "event"}
            self._events.append({"at": utc_now(), "kind": kind, **rest})
        end = {"done": self._done, "failed": self._failed, "paused": self._paused}.get(str(kind))
        if end is None:
            return False
        await self._last_word(self._record())
        await end(event)
        return True

    async def _done(self, event: dict[str, Any]) -> None:
        result = {k: v for k, v in event.items() if k != "event"}
        if await self._last_word(partial(self._jobs.advance, self._ref, "Finalizing")):
            await self._last_word(partial(self._jobs.complete, self._ref, result))
        else:
            said = "The job was cancelled."
            await self._last_word(partial(self._jobs.fail, self._ref, "Canceled", said))

    async def _paused(self, _: dict[str, Any]) -> None:
        await self._last_word(partial(self._jobs.mark_stopped, self._ref))

    async def _failed(self, event: dict[str, Any]) -> None:
        end = partial(
            self._jobs.fail,
            self._ref,
            str(event.get("code") or "ServiceError"),
            str(event.get("message") or "The worker gave no reason."),
            event.get("details"),
        )
        await self._last_word(end)

    async def _flush(self) -> None:
        await asyncio.to_thread(self._record())

    def _record(self) -> Callable[[], None]:
        """Return the change that keeps what has been told since the last one."""
        self._since = time.monotonic()
        points, self._points = self._points, []
        events, self._events = self._events, []
        if not points and not events:
            return lambda: None
        return partial(self._jobs.record_progress, self._own, points, events)


def _points(event: dict[str, Any]) -> list[MetricPoint]:
    """Return an event's numbers as metric points of its step."""
    at, step = utc_now(), int(event.get("step", 0))
    return [
        MetricPoint(name, step, at, float(value))
        for name, value in event.items()
        if isinstance(value, int | float)
        and math.isfinite(value)
        and not isinstance(value, bool)
        and name not in _NOT_METRICS
    ]
