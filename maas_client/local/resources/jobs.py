"""Job records and their state machine.

Every change is one transaction, committed before the method returns. The scheduler reports what its workers
do through ``start_attempt``, ``advance``, ``record_progress``, ``complete``, ``fail`` and ``record_crash``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from maas_client._clock import utc_time
from maas_client.local.resources.assets import check_name, register_model, utc_now
from maas_client.local.resources.errors import not_found, too_few_examples_message, user_error
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


class JobRef(NamedTuple):
    """A job's key in the store."""

    scope: str
    key: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The model, data and hyperparameters of a job."""

    model: str
    """The base model's name, as in the catalog."""
    train: str
    """The training data: ``container/blob``, read when the job is created."""
    validation: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    """The name to register the model under."""


class DataRef(NamedTuple):
    """The data that a URI refers to."""

    uri: str
    content: str | None
    """The id of its bytes; None if there are none."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created."""

    name: str
    request: dict[str, Any]
    """The request body; it is kept and echoed."""
    immutable: dict[str, Any]
    """The parts of the request that a second PUT must not change."""
    spec: JobSpec
    train: DataRef
    validation: DataRef | None
    workspace: dict[str, str]
    base: dict[str, Any]
    """The base that the model's name runs on here (``local/bases``)."""
    dialect: str = "azureml"
    properties: dict[str, str] = field(default_factory=dict)
    """Properties that the server adds: the base that ran, whether the job is simulated."""


def _count_rows(path: Path, limit: int) -> int:
    """Return the number of rows of a file of JSON lines, at most ``limit``, which other files count as."""
    with path.open("rb") as file:
        rows = list(islice((line for line in file if line.strip()), limit))
    try:
        are_objects = bool(rows) and all(isinstance(json.loads(row), dict) for row in rows)
    except (ValueError, RecursionError):
        are_objects = False
    return len(rows) if are_objects else limit  # others fail the job with all their problems


_LOG = logging.getLogger(__name__)
RESUMABLE = "Only a paused job can be resumed, or one that failed in crashes or without memory or disk space"
"""The start of the message that refuses to resume a job."""


def is_resumable(job: Record) -> bool:
    """Return whether a job is paused, or failed because of this machine and not of its request."""
    if job.state == "Failed":
        return bool(job.body["error"]["code"] == "ServiceError")
    return job.state == "Paused"


class Jobs:
    """All jobs of all workspaces."""

    def __init__(self, store: Store, files: FileStore) -> None:
        self._store = store
        self._files = files
        self.on_job_queued: Callable[[], None] = lambda: None
        """Called after a job was queued. The scheduler sets it."""

    # -- client requests -------------------------------------------------------------------------

    def find_refusal(self, scope: str, job: NewJob, min_examples: int) -> str | None:
        """Return the reason not to create a job, if it is new and its data has too few examples."""
        if not job.train.content or self.find(JobRef(scope, job.name.casefold())):
            return None
        path = self._files.content_path(job.train.content)
        return too_few_examples_message(_count_rows(path, min_examples), min_examples)

    def create(self, scope: str, job: NewJob) -> tuple[Record, bool]:
        """Create a job, or return the one with this name; True when it is new.

        Raises ``ApiError`` (409) if the job with this name has other content.
        """
        ref = JobRef(scope, check_name(job.name, "job").casefold())
        with self._store.write() as writer:
            existing = writer.get("job", *ref)
            if existing:
                self._check_same(existing, job)
                body = {**existing.body, "request": job.request}
                writer.put("job", *ref, body, existing.state)
            else:
                self._insert(writer, ref, job)
            record = writer.get("job", *ref)
        assert record is not None
        if not existing:
            self.on_job_queued()
        return record, existing is None

    @staticmethod
    def _check_same(existing: Record, job: NewJob) -> None:
        if existing.body["base"].get("simulated") and not job.base.get("simulated"):
            raise user_error(
                f"Job {existing.body['name']} was simulated by the instant engine; this server trains."
                " Delete the job, or use another name or another state directory.",
                status=409,
                target="name",
            )
        differs = sorted(
            k
            for k in {*existing.body["fixed"], *job.immutable}
            if existing.body["fixed"].get(k) != job.immutable.get(k)
        )
        if differs:
            raise user_error(
                f"A job named {existing.body['name']} exists with another {', '.join(differs)}."
                " A job cannot be changed; choose another name.",
                status=409,
                target=differs[0],
            )

    @staticmethod
    def _insert(writer: Writer, ref: JobRef, job: NewJob) -> None:
        job_id = new_id()
        body = {
            "id": job_id,
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
        writer.put("job", *ref, body, "NotStarted")
        writer.add_reference(run_reference(job_id), f"job:{job_id}")
        for data in (job.train, job.validation):
            if data and data.content:
                writer.add_reference(data.content, f"job:{job_id}")
        writer.add_event(job_id, _status("NotStarted"))

    def find(self, ref: JobRef) -> Record | None:
        """Return a job, or None."""
        return self._store.read.get("job", *ref)

    def get(self, ref: JobRef) -> Record:
        """Return a job. Raises ``ApiError`` (404) when there is none."""
        record = self.find(ref)
        if not record:
            raise not_found(f"Job {ref.key}")
        return record

    def is_cancelling(self, ref: JobRef) -> bool:
        """Return whether a job's cancellation was requested and its worker has not ended yet."""
        record = self._store.read.get("job", *ref)
        return record is not None and record.state == "CancelRequested"

    def list_page(self, scope: str, before: int | None, limit: int) -> list[Record]:
        """Return the jobs of a workspace, newest first."""
        return self._store.read.newest("job", scope, before=before, limit=limit)

    def list_oldest(self, scope: str, after: int, limit: int) -> list[Record]:
        """Return the jobs of a workspace that are newer than ``after``, oldest first."""
        return self._store.read.oldest("job", scope, after=after, limit=limit)

    def cancel(self, ref: JobRef) -> str:
        """Cancel a job and return its state. A job that has ended stays as it is."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            state = str(job.state)
            if state in STATES_WITHOUT_WORKER:
                return self._move(writer, ref, job, "Canceled", ended=utc_now())
            if can_transition(state, "CancelRequested"):
                return self._move(writer, ref, job, "CancelRequested")
            return state

    def pause(self, ref: JobRef) -> str:
        """Request that a running job pauses, and return its state. A paused job stays as it is."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            if job.state in ("PauseRequested", "Paused"):
                return str(job.state)
            if not can_transition(str(job.state), "PauseRequested"):
                raise user_error(
                    f"Only a running job can be paused: it is {job.state}.", status=409
                )
            return self._move(writer, ref, job, "PauseRequested")

    def check_running(self, ref: JobRef) -> None:
        """Raise ``ApiError`` (409) unless the job is running, so that it can write a checkpoint."""
        job = self.get(ref)
        if job.state != "Running":
            raise user_error(
                f"Only a running job can write a checkpoint: it is {visible_state(str(job.state))}.",
                status=409,
            )

    def resume(self, ref: JobRef) -> None:
        """Queue a job again that is paused, or that failed because this machine did (crashes, memory, disk).

        It goes on from its newest checkpoint, and has all its attempts again.
        """
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            if not is_resumable(job):
                raise user_error(f"{RESUMABLE}: it is {visible_state(str(job.state))}.", status=409)
            body = {k: v for k, v in job.body.items() if k not in ("ended", "error")}
            self._move(writer, ref, job._replace(body=body), "Queued", crashes=0)
        self.on_job_queued()

    def delete(self, ref: JobRef) -> bool:
        """Delete a job that has ended, and its files unless a model uses them.

        Return False when there is no such job. Raises ``ApiError`` (409) for a job that has not ended.
        """
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job:
                return False
            if job.state not in TERMINAL_STATES:
                raise user_error(
                    f"The job is {visible_state(str(job.state))}. Cancel it before you delete it.",
                    status=409,
                )
            writer.delete("job", *ref)
            writer.delete_history(job.body["id"])
            free = writer.remove_references(f"job:{job.body['id']}")
        self._files.remove(free)
        return True

    def delete_expired(self, days: float) -> int:
        """Delete jobs that ended more than ``days`` ago; return how many. Their models stay."""
        limit = (utc_time() - timedelta(days=days)).isoformat()
        ended = self._store.read.in_states("job", sorted(TERMINAL_STATES))
        expired = [f for f in ended if str(f.body.get("ended", "")) < limit]
        return sum(self.delete(JobRef(f.body["scope"], f.key)) for f in expired)

    def patch(self, ref: JobRef, change: Callable[[dict[str, Any]], None]) -> Record:
        """Change the editable parts of a job's request (display name, tags, archived)."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job:
                raise not_found(f"Job {ref.key}")
            change(job.body["request"])
            writer.put("job", *ref, job.body, job.state)
            return job

    def points(self, job_id: str) -> list[MetricPoint]:
        """Return all metric points of a job by its id."""
        return self._store.read.points(job_id)

    def metric_names(self, job_id: str) -> list[str]:
        """Return the names of a job's metrics."""
        return self._store.read.point_names(job_id)

    def series(
        self, job_id: str, name: str, *, after: int = -1, since: str = "", limit: int = -1
    ) -> list[MetricPoint]:
        """Return one metric's points after step ``after``, not older than ``since``, by step."""
        return self._store.read.series(job_id, name, after=after, since=since, limit=limit)

    def events(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return a job's events after number ``after``, by its id."""
        return self._store.read.events(job_id, after)

    # -- reports of the scheduler ----------------------------------------------------------------

    def recover(self) -> None:
        """Queue the jobs again that ran when the last server ended. Paused jobs stay paused."""
        with self._store.write() as writer:
            for job in writer.in_states("job", ACTIVE_STATES):
                ref = JobRef(job.body["scope"], job.key)
                if job.state == "CancelRequested":
                    self._move(writer, ref, job, "Canceled", ended=utc_now())
                elif job.state == "PauseRequested":
                    self._move(writer, ref, job, "Paused")
                elif job.state not in STATES_WITHOUT_WORKER:
                    self._move(writer, ref, job, "Queued")
                    text = (
                        "The server ended while this job ran. It goes on from its newest checkpoint,"
                        " or from the start if there is none."
                    )
                    writer.add_event(job.body["id"], _warning(text))

    def list_queued(self, limit: int) -> list[JobRef]:
        """Return up to ``limit`` jobs that have no worker yet, oldest first."""
        records = self._store.read.in_states("job", QUEUED_STATES, limit=limit)
        return [JobRef(record.body["scope"], record.key) for record in records]

    def mark_queued(self, starting: Collection[JobRef]) -> None:
        """Mark new jobs as queued, because others run first; not those that are ``starting`` now."""
        for record in self._store.read.in_states("job", ("NotStarted",)):
            ref = JobRef(record.body["scope"], record.key)
            if ref in starting:
                continue
            with self._store.write() as writer:
                job = writer.get("job", *ref)
                if job and job.state == "NotStarted":
                    self._move(writer, ref, job, "Queued")
                    writer.add_event(job.body["id"], _waiting(writer, starting))

    def start_attempt(self, ref: JobRef) -> Record | None:
        """Mark a job as starting and return it; None when it was cancelled or deleted meanwhile."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job or job.state not in QUEUED_STATES:
                return None
            attempts = job.body["attempts"] + 1
            self._move(writer, ref, job, "Starting", attempts=attempts)
            return writer.get("job", *ref)

    def advance(self, ref: JobRef, state: str, **changes: Any) -> bool:
        """Move a job to a state; return False when it cannot go there (it was cancelled)."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job or not can_transition(str(job.state), state):
                return False
            self._move(writer, ref, job, state, **changes)
            return True

    def record_progress(
        self, job_id: str, points: Iterable[MetricPoint], events: Iterable[dict[str, Any]]
    ) -> None:
        """Store a worker's metric points and events in one transaction."""
        with self._store.write() as writer:
            writer.add_points(job_id, points)
            for event in events:
                writer.add_event(job_id, {"at": utc_now(), **event})

    def complete(self, ref: JobRef, result: dict[str, Any]) -> None:
        """Register the job's model and end the job, in one transaction."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job or not can_transition(str(job.state), "Completed"):
                return
            body = job.body
            model = register_model(
                writer,
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
                writer, ref, job, "Completed", ended=utc_now(),
                model={"name": model["name"], "version": model["version"]}, result=result,
            )  # fmt: skip

    def mark_stopped(self, ref: JobRef) -> None:
        """Mark a job whose worker has stopped as cancelled or paused, as was requested."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if job and job.state == "CancelRequested":
                self._move(writer, ref, job, "Canceled", ended=utc_now())
            elif job and can_transition(str(job.state), "Paused"):
                self._move(writer, ref, job, "Paused")

    def fail(self, ref: JobRef, code: str, message: str, details: list[Any] | None = None) -> None:
        """End a job with an error; a job that was being cancelled ends as cancelled instead."""
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job or job.state in TERMINAL_STATES:
                return
            if job.state == "CancelRequested":
                self._move(writer, ref, job, "Canceled", ended=utc_now())
                return
            error = {"code": code, "message": message, "details": details or []}
            self._move(writer, ref, job, "Failed", ended=utc_now(), error=error)

    def record_crash(self, ref: JobRef, reason: str, limit: int) -> None:
        """Record that a worker crashed.

        The job is queued again, paused if that was requested, or failed after ``limit`` crashes.
        """
        with self._store.write() as writer:
            job = writer.get("job", *ref)
            if not job or job.state in TERMINAL_STATES or job.state in STATES_WITHOUT_WORKER:
                return
            crashes = job.body["crashes"] + 1
            if job.state == "CancelRequested":
                self._move(writer, ref, job, "Canceled", ended=utc_now())
                return
            if crashes >= limit:
                text = f"The worker crashed {crashes} times, the last time with: {reason}"
                error = {"code": "ServiceError", "message": text, "details": []}
                self._move(
                    writer, ref, job, "Failed", ended=utc_now(), crashes=crashes, error=error
                )
                return
            pausing = job.state == "PauseRequested"
            self._move(writer, ref, job, "Paused" if pausing else "Queued", crashes=crashes)
            following = (
                "When it is resumed, it goes on from its newest checkpoint."
                if pausing
                else "The job runs again."
            )
            text = f"The worker crashed ({reason}). {following}"
            writer.add_event(job.body["id"], _warning(text))

    @staticmethod
    def _move(writer: Writer, ref: JobRef, job: Record, state: str, **changes: Any) -> str:
        if not can_transition(str(job.state), state):
            raise RuntimeError(f"a job cannot go from {job.state} to {state}")
        writer.put("job", *ref, {**job.body, **changes}, state)
        writer.add_event(job.body["id"], _status(state))
        _LOG.info("job %s: %s", job.body["name"], state)
        return state


def _status(state: str) -> dict[str, Any]:
    return {"kind": "status", "state": state, "at": utc_now()}


def _waiting(writer: Writer, running: Collection[JobRef]) -> dict[str, Any]:
    """Return the message that says which jobs a queued job waits for."""
    records = [writer.get("job", *ref) for ref in running]
    names = ", ".join(sorted(record.body["name"] for record in records if record))
    count = "1 job" if len(running) == 1 else f"{len(running)} jobs"
    text = (
        f"Waiting for {names or 'another job'} to end: this server runs {count} at a time "
        "(serve --max-jobs)."
    )
    return {"kind": "message", "level": "info", "message": text, "at": utc_now()}


def _warning(text: str) -> dict[str, Any]:
    return {"kind": "message", "level": "warning", "message": text, "at": utc_now()}
