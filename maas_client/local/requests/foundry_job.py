"""Parse a fine-tuning job as the OpenAI-shaped API writes it into a ``NewJob``.

See docs/azure-http.md section 4.4.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from maas_client._hyperparameter_table import (
    FOUNDRY_DPO_FIELDS,
    FOUNDRY_RANGES,
    FOUNDRY_SUPERVISED_FIELDS,
)
from maas_client.catalog import ModelInfo
from maas_client.errors import MaasError
from maas_client.local.bases import find_model_facts
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.base_models import base_properties
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_files import FoundryFiles, invalid_payload
from maas_client.local.resources.jobs import DataRef, JobRef, JobSpec, NewJob
from maas_client.local.resources.training_config import parse_hyperparameters
from maas_client.local.services import Services
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record
from maas_client.wire.foundry_models import JOB_FIELDS, find_metadata_problem

_TRAINING_TYPES = {
    "standard": "Standard",
    "globalstandard": "GlobalStandard",
    "datazonestandard": "DataZoneStandard",
    "developer": "Developer",
    "developertier": "Developer",
    "1": "GlobalStandard",
}
"""Accepted values of ``trainingType`` in lower case; some clients send 1."""
_DEFAULT_TRAINING_TYPES = ("GlobalStandard", "DataZoneStandard")
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,40}")


def job_ref(key: str) -> JobRef:
    """Return the reference of a job by its id."""
    return JobRef(FOUNDRY_SCOPE, key.casefold())


def read_job(services: Services, files: FoundryFiles, body: dict[str, Any]) -> NewJob:
    """Return the job that a POST describes. Raises ``ApiError`` for an invalid one."""
    _check_unknown_fields(body)
    _check_metadata(body)
    model = _require_string(body, "model")
    facts = find_model_facts(model)
    _check_not_tuned(model)
    base = services.base_for(model)
    training_type = _check_training_type(body.get("trainingType"), facts)
    hyperparameters, seed = _hyperparameters(body), _seed(body)
    job_id = new_id()
    name = facts.name if facts else model
    suffix = _suffix(body)
    train = _data_ref(files, body, "training_file")
    validation = _data_ref(files, body, "validation_file") if body.get("validation_file") else None
    spec = JobSpec(
        model=name,
        train=train.uri,
        validation=validation.uri if validation else None,
        hyperparameters={**hyperparameters, "seed": seed},
        output=f"{name}.ft-{job_id}" + (f"-{suffix}" if suffix else ""),
    )
    return NewJob(
        name=f"ftjob-{job_id}",
        request={
            **body,
            "model": name,
            "seed": seed,
            "suffix": suffix,
            "trainingType": training_type,
        },
        immutable={},
        spec=spec,
        train=train,
        validation=validation,
        workspace={"subscription": "", "resource_group": "", "name": FOUNDRY_SCOPE},
        base=base,
        dialect="foundry",
        properties=base_properties(base),
    )


def _check_not_tuned(model: str) -> None:
    """Refuse to tune a tuned model again: Azure does that for OpenAI's models only (section 4.3)."""
    base, is_tuned, _ = model.partition(".ft-")
    if not is_tuned:
        return
    facts = find_model_facts(base)
    if facts is not None and facts.publisher == "OpenAI":
        text = "The local server does not implement continuous fine-tuning. Name the base model."
        raise ApiError(501, "NotImplemented", text, target="model")
    raise invalid_payload(
        f"{base[:60]} does not support continuous fine-tuning. Name the base model.", param="model"
    )


def _check_unknown_fields(body: Mapping[str, Any]) -> None:
    for name in sorted(set(body) - JOB_FIELDS)[:1]:
        raise invalid_payload(
            f"Unrecognized request argument supplied: {name[:60]}", param=name[:60]
        )


def _check_metadata(body: Mapping[str, Any]) -> None:
    if problem := find_metadata_problem(_optional_object(body, "metadata")):
        raise invalid_payload(problem, param="metadata")


def _require_string(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise invalid_payload(f"{name} is required and must be a string.", param=name)
    return value


def _check_training_type(value: Any, facts: ModelInfo | None) -> str:
    """Return the training type. Raises ``ApiError`` for one that the model does not support.

    A missing one is ``Standard``. The service refuses that with a message which names the model instead.
    """
    training_type = _TRAINING_TYPES.get("standard" if value is None else str(value).casefold())
    if training_type is None:
        allowed = "standard, globalStandard, datazoneStandard, developerTier"
        raise invalid_payload(f"trainingType must be one of {allowed}.", param="trainingType")
    supported = facts.training_types if facts and facts.training_types else _DEFAULT_TRAINING_TYPES
    if training_type in supported:
        return training_type
    if value is None:
        raise invalid_payload(
            "The specified base model does not support fine-tuning. A job without trainingType is a "
            "Standard one, which this model does not support: pass trainingType, such as "
            f"{supported[0]} (in OpenAI's clients in extra_body).",
            param="trainingType",
        )
    raise invalid_payload(
        f"The model does not support fine-tuning with {training_type} TrainingType.",
        param="trainingType",
    )


def _suffix(body: Mapping[str, Any]) -> str | None:
    suffix = body.get("suffix")
    if suffix is not None and not (isinstance(suffix, str) and _SUFFIX.fullmatch(suffix)):
        raise invalid_payload("suffix must be 1 to 40 letters, digits, '-' or '_'.", param="suffix")
    return suffix


def _seed(body: Mapping[str, Any]) -> int:
    seed = body.get("seed")
    if seed is None:
        return secrets.randbelow(2**31)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise invalid_payload("seed must be a whole number from 0 to 2147483647.", param="seed")
    return seed


def _hyperparameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters by their names in the API; ``auto`` and -1 select the default."""
    kind, by_method = _method_hyperparameters(body)
    requested = {**_optional_object(body, "hyperparameters"), **by_method}
    for name, value in _optional_object(body, "hyperparameters").items():
        if value != requested[name]:
            raise invalid_payload(
                f"hyperparameters.{name[:60]} differs from method.{kind}.hyperparameters.{name[:60]}. "
                "Remove the first.",
                param="hyperparameters",
            )
    allowed = FOUNDRY_DPO_FIELDS if kind == "dpo" else FOUNDRY_SUPERVISED_FIELDS
    unknown_names = sorted(set(requested) - allowed)
    if unknown_names:
        raise invalid_payload(
            f"Unrecognized hyperparameter supplied: {unknown_names[0][:60]}",
            param="hyperparameters",
        )
    for name in ("integrations", "prompt_loss_weight"):
        if body.get(name):
            raise invalid_payload(f"{name} is not supported for this model.", param=name)
    values = {k: v for k, v in requested.items() if v not in (None, "auto", -1)}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid_payload(f"{name} must be a number or auto.", param=name)
    values |= {"method": "DPO"} if kind == "dpo" else {}
    for name, (low, high) in FOUNDRY_RANGES.items():
        value = values.get(name, low)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise invalid_payload(
                f"{name} must be a whole number from {low} to {high}.", param=name
            )
    try:
        parse_hyperparameters(values)
    except MaasError as error:
        raise invalid_payload(str(error), param="hyperparameters") from error
    return values


def _method_hyperparameters(body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the type of the method, ``supervised`` or ``dpo``, and its hyperparameters."""
    method = _optional_object(body, "method")
    kind = method.get("type", "supervised")
    facts = find_model_facts(str(body.get("model")))
    if kind == "reinforcement" and facts is not None and "RFT" in facts.tuning_methods:
        raise ApiError(
            501,
            "NotImplemented",
            "The local server does not implement jobs of method reinforcement."
            " Train with rewards in a session.",
            target="method",
        )
    if kind not in ("supervised", "dpo"):
        raise invalid_payload(
            f"method.type must be supervised or dpo for this model, not {kind!r:.40}.",
            param="method",
        )
    unknown_names = sorted(set(method) - {"type", kind})
    if unknown_names:
        raise invalid_payload(
            f"Unrecognized request argument supplied: method.{unknown_names[0][:60]}",
            param="method",
        )
    details = _optional_object(method, kind)
    if set(details) - {"hyperparameters"}:
        raise invalid_payload(f"method.{kind} accepts hyperparameters only.", param="method")
    return kind, _optional_object(details, "hyperparameters")


def _optional_object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid_payload(f"{name} must be an object.", param=name)
    return value


def _data_ref(training: FoundryFiles, body: Mapping[str, Any], name: str) -> DataRef:
    file_id = _require_string(body, name)
    try:
        record = training.get(file_id)
    except ApiError:
        raise invalid_payload(f"{name} {file_id[:60]!r} does not exist.", param=name) from None
    if record.state != "processed":
        raise invalid_payload(
            f"{name} {file_id} is not usable: {record.body['problem']}", param=name
        )
    return DataRef(file_id, str(record.body["content"]))


STATUS_BY_STATE = {
    "NotStarted": "pending",
    "Queued": "pending",
    "Starting": "pending",
    "Preparing": "pending",
    "Running": "running",
    "PauseRequested": "pausing",
    "Paused": "paused",
    "Finalizing": "running",
    "Completed": "succeeded",
    "Failed": "failed",
    "CancelRequested": "cancelled",
    "Canceled": "cancelled",
}
"""Status in the API for each state of a job (docs/azure-http.md section 4.5).

A job whose cancellation was requested is cancelled at once in the API, as in the service. ``paused`` is
Azure's status, ``pausing`` is OpenAI's.
"""


def fine_tuned_model(job: Record) -> str | None:
    """Return the name of the model that a job registered, or None."""
    model = job.body.get("model")
    return str(model["name"]) if model else None
