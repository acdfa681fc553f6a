"""``client.jobs.events`` and ``wait``: a job is watched for as long as it takes, through outages."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from maas_client.errors import JobFailedError, JobTimeoutError, MaasError
from maas_client.flows import _backend, identifiers
from maas_client.flows._arm import MAX_OUTAGE_S, is_transient, poll_intervals
from maas_client.flows._io import IO
from maas_client.types import Job, JobEvent

_log = logging.getLogger("maas_client")


async def events(
    io: IO, job: Job | str, *, follow: bool = True, after: str | None = None
) -> AsyncGenerator[JobEvent, None]:
    """Iterate over what happens to the job: status changes, metric points, messages.

    ``follow`` goes on until the job has ended. Each event has a stable ``key``: a new process that
    passes the last key it saw as ``after`` is told neither less nor twice (after a status that has passed,
    of which no service keeps the place, all is told again). An outage of the service shorter than half an
    hour does not end it. The last event is the final status.
    """
    seen: set[str] = set()
    skip = after
    async for now, news in _watch(io, job, follow=follow):
        if skip and skip.startswith("status:") and skip != _status(now).key:
            skip = None
        for event in news:
            if event.key in seen:
                continue
            seen.add(event.key)
            if skip is not None:
                grown = event.key != skip and _place(event.key) == _place(skip)
                skip = None if grown or event.key == skip else skip
                if not grown:
                    continue
            yield event


def _place(key: str) -> str:
    """Return what a point's key keeps as the point grows: all but the names of its metrics."""
    place = key.rpartition(":")[0]
    return place if ":" in place else key


async def wait(
    io: IO,
    job: Job | str,
    *,
    timeout: float | None = None,
    raise_on_failure: bool = True,
    on_event: Callable[[JobEvent], None] | None = None,
) -> Job:
    """Wait until the job has ended and return it; a paused job has not.

    ``timeout`` is in seconds, counted by the larger of monotonic and wall-clock time, so that a
    laptop's sleep counts. ``on_event`` is told everything ``events`` yields. Raises ``JobFailedError``
    (unless ``raise_on_failure`` is off) and ``JobTimeoutError``; the job itself goes on then.
    """
    born = io.elapsed()
    seen: set[str] = set()
    end = None if timeout is None else born + timeout
    last: Job | None = None
    async for now, news in _watch(io, job, follow=True, end=end, tell=on_event is not None):
        last = now
        for event in news:
            if on_event is not None and event.key not in seen:
                seen.add(event.key)
                on_event(event)
    if last is None or not last.done:
        waited = io.elapsed() - born
        name = last.name if last else identifiers.job_id(job)
        raise JobTimeoutError(
            f"job {name} is still {last.status if last else 'unseen'} after {waited:.0f} s",
            job=last,
            waited=waited,
            hint=f"It goes on. Watch it again: maas-client jobs watch {name}",
        )
    if raise_on_failure and not last.succeeded:
        raise job_failed_error(last)
    return last


def job_failed_error(job: Job) -> JobFailedError:
    """Return the error for a job that ended without success."""
    reason = f": {job.error.message}" if job.error and job.error.message else ""
    code = f" [{job.error.code}]" if job.error and job.error.code else ""
    return JobFailedError(
        f"job {job.name} ended as {job.status}{reason}{code}",
        job=job,
        hint=f"Its log: maas-client jobs logs {job.name}",
    )


async def _watch(
    io: IO,
    job: Job | str,
    *,
    follow: bool,
    end: float | None = None,
    tell: bool = True,
) -> AsyncGenerator[tuple[Job, list[JobEvent]], None]:
    """Yield the job and everything known of it, look after look, until it has ended.

    Looks that fail the way outages look are made again; any other error is the caller's.
    """
    dialect = _backend.backend_for(io)
    dark_since: float | None = None
    for pause in poll_intervals(io):
        try:
            now = await dialect.job(io, identifiers.job_id(job))
            news = [event async for event in dialect.progress(io, now)] if tell else []
        except MaasError as error:
            began = io.elapsed() if dark_since is None else dark_since
            if not follow or not is_transient(error) or io.elapsed() - began > MAX_OUTAGE_S:
                raise
            if dark_since is None:
                _log.warning("the job is out of sight (%s); it is looked for again", error.message)
            dark_since = began
        else:
            dark_since = None
            # What is told of a job happens while it runs; any other status closes what came before.
            running = now.status.lower() == "running"
            yield now, [_status(now), *news] if running else [*news, _status(now)]
            if now.done or not follow:
                return
        left = None if end is None else end - io.elapsed()
        if left is not None and left <= 0:
            return
        await io.sleep(pause if left is None else min(pause, left))


def _status(job: Job) -> JobEvent:
    reason = f": {job.error.message}" if job.error and job.error.message else ""
    return JobEvent(
        key=f"status:{job.status}",
        type="status",
        message=f"{job.status}{reason}",
        level="error" if job.done and not job.succeeded else "info",
        status=job.status,
        created_at=job.finished_at,
    )
