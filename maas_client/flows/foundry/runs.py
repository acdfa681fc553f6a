"""What happened in a job: its events, its checkpoints, its result files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from maas_client.flows._io import IO
from maas_client.flows.foundry import fingerprints
from maas_client.flows.foundry.jobs import resolve_job_id
from maas_client.types import Checkpoint, Job, JobEvent
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m
from maas_client.wire.parsing import parse_item, to_datetime, translate_parse_errors

PAGE_SIZE = "100"


async def list_events(io: IO, job: Job) -> AsyncGenerator[JobEvent, None]:
    """Yield the service's own events, oldest first; their ids are the keys."""
    for event in await _read_events(io, job.id, read_all=job.done):
        yield _to_event(event)


@translate_parse_errors("fine_tuning.events")
def _to_event(event: m.JobEvent) -> JobEvent:
    metrics = _metrics(event.data or {})
    step = (event.data or {}).get("step")
    return JobEvent(
        key=event.id,
        type="metrics" if event.type == "metrics" and metrics else "message",
        message=event.message,
        level="warning" if event.level == "warn" else event.level,
        step=int(step) if isinstance(step, int | float) else None,
        metrics=metrics,
        created_at=to_datetime(event.created_at),
        data=dict(event.data or {}),
        raw=event.dump(),
    )


async def _read_events(io: IO, job: str, *, read_all: bool) -> list[m.JobEvent]:
    """Return all events, oldest first. The service lists the newest first, a hundred at a time.

    While a job runs, reading ends after a page of events that an earlier poll has read, so that a poll
    of a job with ten thousand steps is one request, not a hundred. ``read_all`` reads to the end.
    """
    slot = f"events:{job}"
    cached: dict[str, m.JobEvent] = {} if read_all else io.scope.cache.get(slot, {})
    current: dict[str, m.JobEvent] = {}
    consecutive_known = 0
    pages = fingerprints.list_items(io, ops.JOB_EVENTS, query={"limit": PAGE_SIZE}, job=job)
    async with aclosing(pages) as items:
        async for item in items:
            event = parse_item(ops.JOB_EVENTS, m.JobEvent, item)
            consecutive_known = consecutive_known + 1 if event.id in cached else 0
            current[event.id] = event
            if consecutive_known == int(PAGE_SIZE):
                break
    events = {**current, **{key: event for key, event in cached.items() if key not in current}}
    io.scope.cache[slot] = {} if read_all else events
    # Times are whole seconds; within one second a stable sort keeps the (reversed) order of the list.
    oldest_first = list(reversed(list(events.values())))
    oldest_first.sort(key=lambda event: event.created_at or 0)
    return oldest_first


_METRIC_NAMES = {
    "full_valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_token_accuracy",
    "full_valid_mean_token_accuracy": "valid_token_accuracy",
    "train_mean_token_accuracy": "train_token_accuracy",
}
"""This library's names by the service's. If two have the same name, the first (validation of a batch)
takes it, and the other (validation of the whole file) keeps the service's name."""


def _metrics(data: Mapping[str, Any]) -> dict[str, float]:
    """Return an event's metrics. -1 means that there is no value (docs/azure-http.md section 4.5)."""
    metrics = {
        key: float(value)
        for key, value in data.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and key not in ("step", "total_steps")
        and value != -1
    }
    for service_name, name in _METRIC_NAMES.items():
        if service_name in metrics and name not in metrics:
            metrics[name] = metrics.pop(service_name)
    return metrics


async def checkpoints(io: IO, job: str) -> AsyncGenerator[Checkpoint, None]:
    """Yield the checkpoints that the service has kept, newest first."""
    job_id = await resolve_job_id(io, job)
    async for item in fingerprints.list_items(io, ops.JOB_CHECKPOINTS, job=job_id):
        value = parse_item(ops.JOB_CHECKPOINTS, m.Checkpoint, item)
        yield _to_checkpoint(value)


@translate_parse_errors("fine_tuning.checkpoints")
def _to_checkpoint(value: m.Checkpoint) -> Checkpoint:
    return Checkpoint(
        id=value.id,
        step=value.step_number,
        fine_tuned_model=value.fine_tuned_model_checkpoint,
        metrics=_metrics(value.metrics),
        created_at=to_datetime(value.created_at),
        raw=value.dump(),
    )


async def logs(io: IO, job: str) -> str:
    """Return the job's events as lines, and its result files. foundry has no other log."""
    job_id = await resolve_job_id(io, job)
    lines = []
    for event in await _read_events(io, job_id, read_all=True):
        time = to_datetime(event.created_at)
        lines.append(f"{time.isoformat() if time else '-'} {event.level} {event.message}")
    value = (await io.send(ops.JOB_GET, job=job_id)).value
    for file in value.result_files or []:
        body = (await io.send(ops.FILE_CONTENT, file=file)).value
        lines += [f"==> {file}", body.decode("utf-8", "replace").rstrip("\n")]
    return "\n".join(lines)
