"""``client.fine_tune``: validate, upload, train and deploy in one call that can be repeated after a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Unpack

from maas_client._display.interrupts import explain_interrupt
from maas_client._display.progress import show_progress
from maas_client._messages import Argument, Call, Text
from maas_client.dataset.sources import DataFile, DataSource
from maas_client.errors import ConfigError, DatasetError, NotFoundError
from maas_client.flows import datasets, deployments, identifiers, job_events, jobs
from maas_client.flows._create_once import NameInUseError, name_conflict
from maas_client.flows._io import IO
from maas_client.flows._requests import JobRequest
from maas_client.flows._signature import expand_options
from maas_client.flows.datasets import JobData
from maas_client.flows.job_requests import JOB_OPTION_DEFAULTS, JobOptions, attach_data
from maas_client.types import Dataset, FineTuneResult, Job, JobEvent, Model, ValidationReport


@expand_options(JobOptions, JOB_OPTION_DEFAULTS)
async def fine_tune(
    io: IO,
    training_data: DataSource,
    model: str | Model,
    *,
    validation_data: DataSource | None = None,
    deploy: str | None = None,
    sku: str | None = None,
    capacity: int | None = None,
    timeout: float | None = None,
    on_job: Callable[[Job], None] | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    **options: Unpack[JobOptions],
) -> FineTuneResult:
    """Validate data, upload it, fine-tune a model and optionally deploy the result.

    Everything that can be checked without cost is checked first. The same call again, for example after
    a crash, finds the uploaded file, the job and the deployment, and continues.

    Args:
        training_data: Data as ``datasets.upload`` takes it: the path of a JSON Lines, gzip or Parquet
            file, an iterable of rows (dictionaries), a DataFrame, a Hugging Face ``Dataset``.
        model: The base model: a name such as ``Phi-4-mini-instruct``, an ``azureml://`` asset URI, or a
            ``Model``.
        validation_data: The same for validation data; default: none, and the service may split some
            off the training data.
        deploy: Deploy the fine-tuned model under this name; default: no deployment.
        sku: The SKU of the deployment, as for ``deployments.create`` (foundry only); needs ``deploy``;
            default: as there.
        capacity: The capacity of the deployment, as for ``deployments.create`` (foundry only); needs
            ``deploy``; default: as there.
        timeout: Seconds to wait for the job; default: no limit.
        on_job: Called with the job once it exists; default: none.
        on_event: Called with each event of the job; default: none.
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
            this; default: no limit.
        ignore: Problem codes to ignore during validation, such as ``["PII_EMAIL"]``; default: none.
        tags: Tags to store with the job (azureml only); default: none.
        training_type: Where and how Foundry trains (foundry only): ``GlobalStandard``, ``Standard`` (in the
            resource's region), ``DataZoneStandard`` (the data zone's regions; the name is inferred from the
            SKU, no page of Azure shows it in a job) or ``Developer`` (idle capacity, may be preempted).
            Default: the first that Azure offers for the model, most often ``GlobalStandard``.
        progress: True shows uploads, status, steps and losses on stderr or in the notebook, False shows
            nothing; a function is called as ``progress(done, total)``, first with bytes of each upload, then
            with steps of the job (a total of 0 is unknown). Default: True in a terminal or notebook without
            ``on_job`` and ``on_event``.

    Returns:
        The validation report, the uploaded dataset, the job, and the deployment or None.

    Raises:
        DatasetError: A file is missing or invalid.
        ModelRetiredError: The base model is retired on this backend.
        UnsupportedError: The backend does not support the model, method, hyperparameter or option.
        ConfigError: A name or value is invalid, or ``max_billed_tokens`` is exceeded.
        ConflictError: ``name`` or ``deploy`` is in use with other inputs.
        JobFailedError: The job failed or was canceled.
        JobTimeoutError: ``timeout`` has passed. The job itself continues.

    Example:
        >>> result = client.fine_tune("train.jsonl", "Phi-4-mini-instruct", deploy="tickets")
        >>> result.deployment.ready
        True
    """
    if timeout is not None:
        identifiers.check_number("timeout", timeout)
    if deploy is not None:
        deployments.check_name(deploy)
    elif sku is not None or capacity is not None:
        raise ConfigError(
            Text.format(
                "{} and {} are options of a deployment, and nothing is deployed",
                Argument("sku"),
                Argument("capacity"),
            ),
            hint=Text.format("Pass {} too.", Argument("deploy")),
        )
    request = await jobs.prepare_request(io, model, options)
    if deploy is not None:
        deployments.check_options(io, request.model_name, sku, capacity)
    created: Job | None = None

    def describe_interrupt() -> str:
        if created is None:
            return (
                "interrupted: no job was started, or its start was not confirmed; the same call continues, "
                "and parts that were sent are not sent again"
            )
        next_step = f" and then deploys {deploy}" if deploy else ""
        return job_events.interrupt_note(
            io, created.name, f"the same call attaches to it{next_step}"
        )

    has_observer = on_event is not None or on_job is not None
    with (
        explain_interrupt(describe_interrupt),
        show_progress(
            options.get("progress"), "validating", is_shown_by_caller=has_observer
        ) as display,
    ):
        async with (
            datasets.open_data(io, training_data) as training,
            datasets.open_data(io, validation_data) as validation,
        ):
            training_file = _require_file(training)
            validation_file = None if validation is None else _require_file(validation)
            report = await datasets.validate_file(
                io,
                training_file,
                model=request.catalog_name,
                method=request.method,
                ignore=options.get("ignore", ()),
                validation=validation_file,
            )
            if deploy is not None:
                await _check_deployment(io, deploy, request, report)
            request = await attach_data(
                io, request, training_file, validation_file, options, display, report=report
            )
            created = await jobs.submit(io, request)
        if on_job is not None:
            on_job(created)
        job = await job_events.wait_with_progress(
            io, created, display, timeout=timeout, on_event=on_event
        )
        job = job.model_copy(update={"attached": created.attached})
        deployment = None
        if deploy is not None:
            display.on_status(f"deploying {deploy}")
            try:
                deployment = await deployments.create(
                    io, deploy, job, sku=sku, capacity=capacity, allow_retired=True
                )
            except NameInUseError as error:
                next_call = Call("deployments.create", repr(f"{deploy[:50]}-2"), repr(job.name))
                hint = Text.format("Deploy the job under another name: {}", next_call)
                raise name_conflict(deploy, hint) from error
            display.on_status(f"{job.status}, {deploy} answers")
    return FineTuneResult(report=report, dataset=request.training, job=job, deployment=deployment)


async def _check_deployment(
    io: IO, name: str, request: JobRequest, report: ValidationReport
) -> None:
    """Raise ``NameInUseError`` if there is such a deployment and the job is yet to be created.

    The model of a job that exists may be the deployed one; that of a new job is not.
    """
    try:
        await deployments.get(io, name)
    except NotFoundError:
        return
    training, *validation = [Dataset(id="", name="", sha256=file.sha256) for file in report.files]
    request = replace(request, training=training, validation=next(iter(validation), None))
    if not await jobs.job_backend(io).is_created(io, request):
        raise name_conflict(name)


def _require_file(data: JobData | None) -> DataFile:
    """Return data that is on this machine; raise for a dataset, or the id or name of one."""
    if isinstance(data, DataFile):
        return data
    name = data.name if isinstance(data, Dataset) else data
    raise DatasetError(
        f"{name} is not a file on this machine",
        hint=Text.format(
            "{} takes a file or rows; {} also takes an uploaded dataset.",
            Call("fine_tune"),
            Call("jobs.create"),
        ),
    )
