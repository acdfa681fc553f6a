"""``client.jobs``: create, list and control fine-tuning jobs. A job with the same inputs is created once."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Protocol, Unpack

from maas_client._display.progress import show_progress
from maas_client._messages import Argument, Text
from maas_client.dataset.sources import DataSource
from maas_client.errors import ConfigError
from maas_client.flows import datasets, identifiers
from maas_client.flows._io import IO, Coro
from maas_client.flows._requests import JobRequest, is_foundry
from maas_client.flows._signature import expand_options
from maas_client.flows.job_requests import (
    JOB_OPTION_DEFAULTS,
    JobOptions,
    attach_data,
    to_request,
)
from maas_client.types import Checkpoint, Dataset, Job, JobEvent, Model

_log = logging.getLogger("maas_client")


class JobBackend(Protocol):
    """What a backend's module for jobs must have."""

    def check_request(self, io: IO, request: JobRequest) -> None:
        """Raise for what this backend does not support, before anything is sent."""

    def create(self, io: IO, request: JobRequest) -> Coro[Job]: ...
    def is_created(self, io: IO, request: JobRequest) -> Coro[bool]: ...
    def get(self, io: IO, job: str) -> Coro[Job]: ...
    def list_all(self, io: IO) -> AsyncGenerator[Job, None]: ...
    def cancel(self, io: IO, job: str) -> Coro[Job]: ...
    def pause(self, io: IO, job: str) -> Coro[Job]: ...
    def resume(self, io: IO, job: str) -> Coro[Job]: ...
    def save_checkpoint(self, io: IO, job: str) -> Coro[Job]: ...
    def delete(self, io: IO, job: str) -> Coro[None]: ...


class JobHistoryBackend(Protocol):
    """What a backend's module for what happened in a job must have."""

    def list_events(self, io: IO, job: Job) -> AsyncGenerator[JobEvent, None]:
        """Yield all messages and metrics so far, oldest first, without changes of the status."""

    def checkpoints(self, io: IO, job: str) -> AsyncGenerator[Checkpoint, None]: ...
    def logs(self, io: IO, job: str) -> Coro[str]: ...


def job_backend(io: IO) -> JobBackend:
    """Return the module for jobs of the connection's backend."""
    if is_foundry(io):
        from maas_client.flows.foundry import jobs as foundry_jobs

        return foundry_jobs
    from maas_client.flows.azureml import jobs as azureml_jobs

    return azureml_jobs


def run_backend(io: IO) -> JobHistoryBackend:
    """Return the module for events, checkpoints and logs of the connection's backend."""
    if is_foundry(io):
        from maas_client.flows.foundry import runs as foundry_runs

        return foundry_runs
    from maas_client.flows.azureml import runs as azureml_runs

    return azureml_runs


@expand_options(JobOptions, JOB_OPTION_DEFAULTS)
async def create(
    io: IO,
    model: str | Model,
    training_data: Dataset | DataSource,
    validation_data: Dataset | DataSource | None = None,
    **options: Unpack[JobOptions],
) -> Job:
    """Create a fine-tuning job and return at once. The same call again returns the same job.

    Files are validated for the model and uploaded first. A file that was validated for the same model
    and has not changed is not read again.

    Args:
        model: The base model: a name such as ``Phi-4-mini-instruct``, an ``azureml://`` asset URI, or a
            ``Model``.
        training_data: A dataset, its id or name, or data as ``datasets.upload`` takes it: the path of a
            JSON Lines, gzip or Parquet file, an iterable of rows (dictionaries), a DataFrame, a Hugging Face
            ``Dataset``.
        validation_data: The same for validation data; default: none, and the service may split some
            off the training data.
        hyperparameters: ``Hyperparameters`` or a mapping with the same names; what is left out has the
            service's default.
        method: ``LoRA``, ``QLoRA``, ``DoRA``, ``Full`` or ``rsLoRA``; default: the backend's choice. Only
            the local server and azureml with ``compute`` let one choose. ``DPO`` trains on preferences: rows
            with ``input``, ``preferred_output`` and ``non_preferred_output``. Foundry tunes gpt-4o and gpt-4.1
            models by it, the local server every model (with LoRA), azureml none.
        beta: DPO only: how strongly the model is kept close to its base, above 0 and at most 2; the same as
            the hyperparameter ``beta``. Default: the backend's choice, locally 0.1.
        name: The job's name; default: derived from the inputs.
        compute: Run the job on your own GPUs: the name of a compute, or one or more instance types
            (azureml only). Default: serverless.
        force_new: Start another job even if one with the same inputs exists; default: False.
        allow_retired: Accept a base model that is retired on this backend; default: False.
        max_billed_tokens: Refuse the job before the upload if it may be billed for more tokens than
            this; default: no limit. Needs files, not datasets that are elsewhere.
        ignore: Problem codes to ignore during validation, such as ``["PII_EMAIL"]``; default: none.
        tags: Tags to store with the job (azureml only); default: none.
        training_type: Where and how Foundry trains (foundry only): ``GlobalStandard``, ``Standard`` (in the
            resource's region), ``DataZoneStandard`` (the data zone's regions; the name is inferred from the
            SKU, no page of Azure shows it in a job) or ``Developer`` (idle capacity, may be preempted).
            Default: the first that Azure offers for the model, most often ``GlobalStandard``.
        progress: True shows the uploads on stderr or in the notebook, False shows nothing; a function is
            called as ``progress(sent, total)`` with numbers of bytes. Default: True in a terminal or notebook.

    Returns:
        The new job, or the existing one with ``attached=True``. On azureml a job with the same inputs
        that failed or was canceled is followed by a new one, named ``NAME-2``.

    Raises:
        ModelRetiredError: The base model is retired on this backend.
        UnsupportedError: The backend does not support the model, method, hyperparameter or option.
        ConfigError: A name or value is invalid, or ``max_billed_tokens`` is exceeded.
        DatasetError: A file is missing or invalid.
        ConflictError: ``name`` is in use for a job with other inputs.
        TransportError: Whether the job was created is unknown, although the client has looked for it. The
            same call finds it; with ``force_new``, look for it with ``jobs.list`` first.

    Example:
        >>> job = client.jobs.create(
        ...     model="Phi-4-mini-instruct",
        ...     training_data="train.jsonl",
        ...     hyperparameters={"epochs": 3},
        ... )
        >>> client.jobs.wait(job).fine_tuned_model
        'azureml://locations/eastus2/workspaces/.../models/.../versions/1'
    """
    request = await prepare_request(io, model, options)
    with show_progress(options.get("progress"), "validating") as display:
        async with (
            datasets.open_data(io, training_data) as training,
            datasets.open_data(io, validation_data) as validation,
        ):
            if training is None:
                raise ConfigError(
                    "a job needs training data",
                    hint=Text.format("Pass {}.", Argument("training_data")),
                )
            request = await attach_data(io, request, training, validation, options, display)
            return await submit(io, request)


async def prepare_request(io: IO, model: str | Model, options: JobOptions) -> JobRequest:
    """Return a request without data, after all checks that need no network. Nothing is sent."""
    request = await to_request(io, model, options)
    job_backend(io).check_request(io, request)
    identifiers.check_new_name(request.name, "job name")
    if request.compute and io.scope.local:
        # Not refused, so that a program for one's own GPUs can be tried here unchanged.
        _log.warning(
            "the local server trains on this machine; compute %s is only recorded with the job",
            ", ".join(request.compute),
        )
    return request


async def submit(io: IO, request: JobRequest) -> Job:
    """Create the job of a request with data, or find the one that exists."""
    job = await job_backend(io).create(io, request)
    verb = "attached to" if job.attached else "created"
    _log.info("%s job %s (%s)", verb, job.name, job.status)
    return job


async def get(io: IO, job: Job | str) -> Job:
    """Return the current state of a job.

    Args:
        job: A job, its id or its name.

    Returns:
        The job; once it has ended, with its model or its error.

    Raises:
        NotFoundError: There is no such job.

    Example:
        >>> client.jobs.get("tickets-3f2a").status
        'Running'
    """
    return await job_backend(io).get(io, identifiers.job_id(job))


async def list_all(io: IO) -> AsyncGenerator[Job, None]:
    """Iterate over all fine-tuning jobs. Further pages are requested as needed.

    Yields:
        The jobs in the service's order, newest first.

    Example:
        >>> for job in client.jobs.list():
        ...     print(job.name, job.status)
    """
    async for job in job_backend(io).list_all(io):
        yield job


async def cancel(io: IO, job: Job | str) -> Job:
    """Request that a job be canceled. Azure bills what has been trained.

    Args:
        job: A job, its id or its name.

    Returns:
        The job as it is after the request; it may still be running.

    Raises:
        NotFoundError: There is no such job.

    Example:
        >>> client.jobs.cancel("tickets-3f2a").status
        'CancelRequested'
    """
    return await job_backend(io).cancel(io, identifiers.job_id(job))


async def pause(io: IO, job: Job | str) -> Job:
    """Request that a running job be paused. It stops after its current step and keeps a checkpoint.

    Args:
        job: A job, its id or its name.

    Returns:
        The job as it is after the request.

    Raises:
        UnsupportedError: azureml documents no such operation. foundry pauses jobs of OpenAI's own models
            only, the local server every job.
        NotFoundError: There is no such job.

    Example:
        >>> job = client.jobs.pause(job)
        >>> job = client.jobs.resume(job)
    """
    return await job_backend(io).pause(io, identifiers.job_id(job))


async def resume(io: IO, job: Job | str) -> Job:
    """Request that a paused job continue where it stopped.

    The local server also resumes a job that failed in crashes or without memory or disk space: from its newest
    checkpoint, or from the start.

    Args:
        job: A job, its id or its name.

    Returns:
        The job as it is after the request.

    Raises:
        UnsupportedError: azureml documents no such operation.
        NotFoundError: There is no such job.

    Example:
        >>> job = client.jobs.resume("tickets-3f2a")
    """
    return await job_backend(io).resume(io, identifiers.job_id(job))


async def save_checkpoint(io: IO, job: Job | str) -> Job:
    """Request a checkpoint of a running job. The job continues.

    The checkpoint is written after the current step. A message among the job's events reports it, and
    ``jobs.checkpoints`` lists it where the backend lists checkpoints.

    Args:
        job: A job, its id or its name.

    Returns:
        The job as it is after the request.

    Raises:
        UnsupportedError: The backend is not the local server.
        NotFoundError: There is no such job.

    Example:
        >>> job = client.jobs.save_checkpoint(job)
    """
    return await job_backend(io).save_checkpoint(io, identifiers.job_id(job))


async def delete(io: IO, job: Job | str) -> None:
    """Delete the record of a job. The model it produced stays.

    Args:
        job: A job, its id or its name.

    Raises:
        NotFoundError: There is no such job.

    Example:
        >>> client.jobs.delete("tickets-3f2a")
    """
    await job_backend(io).delete(io, identifiers.job_id(job))


async def logs(io: IO, job: Job | str) -> str:
    """Return the text of a job's log, as far as it has been written.

    Args:
        job: A job, its id or its name.

    Returns:
        The log; several files follow each other, each under a line with its name.

    Raises:
        NotFoundError: There is no such job.

    Example:
        >>> print(client.jobs.logs(job))
    """
    return await run_backend(io).logs(io, identifiers.job_id(job))


async def checkpoints(io: IO, job: Job | str) -> AsyncGenerator[Checkpoint, None]:
    """Iterate over the checkpoints of a job.

    Args:
        job: A job, its id or its name.

    Yields:
        The checkpoints that the service has kept, newest first. ``fine_tuned_model`` can be deployed; it is
        None in the azureml dialect of the local server.

    Raises:
        UnsupportedError: Azure Machine Learning lists no checkpoints.
        NotFoundError: There is no such job.

    Example:
        >>> [checkpoint.step for checkpoint in client.jobs.checkpoints(job)]
        [120, 80, 40]
    """
    async for checkpoint in run_backend(io).checkpoints(io, identifiers.job_id(job)):
        yield checkpoint
