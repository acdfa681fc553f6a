"""The azureml dialect, step by step: Azure Machine Learning, and the local server that speaks it."""

from __future__ import annotations

from maas_client import catalog
from maas_client.flows._dialect import Dialect
from maas_client.flows.azureml import chat, datasets, deployments, jobs, models, runs

DIALECT = Dialect(
    name="azureml",
    model_id=catalog.registry_uri,
    upload=datasets.upload,
    dataset=datasets.get,
    datasets=datasets.listing,
    delete_dataset=datasets.delete,
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
    upload_model=models.upload,
)
