"""What a flow hands to a backend: request objects, and which backend and rules a connection uses.

Each backend is a package of modules (``flows/azureml``, ``flows/foundry``). A flow module states, as a
Protocol next to its verbs, the functions that both must have, and picks the module for the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from maas_client import catalog
from maas_client._display.progress import ProgressCallback
from maas_client._hyperparameter_table import (
    ADAPTER_HYPERPARAMETERS,
    HYPERPARAMETERS,
    NAMES_BY_WIRE_NAME,
    to_wire_value,
)
from maas_client._messages import Argument, Text
from maas_client.catalog import ModelInfo
from maas_client.errors import ConfigError
from maas_client.flows._arm import READY_TIMEOUT_S
from maas_client.flows._io import IO
from maas_client.types import Dataset, Deployment, Hyperparameters, Method
from maas_client.wire import parsing

Target = Literal["azureml", "foundry", "local"]


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A validated file to upload."""

    path: Path
    sha256: str
    """Digest of the validated bytes; the upload fails if the file holds any others."""
    name: str
    progress: ProgressCallback | None = None
    has_default_name: bool = False
    """Whether ``name`` is derived from the file's name, so that stored bytes keep the name they have."""


@dataclass(frozen=True, slots=True)
class ModelUploadRequest:
    """A folder of weights that were trained elsewhere, and their base model."""

    folder: Path
    name: str
    base_model: str
    """The base model's name in the catalog."""
    progress: ProgressCallback | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to create: names are resolved and the data is uploaded."""

    model: str
    """The base model as the service names it: a registry URI, an asset id or a foundry model name."""
    model_name: str
    training: Dataset
    validation: Dataset | None
    hyperparameters: Hyperparameters
    method: str | None
    name: str | None
    compute: tuple[str, ...]
    force_new: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    display_name: str | None = None
    training_type: str | None = None
    catalog_name: str | None = None
    """The model's name in the catalog, for whose rules data is validated; None if only the service knows it."""


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """A deployment to create: the model's name is resolved."""

    name: str
    model: str
    delete_at: datetime | None = None
    ready_timeout_s: float = READY_TIMEOUT_S
    """Seconds that provisioning may take, and then again the first answer."""
    sku: str | None = None
    capacity: int | None = None

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Return the ``tags`` part of the request body; empty without a deletion time."""
        if self.delete_at is None:
            return {}
        return {"tags": {parsing.DELETE_AT_TAG: parsing.format_delete_at(self.delete_at)}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request: the deployment, and the OpenAI-shaped body."""

    deployment: Deployment | str
    body: dict[str, Any]


def is_foundry(io: IO) -> bool:
    """Return True if the connection uses the foundry dialect, False for azureml."""
    return io.scope.dialect == "foundry"


def validation_target(io: IO) -> Target:
    """Return whose rules apply to data and models on this connection."""
    return "local" if io.scope.local else io.scope.dialect


def catalog_override(io: IO) -> Path | None:
    """Return the catalog override file, if one is set."""
    return Path(io.scope.catalog) if io.scope.catalog else None


def service_model_id(io: IO, model: ModelInfo) -> str:
    """Return how the connection's backend names a base model of the catalog.

    The local server takes the name of a model that is in no registry, so that its code can be tested.
    """
    if is_foundry(io) or (io.scope.local and model.uri is None):
        return model.name
    return catalog.registry_uri(model)


def canonical_method(method: str | None) -> str | None:
    """Return the training method as the library writes it. Raises ``ConfigError`` for an unknown one."""
    if method is None:
        return None
    names: dict[str, str] = {name.lower(): name for name in get_args(Method)}
    if str(method).lower() not in names:
        raise ConfigError(
            f"unknown method {method!r}", hint=f"Use one of {', '.join(names.values())}."
        )
    return names[str(method).lower()]


def check_hyperparameters(values: Hyperparameters, method: str | None) -> None:
    """Raise ``ConfigError`` for a value that is given twice or has no effect, for example with the method."""
    for name, value in values.extra.items():
        check_given_once(values, NAMES_BY_WIRE_NAME.get(name, name), value)
    chosen = values.extra.get("method", method)
    if method is not None and str(chosen).lower() != method.lower():
        raise given_twice("method")
    if values.warmup_steps and values.warmup_ratio:
        steps, ratio = Argument("warmup_steps"), Argument("warmup_ratio")
        raise ConfigError(
            Text.format("{} has no effect with {}", ratio, steps),
            hint=Text.format("Leave out {} or {}.", ratio, steps),
        )
    given = [name for name in ("beta", "adapter") if getattr(values, name) is not None]
    if given and method != "DPO":
        option = Argument(given[0])
        raise ConfigError(
            Text.format("{} is an option of the method DPO", option),
            hint=Text.format("Pass {}, or leave out {}.", Argument("method", "DPO"), option),
        )
    given = [name for name in ADAPTER_HYPERPARAMETERS if getattr(values, name)]
    if given and (method == "Full" or (values.adapter or "").lower() == "none"):
        full = Argument("method", "Full") if method == "Full" else Argument("adapter", "none")
        option = Argument(given[0])
        raise ConfigError(
            Text.format("{} is an option of adapters, and {} trains all weights", option, full),
            hint=Text.format("Leave out {} or {}.", option, full),
        )


def check_given_once(values: Hyperparameters, name: str, value: object) -> None:
    """Raise ``ConfigError`` if ``values`` has another value of this hyperparameter."""
    other = getattr(values, name) if name in HYPERPARAMETERS else None
    if other is not None and to_wire_value(other) != to_wire_value(value):
        raise given_twice(name)


def given_twice(name: str) -> ConfigError:
    """Return the error about an argument that has two values."""
    message = Text.format("{} is given twice, with different values", Argument(name))
    return ConfigError(message, hint="Give it once.")
