"""Bodies of Azure Machine Learning (docs/azure-http.md sections 1-3).

They name the fields that the client or the local server reads. All others are kept as extra fields.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from maas_client.wire.parsing import WireModel


class SystemData(WireModel):
    created_at: str | None = None
    created_by: str | None = None
    created_by_type: str | None = None
    last_modified_at: str | None = None


class Named(WireModel):
    """What every item of a list has."""

    name: str


class Page(WireModel):
    """A page of an ARM list. The client follows ``next_link`` unchanged (its ``$skip`` is opaque)."""

    value: list[Any]
    """Required: a body without it is not a list, and must not be read as an empty one."""
    next_link: str | None = None


class WorkspaceProperties(WireModel):
    workspace_id: str
    """The workspace's GUID. Model ids contain it instead of the workspace's name."""
    discovery_url: str | None = None
    storage_account: str | None = None
    friendly_name: str | None = None


class Workspace(WireModel):
    id: str
    name: str
    location: str
    kind: str | None = None
    properties: WorkspaceProperties


class Discovery(WireModel):
    api: str
    """``https://{region}.api.azureml.ms``."""
    required_examples: dict[str, int] = Field(default_factory=dict)
    """The local server only: how many training examples a job needs, by dialect."""


class DatastoreCredentials(WireModel):
    credentials_type: str = "None"
    """AccountKey, Certificate, None (identity only), Sas, ServicePrincipal."""


class DatastoreProperties(WireModel):
    datastore_type: str = "AzureBlob"
    account_name: str
    container_name: str
    endpoint: str = "core.windows.net"
    protocol: str = "https"
    is_default: bool = False
    credentials: DatastoreCredentials = Field(default_factory=DatastoreCredentials)


class Datastore(WireModel):
    id: str | None = None
    name: str
    properties: DatastoreProperties


class DatastoreSecrets(WireModel):
    secrets_type: str
    """Sas or AccountKey."""
    sas_token: str | None = Field(default=None, repr=False)
    key: str | None = Field(default=None, repr=False)


class DataVersionProperties(WireModel):
    data_type: str = "uri_file"
    data_uri: str
    description: str | None = None
    is_anonymous: bool = False
    is_archived: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)


class DataVersion(WireModel):
    id: str | None = None
    name: str | None = None
    properties: DataVersionProperties
    system_data: SystemData | None = None


class AssetContainerProperties(WireModel):
    """What is set for the name of a data asset or model, for all its versions."""

    description: str | None = None
    is_archived: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)


class JobInput(WireModel):
    job_input_type: str
    uri: str


class FineTuningDetails(WireModel):
    model_provider: str
    """``Custom`` or ``AzureOpenAI``, in any case."""
    task_type: str
    model: JobInput
    training_data: JobInput
    validation_data: JobInput | None = None
    hyper_parameters: dict[str, Any] | None = None
    """For ``Custom`` every value is a string."""


class JobOutput(WireModel):
    job_output_type: str
    asset_name: str | None = None
    uri: str | None = None
    """Null while the job runs (docs/azure-http.md section 1.5). The value after it is not documented."""


class JobProperties(WireModel):
    job_type: str
    status: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    is_archived: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, str] = Field(default_factory=dict)
    fine_tuning_details: FineTuningDetails
    outputs: dict[str, JobOutput] = Field(default_factory=dict)
    resources: dict[str, Any] | None = None
    compute_id: str | None = None
    queue_settings: dict[str, Any] | None = None
    services: dict[str, Any] = Field(default_factory=dict)


class Job(WireModel):
    id: str | None = None
    name: str | None = None
    type: str | None = None
    properties: JobProperties
    system_data: SystemData | None = None


class RunError(WireModel):
    """The error in run details: ``{"error": {"code", "message", ...}, "correlation": ...}``."""

    error: dict[str, Any] = Field(default_factory=dict)


class RunDetails(WireModel):
    run_id: str
    status: str
    start_time_utc: str | None = None
    end_time_utc: str | None = None
    error: RunError | None = None
    warnings: list[dict[str, Any]] = Field(default_factory=list)
    log_files: dict[str, str] = Field(default_factory=dict, repr=False)
    """SAS URLs by file name; they must not be logged."""
    properties: dict[str, Any] = Field(default_factory=dict)


class RunData(WireModel):
    run_metadata: dict[str, Any] = Field(default_factory=dict)
    """``outputs.registered_model.assetId`` is the id of the registered model."""


class ModelVersionProperties(WireModel):
    model_type: str | None = None
    model_uri: str | None = None
    job_name: str | None = None
    description: str | None = None
    is_archived: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    properties: dict[str, Any] = Field(default_factory=dict)


class ModelVersion(WireModel):
    id: str
    name: str
    properties: ModelVersionProperties
    system_data: SystemData | None = None


class EndpointProperties(WireModel):
    model_settings: dict[str, str] = Field(default_factory=dict)
    auth_mode: str | None = None
    content_safety: dict[str, str] | None = None
    provisioning_state: str | None = None
    endpoint_state: str | None = None
    inference_endpoint: dict[str, Any] | None = None
    """``{"uri": ..., "headers": {...}}``: the URL for requests, and the headers that they need."""


class Endpoint(WireModel):
    id: str | None = None
    name: str | None = None
    location: str
    sku: dict[str, Any] = Field(default_factory=lambda: {"name": "Consumption"})
    tags: dict[str, str] = Field(default_factory=dict)
    properties: EndpointProperties
    system_data: SystemData | None = None


class EndpointKeys(WireModel):
    primary_key: str = Field(repr=False)
    secondary_key: str = Field(repr=False)


class OperationStatus(WireModel):
    """The body at the URL in ``Azure-AsyncOperation``."""

    status: str
    error: dict[str, Any] | None = None


class MetricNames(WireModel):
    """The names of a run's metrics (``POST .../list``)."""

    value: list[dict[str, Any]] = Field(default_factory=list)
    continuation_token: str | None = None


class MetricValues(WireModel):
    """The values of a metric (``POST .../full``): ``value[].data`` maps its name to a number, with ``step``."""

    name: str | None = None
    value: list[dict[str, Any]] = Field(default_factory=list)
    continuation_token: str | None = None
