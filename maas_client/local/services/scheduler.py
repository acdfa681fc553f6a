"""Job scheduler: a queue, at most ``max_jobs`` workers, and what the events of a worker change."""

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

from maas_client._cores import usable_cores
from maas_client._settings import tracker_variables
from maas_client.local.config import ServerConfig
from maas_client.local.machine.child_processes import ChildProcess, ProcessPool
from maas_client.local.resources.assets import utc_now
from maas_client.local.resources.errors import failure_message
from maas_client.local.resources.jobs import JobRef, Jobs
from maas_client.local.resources.training_config import parse_trackers
from maas_client.local.state.files import FileStore, is_disk_full
from maas_client.local.state.store import MetricPoint, Record

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_FLUSH_INTERVAL_S = 0.2
"""How long a metric point may wait for others before it is committed."""
_DISK_RETRY_S = 1.0
"""How often a write is retried while the disk is full."""
_RECOVERY_WAIT_S = 5.0
"""How long start-up waits for the recovery of the previous server's jobs before it continues without."""
_NOT_METRICS = frozenset({"step", "steps"})


class Scheduler:
    """Runs on the server's event loop; its writes to the store run in threads."""

    def __init__(
        self,
        jobs: Jobs,
        compute: ProcessPool,
        files: FileStore,
        config: ServerConfig,
        warm_up_answering: Callable[[], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._warm_up_answering = warm_up_answering
        self._compute = compute
        self._files = files
        self._config = config
        self._running: dict[JobRef, asyncio.Task[None]] = {}
        self._workers: dict[JobRef, ChildProcess] = {}
        self._ending: set[ChildProcess] = set()
        """Workers that end with their job, which was cancelled or paused; they take no other job."""
        self._queue_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recovered: asyncio.Future[None] | None = None
        """Done once the jobs of the previous server are recovered: no job starts before."""

    async def start(self) -> None:
        """Recover the jobs of the previous server, then start queued jobs."""
        self._loop = asyncio.get_running_loop()
        self._jobs.on_job_queued = self._queue_changed
        self._recovered = asyncio.ensure_future(self._write_with_reserve(self._jobs.recover))
        done, _ = await asyncio.wait({self._recovered}, timeout=_RECOVERY_WAIT_S)
        for task in done:
            task.result()
        await self._compute.warm_up()
        self._spawn(self._start_queued())

    async def close(self) -> None:
        """Stop all workers (they end when their stdin closes).

        Jobs keep their state: the next start resumes them from their checkpoints.
        """
        self._loop = None
        recovery = [self._recovered] if self._recovered else []
        tasks = [*self._running.values(), *self._tasks, *recovery]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_busy(self) -> bool:
        """Return whether jobs run, or may start: those of the previous server are not recovered yet."""
        return bool(self._running) or self._recovered is None or not self._recovered.done()

    def cancel(self, ref: JobRef) -> None:
        """End the worker of a job: ask it, and kill it after ``cancel_grace_s``. Callable from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._terminate(ref)))

    def pause(self, ref: JobRef) -> None:
        """Make the worker write a checkpoint after its current step and end. Callable from any thread."""
        self._signal(ref, "pause")

    def save_checkpoint(self, ref: JobRef) -> None:
        """Make the worker write a checkpoint after its current step and continue. Callable from any thread."""
        self._signal(ref, "save")

    def _signal(self, ref: JobRef, signal: str) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self._spawn(self._send_signal(ref, signal)))

    async def _send_signal(self, ref: JobRef, signal: str) -> None:
        child = self._workers.get(ref)
        if child is not None:
            if signal == "pause":
                self._ending.add(child)
            await child.send({signal: True})

    async def _terminate(self, ref: JobRef) -> None:
        child = self._workers.get(ref)
        if child is None:
            return
        self._ending.add(child)
        await child.send({"cancel": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.cancel_grace_s):
                await child.wait()
        child.kill()

    def _queue_changed(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._job_queued)

    def _job_queued(self) -> None:
        self._spawn(self._start_queued())
        self._spawn(self._warm_up_answering())  # its model is likely to be deployed

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_queued(self) -> None:
        if self._recovered:
            await asyncio.shield(self._recovered)
        async with self._queue_lock:
            # A running job may still be stored as queued, so the list must be longer than those that run.
            limit = self._config.max_jobs + len(self._running)
            for ref in await asyncio.to_thread(self._jobs.list_queued, limit):
                if ref not in self._running and len(self._running) < self._config.max_jobs:
                    task = asyncio.create_task(self._run(ref))
                    self._running[ref] = task
                    task.add_done_callback(partial(self._job_ended, ref))
            await asyncio.to_thread(self._jobs.mark_queued, frozenset(self._running))

    def _prepare_spare_worker(self) -> None:
        """Start another warm worker after ``spare_worker_delay_s``, unless running jobs need the cores."""
        self._spawn(self._warm_up_later())

    async def _warm_up_later(self) -> None:
        await asyncio.sleep(self._config.spare_worker_delay_s)
        if self.cores_in_use() < usable_cores():
            await self._compute.warm_up()

    def cores_in_use(self) -> int:
        """Return the number of threads that the running jobs may use together."""
        return sum(self._threads(ref) for ref in list(self._running))

    def _threads(self, ref: JobRef) -> int:
        """Return how many cores a job uses.

        The base ``tiny`` (half a million parameters) uses one: with more, threads would only wait for each
        other.
        """
        is_tiny = self._jobs.get(ref).body["base"]["name"] == "tiny"
        return 1 if is_tiny else self._config.job_threads

    def _job_ended(self, ref: JobRef, _: asyncio.Task[None]) -> None:
        self._running.pop(ref, None)
        if child := self._workers.pop(ref, None):
            self._ending.discard(child)
        if self._loop is not None:
            self._spawn(self._start_queued())
            self._prepare_spare_worker()

    async def _run(self, ref: JobRef) -> None:
        job = await self._write_when_possible(partial(self._jobs.start_attempt, ref))
        if job is None:
            return
        await asyncio.to_thread(self._files.reserve.allocate)
        try:
            await self._run_attempt(ref, job)
        except Exception as error:
            _LOG.exception("could not follow job %s", job.body["id"])
            if child := self._workers.get(ref):
                child.kill()
            message = f"{type(error).__name__} while the server followed the job. See its log for details."
            end = partial(self._jobs.fail, ref, "ServiceError", failure_message(error) or message)
            await self._write_with_reserve(end)

    async def _write_with_reserve(self, change: Callable[[], _T]) -> _T:
        """Write a change that must not be lost; on a full disk, use the reserved disk space."""
        return await self._write_when_possible(change, use_reserve=True)

    async def _write_when_possible(
        self, change: Callable[[], _T], *, use_reserve: bool = False
    ) -> _T:
        """Write a change to the store; on a full disk, wait until there is space."""
        logged = False
        while True:
            try:
                return await asyncio.to_thread(change)
            except (OSError, sqlite3.OperationalError) as error:
                if not is_disk_full(error):
                    raise
                if use_reserve and await asyncio.to_thread(self._files.reserve.release):
                    continue
                if not logged:
                    _LOG.error(
                        "The disk is full. The state of a job will be written once there is space."
                    )
                logged = True
            await asyncio.sleep(_DISK_RETRY_S)

    async def _run_attempt(self, ref: JobRef, job: Record) -> None:
        if text := missing_data_message(job):
            await asyncio.to_thread(self._jobs.fail, ref, "UserError", text)
            return
        child = self._workers[ref] = await self._compute.take_worker()
        threads = self._threads(JobRef(job.body["scope"], job.key))
        await child.send(worker_input(job, self._files, self._config, threads))
        if not await asyncio.to_thread(self._jobs.advance, ref, "Preparing"):
            self.cancel(ref)
        follower = _WorkerEvents(
            self._jobs, ref, job.body["id"], self._prepare_spare_worker, self._write_with_reserve
        )
        ended = await follower.follow(child)
        if ended:
            if self._config.engine == "instant":  # it waits for another job
                del self._workers[ref]
                if child in self._ending:
                    self._ending.remove(child)
                    await child.stop(grace_s=self._config.cancel_grace_s)
                else:
                    await self._compute.give_back(child)
            return
        reason = await child.wait() or "it ended without a result"
        tail = await asyncio.to_thread(self._tail, job.body["id"])
        await self._write_with_reserve(
            partial(self._jobs.record_crash, ref, reason + tail, self._config.max_attempts)
        )

    def _tail(self, job_id: str) -> str:
        """Return the last lines of the log of a job, for the error message of a crash."""
        try:
            lines = self._files.log_path(job_id).read_text("utf-8", "replace").splitlines()[-5:]
        except OSError:
            return ""
        return "; end of its log: " + " | ".join(line[:200] for line in lines) if lines else ""


def worker_input(
    job: Record, files: FileStore, config: ServerConfig, threads: int
) -> dict[str, Any]:
    """Return the input of the worker: the job's spec with local paths for its data."""
    body = job.body
    run = files.run_folder(body["id"])
    (run / "out").mkdir(mode=0o700, exist_ok=True)
    data = {
        k: body[k] and str(files.content_path(body[k]["content"])) for k in ("train", "validation")
    }
    return {
        "engine": config.engine,
        "job": body["name"],
        "model": body["spec"]["model"],
        "base": body["base"],
        "hyperparameters": body["spec"]["hyperparameters"],
        **data,
        "checks": str(files.checks_folder),
        "out": str(run / "out"),
        "threads": threads,
        "device": config.device,
        "log": str(files.log_path(body["id"])),
        "lock": str(run / "lock"),
        "pace_s": config.step_delay_s,
        "min_examples": config.required_examples(body["dialect"]),
        # Workers have no variables that could hold a credential; a job gets those of the trackers it names.
        "tracker_variables": tracker_variables()
        if parse_trackers(body["spec"]["hyperparameters"])
        else {},
    }


def missing_data_message(job: Record) -> str | None:
    """Return the reason for a job whose data does not exist to fail, or None."""
    for data in (job.body["train"], job.body["validation"]):
        if data and not data["content"]:
            return f"The data was not found: {data['uri']}"
    return None


class _WorkerEvents:
    """Turns the events of one worker into states, metric points and events of its job."""

    def __init__(
        self,
        jobs: Jobs,
        ref: JobRef,
        job_id: str,
        on_start: Callable[[], None],
        use_reserve: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._jobs = jobs
        self._write = use_reserve
        self._on_start = on_start
        self._ref = ref
        self._job_id = job_id
        self._points: list[MetricPoint] = []
        self._events: list[dict[str, Any]] = []
        self._since = time.monotonic()

    async def follow(self, child: ChildProcess) -> bool:
        """Return True when the worker reported how the job ended, False when it ended without a report."""
        while True:
            try:
                async with asyncio.timeout(
                    _FLUSH_INTERVAL_S if self._points or self._events else None
                ):
                    event = await child.read_event()
            except TimeoutError:
                await self._flush()
                continue
            if event is None:
                await self._flush()
                return False
            if await self._handle(event):
                return True
            if time.monotonic() - self._since > _FLUSH_INTERVAL_S:
                await self._flush()

    async def _handle(self, event: dict[str, Any]) -> bool:
        kind = event.get("event")
        if kind == "started":
            await asyncio.to_thread(self._jobs.advance, self._ref, "Running", started=utc_now())
            self._on_start()
        elif kind in ("step", "eval"):
            self._points += metric_points(event)
        if kind in ("started", "eval", "message", "checkpoint"):
            fields = {k: v for k, v in event.items() if k != "event"}
            self._events.append({"at": utc_now(), "kind": kind, **fields})
        end = {"done": self._on_done, "failed": self._on_failed, "paused": self._on_paused}.get(
            str(kind)
        )
        if end is None:
            return False
        await self._write(self._pop_changes())
        await end(event)
        return True

    async def _on_done(self, event: dict[str, Any]) -> None:
        result = {k: v for k, v in event.items() if k != "event"}
        if await self._write(partial(self._jobs.advance, self._ref, "Finalizing")):
            await self._write(partial(self._jobs.complete, self._ref, result))
        else:
            message = "The job was cancelled."
            await self._write(partial(self._jobs.fail, self._ref, "Canceled", message))

    async def _on_paused(self, _: dict[str, Any]) -> None:
        await self._write(partial(self._jobs.mark_stopped, self._ref))

    async def _on_failed(self, event: dict[str, Any]) -> None:
        end = partial(
            self._jobs.fail,
            self._ref,
            str(event.get("code") or "ServiceError"),
            str(event.get("message") or "The worker reported no reason."),
            event.get("details"),
        )
        await self._write(end)

    async def _flush(self) -> None:
        await asyncio.to_thread(self._pop_changes())

    def _pop_changes(self) -> Callable[[], None]:
        """Return the write that stores what was collected since the last one."""
        self._since = time.monotonic()
        points, self._points = self._points, []
        events, self._events = self._events, []
        if not points and not events:
            return lambda: None
        return partial(self._jobs.record_progress, self._job_id, points, events)


def metric_points(event: dict[str, Any]) -> list[MetricPoint]:
    """Return the numbers of an event as metric points."""
    timestamp, step = utc_now(), int(event.get("step", 0))
    return [
        MetricPoint(name, step, timestamp, float(value))
        for name, value in event.items()
        if isinstance(value, int | float)
        and math.isfinite(value)
        and not isinstance(value, bool)
        and name not in _NOT_METRICS
    ]
