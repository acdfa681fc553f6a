"""The shapes of what the catalog knows. Frozen, without behaviour beyond reading themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

Target = Literal["azureml", "foundry", "local"]
"""Where a job may run. Public names of the same three things as ``validate(target=...)``."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who says it, and as of when: the date of the source, or the day an undated one was read."""

    id: str
    title: str
    url: str
    as_of: str
    """``YYYY-MM-DD``, or ``YYYY-MM`` where the source itself says no more."""


@dataclass(frozen=True, slots=True)
class HyperparameterRange:
    """One hyperparameter: the service's own name for it, its default and its bounds.

    None means that nobody has published it; a bound is inclusive.
    """

    wire: str
    default: float | int | None = None
    minimum: float | int | None = None
    maximum: float | int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A serverless fine-tuning offer. ``began`` or ``ended`` is None where no source dates it;
    an offer without an end is open as of its source."""

    target: Target
    start_date: date | None
    end_date: date | None
    source: Source


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers that memory plans are made of; a None is not known from any source."""

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int | None = None
    vocab_size: int | None = None
    tied_embeddings: bool | None = None
    experts: int = 1
    experts_per_token: int = 1


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Everything known about one model. ``source_of(field)`` says who says so."""

    name: str
    """As the registry spells it."""
    registry: str | None
    version: str | None
    """Newest registry version that a source names; None where none does."""
    uri: str | None
    """``azureml://registries/.../models/...``: what a job names on azureml."""
    publisher: str | None
    family: str
    template: str
    """The name of its chat template in ``maas_client.chat``."""
    modalities: tuple[str, ...]
    parameters: int | None
    """As published (3.8 B is 3_800_000_000), not counted."""
    active_parameters: int | None
    """Per token, where experts make it fewer."""
    context_length: int | None
    """Tokens, prompt and answer together."""
    max_output: int | None
    """Tokens the serverless endpoint answers with at most."""
    train_length: int | None
    """Tokens after which fine-tuning cuts a row off; None where only ``context_length`` holds."""
    system_role_supported: bool | None
    """False: Azure's endpoint and its fine-tuning put the system message into the first user
    message. None: not known."""
    tool_calling: bool | None
    """Whether Azure's endpoint offers tool calling for it; None: not known."""
    huggingface_id: str | None
    licence: str | None
    status: str | None
    """Lifecycle, in the source's word."""
    legacy_on: date | None
    deprecated_on: date | None
    retired_on: date | None
    """From this day Azure answers 404 for it, and starts no job of it."""
    replacement: str | None
    offers: tuple[Offer, ...]
    tunable_on: frozenset[Target]
    """Targets with a fine-tuning offer, past or present; ``retired_on`` says what is past."""
    train_regions: frozenset[str]
    """Of a workspace (the azureml target). Empty: not known."""
    deploy_regions: frozenset[str]
    compute_sizes: tuple[str, ...]
    """Azure VM sizes on which fine-tuning with ``compute=`` is supported."""
    hyperparameters: Mapping[str, HyperparameterRange]
    """By our names: ``epochs``, ``batch_size``, ``learning_rate`` or
    ``learning_rate_multiplier``. What the serverless offer takes, and nothing else."""
    architecture: Architecture | None
    deployment_format: str | None
    """foundry: ``properties.model.format`` of a deployment, case and all."""
    deployment_sku: str | None
    training_types: tuple[str, ...]
    """foundry: ``trainingType`` values the model can be trained with."""
    local_note: str | None
    """What is different when the local server runs it."""
    aliases: tuple[str, ...]
    """Other names under which people ask for it."""
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)

    def get_source(self, field: str) -> Source | None:
        """Return who says ``fact`` (a field's name), or None where nobody does."""
        return self.sources.get(field)


@dataclass(frozen=True, slots=True)
class Limit:
    """One number of a service, with its unit and its source."""

    name: str
    value: float | int | bool | str | tuple[str, ...]
    unit: str
    source: Source
    note: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """An Azure GPU size."""

    name: str
    gpu: str
    gpus: int
    gpu_memory_gib: float
    """Of one GPU."""
    vcpus: int | None
    memory_gib: float | None
    source: Source


@dataclass(frozen=True, slots=True)
class KaitoPreset:
    """A KAITO preset: what its operator asks of a machine before it starts a tuning job."""

    name: str
    model: str
    """Its name in this catalog."""
    tuning_gpus: int
    tuning_gpu_memory_gib: float
    inference_gpu_memory_gib: float
    disk_gib: float
    source: Source
