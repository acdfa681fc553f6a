"""A job's events as the OpenAI-shaped API tells them: status changes, messages and metric points.

Each has an id that never changes, so that a client which has seen it is never told it again.
"""

from __future__ import annotations

from typing import Any

from maas_client.local.app import Call
from maas_client.local.routes.foundry_lists import seconds
from maas_client.local.store import Fact

_STATUS = {
    "NotStarted": "Job enqueued. Waiting for jobs ahead to complete.",
    "Running": "Job started.",
    "Completed": "Job succeeded.",
    "CancelRequested": "Job cancellation was requested.",
    "Canceled": "Job cancelled.",
    "Failed": "Job failed.",
}
"""Words of the dated spec's example where it has them (azure-api.md section 4.5)."""

_OWN = {
    "train_token_accuracy": "train_mean_token_accuracy",
    "valid_token_accuracy": "full_valid_mean_token_accuracy",
    "valid_loss": "full_valid_loss",
}
"""Our metric names to the service's."""

_TRAINING = ("train_loss", "train_token_accuracy", "learning_rate")


def story(call: Call, job: Fact) -> list[dict[str, Any]]:
    """Return all events of a job, newest first."""
    own = job.body["id"]
    told = [_event(job, event) for event in call.services.jobs.events(own)]
    found = [event for event in told if event] + _steps(call, own)
    found.sort(key=lambda event: (event[0], event[1]["id"]), reverse=True)
    return [event for _, event in found]


_Told = tuple[str, dict[str, Any]]
"""When, to the microsecond, and the event."""


def _event(job: Fact, event: dict[str, Any]) -> _Told | None:
    kind, level, data = event.get("kind"), "info", None
    if kind == "status":
        message = _STATUS.get(str(event.get("state")), "")
        if event.get("state") == "Failed":
            level = "error"
            message = f"Job failed: {(job.body.get('error') or {}).get('message', '')}"
    elif kind == "message":
        message, level = str(event.get("message")), str(event.get("level", "info"))
    elif kind == "checkpoint":
        message = f"Checkpoint created at step {event['step']}."
    elif kind == "eval":
        data = _data(int(event["step"]), event)
        message = f"Step {event['step']}: {_words(data)}"
    else:
        return None
    if not message:
        return None
    own = f"ftevent-{job.body['id']}{event['seq']:08d}"
    return str(event["at"]), _shown(own, str(event["at"]), message, level, data)


def _steps(call: Call, own: str) -> list[_Told]:
    """Return one event per step that training reported."""
    steps: dict[int, dict[str, float]] = {}
    when: dict[int, str] = {}
    for point in call.services.jobs.points(own):
        if point.name in _TRAINING:
            steps.setdefault(point.step, {})[point.name] = point.value
            when[point.step] = point.at
    found = []
    for step, values in steps.items():
        data = _data(step, values)
        name = f"ftevent-{own}m{step:08d}"
        told = _shown(name, when[step], f"Step {step}: {_words(data)}", "info", data)
        found.append((when[step], told))
    return found


def _data(step: int, values: dict[str, Any]) -> dict[str, Any]:
    return {"step": step} | {
        _OWN.get(name, name): value
        for name, value in values.items()
        if name in (*_TRAINING, *_OWN) and isinstance(value, int | float)
    }


def _words(data: dict[str, Any]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in data.items() if k != "step")


def _shown(
    own: str, at: str, message: str, level: str, data: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job.event",
        "id": own,
        "created_at": seconds(at),
        "level": level,
        "type": "metrics" if data else "message",
        "message": message,
        "data": data,
    }
