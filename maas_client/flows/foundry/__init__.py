"""The foundry dialect, step by step: a Foundry resource, and the local server that speaks it."""

from __future__ import annotations

from maas_client.flows._backend import Backend
from maas_client.flows.foundry import chat, deployments, files, jobs, models, runs

BACKEND = Backend(
    name="foundry",
    model_id=models.foundry_name,
    upload=files.upload,
    dataset=files.get,
    datasets=files.list_all,
    delete_dataset=files.delete,
    check_order=jobs.check_request,
    create_job=jobs.create,
    job=jobs.get,
    jobs=jobs.list_all,
    cancel_job=jobs.cancel,
    delete_job=jobs.delete,
    pause_job=jobs.pause,
    save_checkpoint=jobs.save_checkpoint,
    resume_job=jobs.resume,
    progress=runs.list_events,
    checkpoints=runs.checkpoints,
    logs=runs.logs,
    model=models.get,
    models=models.list_all,
    delete_model=models.delete,
    deploy=deployments.create,
    deployment=deployments.get,
    deployments=deployments.list_all,
    delete_deployment=deployments.delete,
    keys=deployments.keys,
    complete=chat.complete_chat,
    stream=chat.stream_chat,
)
