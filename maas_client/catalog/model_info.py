"""The records of the catalog: models, offers, hyperparameter ranges, limits, machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

Target = Literal["azureml", "foundry", "local"]
"""Where a job can run, as in ``validate(target=...)``."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact comes from.

    Attributes:
        id: The source's key in the catalog file.
        title: Its title.
        url: Its address.
        as_of: The date of the source, or the day it was read if it has no date: ``YYYY-MM-DD``, or
            ``YYYY-MM`` if the source is no more precise.
    """

    id: str
    title: str
    url: str
    as_of: str


@dataclass(frozen=True, slots=True)
class HyperparameterRange:
    """The values that a service takes for one hyperparameter. None means that nobody publishes the value.

    Attributes:
        wire: The service's own name of the hyperparameter.
        default: The service's default.
        minimum: The smallest value allowed.
        maximum: The largest value allowed.
    """

    wire: str
    default: float | int | None = None
    minimum: float | int | None = None
    maximum: float | int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A serverless fine-tuning offer of a model.

    Attributes:
        target: The backend that offers it.
        start_date: The first day; None if no source gives it.
        end_date: The last day; None if the offer is open or no source gives it.
        source: The source of the offer.
    """

    target: Target
    start_date: date | None
    end_date: date | None
    source: Source


@dataclass(frozen=True, slots=True)
class Architecture:
    """The dimensions of a model, from which memory estimates are computed. None: not known from any source."""

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
    """Everything the catalog knows about a model. None and empty values mean: not known.

    Attributes:
        name: The name in the registry.
        registry: The registry that contains the model.
        version: The newest registry version that a source names.
        uri: The ``azureml://registries/.../models/...`` URI that a job on azureml names.
        publisher: Who published the model.
        family: The model family, such as ``phi-4``.
        template: The name of its chat template in ``maas_client.chat``.
        modalities: What it reads and writes, such as ``text``.
        parameters: The published number of parameters (3.8 B is 3_800_000_000).
        active_parameters: Parameters used per token, for mixture-of-experts models.
        context_length: Tokens of prompt and answer together.
        max_output: The longest answer of the serverless endpoint, in tokens.
        train_length: The length at which fine-tuning truncates rows, in tokens; None if only
            ``context_length`` applies.
        system_role_supported: False if Azure moves the system message into the first user message, for
            answers and for training.
        tool_calling: Whether Azure's endpoint offers tool calling for it.
        response_formats: What Azure's endpoint answers in: ``text``, ``json``; empty if no source says.
        huggingface_id: The repository on the Hugging Face Hub.
        licence: The licence.
        status: The lifecycle status, in the source's word.
        legacy_on: The day it becomes legacy.
        deprecated_on: The day it is deprecated.
        retired_on: The day from which Azure answers 404 for it and starts no job of it.
        replacement: The model that Azure recommends instead.
        offers: The fine-tuning offers, past and present.
        tunable_on: The backends with an offer, past or present (``retired_on`` ends them).
        train_regions: The workspace regions with fine-tuning (azureml).
        deploy_regions: The regions with deployments.
        compute_sizes: The Azure VM sizes on which fine-tuning with ``compute=`` is supported.
        hyperparameters: What the serverless offer takes, by this library's names: ``epochs``,
            ``batch_size``, ``learning_rate`` or ``learning_rate_multiplier``.
        architecture: The model's dimensions.
        deployment_format: foundry: ``properties.model.format`` of a deployment, case-sensitive.
        tuning_methods: foundry: the methods of managed jobs: ``SFT``, ``DPO``, ``RFT``.
        training_types: foundry: the ``trainingType`` values the model can be trained with.
        deployment_options: foundry: how a tuned model is deployed: ``serverless``, ``managed compute``,
            ``Fireworks``.
        deployment_skus: foundry: the SKUs of serverless deployments of a tuned model, the default first.
        interactive_training: foundry: whether it can be trained in sessions.
        global_train_regions: foundry: the regions of resources with global training.
        standard_train_regions: foundry: the regions with training of type ``Standard``.
        standard_deploy_regions: foundry: the regions with deployments of SKU ``Standard``.
        provisioned_deploy_regions: foundry: the regions with deployments of SKU ``ProvisionedManaged``.
        access: A condition of access, such as ``by invitation``.
        training_retired_on: The earliest day on which fine-tuning ends for those who tuned the model before;
            for others it ends on ``retired_on``.
        deployment_retired_on: The day from which tuned models are neither deployed nor answer.
        local_note: What differs when the local server runs it.
        aliases: Other names that people use for it.
        former_names: Names that Azure no longer accepts for it.
        unknown: Why a fact is not known, by attribute.
        sources: The source of each attribute.
    """

    name: str
    registry: str | None
    version: str | None
    uri: str | None
    publisher: str | None
    family: str
    template: str
    modalities: tuple[str, ...]
    parameters: int | None
    active_parameters: int | None
    context_length: int | None
    max_output: int | None
    train_length: int | None
    system_role_supported: bool | None
    tool_calling: bool | None
    response_formats: tuple[str, ...]
    huggingface_id: str | None
    licence: str | None
    status: str | None
    legacy_on: date | None
    deprecated_on: date | None
    retired_on: date | None
    replacement: str | None
    offers: tuple[Offer, ...]
    tunable_on: frozenset[Target]
    train_regions: frozenset[str]
    deploy_regions: frozenset[str]
    compute_sizes: tuple[str, ...]
    hyperparameters: Mapping[str, HyperparameterRange]
    architecture: Architecture | None
    deployment_format: str | None
    tuning_methods: tuple[str, ...]
    training_types: tuple[str, ...]
    deployment_options: tuple[str, ...]
    deployment_skus: tuple[str, ...]
    interactive_training: bool | None
    global_train_regions: frozenset[str]
    standard_train_regions: frozenset[str]
    standard_deploy_regions: frozenset[str]
    provisioned_deploy_regions: frozenset[str]
    access: str | None
    training_retired_on: date | None
    deployment_retired_on: date | None
    local_note: str | None
    aliases: tuple[str, ...]
    former_names: tuple[str, ...]
    unknown: Mapping[str, str]
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)

    def get_source(self, field: str) -> Source | None:
        """Return the source of an attribute, or None if it has none.

        Args:
            field: The attribute's name, such as ``retired_on``.
        """
        return self.sources.get(field)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a service.

    Attributes:
        name: The limit's name, such as ``rows_min``.
        value: Its value.
        unit: Its unit, such as ``bytes``.
        source: Its source.
        note: A remark.
    """

    name: str
    value: float | int | bool | str | tuple[str, ...]
    unit: str
    source: Source
    note: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """An Azure VM size with GPUs.

    Attributes:
        name: The name of the size, such as ``Standard_NC24ads_A100_v4``.
        gpu: The GPU's name.
        gpus: The number of GPUs.
        gpu_memory_gib: The memory of one GPU, in GiB.
        vcpus: The number of virtual CPUs.
        memory_gib: The main memory, in GiB.
        tflops: The published rate of one GPU: dense matrix products in half precision, in 10^12 operations a
            second. None if it is not known.
        source: The source of these numbers.
    """

    name: str
    gpu: str
    gpus: int
    gpu_memory_gib: float
    vcpus: int | None
    memory_gib: float | None
    tflops: float | None
    source: Source


@dataclass(frozen=True, slots=True)
class KaitoPreset:
    """A preset of KAITO: what its operator requires of a machine.

    Attributes:
        name: KAITO's name of the preset.
        model: The model's name in this catalog.
        tuning_gpus: The number of GPUs for tuning.
        tuning_gpu_memory_gib: The GPU memory for tuning, in GiB, over all GPUs of the machine.
        inference_gpu_memory_gib: The GPU memory for inference, in GiB.
        disk_gib: The disk space, in GiB.
        source: The source of these numbers.
    """

    name: str
    model: str
    tuning_gpus: int
    tuning_gpu_memory_gib: float
    inference_gpu_memory_gib: float
    disk_gib: float
    source: Source
