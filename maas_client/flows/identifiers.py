"""From what a person typed to what a service is told: models, data sets, jobs, deployments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from maas_client import catalog
from maas_client.catalog import ModelInfo
from maas_client.errors import ConfigError, DatasetError
from maas_client.flows import _backend
from maas_client.flows._io import IO
from maas_client.types import Dataset, Deployment, Job, Model

Target = Literal["azureml", "foundry", "local"]
StrPath = str | Path


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model to tune: what the service is told, what we know of it, and a notice if there is one."""

    id: str
    name: str
    facts: ModelInfo | None
    notice: str | None = None


def validation_target(io: IO) -> Target:
    """Return which rules hold for this connection."""
    return "local" if io.scope.local else io.scope.dialect


def catalog_override(io: IO) -> Path | None:
    """Return the catalog override file, if one is set."""
    return Path(io.scope.catalog) if io.scope.catalog else None


async def resolve_base_model(
    io: IO, model: str | Model, *, allow_retired: bool, has_compute: bool
) -> ResolvedModel:
    """Resolve the model of a new job, and refuse one that cannot be tuned there today.

    What is given by address is never refused for its age. Raises ``ConfigError`` (unknown name, with
    the nearest ones), ``ModelRetiredError`` and ``UnsupportedError``; nothing has been sent then.
    """
    said = model.id if isinstance(model, Model) else model
    facts = catalog.find_model(said, override=catalog_override(io))
    if catalog.is_asset_uri(said):
        return ResolvedModel(
            said, facts.name if facts else said.split("/models/")[-1].split("/")[0], facts
        )
    if facts is None:
        facts = catalog.get_model(said, override=catalog_override(io))
    where = validation_target(io)
    today = await io.call(date.today)
    if where != "local" and not has_compute:
        catalog.check_retirement(facts, where, today, allow_retired=allow_retired)
        catalog.check_tunable(facts, where)
    notice = catalog.retirement_notice(facts, today) if where != "local" else None
    return ResolvedModel(_backend.backend_for(io).model_id(facts), facts.name, facts, notice)


def local_file(data: Dataset | StrPath) -> Path | None:
    """Return the path if ``data`` names a file on this machine, None if it is an id.

    Raises ``DatasetError`` for what looks like a file and is not there.
    """
    if isinstance(data, Dataset):
        return None
    if not isinstance(data, StrPath):
        raise ConfigError(
            f"data is a path, an id or a data set, not a {type(data).__name__}",
            hint='For example "train.jsonl".',
        )
    text = str(data)
    path = Path(data)
    if path.is_file():
        return path
    if text.startswith(("azureml:", "/subscriptions/", "file-")) and not isinstance(data, Path):
        return None
    if isinstance(data, Path) or path.suffix or "/" in text or "\\" in text:
        raise DatasetError(f"there is no file {text}", hint="Check the path.")
    return None


def job_id(job: Job | str) -> str:
    """Return what names the job; wherever an object goes, its id or name goes too."""
    return job.id if isinstance(job, Job) else _named(job, "job")


def dataset_id(dataset: Dataset | str) -> str:
    """Return what names the data set."""
    return dataset.id if isinstance(dataset, Dataset) else _named(dataset, "data set")


def model_id(model: Model | Job | str) -> str:
    """Return what names a model to deploy: a tuned one, a job's, or a base model.

    Raises ``ConfigError`` for a job that has no model yet.
    """
    if isinstance(model, Job):
        if not model.fine_tuned_model:
            raise ConfigError(
                f"job {model.name} has no model: it is {model.status}",
                hint="Wait for it: client.jobs.wait(job).",
            )
        return model.fine_tuned_model
    return model.id if isinstance(model, Model) else _named(model, "model")


def deployment_id(deployment: Deployment | str) -> str:
    """Return what names the deployment."""
    if isinstance(deployment, Deployment):
        return deployment.name
    return _named(deployment, "deployment")


def _named(said: object, what: str) -> str:
    """Return a name or an id. Raises ``ConfigError`` for what is neither: None is most often the
    ``fine_tuned_model`` of a job that has none."""
    if isinstance(said, str):
        return said
    hint = f"Pass the {what} itself, its name or its id."
    if said is None and what == "model":
        hint += " A job has a model once it has succeeded: client.jobs.wait(job)."
    kind = "None" if said is None else f"a value of type {type(said).__name__}"
    raise ConfigError(f"{kind} names no {what}", hint=hint)


def arm_name(said: str) -> str:
    """Return the name in an ARM id; any other text is a name as a whole, so that ``a/b`` never means ``b``."""
    return said.rsplit("/", 1)[-1] if said.startswith(("/", "azureml:")) else said
