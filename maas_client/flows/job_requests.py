"""The request of a job: its options, and its data, which is validated and uploaded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

from maas_client._display.progress import Progress, ProgressCallback
from maas_client._messages import Argument, Text
from maas_client.dataset.sources import DataFile
from maas_client.errors import ConfigError, DatasetError
from maas_client.flows import datasets, identifiers
from maas_client.flows._io import IO
from maas_client.flows._requests import (
    JobRequest,
    canonical_method,
    check_given_once,
    check_hyperparameters,
)
from maas_client.flows.azureml.workspace import get_discovery
from maas_client.flows.datasets import JobData
from maas_client.types import Dataset, FileReport, Hyperparameters, Method, Model, ValidationReport

_log = logging.getLogger("maas_client")
_FEW_EXAMPLES = 10
"""With fewer, the local server is asked how many a job needs: this is its default."""


class JobOptions(TypedDict, total=False):
    """Options that ``jobs.create`` and ``fine_tune`` share; the docstrings of both describe them."""

    hyperparameters: Hyperparameters | Mapping[str, object] | None
    method: Method | None
    beta: float | None
    name: str | None
    compute: str | Sequence[str] | None
    force_new: bool
    allow_retired: bool
    max_billed_tokens: int | None
    ignore: Sequence[str]
    tags: Mapping[str, str] | None
    training_type: str | None
    progress: bool | ProgressCallback | None


JOB_OPTION_DEFAULTS: JobOptions = {
    "hyperparameters": None,
    "method": None,
    "beta": None,
    "name": None,
    "compute": None,
    "force_new": False,
    "allow_retired": False,
    "max_billed_tokens": None,
    "ignore": (),
    "tags": None,
    "training_type": None,
    "progress": None,
}


async def to_request(io: IO, model: str | Model, job_options: JobOptions) -> JobRequest:
    """Return a request without data, after the checks that every backend has. Nothing is sent."""
    options: JobOptions = {**JOB_OPTION_DEFAULTS, **job_options}
    if (budget := options["max_billed_tokens"]) is not None:
        identifiers.check_number("max_billed_tokens", budget)
    compute = options["compute"]
    machines = (compute,) if isinstance(compute, str) else tuple(compute or ())
    method = canonical_method(options["method"])
    resolved = await identifiers.resolve_base_model(
        io,
        model,
        allow_retired=options["allow_retired"],
        has_compute=bool(machines),
        method=method,
    )
    for notice in resolved.notices:
        _log.warning("%s", notice)
    request = JobRequest(
        model=resolved.id,
        model_name=resolved.name,
        catalog_name=resolved.info.name if resolved.info else None,
        training=Dataset(id="", name=""),
        validation=None,
        hyperparameters=_hyperparameters(options),
        method=method,
        name=options["name"],
        compute=machines,
        force_new=options["force_new"],
        tags=options["tags"] or {},
        training_type=options["training_type"],
    )
    check_hyperparameters(request.hyperparameters, method)
    return request


async def attach_data(
    io: IO,
    request: JobRequest,
    training_data: JobData,
    validation_data: JobData | None,
    job_options: JobOptions,
    display: Progress,
    *,
    report: ValidationReport | None = None,
) -> JobRequest:
    """Validate and upload local files and return the request with its datasets.

    ``report`` is about both files, if the caller has validated them.
    """
    options: JobOptions = {**JOB_OPTION_DEFAULTS, **job_options}
    ignore, max_billed_tokens = options["ignore"], options["max_billed_tokens"]
    if report is None:
        has_budget = max_billed_tokens is not None
        training_report, validation_report = [
            await _validate(io, request, data, ignore, needs_token_bounds=has_budget)
            for data in (training_data, validation_data)
        ]
    else:
        training_report = _Validated(report.files[0], report)
        validation_report = _Validated(report.files[-1], report)
    if io.scope.local and training_report is not None:
        await _check_example_count(io, training_report.file)
    if max_billed_tokens is not None:
        held_out = None if validation_data is None else validation_report
        _check_token_budget(
            request,
            training_report and training_report.file,
            held_out and held_out.file,
            max_billed_tokens,
        )
    training = await _to_dataset(io, training_data, training_report, display)
    validation = (
        None
        if validation_data is None
        else await _to_dataset(io, validation_data, validation_report, display)
    )
    return replace(request, training=training, validation=validation)


class _Validated(NamedTuple):
    """The report on one file, and the report of the check that it is from, if this call made it."""

    file: FileReport
    report: ValidationReport | None = None


async def _validate(
    io: IO,
    request: JobRequest,
    data: JobData | None,
    ignore: Sequence[str],
    *,
    needs_token_bounds: bool,
) -> _Validated | None:
    """Validate data for the request's model; return None, and log it, if the bytes are not at hand."""
    if data is None:
        return None
    model = request.catalog_name
    if isinstance(data, DataFile):
        report = await datasets.validate_for_job(
            io,
            data,
            model=model,
            method=request.method,
            ignore=ignore,
            needs_token_bounds=needs_token_bounds,
        )
        return _Validated(report.files[0], report)
    if isinstance(data, str):
        _log.info("%s is not on this machine and was not validated", data)
        return None
    if file := await datasets.find_report(
        io,
        data,
        model=model,
        method=request.method,
        ignore=ignore,
        needs_token_bounds=needs_token_bounds,
    ):
        return _Validated(file)
    if data.path is None:
        _log.info("%s is not on this machine and was not validated", data.name)
    else:
        _log.warning(
            "%s was not validated for %s: the file %s changed after the upload",
            data.name,
            request.model_name,
            data.path,
        )
    return None


async def _check_example_count(io: IO, training: FileReport) -> None:
    """Refuse a job that the local server would refuse. For Azure, the validation does that."""
    if training.examples >= _FEW_EXAMPLES:
        return
    minimum = (await get_discovery(io)).required_examples.get(io.scope.dialect, 0)
    if training.examples < minimum:
        raise DatasetError(
            f"{training.path} has {training.examples} of the {minimum} examples that a job needs at least",
            hint="Add examples. For a trial, start the server with --min-examples.",
        )


def _check_token_budget(
    request: JobRequest,
    training: FileReport | None,
    validation: FileReport | None,
    max_billed_tokens: int,
) -> None:
    """Refuse a job that may be billed for more than ``max_billed_tokens``, by the report's upper bound."""
    if training is None:
        raise ConfigError(
            Text.format(
                "{} needs the training file: the tokens of a dataset elsewhere cannot be counted",
                Argument("max_billed_tokens"),
            ),
            hint=Text.format("Pass the file's path as {}.", Argument("training_data")),
        )
    from maas_client.dataset.cost import TokenRange, billed_tokens

    billed = billed_tokens(
        TokenRange.from_stats(training.stats),
        TokenRange.from_stats(validation.stats) if validation else None,
        request.hyperparameters.epochs or 1,
    )
    if billed.at_most > max_billed_tokens:
        estimate = "" if billed.likely == billed.at_most else f" (probably {billed.likely:,})"
        raise ConfigError(
            f"the job may be billed for {billed.at_most:,} tokens{estimate}, more than the limit "
            f"of {max_billed_tokens:,}",
            hint=Text.format(
                "Use fewer epochs or fewer rows, or raise {}.", Argument("max_billed_tokens")
            ),
        )


async def _to_dataset(
    io: IO, data: JobData, validated: _Validated | None, display: Progress
) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, DataFile):
        assert validated is not None
        assert validated.report is not None
        return await datasets.upload_validated(
            io, data, validated.file, validated.report, progress=display
        )
    if data.startswith("azureml:"):
        return Dataset(id=data, name=data.rsplit("/", 1)[-1], uri=data)
    return await datasets.get(io, data)


def _hyperparameters(options: JobOptions) -> Hyperparameters:
    """Return the hyperparameters, with ``beta`` among them. Raises ``ConfigError`` for a wrong one."""
    values = Hyperparameters.model_validate(options["hyperparameters"] or {})
    if (beta := options["beta"]) is not None:
        check_given_once(values, "beta", beta)
        values = Hyperparameters.model_validate({**values.model_dump(), "beta": beta})
    return values
