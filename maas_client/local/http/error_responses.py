"""Refusals as each plane of Azure writes them (docs/azure-http.md section 7.1)."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import (  # noqa: TID253 - only the server imports this module
    JSONResponse,
    Response,
)

from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.resources.assets import utc_now
from maas_client.local.resources.errors import ApiError
from maas_client.wire import error_bodies as wire

_OPENAI = re.compile(r"(/api/projects/[^/]+)?/openai/", re.IGNORECASE)
_OPENAI_CODES = {
    "UserError": "invalidPayload",
    "ResourceNotFound": "notFound",
    "InvalidResourceType": "404",
    "AuthenticationFailed": "401",
    "InvalidAuthenticationToken": "401",
    "MethodNotAllowed": "405",
}
"""Codes of the rules to those of the OpenAI-shaped planes (docs/azure-http.md section 7.1)."""


def is_openai_path(path: str) -> bool:
    """Tell whether a path belongs to a Foundry resource's OpenAI-shaped API."""
    return _OPENAI.match(path) is not None


def error_response(error: ApiError, path: str, request_id: str) -> Response:
    """Return the refusal in the form of the plane that ``path`` belongs to."""
    headers = dict(error.headers)
    if path.startswith(f"/{STORAGE_ACCOUNT}/"):
        return _blob(error, headers, request_id)
    headers["x-ms-error-code"] = error.code
    return JSONResponse(_body(error, path, request_id), error.status, headers)


def _body(refusal: ApiError, path: str, request_id: str) -> dict[str, Any]:
    if re.match(r"/serverless/[^/]+/chat/|/models/", path):
        return _inference(refusal)
    if is_openai_path(path):
        return _openai(refusal, path)
    if path.startswith("/serverless/"):
        kind = "invalid_request_error" if refusal.status < 500 else "server_error"
        return wire.openai_error(
            refusal.code, refusal.message, param=refusal.target, error_type=kind
        )
    body = wire.arm_error(refusal.code, refusal.message, target=refusal.target)
    if path.startswith("/mlflow/"):
        code = "RESOURCE_DOES_NOT_EXIST" if refusal.status == 404 else refusal.code
        return body | {"error_code": code, "message": refusal.message}
    if path.startswith(("/history/", "/metric/")):
        body |= {
            "correlation": {"operation": request_id, "request": request_id},
            "environment": "local",
            "location": "local",
            "time": utc_now(),
            "componentName": "run-history" if path.startswith("/history/") else "metric",
        }
    return body


def _openai(refusal: ApiError, path: str) -> dict[str, Any]:
    """Return an OpenAI-shaped error; the dated versions name the target beside the parameter."""
    code = "conflict" if refusal.status == 409 else refusal.code
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    message = "Resource not found" if code == "InvalidResourceType" else refusal.message
    code = _OPENAI_CODES.get(code, code)
    body = wire.openai_error(code, message, param=refusal.target, error_type=kind)
    if "/openai/v1/" not in path:
        body["error"] |= {"target": refusal.target, "details": []}
    return body


def _inference(refusal: ApiError) -> dict[str, Any]:
    """Return a Model Inference error: nested by the spec, with the flat fields of the docs too."""
    flat: dict[str, Any] = {"status": refusal.status, "message": refusal.message}
    if refusal.target:
        flat["detail"] = {"loc": ["body", refusal.target]}
    nested: dict[str, Any] = {
        "code": refusal.code,
        "message": refusal.message,
        "target": refusal.target,
        "details": [],
    }
    return {**flat, "code": refusal.code, "error": nested}


def _blob(refusal: ApiError, headers: dict[str, str], request_id: str) -> Response:
    headers["x-ms-error-code"] = refusal.code
    if refusal.status in (304, 204):
        return Response(None, refusal.status, headers)
    text = f"{refusal.message}\nRequestId:{request_id}\nTime:{utc_now()}"
    return Response(
        wire.blob_error(refusal.code, text), refusal.status, headers, media_type="application/xml"
    )
