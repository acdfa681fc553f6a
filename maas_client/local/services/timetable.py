"""Jobs and deployments that follow a timetable on a virtual clock, instead of worker processes.

It takes the place of the scheduler in a server for tests. Nothing runs in the background: before each request
the server moves every job and deployment to where it is at the present time of the clock, and the events and
states get the times at which the timetable has them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from maas_client._clock import Moment, VirtualClock, unix_time, use
from maas_client.local import worker
from maas_client.local.config import ServerConfig
from maas_client.local.resources.assets import utc_now
from maas_client.local.resources.deployments import Deployments
from maas_client.local.resources.job_states import TERMINAL_STATES
from maas_client.local.resources.jobs import JobRef, Jobs
from maas_client.local.services.scheduler import (
    metric_points,
    missing_data_message,
    worker_input,
)
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import MetricPoint, Record

_MAX_QUEUED = 10_000


@dataclass(frozen=True, slots=True)
class JobPlan:
    """How long a job takes, and how it ends."""

    queued_s: float = 0.0
    running_s: float = 0.1
    error: str | None = None
    """The message with which the job fails after ``running_s``; None: it completes."""
    error_code: str = "ServiceError"


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """How long a deployment takes, and how it ends."""

    creating_s: float = 0.0
    not_ready_s: float = 0.0
    """Chats are refused for this time after the deployment has succeeded."""
    error: str | None = None
    """The message with which the deployment fails after ``creating_s``; None: it succeeds."""


@dataclass(slots=True)
class _Run:
    """A job on the timetable."""

    plan: JobPlan
    queued_at: float
    trained_s: float = 0.0
    """The time for which it trained before a pause."""
    started_at: float | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    """The events of the simulated training."""
    position: int = 0
    """How many of them have happened."""

    def next_change(self) -> float:
        """Return when the job changes its state next, in seconds since 1970."""
        if self.started_at is None:
            return self.queued_at + self.plan.queued_s
        return self.started_at + self.plan.running_s - self.trained_s


class Timetable:
    """All jobs and deployments of a server for tests. Thread-safe."""

    def __init__(
        self,
        jobs: Jobs,
        deployments: Deployments,
        files: FileStore,
        config: ServerConfig,
    ) -> None:
        self.clock = VirtualClock()
        self.clock.next_change = self.next_change
        self.job_plans: deque[JobPlan] = deque()
        """The plans of the next jobs."""
        self.deployment_plans: deque[DeploymentPlan] = deque()
        """The plans of the next deployments."""
        self.other_changes: Callable[[float], Iterable[float]] = lambda now: ()
        """Returns when faults begin after a time."""
        self._jobs = jobs
        self._deployments = deployments
        self._files = files
        self._config = config
        self._lock = threading.RLock()
        self._runs: dict[JobRef, _Run] = {}
        self._paused: dict[JobRef, _Run] = {}
        self._creating: dict[tuple[str, str], tuple[DeploymentPlan, float]] = {}

    # -- what the server calls on its scheduler ---------------------------------------------------

    async def start(self) -> None:
        """Queue the jobs of the previous server again."""
        self._jobs.on_job_queued = self.add_queued_jobs
        self._jobs.recover()
        self.add_queued_jobs()

    async def close(self) -> None:
        """Do nothing: nothing runs in the background."""

    @property
    def is_busy(self) -> bool:
        """Return whether jobs have not ended."""
        return bool(self._runs)

    def cores_in_use(self) -> int:
        """Return 0: simulated jobs use no cores."""
        return 0

    def cancel(self, ref: JobRef) -> None:
        """End a job whose cancellation was requested."""
        with self._lock:
            self._runs.pop(ref, None)
            self._jobs.mark_stopped(ref)

    def pause(self, ref: JobRef) -> None:
        """Stop a job whose pause was requested; resuming it continues from there."""
        with self._lock:
            run = self._runs.pop(ref, None)
            if run is not None and run.started_at is not None:
                run.trained_s += self.clock.time() - run.started_at
                self._paused[ref] = run
            self._jobs.mark_stopped(ref)

    def save_checkpoint(self, ref: JobRef) -> None:
        """Do nothing: simulated jobs write no checkpoints."""

    # -- the timetable -----------------------------------------------------------------------------

    def add_queued_jobs(self) -> None:
        """Give every queued job without one a timetable: the next plan, or the default."""
        with self._lock:
            for ref in self._jobs.list_queued(_MAX_QUEUED):
                if ref in self._runs:
                    continue
                if run := self._paused.pop(ref, None):
                    run.queued_at, run.started_at = unix_time(), None
                    run.plan = JobPlan(0.0, run.plan.running_s, run.plan.error, run.plan.error_code)
                else:
                    plan = self.job_plans.popleft() if self.job_plans else JobPlan()
                    run = _Run(plan, unix_time())
                self._runs[ref] = run

    def add_deployment(self, scope: str, key: str) -> None:
        """Give a new deployment a timetable."""
        with self._lock:
            plan = self.deployment_plans.popleft() if self.deployment_plans else DeploymentPlan()
            self._creating[scope, key] = (plan, unix_time())

    def update(self) -> None:
        """Move all jobs and deployments to where they are at the present time of the clock."""
        if not self._runs and not self._creating:
            return
        now = self.clock.time()
        with self._lock:
            for ref, run in list(self._runs.items()):
                if not self._update_job(ref, run, now):
                    self._runs.pop(ref, None)
            for (scope, key), (plan, created_at) in list(self._creating.items()):
                if now >= created_at + plan.creating_s:
                    del self._creating[scope, key]
                    with use(Moment(created_at + plan.creating_s)):
                        self._finish_deployment(scope, key, plan)

    def next_change(self) -> float | None:
        """Return when a job or deployment changes its state next, in seconds since 1970.

        That time may have passed: the change is made with the next request. A client that waits must not move
        the clock beyond it.
        """
        with self._lock:
            changes = [run.next_change() for run in self._runs.values()]
            changes += [at + plan.creating_s for plan, at in self._creating.values()]
        changes += self.other_changes(self.clock.time())
        return min(changes, default=None)

    def _finish_deployment(self, scope: str, key: str, plan: DeploymentPlan) -> None:
        ready_at = unix_time() + plan.not_ready_s if plan.not_ready_s else None
        self._deployments.finish_provisioning(scope, key, plan.error, ready_at=ready_at)

    def _update_job(self, ref: JobRef, run: _Run, now: float) -> bool:
        """Return whether the job has not ended."""
        job = self._jobs.find(ref)
        if job is None or job.state in TERMINAL_STATES:
            return False
        if run.started_at is None:
            if run.plan.queued_s:
                with use(Moment(run.queued_at)):
                    self._jobs.advance(ref, "Queued")
            start = run.next_change()
            if now < start:
                return True
            with use(Moment(start)):
                if not self._start_job(ref, run):
                    return False
        assert run.started_at is not None
        self._record_progress(job, run, now)
        end = run.next_change()
        if now < end:
            return True
        with use(Moment(end)):
            self._end_job(ref, run)
        return False

    def _start_job(self, ref: JobRef, run: _Run) -> bool:
        """Simulate the training at once; its events become visible as the clock advances."""
        job = self._jobs.start_attempt(ref)
        if job is None:
            return False
        if text := missing_data_message(job):
            self._jobs.fail(ref, "UserError", text)
            return False
        self._jobs.advance(ref, "Preparing")
        if not run.events:
            run.events = worker.simulate(worker_input(job, self._files, self._config, threads=1))
        last = run.events[-1]
        if last["event"] == "failed":
            self._jobs.fail(ref, last["code"], last["message"], last.get("details"))
            return False
        self._jobs.advance(ref, "Running", started=utc_now())
        run.started_at = unix_time()
        return True

    def _record_progress(self, job: Record, run: _Run, now: float) -> None:
        """Store the events and metric points that have happened until now, with their times."""
        assert run.started_at is not None
        steps = next((e["steps"] for e in run.events if e["event"] == "started"), 1)
        points: list[MetricPoint] = []
        events: list[dict[str, Any]] = []
        for event in run.events[run.position : -1]:
            share = event.get("step", 0) / max(steps, 1)
            moment = run.started_at + share * run.plan.running_s - run.trained_s
            if moment > now:
                break
            run.position += 1
            with use(Moment(moment)):
                if event["event"] in ("step", "eval"):
                    points += metric_points(event)
                if event["event"] != "step":
                    values = {k: v for k, v in event.items() if k != "event"}
                    events.append({"at": utc_now(), "kind": event["event"], **values})
        if points or events:
            self._jobs.record_progress(job.body["id"], points, events)

    def _end_job(self, ref: JobRef, run: _Run) -> None:
        if run.plan.error is not None:
            self._jobs.fail(ref, run.plan.error_code, run.plan.error)
            return
        result = {k: v for k, v in run.events[-1].items() if k != "event"}
        if self._jobs.advance(ref, "Finalizing"):
            self._jobs.complete(ref, result)
