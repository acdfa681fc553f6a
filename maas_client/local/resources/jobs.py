"""The rules for jobs: what may be asked, what follows, and what is kept. No HTTP and no torch.

Every change is one transaction, committed before the caller hears of it. The scheduler reports what
its workers do through ``began``, ``record``, ``complete``, ``fail`` and ``crashed``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from maas_client.local.resources.assets import check_name, register_model, utc_now
from maas_client.local.resources.errors import not_found, user_error
from maas_client.local.resources.job_spec import JobRef, NewJob
from maas_client.local.resources.job_states import (
    ACTIVE_STATES,
    QUEUED_STATES,
    STATES_WITHOUT_WORKER,
    TERMINAL_STATES,
    can_transition,
    visible_state,
)
from maas_client.local.state.files import FileStore, new_id, run_reference
from maas_client.local.state.store import MetricPoint, Record, Store, Writer

_LOG = logging.getLogger(__name__)


class Jobs:
    """All jobs of all workspaces."""

    def __init__(
        self, store: Store, files: FileStore, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._files = files
        self.on_job_queued = wake
        """Called after a job was added; the scheduler puts its own in."""

    # -- what clients ask ----------------------------------------------------------------------

    def create(self, scope: str, job: NewJob) -> tuple[Record, bool]:
        """Create a job, or find the one of that name; True when it is new.

        The same name with another content is refused: nothing is ever trained in its stead.
        """
        ref = JobRef(scope, check_name(job.name, "job").casefold())
        with self._store.write() as facts:
            old = facts.get("job", *ref)
            if old:
                self._same(old, job)
                body = {**old.body, "request": job.request}
                facts.put("job", *ref, body, old.state)
            else:
                self._insert(facts, ref, job)
            found = facts.get("job", *ref)
        assert found is not None
        if not old:
            self.on_job_queued()
        return found, old is None

    @staticmethod
    def _same(old: Record, job: NewJob) -> None:
        differs = sorted(
            k
            for k in {*old.body["fixed"], *job.immutable}
            if old.body["fixed"].get(k) != job.immutable.get(k)
        )
        if differs:
            raise user_error(
                f"A job named {old.body['name']} exists with another {', '.join(differs)}."
                " A job cannot be changed; choose another name.",
                status=409,
                target=differs[0],
            )

    @staticmethod
    def _insert(facts: Writer, ref: JobRef, job: NewJob) -> None:
        own = new_id()
        body = {
            "id": own,
            "scope": ref.scope,
            "name": job.name,
            "dialect": job.dialect,
            "workspace": job.workspace,
            "request": job.request,
            "fixed": job.immutable,
            "spec": asdict(job.spec),
            "base": job.base,
            "train": job.train._asdict(),
            "validation": job.validation._asdict() if job.validation else None,
            "properties": job.properties,
            "created": utc_now(),
            "attempts": 0,
            "crashes": 0,
        }
        facts.put("job", *ref, body, "NotStarted")
        facts.add_reference(run_reference(own), f"job:{own}")
        for data in (job.train, job.validation):
            if data and data.content:
                facts.add_reference(data.content, f"job:{own}")
        facts.add_event(own, _status("NotStarted"))

    def get(self, ref: JobRef) -> Record:
        """Return a job, or refuse: there is none."""
        found = self._store.read.get("job", *ref)
        if not found:
            raise not_found(f"Job {ref.key}")
        return found

    def active_state(self, own: str) -> str | None:
        """Return a live job's state by its own id; None when it has ended or is gone."""
        alive = self._store.read.in_states("job", ACTIVE_STATES)
        return next((f.state for f in alive if f.body["id"] == own), None)

    def list_page(self, scope: str, before: int | None, limit: int) -> list[Record]:
        """Return the jobs of a workspace, newest first."""
        return self._store.read.newest("job", scope, before=before, limit=limit)

    def cancel(self, ref: JobRef) -> str:
        """Ask for a job's end and return its state now; a job that has ended is left alone."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            state = str(job.state)
            if state in STATES_WITHOUT_WORKER:
                return self._move(facts, ref, job, "Canceled", ended=utc_now())
            if can_transition(state, "CancelRequested"):
                return self._move(facts, ref, job, "CancelRequested")
            return state

    def pause(self, ref: JobRef) -> str:
        """Ask for a running job to rest and return its state now; one that rests is left alone."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            if job.state in ("PauseRequested", "Paused"):
                return str(job.state)
            if not can_transition(str(job.state), "PauseRequested"):
                raise user_error(
                    f"Only a running job can be paused: it is {job.state}.", status=409
                )
            return self._move(facts, ref, job, "PauseRequested")

    def check_running(self, ref: JobRef) -> None:
        """Refuse what only a running job can do: write a checkpoint."""
        job = self.get(ref)
        if job.state != "Running":
            raise user_error(
                f"Only a running job writes a checkpoint: it is {visible_state(str(job.state))}.",
                status=409,
            )

    def resume(self, ref: JobRef) -> None:
        """Put a paused job back into the queue; it goes on from its newest checkpoint."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            if job.state != "Paused":
                raise user_error(
                    f"Only a paused job can be resumed: it is {visible_state(str(job.state))}.",
                    status=409,
                )
            self._move(facts, ref, job, "Queued")
        self.on_job_queued()

    def delete(self, ref: JobRef) -> bool:
        """Delete a job that has ended, with its bytes unless a model lives on them.

        A job that is not there is no error (False); a live one is refused: cancel it first.
        """
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job:
                return False
            if job.state not in TERMINAL_STATES:
                raise user_error(
                    f"The job is {visible_state(str(job.state))}. Cancel it before it is deleted.",
                    status=409,
                )
            facts.delete("job", *ref)
            facts.delete_history(job.body["id"])
            free = facts.remove_references(f"job:{job.body['id']}")
        self._files.remove(free)
        return True

    def delete_expired(self, days: float) -> int:
        """Delete jobs that ended more than ``days`` ago; return how many. Models they made stay."""
        limit = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        over = self._store.read.in_states("job", sorted(TERMINAL_STATES))
        old = [f for f in over if str(f.body.get("ended", "")) < limit]
        return sum(self.delete(JobRef(f.body["scope"], f.key)) for f in old)

    def patch(self, ref: JobRef, change: Callable[[dict[str, Any]], None]) -> Record:
        """Edit the parts of a job's request that may change (name shown, tags, hidden)."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            change(job.body["request"])
            facts.put("job", *ref, job.body, job.state)
            return job

    def points(self, own: str) -> list[MetricPoint]:
        """Return all metric points of a job by its own id."""
        return self._store.read.points(own)

    def metric_names(self, own: str) -> list[str]:
        """Return which metrics a job has told of."""
        return self._store.read.point_names(own)

    def series(
        self, own: str, name: str, *, after: int = -1, since: str = "", limit: int = -1
    ) -> list[MetricPoint]:
        """Return one metric's points behind step ``after``, none older than ``since``, by step."""
        return self._store.read.series(own, name, after=after, since=since, limit=limit)

    def events(self, own: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's events by its own id."""
        return self._store.read.events(own, after)

    # -- what the scheduler reports ------------------------------------------------------------

    def recover(self) -> None:
        """Put jobs whose worker went with the last server back into the queue; paused ones rest."""
        with self._store.write() as facts:
            for job in facts.in_states("job", ACTIVE_STATES):
                ref = JobRef(job.body["scope"], job.key)
                if job.state == "CancelRequested":
                    self._move(facts, ref, job, "Canceled", ended=utc_now())
                elif job.state == "PauseRequested":
                    self._move(facts, ref, job, "Paused")
                elif job.state not in STATES_WITHOUT_WORKER:
                    self._move(facts, ref, job, "Queued")
                    said = "The server went while this job ran; it goes on from its newest checkpoint, "
                    text = said + "or from the start where none had been written yet."
                    told = {"kind": "message", "level": "warning", "message": text, "at": utc_now()}
                    facts.add_event(job.body["id"], told)

    def list_queued(self) -> list[JobRef]:
        """Return the jobs that wait for a worker, oldest first."""
        found = self._store.read.in_states("job", QUEUED_STATES)
        return [JobRef(f.body["scope"], f.key) for f in found]

    def mark_queued(self, ref: JobRef) -> None:
        """Note that a job has to wait for others."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if job and job.state == "NotStarted":
                self._move(facts, ref, job, "Queued")

    def start_attempt(self, ref: JobRef) -> Record | None:
        """Count an attempt and hand the job out; None when it was cancelled or deleted meanwhile."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job or job.state not in QUEUED_STATES:
                return None
            attempts = job.body["attempts"] + 1
            self._move(facts, ref, job, "Starting", attempts=attempts)
            return facts.get("job", *ref)

    def advance(self, ref: JobRef, state: str, **changes: Any) -> bool:
        """Move a job on if it may go there; False when it may not (it was cancelled)."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job or not can_transition(str(job.state), state):
                return False
            self._move(facts, ref, job, state, **changes)
            return True

    def record_progress(
        self, own: str, points: Iterable[MetricPoint], events: Iterable[dict[str, Any]]
    ) -> None:
        """Keep what a worker reported, in one transaction."""
        with self._store.write() as facts:
            facts.add_points(own, points)
            for event in events:
                facts.add_event(own, {"at": utc_now(), **event})

    def complete(self, ref: JobRef, result: dict[str, Any]) -> None:
        """Register the model and end the job, both or neither."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job or not can_transition(str(job.state), "Completed"):
                return
            body = job.body
            model = register_model(
                facts,
                ref.scope,
                body["spec"]["output"] or body["name"],
                body["id"],
                {
                    "job": body["name"],
                    "base_model": body["spec"]["model"],
                    "properties": {**body["properties"], **result.get("properties", {})},
                },
            )
            self._move(
                facts, ref, job, "Completed", ended=utc_now(),
                model={"name": model["name"], "version": model["version"]}, result=result,
            )  # fmt: skip

    def mark_stopped(self, ref: JobRef) -> None:
        """Note that a worker has written all it knew and ended; a cancelled job is over then."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if job and job.state == "CancelRequested":
                self._move(facts, ref, job, "Canceled", ended=utc_now())
            elif job and can_transition(str(job.state), "Paused"):
                self._move(facts, ref, job, "Paused")

    def fail(self, ref: JobRef, code: str, message: str, details: list[Any] | None = None) -> None:
        """End a job with a reason; one whose end was asked for is cancelled instead."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job or job.state in TERMINAL_STATES:
                return
            if job.state == "CancelRequested":
                self._move(facts, ref, job, "Canceled", ended=utc_now())
                return
            error = {"code": code, "message": message, "details": details or []}
            self._move(facts, ref, job, "Failed", ended=utc_now(), error=error)

    def record_crash(self, ref: JobRef, reason: str, limit: int) -> None:
        """Note a worker's death: the job waits for another, rests if it was to be paused, or fails
        after ``limit`` of them."""
        with self._store.write() as facts:
            job = facts.get("job", *ref)
            if not job or job.state in TERMINAL_STATES or job.state in STATES_WITHOUT_WORKER:
                return
            crashes = job.body["crashes"] + 1
            if job.state == "CancelRequested":
                self._move(facts, ref, job, "Canceled", ended=utc_now())
                return
            if crashes >= limit:
                text = f"The worker died {crashes} times; at last: {reason}"
                error = {"code": "ServiceError", "message": text, "details": []}
                self._move(facts, ref, job, "Failed", ended=utc_now(), crashes=crashes, error=error)
                return
            pausing = job.state == "PauseRequested"
            self._move(facts, ref, job, "Paused" if pausing else "Queued", crashes=crashes)
            then = (
                "resumed, it goes on from its newest checkpoint" if pausing else "it is run again"
            )
            text = f"The worker died ({reason}); {then}."
            told = {"kind": "message", "level": "warning", "message": text, "at": utc_now()}
            facts.add_event(job.body["id"], told)

    @staticmethod
    def _move(facts: Writer, ref: JobRef, job: Record, state: str, **changes: Any) -> str:
        assert can_transition(str(job.state), state), f"{job.state} -> {state}"
        facts.put("job", *ref, {**job.body, **changes}, state)
        facts.add_event(job.body["id"], _status(state))
        _LOG.info("job %s: %s", job.body["name"], state)
        return state


def _status(state: str) -> dict[str, Any]:
    return {"kind": "status", "state": state, "at": utc_now()}
