"""The operations of a Foundry resource: OpenAI-shaped files and jobs, and deployments over ARM.

Paths, codes and versions: docs/azure-http.md section 4, from the v1 spec (``azure-v1-v1-generated.json``), the
dated authoring spec (2024-10-21) and azure-skills. Paths follow the base URL, which ends in ``/openai``. What
v1 documents is sent to v1. Uploads, import and the deletion of a job exist on the dated base URL only (the v1
base answers 404 for uploads).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from maas_client.wire import foundry_models as m
from maas_client.wire.azureml_models import Page
from maas_client.wire.operation import Body, Operation, Plane

T = TypeVar("T")
JSON = dict[str, Any]
DATED_API_VERSION = "2025-04-01-preview"
"""The dated api-version that documents ``trainingType`` and uploads."""
ARM_API_VERSION = "2025-09-01"
"""The api-version that azure-mgmt-cognitiveservices 14.1 sends (docs/azure-http.md section 4.6)."""
_DATED = {"api-version": DATED_API_VERSION}
_INFERENCE = {"api-version": "2024-05-01-preview"}
_ARM = {"api-version": ARM_API_VERSION}
_CREATED = (200, 201)
"""v1 answers 200, the dated versions 201 and a Location."""

ACCOUNT_PATH = (
    "/subscriptions/{subscription}/resourceGroups/{resource_group}"
    "/providers/Microsoft.CognitiveServices/accounts/{account}"
)
_LOCATION_PATH = (
    "/subscriptions/{subscription}/providers/Microsoft.CognitiveServices/locations/{location}"
)


def _get(
    name: str, path: str, returns: type[T], query: dict[str, str] | None = None
) -> Operation[T]:
    return Operation(name, "GET", Plane.FOUNDRY, path, returns, query=query or {})


def _post(
    name: str, path: str, returns: type[T], query: dict[str, str] | None = None
) -> Operation[T]:
    """Return a POST without a body, which may be sent again."""
    return Operation(name, "POST", Plane.FOUNDRY, path, returns, query=query or {})


def _send(
    name: str,
    path: str,
    returns: type[T],
    body: Body = "json",
    ok: tuple[int, ...] = (200,),
    query: dict[str, str] | None = None,
) -> Operation[T]:
    """Return a POST with a body, which is sent again only if the service has refused it."""
    return Operation(
        name,
        "POST",
        Plane.FOUNDRY,
        path,
        returns,
        ok=ok,
        resend="refused",
        body=body,
        query=query or {},
    )


def _create(
    name: str, path: str, returns: type[T], body: Body = "json", query: dict[str, str] | None = None
) -> Operation[T]:
    """Return a POST that creates something. The flow looks for the result before it sends it again."""
    return replace(_send(name, path, returns, body, _CREATED, query), resend="never")


# ARM operations; ``path`` follows the account's own path.


def _get_arm(name: str, path: str, returns: type[T]) -> Operation[T]:
    return Operation(name, "GET", Plane.ARM, ACCOUNT_PATH + path, returns, query=_ARM)


# fmt: off
FILE_CREATE = _create("files.create", "/v1/files", m.File, "multipart")
FILE_LIST = _get("files.list", "/v1/files", m.ListPage)
"""Query: ``purpose``, ``limit`` (to 10000), ``after``, ``order``."""
FILE_GET = _get("files.get", "/v1/files/{file}", m.File)
FILE_CONTENT = _get("files.content", "/v1/files/{file}/content", bytes)
FILE_DELETE = Operation("files.delete", "DELETE", Plane.FOUNDRY, "/v1/files/{file}", JSON, ok=(200, 204))

JOB_CREATE = _create("fine_tuning.create", "/v1/fine_tuning/jobs", m.Job)
JOB_LIST = _get("fine_tuning.list", "/v1/fine_tuning/jobs", m.ListPage)
JOB_GET = _get("fine_tuning.get", "/v1/fine_tuning/jobs/{job}", m.Job)
JOB_CANCEL = _post("fine_tuning.cancel", "/v1/fine_tuning/jobs/{job}/cancel", m.Job)
JOB_PAUSE = _post("fine_tuning.pause", "/v1/fine_tuning/jobs/{job}/pause", m.Job)
JOB_RESUME = _post("fine_tuning.resume", "/v1/fine_tuning/jobs/{job}/resume", m.Job)
JOB_EVENTS = _get("fine_tuning.events", "/v1/fine_tuning/jobs/{job}/events", m.ListPage)
"""Newest first. The documented POST does not exist (docs/azure-http.md section 4.2)."""
JOB_CHECKPOINTS = _get("fine_tuning.checkpoints", "/v1/fine_tuning/jobs/{job}/checkpoints", m.ListPage)
CHECKPOINT_COPY = _send("fine_tuning.copy", "/v1/fine_tuning/jobs/{job}/checkpoints/{checkpoint}/copy", JSON)
CHECKPOINT_COPY_STATUS = _get("fine_tuning.copy_status",
                              "/v1/fine_tuning/jobs/{job}/checkpoints/{checkpoint}/copy", JSON)

MODEL_LIST = _get("foundry_models.list", "/v1/models", m.ListPage)
MODEL_GET = _get("foundry_models.get", "/v1/models/{model}", m.Model)

CHAT = _send("foundry_chat.complete", "/v1/chat/completions", JSON)
"""``model`` in the body is the deployment's name (docs/azure-http.md section 5.3)."""

OPERATIONS: tuple[Operation[Any], ...] = (
    FILE_CREATE, FILE_LIST, FILE_GET, FILE_CONTENT, FILE_DELETE,
    JOB_CREATE, JOB_LIST, JOB_GET, JOB_CANCEL, JOB_PAUSE, JOB_RESUME, JOB_EVENTS, JOB_CHECKPOINTS,
    CHECKPOINT_COPY, CHECKPOINT_COPY_STATUS, MODEL_LIST, MODEL_GET, CHAT,
)
"""The operations of the v1 base URL, of a resource or a project."""

UPLOAD_CREATE = Operation("uploads.create", "POST", Plane.FOUNDRY, "/uploads", m.Upload,
                          ok=_CREATED, body="json", query=_DATED)
"""May be sent again: a second upload stays empty and expires within the hour."""
UPLOAD_PART = Operation("uploads.part", "POST", Plane.FOUNDRY, "/uploads/{upload}/parts", m.UploadPart,
                        ok=_CREATED, body="multipart", query=_DATED)
"""May be sent again: only the parts that ``complete`` lists count."""
UPLOAD_COMPLETE = _create("uploads.complete", "/uploads/{upload}/complete", m.Upload, query=_DATED)
UPLOAD_CANCEL = _post("uploads.cancel", "/uploads/{upload}/cancel", m.Upload, query=_DATED)
FILE_IMPORT = _create("files.import", "/files/import", m.File, query=_DATED)
JOB_DELETE = Operation("fine_tuning.delete", "DELETE", Plane.FOUNDRY, "/fine_tuning/jobs/{job}", type(None),
                       ok=(200, 204), query=_DATED)
CHAT_DEPLOYMENT = _send("foundry_chat.deployment", "/deployments/{deployment}/chat/completions", JSON,
                        query=_DATED)

DATED_OPERATIONS: tuple[Operation[Any], ...] = (
    UPLOAD_CREATE, UPLOAD_PART, UPLOAD_COMPLETE, UPLOAD_CANCEL, FILE_IMPORT, JOB_DELETE, CHAT_DEPLOYMENT,
)
"""The operations of the dated base URL only."""

INFERENCE_CHAT = _send("foundry_inference.complete", "/models/chat/completions", JSON, query=_INFERENCE)
"""Azure AI Model Inference of a Foundry resource, at the root of its host (docs/azure-http.md section 5.1)."""
INFERENCE_INFO = _get("foundry_inference.info", "/models/info", JSON, query=_INFERENCE)
INFERENCE_OPERATIONS: tuple[Operation[Any], ...] = (INFERENCE_CHAT, INFERENCE_INFO)

ACCOUNT_GET = _get_arm("accounts.get", "", JSON)
ACCOUNT_KEYS = Operation("accounts.keys", "POST", Plane.ARM, ACCOUNT_PATH + "/listKeys", m.AccountKeys,
                         query=_ARM)
ACCOUNT_MODELS = _get_arm("accounts.models", "/models", Page)
DEPLOYMENT_CREATE = Operation("deployments.create", "PUT", Plane.ARM,
                              ACCOUNT_PATH + "/deployments/{deployment}",
                              m.Deployment, ok=_CREATED, resend="never", body="json", query=_ARM)
DEPLOYMENT_PATCH = Operation("deployments.patch", "PATCH", Plane.ARM,
                             ACCOUNT_PATH + "/deployments/{deployment}",
                             JSON, ok=(200, 202), body="json", query=_ARM)
DEPLOYMENT_GET = _get_arm("deployments.get", "/deployments/{deployment}", m.Deployment)
DEPLOYMENT_LIST = _get_arm("deployments.list", "/deployments", Page)
DEPLOYMENT_SKUS = _get_arm("deployments.skus", "/deployments/{deployment}/skus", JSON)
DEPLOYMENT_DELETE = Operation("deployments.delete", "DELETE", Plane.ARM,
                              ACCOUNT_PATH + "/deployments/{deployment}",
                              type(None), ok=(200, 202, 204), query=_ARM)
OPERATION_RESULT = Operation("accounts.operation", "GET", Plane.ARM,
                             _LOCATION_PATH + "/operationResults/{operation}",
                             JSON, ok=(200, 201, 202, 204), query=_ARM)
"""The URL in the headers ``Azure-AsyncOperation`` and ``Location``; the client uses the URL it receives."""

ARM_OPERATIONS: tuple[Operation[Any], ...] = (
    ACCOUNT_GET, ACCOUNT_KEYS, ACCOUNT_MODELS, DEPLOYMENT_CREATE, DEPLOYMENT_PATCH, DEPLOYMENT_GET,
    DEPLOYMENT_LIST, DEPLOYMENT_SKUS, DEPLOYMENT_DELETE, OPERATION_RESULT,
)

JOB_SAVE_CHECKPOINT = _post("fine_tuning.save", "/v1/fine_tuning/jobs/{job}/checkpoints", m.Job)
"""Saves a checkpoint: an operation of the local server that Azure does not have. The path is that of the list
of checkpoints."""
LOCAL_OPERATIONS: tuple[Operation[Any], ...] = (JOB_SAVE_CHECKPOINT,)
# fmt: on


def to_dated(op: Operation[Any]) -> Operation[Any]:
    """Return the dated form of a v1 operation: without ``/v1``, with an api-version."""
    return replace(op, path=op.path.removeprefix("/v1"), query={**op.query, **_DATED})
