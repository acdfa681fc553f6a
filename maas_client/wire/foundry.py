"""The foundry dialect: OpenAI-shaped files and jobs of a Foundry resource, deployments over ARM.

Paths, codes and versions: docs/azure-http.md section 4, which cites the v1 spec
(``azure-v1-v1-generated.json``), the dated authoring spec (2024-10-21) and azure-skills. Paths stand after
the base address, which ends in ``/openai``. What v1 documents goes to v1; uploads, import and the deletion
of a job exist on the dated base only (a v1 base answers 404 for uploads).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maas_client.wire import foundry_models as m
from maas_client.wire.azureml_models import Page
from maas_client.wire.op import Op, Plane

DATED_API_VERSION = "2025-04-01-preview"
"""The dated api-version whose docs know ``trainingType`` and uploads."""
ARM_API_VERSION = "2025-09-01"
"""What azure-mgmt-cognitiveservices 14.1 sends (section 4.6)."""
_DATED = {"api-version": DATED_API_VERSION}
_ARM = {"api-version": ARM_API_VERSION}
_CREATED = (200, 201)
"""v1 answers 200, the dated versions 201 and a Location."""

ACCOUNT_PATH = (
    "/subscriptions/{subscription}/resourceGroups/{resource_group}"
    "/providers/Microsoft.CognitiveServices/accounts/{account}"
)
_AT_LOCATION = (
    "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/locations/{location}"
)


def _op(name: str, method: Any, path: str, returns: Any, **rest: Any) -> Op[Any]:
    return Op(name, method, Plane.FOUNDRY, path, returns, **rest)


FILE_CREATE: Op[m.File] = _op(
    "files.create", "POST", "/v1/files", m.File, ok=_CREATED, resend="refused", body="multipart"
)
FILE_LIST: Op[m.ListPage] = _op("files.list", "GET", "/v1/files", m.ListPage)
"""Query: ``purpose``, ``limit`` (to 10000), ``after``, ``order``."""
FILE_GET: Op[m.File] = _op("files.get", "GET", "/v1/files/{file}", m.File)
FILE_CONTENT: Op[bytes] = _op("files.content", "GET", "/v1/files/{file}/content", bytes)
FILE_DELETE: Op[dict[str, Any]] = _op(
    "files.delete", "DELETE", "/v1/files/{file}", dict[str, Any], ok=(200, 204)
)

JOB_CREATE: Op[m.Job] = _op(
    "fine_tuning.create",
    "POST",
    "/v1/fine_tuning/jobs",
    m.Job,
    ok=_CREATED,
    resend="refused",
    body="json",
)
JOB_LIST: Op[m.ListPage] = _op("fine_tuning.list", "GET", "/v1/fine_tuning/jobs", m.ListPage)
JOB_GET: Op[m.Job] = _op("fine_tuning.get", "GET", "/v1/fine_tuning/jobs/{job}", m.Job)
JOB_CANCEL: Op[m.Job] = _op(
    "fine_tuning.cancel", "POST", "/v1/fine_tuning/jobs/{job}/cancel", m.Job
)
JOB_PAUSE: Op[m.Job] = _op("fine_tuning.pause", "POST", "/v1/fine_tuning/jobs/{job}/pause", m.Job)
JOB_RESUME: Op[m.Job] = _op(
    "fine_tuning.resume", "POST", "/v1/fine_tuning/jobs/{job}/resume", m.Job
)
JOB_EVENTS: Op[m.ListPage] = _op(
    "fine_tuning.events", "GET", "/v1/fine_tuning/jobs/{job}/events", m.ListPage
)
"""Newest first. The docs' POST is wrong (section 4.2)."""
JOB_CHECKPOINTS: Op[m.ListPage] = _op(
    "fine_tuning.checkpoints", "GET", "/v1/fine_tuning/jobs/{job}/checkpoints", m.ListPage
)
CHECKPOINT_COPY: Op[dict[str, Any]] = _op(
    "fine_tuning.copy",
    "POST",
    "/v1/fine_tuning/jobs/{job}/checkpoints/{checkpoint}/copy",
    dict[str, Any],
    resend="refused",
    body="json",
)
CHECKPOINT_COPY_STATUS: Op[dict[str, Any]] = _op(
    "fine_tuning.copy_status",
    "GET",
    "/v1/fine_tuning/jobs/{job}/checkpoints/{checkpoint}/copy",
    dict[str, Any],
)

MODEL_LIST: Op[m.ListPage] = _op("foundry_models.list", "GET", "/v1/models", m.ListPage)
MODEL_GET: Op[m.Model] = _op("foundry_models.get", "GET", "/v1/models/{model}", m.Model)

CHAT: Op[dict[str, Any]] = _op(
    "foundry_chat.complete",
    "POST",
    "/v1/chat/completions",
    dict[str, Any],
    resend="refused",
    body="json",
)
"""``model`` is the deployment's name (section 5.3)."""

OPERATIONS: tuple[Op[Any], ...] = (
    FILE_CREATE, FILE_LIST, FILE_GET, FILE_CONTENT, FILE_DELETE,
    JOB_CREATE, JOB_LIST, JOB_GET, JOB_CANCEL, JOB_PAUSE, JOB_RESUME, JOB_EVENTS, JOB_CHECKPOINTS,
    CHECKPOINT_COPY, CHECKPOINT_COPY_STATUS, MODEL_LIST, MODEL_GET, CHAT,
)  # fmt: skip
"""What the v1 base serves, a project's too."""

UPLOAD_CREATE: Op[m.Upload] = _op(
    "uploads.create", "POST", "/uploads", m.Upload, ok=_CREATED, body="json", query=_DATED
)
"""A second one is an empty shell that ends by itself within the hour."""
UPLOAD_PART: Op[m.UploadPart] = _op(
    "uploads.part",
    "POST",
    "/uploads/{upload}/parts",
    m.UploadPart,
    ok=_CREATED,
    body="multipart",
    query=_DATED,
)
"""Only the parts that ``complete`` lists count, so a doubled one does no harm."""
UPLOAD_COMPLETE: Op[m.Upload] = _op(
    "uploads.complete",
    "POST",
    "/uploads/{upload}/complete",
    m.Upload,
    ok=_CREATED,
    resend="refused",
    body="json",
    query=_DATED,
)
UPLOAD_CANCEL: Op[m.Upload] = _op(
    "uploads.cancel", "POST", "/uploads/{upload}/cancel", m.Upload, query=_DATED
)
FILE_IMPORT: Op[m.File] = _op(
    "files.import",
    "POST",
    "/files/import",
    m.File,
    ok=_CREATED,
    resend="refused",
    body="json",
    query=_DATED,
)
JOB_DELETE: Op[None] = _op(
    "fine_tuning.delete",
    "DELETE",
    "/fine_tuning/jobs/{job}",
    type(None),
    ok=(200, 204),
    query=_DATED,
)
CHAT_DEPLOYMENT: Op[dict[str, Any]] = _op(
    "foundry_chat.deployment",
    "POST",
    "/deployments/{deployment}/chat/completions",
    dict[str, Any],
    resend="refused",
    body="json",
    query=_DATED,
)

DATED_OPERATIONS: tuple[Op[Any], ...] = (
    UPLOAD_CREATE, UPLOAD_PART, UPLOAD_COMPLETE, UPLOAD_CANCEL, FILE_IMPORT, JOB_DELETE,
    CHAT_DEPLOYMENT,
)  # fmt: skip


def to_dated(op: Op[Any]) -> Op[Any]:
    """Return the dated form of a v1 operation: no ``/v1``, an api-version."""
    return replace(op, path=op.path.removeprefix("/v1"), query={**op.query, **_DATED})


INFERENCE_CHAT: Op[dict[str, Any]] = _op(
    "foundry_inference.complete",
    "POST",
    "/models/chat/completions",
    dict[str, Any],
    resend="refused",
    body="json",
    query={"api-version": "2024-05-01-preview"},
)
"""Azure AI Model Inference on a Foundry resource; stands at the host's root (section 5.1)."""
INFERENCE_INFO: Op[dict[str, Any]] = _op(
    "foundry_inference.info",
    "GET",
    "/models/info",
    dict[str, Any],
    query={"api-version": "2024-05-01-preview"},
)
INFERENCE_OPERATIONS: tuple[Op[Any], ...] = (INFERENCE_CHAT, INFERENCE_INFO)

ACCOUNT_GET: Op[dict[str, Any]] = Op(
    "accounts.get", "GET", Plane.ARM, ACCOUNT_PATH, dict[str, Any], query=_ARM
)
ACCOUNT_KEYS: Op[m.AccountKeys] = Op(
    "accounts.keys", "POST", Plane.ARM, ACCOUNT_PATH + "/listKeys", m.AccountKeys, query=_ARM
)
ACCOUNT_MODELS = Op("accounts.models", "GET", Plane.ARM, ACCOUNT_PATH + "/models", Page, query=_ARM)
DEPLOYMENT_CREATE: Op[m.Deployment] = Op(
    "deployments.create",
    "PUT",
    Plane.ARM,
    ACCOUNT_PATH + "/deployments/{deployment}",
    m.Deployment,
    ok=_CREATED,
    body="json",
    query=_ARM,
)
DEPLOYMENT_PATCH: Op[dict[str, Any]] = Op(
    "deployments.patch",
    "PATCH",
    Plane.ARM,
    ACCOUNT_PATH + "/deployments/{deployment}",
    dict[str, Any],
    ok=(200, 202),
    body="json",
    query=_ARM,
)
DEPLOYMENT_GET: Op[m.Deployment] = Op(
    "deployments.get",
    "GET",
    Plane.ARM,
    ACCOUNT_PATH + "/deployments/{deployment}",
    m.Deployment,
    query=_ARM,
)
DEPLOYMENT_LIST = Op(
    "deployments.list", "GET", Plane.ARM, ACCOUNT_PATH + "/deployments", Page, query=_ARM
)
DEPLOYMENT_SKUS: Op[dict[str, Any]] = Op(
    "deployments.skus",
    "GET",
    Plane.ARM,
    ACCOUNT_PATH + "/deployments/{deployment}/skus",
    dict[str, Any],
    query=_ARM,
)
DEPLOYMENT_DELETE: Op[None] = Op(
    "deployments.delete",
    "DELETE",
    Plane.ARM,
    ACCOUNT_PATH + "/deployments/{deployment}",
    type(None),
    ok=(200, 202, 204),
    query=_ARM,
)
OPERATION_RESULT: Op[dict[str, Any]] = Op(
    "accounts.operation",
    "GET",
    Plane.ARM,
    _AT_LOCATION + "/operationResults/{operation}",
    dict[str, Any],
    ok=(200, 201, 202, 204),
    query=_ARM,
)
"""Behind ``Azure-AsyncOperation`` and ``Location`` alike; the client follows the address it was given."""

ARM_OPERATIONS: tuple[Op[Any], ...] = (
    ACCOUNT_GET, ACCOUNT_KEYS, ACCOUNT_MODELS, DEPLOYMENT_CREATE, DEPLOYMENT_PATCH, DEPLOYMENT_GET,
    DEPLOYMENT_LIST, DEPLOYMENT_SKUS, DEPLOYMENT_DELETE, OPERATION_RESULT,
)  # fmt: skip

TERMINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled", "canceled"})
"""Only these end a job (section 4.5)."""
