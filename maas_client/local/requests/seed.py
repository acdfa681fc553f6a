"""The requests of a client for jobs and deployments that a test adds to a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from maas_client.errors import ConfigError
from maas_client.local.bases import find_model_facts
from maas_client.local.requests import azureml_job, foundry_job
from maas_client.local.resources.assets import FOUNDRY_SCOPE, Workspace
from maas_client.local.resources.blobs import BlobProperties, Conditions
from maas_client.local.resources.foundry_deployments import provider_format
from maas_client.local.resources.foundry_files import FoundryFiles
from maas_client.local.resources.jobs import JobRef
from maas_client.local.services import Services
from maas_client.local.state.files import new_id

WORKSPACE = Workspace("00000000-0000-0000-0000-000000000000", "local", "local")
"""The workspace that ``Client.local`` uses."""
_API_VERSION = "2024-10-01-preview"
_ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"{number} plus one is {number + 1}."},
        ]
    }
    for number in range(12)
]
"""Training data of jobs for which none is given."""


def create_azureml_job(
    services: Services, name: str | None, model: str, rows: Sequence[Mapping[str, Any]] | None
) -> tuple[JobRef, str]:
    """Create a job as a client of azureml does, and return its key in the store and its name."""
    name = name or f"job-{new_id()[:12]}"
    blob = f"LocalUpload/{new_id()}/train.jsonl"
    with services.blobs.draft() as draft:
        draft.write(training_lines(rows))
        services.blobs.put(WORKSPACE.container, blob, draft, BlobProperties(), Conditions())
    uri = f"azureml://datastores/workspaceblobstore/paths/{blob}"
    properties = {
        "jobType": "FineTuning",
        "fineTuningDetails": {
            "modelProvider": "Custom",
            "taskType": "ChatCompletion",
            "model": {
                "jobInputType": "mlflow_model",
                "uri": f"azureml://registries/azureml/models/{model}/versions/1",
            },
            "trainingData": {"jobInputType": "uri_file", "uri": uri},
            "hyperParameters": {},
        },
        "outputs": {"registered_model": {"jobOutputType": "mlflow_model", "assetName": name}},
    }
    request = {"properties": properties}
    job = azureml_job.read_job(services, WORKSPACE, name, request, _API_VERSION)
    services.jobs.create(WORKSPACE.guid, job)
    return JobRef(WORKSPACE.guid, name.casefold()), name


def create_foundry_job(
    services: Services, model: str, rows: Sequence[Mapping[str, Any]] | None
) -> tuple[JobRef, str]:
    """Create a job as a client of foundry does, and return its key in the store and its id."""
    files = FoundryFiles(services.store, services.files, durable=services.config.durable)
    with files.draft() as draft:
        draft.write(training_lines(rows))
        file = files.add(draft, "train.jsonl")
    facts = find_model_facts(model)
    kinds = (facts.training_types if facts else ()) or ("GlobalStandard",)
    body = {"model": model, "training_file": file.key, "trainingType": kinds[0]}
    job = foundry_job.read_job(services, files, body)
    services.jobs.create(FOUNDRY_SCOPE, job)
    return foundry_job.job_ref(job.name), job.name


def endpoint_request(model_id: str, region: str) -> dict[str, Any]:
    """Return the request that deploys a model on azureml."""
    properties = {"modelSettings": {"modelId": model_id}, "authMode": "Key"}
    return {"location": region, "sku": {"name": "Consumption"}, "properties": properties}


def deployment_request(model: str) -> dict[str, Any]:
    """Return the request that deploys a model on foundry."""
    kind = provider_format(model.split(".ft-")[0]) or "OpenAI"
    return {
        "sku": {"name": "GlobalStandard", "capacity": 1},
        "properties": {"model": {"format": kind, "name": model, "version": "1"}},
    }


def training_lines(rows: Any = None) -> bytes:
    """Return a training file with these rows; None: twelve short chats."""
    rows = _ROWS if rows is None else rows
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError("training_data must be a list of chats, such as {'messages': [...]}")
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
