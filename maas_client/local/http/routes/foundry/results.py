"""The result file of a job: ``results.csv`` with Azure's columns, generated from the metric points.

Columns: docs/azure-http.md section 4.5 (azureml-assets ``finetune_submit.py``); -1 means "no value at this
step".
"""

from __future__ import annotations

import re
from typing import Any

from maas_client.local.http.app import RequestContext
from maas_client.local.http.routes.foundry.responses import to_unix_seconds
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.state.store import Record

RESULTS_PURPOSE = "fine-tune-results"
CSV_COLUMNS = {
    "train_loss": "train_loss",
    "train_mean_token_accuracy": "train_token_accuracy",
    "valid_loss": "valid_loss",
    "validation_mean_token_accuracy": "valid_token_accuracy",
    "full_valid_loss": "valid_loss",
    "full_valid_mean_token_accuracy": "valid_token_accuracy",
}
"""Azure's columns, and our metric for each. Validation always uses the full validation file."""

_FILE_ID = re.compile(r"file-results-([0-9a-f]{32})")


def file_id(job: Record) -> str:
    """Return the id of the result file of a job."""
    return f"file-results-{job.key.removeprefix('ftjob-')}"


def find_job(context: RequestContext, file: str) -> Record | None:
    """Return the job whose results a file id names, or None."""
    match = _FILE_ID.fullmatch(file)
    job = match and context.services.store.read.get("job", FOUNDRY_SCOPE, f"ftjob-{match[1]}")
    return job if job and job.state == "Completed" else None


def to_csv(context: RequestContext, job: Record) -> str:
    """Return the CSV."""
    steps: dict[int, dict[str, float]] = {}
    for point in context.services.jobs.points(job.body["id"]):
        steps.setdefault(point.step, {})[point.name] = point.value
    lines = [",".join(["step", *CSV_COLUMNS])]
    for step in sorted(steps):
        values = [steps[step].get(metric, -1) for metric in CSV_COLUMNS.values()]
        lines.append(",".join([str(step), *(f"{value:.6g}" for value in values)]))
    return "\n".join(lines) + "\n"


def to_json(context: RequestContext, job: Record) -> dict[str, Any]:
    """Return the result file as the API represents it."""
    return {
        "object": "file",
        "id": file_id(job),
        "bytes": len(to_csv(context, job).encode()),
        "created_at": to_unix_seconds(job.body["ended"]),
        "filename": "results.csv",
        "purpose": RESULTS_PURPOSE,
        "status": "processed",
        "status_details": None,
    }


def list_all(context: RequestContext) -> list[dict[str, Any]]:
    """Return all result files."""
    jobs = context.services.jobs.list_page(FOUNDRY_SCOPE, None, -1)
    return [to_json(context, job) for job in jobs if job.state == "Completed"]
