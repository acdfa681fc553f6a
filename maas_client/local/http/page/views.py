"""What the page shows, read from the server's services: plain values for templates and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from maas_client.dataset import validate
from maas_client.dataset.rows import read_rows
from maas_client.local.http.routes.foundry.events import Event, to_event
from maas_client.local.resources.assets import FOUNDRY_SCOPE, Workspace, format_time
from maas_client.local.resources.deployments import DEPLOYMENT_KIND, ServedModel, served_model
from maas_client.local.resources.errors import ApiError, not_found
from maas_client.local.resources.job_states import TERMINAL_STATES, can_transition, visible_state
from maas_client.local.resources.jobs import JobRef, is_resumable
from maas_client.local.services import Services
from maas_client.local.state.store import MetricPoint, Record
from maas_client.types.report import ValidationReport
from maas_client.wire.statuses import BASE_PROPERTY

PAGE_SIZE = 50
"""Rows of a list on one page."""
_CHART_METRICS = (
    *("train_loss", "valid_loss", "train_token_accuracy", "valid_token_accuracy"),
    *("train_reward_accuracy", "valid_reward_accuracy"),
)
_METRIC_WORDS = {
    "valid_loss": "validation loss",
    "valid_token_accuracy": "validation accuracy",
    "valid_reward_accuracy": "validation reward accuracy",
    "valid_reward_margin": "validation reward margin",
}
"""The metrics of an evaluation, in words."""
_MAX_POINTS = 2000
"""Points of one metric in one response; more are thinned out evenly."""
_MAX_LOG_BYTES = 64 << 10
_MAX_EVENTS = 500
_PREVIEW_ROWS = 5
_PREVIEW_CHARS = 2000
_MAX_REPORTS = 8
_MAX_FIRST_LINE_BYTES = 1 << 20
_WORKSPACE_ID = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/.*/workspaces/([^/]+)")
Row = dict[str, Any]


class Views:
    """Reads jobs, data sets, models and deployments of all workspaces and of the Foundry resource."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._read = services.store.read
        self._reports: dict[str, ValidationReport] = {}

    def server(self) -> Row:
        """Return what every page says about the server."""
        config = self.services.config
        return {
            "engine": config.engine,
            "base": config.base,
            "simulated": self.services.simulated,
        }

    # -- jobs ----------------------------------------------------------------------------------

    def jobs(self, before: int | None = None) -> list[Row]:
        """Return jobs of all workspaces, newest first."""
        return [self.job_summary(r) for _, r in self._read.recent("job", before, PAGE_SIZE)]

    def job_record(self, scope: str, name: str) -> Record:
        """Return a job. Raises ``ApiError`` (404) when there is none."""
        return self.services.jobs.get(JobRef(scope, name.casefold()))

    def job_summary(self, record: Record) -> Row:
        """Return the state and progress of a job."""
        body, state = record.body, str(record.state)
        spec, job_id = body["spec"], str(body["id"])
        is_active = state not in TERMINAL_STATES
        total = self._total_steps(record)
        loss = self._read.last_point(job_id, "train_loss")
        valid_loss = self._read.last_point(job_id, "valid_loss")
        step = max((p.step for p in (loss, valid_loss) if p), default=0)
        request = body["request"]
        title = (request.get("properties") or {}).get("displayName") or request.get("suffix")
        return {
            "seq": record.seq,
            "id": f"{body['scope']}/{record.key}",
            "name": body["name"],
            "title": _title(body["name"], str(title or "")),
            "dialect": body["dialect"],
            "workspace": body["workspace"],
            "model": spec["model"],
            "method": str(
                spec["hyperparameters"].get("method") or _foundry_method(request) or "LoRA"
            ),
            "base": body["base"]["name"],
            "is_stand_in": bool(body["base"].get("is_stand_in")),
            "simulated": bool(body["base"].get("simulated")),
            "state": visible_state(state),
            "is_active": is_active,
            "can_pause": can_transition(state, "PauseRequested"),
            "can_resume": is_resumable(record),
            "created": body["created"],
            "started": body.get("started"),
            "ended": body.get("ended"),
            "step": step,
            "total": total,
            "progress": 1.0 if state == "Completed" else min(step / total, 1.0) if total else 0.0,
            "loss": loss.value if loss else None,
            "valid_loss": valid_loss.value if valid_loss else None,
            "error": (body.get("error") or {}).get("message"),
            "model_name": (body.get("model") or {}).get("name"),
        }

    def _total_steps(self, record: Record) -> int:
        result = record.body.get("result") or {}
        if result.get("steps"):
            return int(result["steps"])
        events = self.services.jobs.events(record.body["id"])
        return next((int(e["steps"]) for e in reversed(events) if e.get("steps")), 0)

    def job_updates(self, record: Record, after: int) -> Row:
        """Return a job with its events after a number, and its checkpoints."""
        events = self.services.jobs.events(record.body["id"], after)
        shown = [_event_row(e) for e in (to_event(record, event) for event in events) if e]
        return {
            "job": self.job_summary(record),
            "events": shown[-_MAX_EVENTS:],
            "last_event": events[-1]["seq"] if events else after,
            "checkpoints": self.checkpoints(record),
            "deployments": [d for d in self.deployments() if d["folder"] == record.body["id"]],
        }

    def checkpoints(self, record: Record) -> list[Row]:
        """Return a job's checkpoints, newest first."""
        by_step = {
            int(event["step"]): {
                "step": int(event["step"]),
                "at": event["at"],
                "valid_loss": (event.get("metrics") or {}).get("valid_loss"),
            }
            for event in self.services.jobs.events(record.body["id"])
            if event.get("kind") == "checkpoint"
        }
        return [by_step[step] for step in sorted(by_step, reverse=True)]

    def metrics(self, record: Record, after: int) -> dict[str, list[tuple[int, float]]]:
        """Return the points of the metrics that the charts show, after a step."""
        series = {
            name: self.services.jobs.series(record.body["id"], name, after=after)
            for name in _CHART_METRICS
        }
        return {name: thin_out(points) for name, points in series.items() if points}

    def settings(self, record: Record) -> list[tuple[str, str]]:
        """Return what a job was created with, as names and texts."""
        spec, properties = record.body["spec"], record.body["properties"]
        return [
            *((name, str(value)) for name, value in spec["hyperparameters"].items()),
            *((name, str(value)) for name, value in properties.items()),
        ]

    def log(self, record: Record, offset: int) -> Row:
        """Return a job's log from an offset, or its end if that is too much."""
        path = self.services.files.log_path(record.body["id"])
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                start = max(min(offset, size), size - _MAX_LOG_BYTES)
                file.seek(start)
                text = file.read(_MAX_LOG_BYTES).decode("utf-8", "replace")
        except OSError:
            return {"text": "", "offset": 0, "is_cut": False}
        return {"text": text, "offset": size, "is_cut": start > offset}

    # -- data sets -----------------------------------------------------------------------------

    def data_sets(self) -> list[Row]:
        """Return data assets and files, newest first."""
        rows = [
            _data_row(kind, scope, record)
            for kind in ("data", "file")
            for scope, record in self._read.recent(kind, None, PAGE_SIZE)
        ]
        return sorted(rows, key=lambda row: -row["seq"])[:PAGE_SIZE]

    def _workspaces(self) -> dict[str, Workspace]:
        """Return the workspaces that requests have named, by id."""
        ids = self.services.arm_resources.list_ids("workspace", "")
        matches = filter(None, map(_WORKSPACE_ID.match, ids))
        return {w.guid: w for w in (Workspace(*match.groups()) for match in matches)}

    def workspace(self, scope: str) -> dict[str, str] | None:
        """Return the names of the workspace with an id; None for the Foundry resource."""
        workspace = self._workspaces().get(scope)
        return asdict(workspace) if workspace else None

    def data_set(self, kind: str, scope: str, key: str) -> Row:
        """Return a data set. Raises ``ApiError`` (404) when there is none."""
        record = self._read.get(kind, scope, key) if kind in ("data", "file") else None
        if record is None:
            raise not_found("Data set")
        path = self._data_path(kind, scope, record)
        return {
            **_data_row(kind, scope, record),
            "workspace": self.workspace(scope),
            "path": path,
        }

    def _data_path(self, kind: str, scope: str, record: Record) -> Path | None:
        if kind == "file":
            return self.services.files.content_path(record.body["content"])
        workspace = self._workspaces().get(scope)
        if workspace is None:
            return None
        try:
            uri = record.body["properties"]["dataUri"]
            content = self.services.blobs.content_id(
                *self.services.assets.resolve_uri(uri, workspace)
            )
        except ApiError:
            return None
        return self.services.files.content_path(content) if content else None

    def report(self, path: Path, name: str) -> ValidationReport:
        """Return the report of ``validate`` for a file of the store, which never changes."""
        if (report := self._reports.get(path.name)) is None:
            report = validate(path, target="local", method=_method(path))
            self._reports[path.name] = report
            for oldest in list(self._reports)[:-_MAX_REPORTS]:
                self._reports.pop(oldest, None)
        files = [file.model_copy(update={"path": name}) for file in report.files]
        return report.model_copy(update={"files": files})

    def first_rows(self, path: Path) -> list[Row]:
        """Return the first valid rows of a file, each as its messages."""
        rows = islice(read_rows(path, method=_method(path)), _PREVIEW_ROWS)
        return [{"line": line.number, "messages": list(_messages(row))} for line, row in rows]

    def data_of_job(self, record: Record) -> list[tuple[str, Row]]:
        """Return the data sets of a job that still exist, with what they are for."""
        return list(self._data_of_job(record))

    def _data_of_job(self, record: Record) -> Iterator[tuple[str, Row]]:
        for purpose, name in (("training", "train"), ("validation", "validation")):
            uri = (record.body.get(name) or {}).get("uri")
            if not uri:
                continue
            try:
                if record.body["dialect"] == "foundry":
                    kind, scope = "file", FOUNDRY_SCOPE
                    found = self._read.get(kind, scope, uri)
                else:
                    workspace = Workspace(*record.body["workspace"].values())
                    kind, scope = "data", workspace.guid
                    found = self.services.assets.find_data(uri, workspace)
            except ApiError:  # it was deleted
                continue
            if found is not None:
                yield purpose, _data_row(kind, scope, found)

    # -- models and deployments ----------------------------------------------------------------

    def models(self) -> list[Row]:
        """Return the registered models, newest first."""
        deployments = self.deployments()
        return [
            self._model_row(scope, record, deployments)
            for scope, record in self._read.recent("model", None, PAGE_SIZE)
        ]

    def _job_of_model(self, scope: str, model: Record) -> Record | None:
        """Return the job that trained a model; None for an imported one, and if the job was deleted."""
        job = self._read.get("job", scope, str(model.body.get("job") or "").casefold())
        return job if job and job.body["id"] == model.body.get("folder") else None

    def _model_row(self, scope: str, record: Record, deployments: list[Row]) -> Row:
        body, job = record.body, self._job_of_model(scope, record)
        return {
            "name": body["name"],
            "version": body["version"],
            "base_model": body.get("base_model"),
            "base": (body.get("properties") or {}).get(BASE_PROPERTY),
            "created": body["created"],
            "dialect": "foundry" if scope == FOUNDRY_SCOPE else "azureml",
            "job": self.job_summary(job) if job else None,
            "deployments": [d for d in deployments if d["folder"] == body.get("folder")],
        }

    def deployments(self) -> list[Row]:
        """Return the deployments, newest first."""
        return [deployment_row(r) for r in reversed(self._read.all(DEPLOYMENT_KIND))]

    def deployment_record(self, scope: str, name: str) -> Record:
        """Return a deployment. Raises ``ApiError`` (404) when there is none."""
        return self.services.deployments.get(scope, name)


def _data_row(kind: str, scope: str, record: Record) -> Row:
    body, created = record.body, record.body["created"]
    values = (body.get("properties") or {}).get("properties") or {}
    size = body.get("bytes") or values.get("bytes")
    if kind == "file":
        created = format_time(datetime.fromtimestamp(created, UTC))
    return {
        "seq": record.seq,
        "kind": kind,
        "scope": scope,
        "key": record.key,
        "name": str(body.get("filename") or values.get("filename") or body.get("name")),
        "version": body.get("version") or record.key,
        "asset": body.get("name"),
        "bytes": int(size) if size and str(size).isdigit() else None,
        "created": created,
        "problem": body.get("problem"),
        "dialect": "azureml" if kind == "data" else "foundry",
    }


def deployment_row(record: Record) -> Row:
    """Return a deployment as the page shows it."""
    body, served = record.body, served_model(record)
    return {
        "id": f"{body['scope']}/{record.key}",
        "name": body["name"],
        "label": body["label"],
        "state": str(record.state),
        "model": served.model,
        "base_model": str(served.base.get("model") or served.model),
        "base": str(served.base["name"]),
        "is_tuned": served.folder is not None,
        "folder": served.folder,
        "dialect": "foundry" if body["scope"] == FOUNDRY_SCOPE else "azureml",
        "created": body["created"],
        "problem": body.get("problem"),
    }


def with_base_model(deployment: Record) -> Record:
    """Return the deployment as if it served the base of its model."""
    served = served_model(deployment)
    base = ServedModel(str(served.base.get("model") or served.model), served.base, None)
    return deployment._replace(body={**deployment.body, "target": asdict(base)})


def _event_row(event: Event) -> Row:
    text = event.message
    if event.metrics is not None:
        values = (
            f"{_METRIC_WORDS[n]} {v:.4g}" for n, v in event.metrics.items() if n in _METRIC_WORDS
        )
        text = f"Step {event.step:,}: {', '.join(values)}"
    return {"at": event.timestamp, "level": event.level, "message": text}


def _title(name: str, display_name: str) -> str:
    """Return what a job is called: its display name, unless that is only the start of its name."""
    return name if name.casefold().startswith(display_name.casefold()) else display_name


def _foundry_method(request: Row) -> str | None:
    method = (
        (request.get("method") or {}).get("type")
        if isinstance(request.get("method"), dict)
        else None
    )
    return "DPO" if method == "dpo" else None


def thin_out(points: list[MetricPoint]) -> list[tuple[int, float]]:
    """Return at most ``_MAX_POINTS`` evenly spread points, the last one included."""
    stride = max(1, -(-len(points) // _MAX_POINTS))
    return [(point.step, point.value) for point in points[::-1][::stride][::-1]]


def _method(path: Path) -> str | None:
    """Return the method that a file's first row is for: ``DPO`` for preferences, else None (chats)."""
    with path.open("rb") as file:
        first_line = file.readline(_MAX_FIRST_LINE_BYTES)
    return "DPO" if b'"preferred_output"' in first_line else None


def _messages(row: Row) -> Iterator[tuple[str, str]]:
    """Yield role and text of the messages of a chat or a preference."""
    for role, value in _parts(row):
        text = value if isinstance(value, str) else str(value)
        yield role, text if len(text) <= _PREVIEW_CHARS else f"{text[:_PREVIEW_CHARS]} …"


def _parts(row: Row) -> Iterator[tuple[str, Any]]:
    chosen = (
        ("preferred", row.get("preferred_output")),
        ("rejected", row.get("non_preferred_output")),
    )
    messages: Iterable[Any] = row.get("messages") or (row.get("input") or {}).get("messages") or ()
    for message in messages:
        content = message.get("content")
        yield str(message.get("role")), message.get("tool_calls") if content is None else content
    for label, outputs in chosen:
        for message in outputs or ():
            yield f"{label} {message.get('role')}", message.get("content") or ""
