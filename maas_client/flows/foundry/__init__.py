"""The foundry dialect, step by step: a Foundry resource, and the local server that speaks it."""

from __future__ import annotations

from maas_client.flows._dialect import Dialect
from maas_client.flows.foundry import chat, deployments, files, jobs, models, runs

DIALECT = Dialect(
    name="foundry",
    model_id=models.name_of,
    upload=files.upload,
    dataset=files.get,
    datasets=files.listing,
    delete_dataset=files.delete,
    check_order=jobs.check,
    create_job=jobs.create,
    job=jobs.get,
    jobs=jobs.listing,
    cancel_job=jobs.cancel,
    delete_job=jobs.delete,
    pause_job=jobs.pause,
    save_checkpoint=jobs.save_checkpoint,
    resume_job=jobs.resume,
    progress=runs.progress,
    checkpoints=runs.checkpoints,
    logs=runs.logs,
    model=models.get,
    models=models.listing,
    delete_model=models.delete,
    deploy=deployments.create,
    deployment=deployments.get,
    deployments=deployments.listing,
    delete_deployment=deployments.delete,
    keys=deployments.keys,
    complete=chat.complete,
    stream=chat.stream,
)
