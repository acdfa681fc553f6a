"""``client.jobs``: fine-tuning jobs, created once, and what can be asked of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from maas_client.errors import ConfigError
from maas_client.flows import _backend, datasets, identifiers
from maas_client.flows._backend import JobRequest
from maas_client.flows._io import IO
from maas_client.types import (
    Checkpoint,
    Dataset,
    Hyperparameters,
    Job,
    Method,
    Model,
    ValidationReport,
)

_log = logging.getLogger("maas_client")
_METHODS = {name.lower(): name for name in ("LoRA", "QLoRA", "DoRA", "Full", "rsLoRA")}


async def create(
    io: IO,
    model: str | Model,
    training_data: Dataset | identifiers.StrPath,
    validation_data: Dataset | identifiers.StrPath | None = None,
    *,
    hyperparameters: Hyperparameters | Mapping[str, object] | None = None,
    method: Method | None = None,
    name: str | None = None,
    compute: str | Sequence[str] | None = None,
    force_new: bool = False,
    allow_retired: bool = False,
    max_billed_tokens: int | None = None,
    ignore: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> Job:
    """Create a fine-tuning job and return at once; the same call again returns the same job.

    ``training_data`` is a data set, its id, or a file that is checked and uploaded. ``method`` (LoRA,
    QLoRA, DoRA, Full, rsLoRA) is given only where the backend lets one choose. ``compute`` (a compute's name or
    instance types) runs it on your own GPUs: Model as a Platform. ``max_billed_tokens`` refuses before
    the upload. ``force_new`` starts another job where the same call would find the first.

    Raises, before anything is sent: ``ModelRetiredError``, ``UnsupportedError``, ``ConfigError``,
    ``DatasetError``.
    """
    order = await prepare_request(
        io,
        model=model,
        hyperparameters=hyperparameters,
        method=method,
        name=name,
        compute=compute,
        force_new=force_new,
        allow_retired=allow_retired,
        tags=tags,
    )
    order = await attach_data(
        io,
        order,
        training_data,
        validation_data,
        ignore=ignore,
        max_billed_tokens=max_billed_tokens,
    )
    return await _backend.backend_for(io).create_job(io, order)


async def prepare_request(
    io: IO,
    *,
    model: str | Model,
    hyperparameters: Hyperparameters | Mapping[str, object] | None,
    method: str | None,
    name: str | None,
    compute: str | Sequence[str] | None,
    force_new: bool,
    allow_retired: bool,
    tags: Mapping[str, str] | None,
) -> JobRequest:
    """Return an order without data sets, after everything that can be refused for free was looked at."""
    machines = (compute,) if isinstance(compute, str) else tuple(compute or ())
    wanted = await identifiers.resolve_base_model(
        io, model, allow_retired=allow_retired, has_compute=bool(machines)
    )
    if wanted.notice:
        _log.warning("%s", wanted.notice)
    if not isinstance(hyperparameters, Hyperparameters):
        hyperparameters = Hyperparameters.model_validate(hyperparameters or {})
    order = JobRequest(
        model=wanted.id,
        model_name=wanted.name,
        training=Dataset(id="", name=""),
        validation=None,
        hyperparameters=hyperparameters,
        method=_method(method),
        name=name,
        compute=machines,
        force_new=force_new,
        tags=tags or {},
    )
    _backend.backend_for(io).check_order(io, order)
    if machines and io.scope.local:
        # Not refused: a program for one's own GPUs is to be tried here unchanged.
        text = "the local server trains on the machine it runs on; compute %s is noted in the job, no more"
        _log.warning(text, ", ".join(machines))
    return order


def _method(method: str | None) -> str | None:
    if method is None:
        return None
    found = _METHODS.get(str(method).lower())
    if found is None:
        raise ConfigError(
            f"no method is called {method!r}", hint=f"It is {', '.join(_METHODS.values())}."
        )
    return found


async def attach_data(
    io: IO,
    order: JobRequest,
    training_data: Dataset | identifiers.StrPath,
    validation_data: Dataset | identifiers.StrPath | None,
    *,
    ignore: Sequence[str] = (),
    max_billed_tokens: int | None = None,
    report: ValidationReport | None = None,
) -> JobRequest:
    """Check and upload what is on this machine, and return the order with its data sets. ``report`` is
    about the training file where that was checked already."""
    where = identifiers.local_file(training_data)
    report = report or await _report(io, order, training_data, where, ignore)
    other = identifiers.local_file(validation_data) if validation_data is not None else None
    aside = await _report(io, order, validation_data, other, ignore)
    if max_billed_tokens is not None:
        _within(order, report, aside, max_billed_tokens)
    training = await _uploaded(io, training_data, where, report)
    validation = (
        None if validation_data is None else await _uploaded(io, validation_data, other, aside)
    )
    return replace(order, training=training, validation=validation)


async def _report(
    io: IO,
    order: JobRequest,
    data: Dataset | identifiers.StrPath | None,
    file: object,
    ignore: Sequence[str],
) -> ValidationReport | None:
    """Check a file for the job's model, also one that this program uploaded before; say when the bytes
    are not at hand."""
    path = data.path if isinstance(data, Dataset) else file
    if path is None:
        if data is not None:
            _log.info("%s is not on this machine and was not checked", _told(data))
        return None
    model = None if order.model_name == order.model else order.model_name
    return await datasets.validate_file(io, str(path), model=model, ignore=ignore)


def _told(data: Dataset | identifiers.StrPath) -> str:
    return data.name if isinstance(data, Dataset) else str(data)


def _within(
    order: JobRequest, training: ValidationReport | None, aside: ValidationReport | None, most: int
) -> None:
    """Refuse a job whose billed tokens, by the report's upper bound, exceed ``most``."""
    if training is None:
        raise ConfigError(
            "max_billed_tokens= needs the file: tokens of a data set elsewhere cannot be counted",
            hint="Pass the file's path as training_data=.",
        )
    from maas_client.dataset.cost import TokenRange, billed_tokens

    counted = TokenRange.from_stats(training.files[0].stats)
    other = TokenRange.from_stats(aside.files[0].stats) if aside else None
    billed = billed_tokens(counted, other, order.hyperparameters.epochs or 1).at_most
    if billed > most:
        raise ConfigError(
            f"the job would be billed for up to {billed:,} tokens, more than the {most:,} allowed",
            hint="Fewer epochs, fewer rows, or a higher max_billed_tokens=.",
        )


async def _uploaded(
    io: IO,
    data: Dataset | identifiers.StrPath,
    file: object,
    report: ValidationReport | None,
) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if file is None or report is None:
        text = str(data)
        if text.startswith("azureml:"):
            return Dataset(id=text, name=text.rsplit("/", 1)[-1], uri=text)
        return await datasets.get(io, text)
    return await datasets.upload_validated(io, data, report)


async def get(io: IO, job: Job | str) -> Job:
    """Return the job as it is now, by id or name."""
    return await _backend.backend_for(io).job(io, identifiers.job_id(job))


async def list_all(io: IO) -> AsyncGenerator[Job, None]:
    """Iterate over all fine-tuning jobs; pages by itself."""
    async for one in _backend.backend_for(io).jobs(io):
        yield one


async def cancel(io: IO, job: Job | str) -> Job:
    """Ask for the job to be cancelled and return it as it is then. What was trained is billed."""
    return await _backend.backend_for(io).cancel_job(io, identifiers.job_id(job))


async def pause(io: IO, job: Job | str) -> Job:
    """Ask for a running job to be paused and return it as it is then; it rests once its step is done.

    foundry does it for OpenAI's own models, the local server for every job; azureml documents no such
    operation (``UnsupportedError``). The pause leaves a checkpoint that can be deployed where the
    backend lists them.
    """
    return await _backend.backend_for(io).pause_job(io, identifiers.job_id(job))


async def resume(io: IO, job: Job | str) -> Job:
    """Let a paused job go on from where it was, and return it as it is then."""
    return await _backend.backend_for(io).resume_job(io, identifiers.job_id(job))


async def save_checkpoint(io: IO, job: Job | str) -> Job:
    """Ask a running job for a checkpoint now and return the job as it is then; it goes on.

    The checkpoint is written once the step is done: an event tells it, and ``checkpoints`` lists it where
    the backend does. The local server alone has such an operation (``UnsupportedError`` elsewhere).
    """
    return await _backend.backend_for(io).save_checkpoint(io, identifiers.job_id(job))


async def delete(io: IO, job: Job | str) -> None:
    """Delete the job's record; a model it made stays."""
    await _backend.backend_for(io).delete_job(io, identifiers.job_id(job))


async def logs(io: IO, job: Job | str) -> str:
    """Return the job's log, as far as it has been written."""
    return await _backend.backend_for(io).logs(io, identifiers.job_id(job))


async def checkpoints(io: IO, job: Job | str) -> AsyncGenerator[Checkpoint, None]:
    """Iterate over the states of the model that the service kept."""
    async for one in _backend.backend_for(io).checkpoints(io, identifiers.job_id(job)):
        yield one
