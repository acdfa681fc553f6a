"""What run history knows: the registered model, the reason of a failure, metrics, logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import merge
from typing import Any

from maas_client.errors import StatusError, UnsupportedError
from maas_client.flows._io import IO
from maas_client.flows.azureml.workspace import data_plane_url
from maas_client.flows.identifiers import arm_name
from maas_client.types import Checkpoint, Job, JobError, JobEvent
from maas_client.wire import azureml as ops
from maas_client.wire.azureml_models import RunDetails

_OURS = {
    "loss": "train_loss",
    "eval_loss": "valid_loss",
    "validation_loss": "valid_loss",
    "lr": "learning_rate",
}
"""Which metric names a serverless run really produces is not known (docs/azure-http.md section 1.6); these are
the trainer's usual ones, everything else keeps its own name."""


async def registered_model(io: IO, run: str) -> str | None:
    """Return the asset id of the model the job registered. Read back, never computed (section 1.7)."""
    body = {
        "runId": run,
        "selectRunMetadata": True,
        "selectRunDefinition": True,
        "selectJobSpecification": True,
    }
    answer = await io.send(ops.RUN_DATA, body, base_url=await data_plane_url(io))
    outputs = answer.value.run_metadata.get("outputs") or {}
    held = outputs.get("registered_model") or {}
    asset = held.get("assetId") if isinstance(held, dict) else None
    return str(asset) if asset else None


async def run_details(io: IO, run: str) -> RunDetails:
    """Return the run's details: status, error, warnings, log files."""
    return (await io.send(ops.RUN_DETAILS, base_url=await data_plane_url(io), run=run)).value


def to_job_error(ended: RunDetails) -> JobError | None:
    """Return why the run failed; the job's own body does not say (section 1.5)."""
    held = ended.error
    if held is None or not held.error:
        return None
    return JobError(
        code=held.error.get("code"),
        message=held.error.get("message") or "",
        param=held.error.get("target"),
    )


def parse_time(text: str | None) -> datetime | None:
    """Return a time of run history (UTC where it names no zone), or None for none and for what is no time."""
    try:
        read = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return read.replace(tzinfo=UTC) if read and read.tzinfo is None else read


async def list_events(io: IO, job: Job) -> AsyncGenerator[JobEvent, None]:
    """Yield messages and metric points so far in the order they happened; each has the same key every time."""
    messages: list[JobEvent] = []
    steps: list[JobEvent] = []
    try:
        at = await data_plane_url(io)
        seen = await run_details(io, job.name)
        messages = [_message(index, warning) for index, warning in enumerate(seen.warnings)]
        steps = await _metrics(io, at, job.name, whole=job.done, told_since=_newest(messages))
    except StatusError as refused:
        if refused.status not in (401, 403, 404):
            raise  # without a role on run history there are only status changes to tell
    for _, event in merge(_timed(messages), _timed(steps), key=lambda timed: timed[0]):
        yield event


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def _timed(events: Iterable[JobEvent]) -> Iterator[tuple[datetime, JobEvent]]:
    """Yield events with a moment that never goes back: steps stay in order though one was run again, and
    what has no time goes with what came before it."""
    latest = _LONG_AGO
    for event in events:
        latest = max(latest, event.created_at or _LONG_AGO)
        yield latest, event


def _newest(messages: Iterable[JobEvent]) -> datetime:
    """Return when the newest message was told, or long ago where no message says so."""
    return max((one.created_at for one in messages if one.created_at), default=_LONG_AGO)


def _message(index: int, warning: dict[str, Any]) -> JobEvent:
    """Return a warning of run history as an event. The service's own have a source and a message and no
    time (azure-ai-ml's ``RunDetailsWarning``); those of the local server have one."""
    source = str(warning.get("source") or "service")
    return JobEvent(
        key=f"message:{index}",
        type="message",
        message=str(warning.get("message") or ""),
        level="info" if source.endswith(":info") else "warning",
        created_at=parse_time(warning.get("createdUtc")),
        raw=warning,
    )


@dataclass(slots=True)
class _Known:
    """The points of a run that earlier looks have read, so that a look reads the new ones alone."""

    points: dict[int, dict[str, float]] = field(default_factory=dict)
    when: dict[int, datetime] = field(default_factory=dict)
    """Per step, when the last of its points was created."""
    newest: dict[str, str] = field(default_factory=dict)
    """Per metric, when the service's last point was created."""

    def take(self, name: str, value: dict[str, Any]) -> None:
        """Note one point."""
        created, step = value.get("createdUtc"), int(value.get("step") or 0)
        if created:
            self.newest[name] = max(str(created), self.newest.get(name, ""))
        number = (value.get("data") or {}).get(name)
        if isinstance(number, int | float):
            self.points.setdefault(step, {})[_OURS.get(name, name)] = float(number)
            if (read := parse_time(created)) is not None:
                self.when[step] = max(read, self.when.get(step, read))

    def ended(self, told_since: datetime) -> list[int]:
        """Return the steps that are whole: those with a later one, and the newest if anything was told
        after it."""
        steps = sorted(self.points)
        over = steps and self.when.get(steps[-1], told_since) < told_since
        return steps if over else steps[:-1]


async def _metrics(
    io: IO, at: str, run: str, *, whole: bool, told_since: datetime
) -> list[JobEvent]:
    """Return a step's metrics together. Each metric is asked for by itself while the job writes on, so
    the newest step may be half there: it is held back until a later one exists, a message was read (before
    the points, at ``told_since`` the newest) that is later, or the job has ended.

    A running job's points are read from the newest known one on; ``whole`` reads all of them again.
    """
    slot = f"metrics:{run}"
    known: _Known = _Known() if whole else io.scope.cache.setdefault(slot, _Known())
    names = (
        await io.send(
            ops.METRIC_LIST,
            {"metricNamespace": None, "continuationToken": None},
            base_url=at,
            run=run,
        )
    ).value
    for item in names.value:
        name = str((item.get("metricKey") or {}).get("name") or item.get("name") or "")
        if name:
            async for value in _points(io, at, run, name, known.newest.get(name)):
                known.take(name, value)
    if whole:
        io.scope.cache.pop(slot, None)
    events = []
    for step in sorted(known.points) if whole else known.ended(told_since):
        held = known.points[step]
        event = JobEvent(
            # A point that grows (a validation loss arrives after its step's training loss) is a new
            # event: the key names the metrics it carries.
            key=f"metrics:{step}:{','.join(sorted(held))}",
            type="metrics",
            message=f"step {step}: "
            + ", ".join(f"{k} {_figure(v)}" for k, v in sorted(held.items())),
            step=step,
            metrics=dict(held),
            created_at=known.when.get(step),
        )
        events.append(event)
    return events


def _figure(value: float) -> str:
    """Return four digits of a number, and a larger one whole: 10213 and not 1.021e+04."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


async def _points(
    io: IO, at: str, run: str, name: str, since: str | None
) -> AsyncGenerator[dict[str, Any], None]:
    token: str | None = None
    while True:
        body: dict[str, Any] = {"metricName": name, "continuationToken": token}
        if since:
            body["startTime"] = since
        page = (await io.send(ops.METRIC_VALUES, body, base_url=at, run=run)).value
        for value in page.value:
            yield value
        token = page.continuation_token
        if not token:
            return


async def logs(io: IO, run: str) -> str:
    """Return the text of the run's user logs, file after file."""
    seen = await run_details(io, arm_name(run))
    texts = []
    for name in sorted(seen.log_files):
        body = (await io.send(ops.LOG_FILE, url=seen.log_files[name])).value
        texts.append(
            (f"==> {name}\n" if len(seen.log_files) > 1 else "") + body.decode("utf-8", "replace")
        )
    return "\n".join(texts)


def checkpoints(io: IO, run: str) -> AsyncGenerator[Checkpoint, None]:
    """Raise ``UnsupportedError``: azureml keeps no checkpoints that a client could name."""
    raise UnsupportedError(
        f"the checkpoints of {run!r} cannot be listed: azureml names none",
        hint="foundry does, and the local server in that dialect: Client.local(dialect='foundry').",
    )
