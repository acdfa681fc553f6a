"""What happened to a job: its events, its checkpoints, its result files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from maas_client.flows._io import IO
from maas_client.flows.foundry import create_once
from maas_client.flows.foundry.jobs import resolve_job_id
from maas_client.types import Checkpoint, Job, JobEvent
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_models as m

PAGE_SIZE = "100"


async def list_events(io: IO, job: Job) -> AsyncGenerator[JobEvent, None]:
    """Yield the service's own events, oldest first; their ids are the keys."""
    for event in await _events(io, job.id, whole=job.done):
        measured = _numbers(event.data or {})
        step = (event.data or {}).get("step")
        yield JobEvent(
            key=event.id,
            type="metrics" if event.type == "metrics" and measured else "message",
            message=event.message,
            level="warning" if event.level == "warn" else event.level,
            step=int(step) if isinstance(step, int | float) else None,
            metrics=measured,
            created_at=create_once.to_datetime(event.created_at),
            data=dict(event.data or {}),
            raw=event.dump(),
        )


async def _events(io: IO, job: str, *, whole: bool) -> list[m.JobEvent]:
    """Return all events, oldest first; the service lists the newest first, a hundred at a time.

    While a job runs, reading ends after a page's worth of events that were read before: a look at a
    job of ten thousand steps is one request, not a hundred. ``whole`` reads to the end.
    """
    slot = f"events:{job}"
    known: dict[str, m.JobEvent] = {} if whole else io.scope.cache.get(slot, {})
    fresh: dict[str, m.JobEvent] = {}
    met = 0
    async with aclosing(
        create_once.list_items(io, ops.JOB_EVENTS, query={"limit": PAGE_SIZE}, job=job)
    ) as listed:
        async for item in listed:
            event = m.JobEvent.model_validate(item)
            met = met + 1 if event.id in known else 0
            fresh[event.id] = event
            if met == int(PAGE_SIZE):
                break
    held = {**fresh, **{key: event for key, event in known.items() if key not in fresh}}
    io.scope.cache[slot] = {} if whole else held
    # Before a stable sort: within one second the order of the list is all there is.
    return sorted(reversed(list(held.values())), key=lambda event: event.created_at or 0)  # noqa: C414 - as said


_OURS = {
    "full_valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_token_accuracy",
    "full_valid_mean_token_accuracy": "valid_token_accuracy",
    "train_mean_token_accuracy": "train_token_accuracy",
}
"""The service's names to ours, where one of ours is free: validation of a batch goes before that of the
whole file, which then keeps its own name."""


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured: -1 stands for nothing at this step (docs/azure-http.md section 4.5)."""
    found = _measured(data)
    for theirs, ours in _OURS.items():
        if theirs in found and ours not in found:
            found[ours] = found.pop(theirs)
    return found


def _measured(data: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in data.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and key not in ("step", "total_steps")
        and value != -1
    }


async def checkpoints(io: IO, job: str) -> AsyncGenerator[Checkpoint, None]:
    """Yield the checkpoints that the service kept, newest first."""
    name = await resolve_job_id(io, job)
    async for item in create_once.list_items(io, ops.JOB_CHECKPOINTS, job=name):
        held = m.Checkpoint.model_validate(item)
        yield Checkpoint(
            id=held.id,
            step=held.step_number,
            fine_tuned_model=held.fine_tuned_model_checkpoint,
            metrics=_numbers(held.metrics),
            created_at=create_once.to_datetime(held.created_at),
            raw=held.dump(),
        )


async def logs(io: IO, job: str) -> str:
    """Return the job's events as lines, and its result files. foundry keeps no other log."""
    name = await resolve_job_id(io, job)
    lines = []
    for event in await _events(io, name, whole=True):
        born = create_once.to_datetime(event.created_at)
        lines.append(f"{born.isoformat() if born else '-'} {event.level} {event.message}")
    held = (await io.send(ops.JOB_GET, job=name)).value
    for file in held.result_files or []:
        body = (await io.send(ops.FILE_CONTENT, file=file)).value
        lines += [f"==> {file}", body.decode("utf-8", "replace").rstrip("\n")]
    return "\n".join(lines)
