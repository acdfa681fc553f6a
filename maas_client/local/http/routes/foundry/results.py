"""The result file of a job: ``results.csv`` with Azure's columns, written from its metric points.

Columns: azure-api.md section 4.5 (azureml-assets ``finetune_submit.py``); -1 means "none at this step".
"""

from __future__ import annotations

import re
from typing import Any

from maas_client.local.http.app import Call
from maas_client.local.http.routes.foundry.lists import seconds
from maas_client.local.rules.foundry import SCOPE
from maas_client.local.state.store import Fact

PURPOSE = "fine-tune-results"
COLUMNS = {
    "train_loss": "train_loss",
    "train_mean_token_accuracy": "train_token_accuracy",
    "valid_loss": "valid_loss",
    "validation_mean_token_accuracy": "valid_token_accuracy",
    "full_valid_loss": "valid_loss",
    "full_valid_mean_token_accuracy": "valid_token_accuracy",
}
"""Azure's columns, and which of our metrics stands in each. Validation here is always of the full set."""

_ID = re.compile(r"file-results-([0-9a-f]{32})")


def file_id(job: Fact) -> str:
    """Return the id of a job's result file."""
    return f"file-results-{job.key.removeprefix('ftjob-')}"


def find(call: Call, file: str) -> Fact | None:
    """Return the job whose results a file id names; None when it names none."""
    match = _ID.fullmatch(file)
    found = match and call.services.store.read.get("job", SCOPE, f"ftjob-{match[1]}")
    return found if found and found.state == "Completed" else None


def table(call: Call, job: Fact) -> str:
    """Return the CSV."""
    steps: dict[int, dict[str, float]] = {}
    for point in call.services.jobs.points(job.body["id"]):
        steps.setdefault(point.step, {})[point.name] = point.value
    lines = [",".join(["step", *COLUMNS])]
    for step in sorted(steps):
        values = [steps[step].get(ours, -1) for ours in COLUMNS.values()]
        lines.append(",".join([str(step), *(f"{value:.6g}" for value in values)]))
    return "\n".join(lines) + "\n"


def document(call: Call, job: Fact) -> dict[str, Any]:
    """Return the result file as the service shows it."""
    return {
        "object": "file",
        "id": file_id(job),
        "bytes": len(table(call, job).encode()),
        "created_at": seconds(job.body["ended"]),
        "filename": "results.csv",
        "purpose": PURPOSE,
        "status": "processed",
        "status_details": None,
    }


def documents(call: Call) -> list[dict[str, Any]]:
    """Return all result files."""
    jobs = call.services.jobs.page(SCOPE, None, -1)
    return [document(call, job) for job in jobs if job.state == "Completed"]
