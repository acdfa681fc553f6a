"""The azureml dialect, step by step: Azure Machine Learning, and the local server that speaks it."""

from __future__ import annotations

from maas_client import catalog
from maas_client.flows._backend import Backend
from maas_client.flows.azureml import chat, datasets, deployments, jobs, models, runs

BACKEND = Backend(
    name="azureml",
    model_id=catalog.registry_uri,
    upload=datasets.upload,
    dataset=datasets.get,
    datasets=datasets.list_all,
    delete_dataset=datasets.delete,
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
    upload_model=models.upload,
)
