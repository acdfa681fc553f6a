"""Parse a fine-tuning job as ARM writes it into a ``NewJob``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from maas_client._settings import tracker_variables
from maas_client.errors import MaasError
from maas_client.local.resources.assets import Assets, Workspace, parse_registry_uri
from maas_client.local.resources.base_models import base_properties
from maas_client.local.resources.blobs import BlobStore
from maas_client.local.resources.errors import user_error
from maas_client.local.resources.jobs import DataRef, JobSpec, NewJob
from maas_client.local.resources.training_config import (
    check_installed,
    check_trackers,
    parse_hyperparameters,
)
from maas_client.local.services import Services
from maas_client.wire import azureml_models as m

_IMMUTABLE_PROPERTIES = (
    "jobType", "fineTuningDetails", "outputs", "resources", "computeId", "experimentName",
)  # fmt: skip
"""Properties that a second PUT cannot change; it can change display name, tags and properties."""
_FIRST_VERSION = "2024-01-01-preview"
"""The first api-version with jobs of the type FineTuning (docs/azure-http.md section 1.1)."""
_STABLE_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


def read_job(
    services: Services, ws: Workspace, name: str, request: dict[str, Any], api_version: str
) -> NewJob:
    """Return the job that a PUT describes. Raises ``ApiError`` for an invalid one."""
    properties = request.get("properties")
    if not isinstance(properties, dict):
        raise user_error("properties: Field required", target="properties")
    kind = str(properties.get("jobType", ""))
    if kind.casefold() != "finetuning":
        raise user_error(
            f"jobType must be FineTuning on this server, not {kind[:40]!r}.", target="jobType"
        )
    if _STABLE_VERSION.fullmatch(api_version) or api_version < _FIRST_VERSION:
        raise user_error(
            f"jobType FineTuning exists in preview api-versions only, from {_FIRST_VERSION}. "
            "Use for example 2024-10-01-preview.",
            target="jobType",
        )
    details = m.Job.model_validate(request).properties.fine_tuning_details
    if details.model_provider.casefold() != "custom":
        raise user_error(
            "modelProvider must be Custom: AzureOpenAI models cannot be fine-tuned locally.",
            target="modelProvider",
        )
    if details.task_type.casefold() != "chatcompletion":
        raise user_error(
            f"taskType must be ChatCompletion on this server, not {details.task_type[:40]!r}.",
            target="taskType",
        )
    return _new_job(services, ws, name, request, details)


def _new_job(
    services: Services,
    ws: Workspace,
    name: str,
    request: dict[str, Any],
    details: m.FineTuningDetails,
) -> NewJob:
    model = _model_name(details.model.uri)
    base = services.base_for(model)
    spec = JobSpec(
        model=model,
        train=details.training_data.uri,
        validation=details.validation_data.uri if details.validation_data else None,
        hyperparameters=_hyperparameters(
            {**_process_count(request["properties"]), **(details.hyper_parameters or {})},
            uses_torch=not services.simulated,
        ),
        output=_output_name(request["properties"]),
    )
    return NewJob(
        name=name,
        request=request,
        immutable={k: request["properties"].get(k) for k in _IMMUTABLE_PROPERTIES},
        spec=spec,
        train=_data_ref(services.assets, services.blobs, ws, spec.train),
        validation=_data_ref(services.assets, services.blobs, ws, spec.validation)
        if spec.validation
        else None,
        workspace={
            "subscription": ws.subscription, "resource_group": ws.resource_group, "name": ws.name,
        },
        base=base,
        properties=base_properties(base),
    )  # fmt: skip


def _model_name(uri: str) -> str:
    registry_model = parse_registry_uri(uri, target="model")
    if registry_model:
        return registry_model[1]
    if ":" not in uri and "/" not in uri:
        return uri
    raise user_error(
        "model.uri must name a model of a registry: azureml://registries/azureml/models/NAME/versions/N.",
        target="model",
    )


def _data_ref(assets: Assets, blobs: BlobStore, ws: Workspace, uri: str) -> DataRef:
    container, blob = assets.resolve_uri(uri, ws)
    return DataRef(uri, blobs.content_id(container, blob))


def _hyperparameters(values: Mapping[str, Any], *, uses_torch: bool) -> dict[str, Any]:
    """Return the hyperparameters as sent, after checking every name and value.

    With ``uses_torch``, also checks that the packages they need are installed.
    """
    if not all(isinstance(value, str | int | float) for value in values.values()):
        raise user_error("hyperParameters must map names to strings.", target="hyperParameters")
    try:
        config = parse_hyperparameters(values)
        if uses_torch:
            check_installed(config)
        check_trackers(values, tracker_variables())
    except MaasError as error:
        raise user_error(str(error), target="hyperParameters") from error
    return dict(values)


def _process_count(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``resources.instanceCount`` as the number of local processes."""
    resources = properties.get("resources")
    count = resources.get("instanceCount") if isinstance(resources, dict) else None
    return {"num_nodes_finetune": count} if count not in (None, 1) else {}


def _output_name(properties: Mapping[str, Any]) -> str:
    outputs = properties.get("outputs") or {}
    name = (outputs.get("registered_model") or {}).get("assetName") or ""
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise user_error(
            "assetName must be 1 to 255 letters, digits, '-', '_' or '.'.",
            target="outputs.registered_model.assetName",
        )
    return str(name)
