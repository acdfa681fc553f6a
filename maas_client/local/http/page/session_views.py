"""What the page shows of training sessions: plain values for templates and JSON."""

from __future__ import annotations

from typing import Any

from maas_client.local.http.page.views import PAGE_SIZE, Row, thin_out
from maas_client.local.services import Services
from maas_client.local.sessions.records import SESSION_KIND
from maas_client.local.sessions.results import end_code
from maas_client.local.state.store import Record

_CHART_METRICS = ("train_loss", "grad_norm", "learning_rate")
_STATES = {"queued": "Queued", "running": "Running", "succeeded": "Completed", "failed": "Failed"}


class SessionViews:
    """Reads the sessions of all projects."""

    def __init__(self, services: Services) -> None:
        self._sessions, self._read = services.sessions, services.store.read

    def sessions(self, before: int | None = None) -> list[Row]:
        """Return sessions of all projects, newest first."""
        return [self.summary(r) for _, r in self._read.recent(SESSION_KIND, before, PAGE_SIZE)]

    def record(self, scope: str, session_id: str) -> Record:
        """Return a session. Raises ``ApiError`` (404) when there is none."""
        return self._sessions.records.get(scope, session_id)

    def summary(self, record: Record) -> Row:
        """Return the state of a session, its last step and the requests that wait."""
        body, base = record.body, record.body["base"]
        last = {name: self._read.last_point(record.key, name) for name in _CHART_METRICS}
        waiting = self._sessions.waiting_requests(record.key)
        is_expired = record.state == "failed" and end_code(record) == "session_expired"
        return {
            "seq": record.seq,
            "id": f"{body['scope']}/{record.key}",
            "name": record.key,
            "project": body["scope"],
            "model": body["base_model"],
            "base": base["name"],
            "is_stand_in": bool(base.get("is_stand_in")),
            "simulated": bool(base.get("simulated")),
            "rank": body["lora_config"]["rank"],
            "state": "Expired" if is_expired else _STATES[str(record.state)],
            "is_active": record.state in ("queued", "running"),
            "reason": body.get("reason"),
            "created": body.get("created"),
            "last_request": self._sessions.last_request_time(record),
            "step": max((point.step for point in last.values() if point), default=0),
            "loss": _value(last["train_loss"]),
            "grad_norm": _value(last["grad_norm"]),
            "learning_rate": _value(last["learning_rate"]),
            "waiting": sum(waiting.values()),
            "waiting_by_operation": waiting,
        }

    def updates(self, record: Record) -> Row:
        """Return a session with its checkpoints, newest first."""
        listed = self._sessions.records.checkpoints(record.body["scope"], record.key)["checkpoints"]
        return {"session": self.summary(record), "checkpoints": listed[::-1]}

    def metrics(self, record: Record, after: int) -> dict[str, list[tuple[int, float]]]:
        """Return the points of the metrics that the charts show, after a step."""
        series = {n: self._read.series(record.key, n, after=after) for n in _CHART_METRICS}
        return {name: thin_out(points) for name, points in series.items() if points}

    def settings(self, record: Record) -> list[tuple[str, str]]:
        """Return what a session was created with, as names and texts."""
        body = record.body
        values = {f"lora_config.{name}": value for name, value in body["lora_config"].items()}
        values |= {name: body.get(name) for name in ("training_type", "user_metadata")}
        return [(name, str(value)) for name, value in values.items() if value is not None]


def _value(point: Any) -> float | None:
    return None if point is None else float(point.value)
