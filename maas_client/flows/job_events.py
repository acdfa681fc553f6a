"""``client.jobs.events`` and ``wait``: follow a job to its end, through outages of the service."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

from maas_client._display.interrupts import explain_interrupt
from maas_client._display.progress import Progress, ProgressCallback, show_progress
from maas_client._local_server.record import embedded_urls
from maas_client._messages import Call, Text
from maas_client.errors import JobFailedError, JobTimeoutError, MaasError
from maas_client.flows import identifiers
from maas_client.flows._arm import MAX_OUTAGE_S, is_transient, poll_intervals
from maas_client.flows._io import IO
from maas_client.flows.jobs import job_backend, run_backend
from maas_client.types import Job, JobEvent
from maas_client.wire.operation import Plane

_log = logging.getLogger("maas_client")
_MAX_AWAKE_GAP_S = 120.0
"""Two polls of a job that cannot be reached are further apart than this only if the machine slept between
them: a laptop that wakes up must have time to get its network back."""


async def events(
    io: IO, job: Job | str, *, follow: bool = True, after: str | None = None
) -> AsyncGenerator[JobEvent, None]:
    """Iterate over the events of a job: changes of its status, metrics and messages.

    An outage of the service of up to 30 minutes does not end the iteration.

    Args:
        job: A job, its id or its name.
        follow: Wait for new events until the job has ended. False ends after the events so far. Default:
            True.
        after: The ``key`` of an event: resume after it. If it is the key of a status that the job has
            already left, all events are yielded again. Default: start with the first event.

    Yields:
        The events, oldest first, each once. The last is the final status. ``key`` is the same in every
        process.

    Raises:
        NotFoundError: There is no such job.
        TransportError: The service did not respond for more than 30 minutes.

    Example:
        >>> for event in client.jobs.events(job):
        ...     print(event.type, event.message)
        status Running
        metrics step 10: train_loss 1.92
        status Completed
    """
    seen: set[str] = set()
    resume_key = after
    async for current, new_events in _watch(io, job, follow=follow):
        if (
            resume_key
            and resume_key.startswith("status:")
            and resume_key != _status_event(current).key
        ):
            resume_key = None
        for event in new_events:
            if event.key in seen:
                continue
            seen.add(event.key)
            if resume_key is not None:
                # The same step with more metrics than at the time of the key is a new event.
                has_grown = event.key != resume_key and _position(event.key) == _position(
                    resume_key
                )
                if has_grown or event.key == resume_key:
                    resume_key = None
                if not has_grown:
                    continue
            yield event


def _position(key: str) -> str:
    """Return the part of a metric event's key that stays the same as metrics are added: its step."""
    position = key.rpartition(":")[0]
    return position if ":" in position else key


async def wait(
    io: IO,
    job: Job | str,
    *,
    timeout: float | None = None,
    raise_on_failure: bool = True,
    on_event: Callable[[JobEvent], None] | None = None,
    progress: bool | ProgressCallback | None = None,
) -> Job:
    """Wait until a job has ended. A paused job has not.

    An outage of the service of up to 30 minutes does not end the wait.

    Args:
        job: A job, its id or its name.
        timeout: Seconds to wait; time for which this machine sleeps counts. Default: no limit.
        raise_on_failure: Raise if the job failed or was canceled. False returns it. Default: True.
        on_event: Called with each event that ``jobs.events`` would yield; default: none.
        progress: True shows status, steps and losses on stderr or in the notebook, False shows nothing; a
            function is called as ``progress(step, steps)`` after each step that is reported, with 0 for an
            unknown number of steps. Default: True in a terminal or notebook without ``on_event``.

    Returns:
        The job in its final state.

    Raises:
        JobFailedError: The job failed or was canceled.
        JobTimeoutError: ``timeout`` has passed. The job itself continues.
        NotFoundError: There is no such job.
        TransportError: The service did not respond for more than 30 minutes.

    Example:
        >>> job = client.jobs.wait(job, timeout=3600)
        >>> job.fine_tuned_model
        'azureml://locations/eastus2/workspaces/.../models/.../versions/1'
    """
    if timeout is not None:
        identifiers.check_number("timeout", timeout)
    with (
        explain_interrupt(lambda: interrupt_note(io, _display_name(job))),
        show_progress(progress, "", is_shown_by_caller=on_event is not None) as display,
    ):
        return await wait_with_progress(
            io,
            job,
            display,
            timeout=timeout,
            raise_on_failure=raise_on_failure,
            on_event=on_event,
        )


def _display_name(job: Job | str) -> str:
    return job.name if isinstance(job, Job) else job


def interrupt_note(io: IO, name: str, resume: str = "") -> str:
    """Return what to print when the wait for a job is interrupted.

    ``resume`` is what the caller's call does when it is repeated; default: how to wait again.
    """
    if io.scope.base_urls.get(Plane.ARM.value) in embedded_urls:
        return f"interrupted: job {name} ends with this program, which runs its server"
    return Text.format(
        "interrupted: job {} continues; {}, and {} cancels it",
        name,
        resume or Text.format("{} waits for it again", Call("jobs.wait", repr(name))),
        Call("jobs.cancel", repr(name)),
    )


async def wait_with_progress(
    io: IO,
    job: Job | str,
    display: Progress,
    *,
    timeout: float | None = None,
    raise_on_failure: bool = True,
    on_event: Callable[[JobEvent], None] | None = None,
) -> Job:
    """Do what ``wait`` does, and report to a display that is shown already."""
    start = io.elapsed()
    seen: set[str] = set()
    has_observer = on_event is not None or display.wants_events
    end = None if timeout is None else start + timeout
    last: Job | None = None
    watch = _watch(io, job, follow=True, end=end, with_events=has_observer)
    async for current, new_events in watch:
        if last is None or last.status != current.status:
            _log.info("job %s: %s", current.name, current.status)
        last = current
        display.on_job(current)
        for event in new_events:
            if has_observer and event.key not in seen:
                seen.add(event.key)
                display.on_event(event)
                if on_event is not None:
                    on_event(event)
    if last is None or not last.done:
        waited = io.elapsed() - start
        name = last.name if last else _display_name(job)
        state = f"is still {last.status}" if last else "could not be reached"
        raise JobTimeoutError(
            f"job {name} {state} after {waited:.0f} s",
            job=last,
            waited=waited,
            hint=Text.format(
                "The job continues. Wait for it again: {}", Call("jobs.wait", repr(name))
            ),
        )
    if raise_on_failure and not last.succeeded:
        raise job_failed_error(last)
    return last


def job_failed_error(job: Job) -> JobFailedError:
    """Return the error for a job that ended without success."""
    reason = f": {job.error.message}" if job.error and job.error.message else ""
    code = f" [{job.error.code}]" if job.error and job.error.code else ""
    return JobFailedError(
        f"job {job.name} ended with status {job.status}{reason}{code}",
        job=job,
        hint=Text.format("Read its log: {}", Call("jobs.logs", repr(job.name))),
    )


async def _watch(
    io: IO,
    job: Job | str,
    *,
    follow: bool,
    end: float | None = None,
    with_events: bool = True,
) -> AsyncGenerator[tuple[Job, list[JobEvent]], None]:
    """Yield the job and all its events so far, poll after poll, until it has ended.

    Transient errors are retried for up to ``MAX_OUTAGE_S`` of time for which this machine is awake; other
    errors are raised.
    """
    outage_s: float | None = None
    polled_at = io.elapsed()
    for interval in poll_intervals(io):
        try:
            current = await job_backend(io).get(io, identifiers.job_id(job))
            news = (
                [event async for event in run_backend(io).list_events(io, current)]
                if with_events
                else []
            )
        except MaasError as error:
            now = io.elapsed()
            if outage_s is None:
                outage_s, is_first = 0.0, True
            else:
                outage_s, is_first = outage_s + min(now - polled_at, _MAX_AWAKE_GAP_S), False
            polled_at = now
            if not follow or not is_transient(error) or outage_s > MAX_OUTAGE_S:
                raise
            if is_first:
                _log.warning("lost contact with the job (%s); retrying", error.message)
        else:
            outage_s = None
            # Other events happen while the job is running, so they precede any later status.
            status = _status_event(current)
            is_running = current.status.lower() == "running"
            yield current, [status, *news] if is_running else [*news, status]
            if current.done or not follow:
                return
        remaining = None if end is None else end - io.elapsed()
        if remaining is not None and remaining <= 0:
            return
        await io.sleep(interval if remaining is None else min(interval, remaining))


def _status_event(job: Job) -> JobEvent:
    reason = f": {job.error.message}" if job.error and job.error.message else ""
    return JobEvent(
        key=f"status:{job.status}",
        type="status",
        message=f"{job.status}{reason}",
        level="error" if job.done and not job.succeeded else "info",
        status=job.status,
        created_at=job.finished_at,
    )
