"""``client.fine_tune``: the whole road in one call, and the same call again after a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from maas_client.errors import DatasetError
from maas_client.flows import _backend, datasets, deployments, identifiers, job_events, jobs
from maas_client.flows._io import IO
from maas_client.types import FineTuneResult, Hyperparameters, Job, JobEvent, Method, Model


async def fine_tune(
    io: IO,
    training_data: identifiers.StrPath,
    model: str | Model,
    *,
    validation_data: identifiers.StrPath | None = None,
    hyperparameters: Hyperparameters | Mapping[str, object] | None = None,
    method: Method | None = None,
    name: str | None = None,
    compute: str | Sequence[str] | None = None,
    deploy: str | None = None,
    timeout: float | None = None,
    on_job: Callable[[Job], None] | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
    force_new: bool = False,
    allow_retired: bool = False,
    max_billed_tokens: int | None = None,
    ignore: Sequence[str] = (),
) -> FineTuneResult:
    """Check, upload, train, and with ``deploy`` a name: deploy.

    Everything that can be refused for free is refused first. Run again after a crash it finds the file,
    the job and the deployment, and goes on; ``deploy=None`` hosts nothing. ``on_job`` is told the job as
    soon as there is one, ``on_event`` what happens to it. Raises what each step raises.
    """
    if deploy is not None:
        deployments.check_name(deploy)
    order = await jobs.prepare_request(
        io,
        model=model,
        hyperparameters=hyperparameters,
        method=method,
        name=name,
        compute=compute,
        force_new=force_new,
        allow_retired=allow_retired,
        tags=None,
    )
    if identifiers.local_file(training_data) is None:
        raise DatasetError(
            f"{training_data} is not a file on this machine",
            hint="client.fine_tune takes a file; client.jobs.create takes a data set that is uploaded too.",
        )
    known = None if order.model == order.model_name else order.model_name
    report = await datasets.validate_file(
        io, training_data, model=known, ignore=ignore, validation=validation_data
    )
    order = await jobs.attach_data(
        io,
        order,
        training_data,
        validation_data,
        ignore=ignore,
        max_billed_tokens=max_billed_tokens,
        report=report,
    )
    made = await _backend.backend_for(io).create_job(io, order)
    if on_job is not None:
        on_job(made)
    job = await job_events.wait(io, made, timeout=timeout, on_event=on_event)
    job = job.model_copy(update={"attached": made.attached})
    hosted = None
    if deploy is not None:
        hosted = await deployments.create(io, name=deploy, model=job, allow_retired=True)
    return FineTuneResult(report=report, dataset=order.training, job=job, deployment=hosted)
