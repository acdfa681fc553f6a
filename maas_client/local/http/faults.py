"""Refusals as each plane of Azure writes them (azure-api.md section 7.1)."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import (  # noqa: TID253 - only the server imports this module
    JSONResponse,
    Response,
)

from maas_client.local.config import ACCOUNT
from maas_client.local.rules.assets import now
from maas_client.local.rules.refusal import Refusal
from maas_client.wire import faults as wire

_OPENAI = re.compile(r"(/api/projects/[^/]+)?/openai/", re.IGNORECASE)
_OPENAI_CODES = {
    "UserError": "invalidPayload",
    "ResourceNotFound": "notFound",
    "InvalidResourceType": "404",
    "AuthenticationFailed": "401",
    "InvalidAuthenticationToken": "401",
    "MethodNotAllowed": "405",
}
"""Codes of the rules to those of the OpenAI-shaped planes (azure-api.md section 7.1)."""


def is_openai(path: str) -> bool:
    """Tell whether a path belongs to a Foundry resource's OpenAI-shaped API."""
    return _OPENAI.match(path) is not None


def answer(refusal: Refusal, path: str, request_id: str) -> Response:
    """Return the refusal in the form of the plane that ``path`` belongs to."""
    headers = dict(refusal.headers)
    if path.startswith(f"/{ACCOUNT}/"):
        return _blob(refusal, headers, request_id)
    headers["x-ms-error-code"] = refusal.code
    return JSONResponse(_body(refusal, path, request_id), refusal.status, headers)


def _body(refusal: Refusal, path: str, request_id: str) -> dict[str, Any]:
    if re.match(r"/serverless/[^/]+/chat/|/models/", path):
        return _inference(refusal)
    if is_openai(path):
        return _openai(refusal, path)
    if path.startswith("/serverless/"):
        kind = "invalid_request_error" if refusal.status < 500 else "server_error"
        return wire.openai(refusal.code, refusal.message, param=refusal.target, kind=kind)
    body = wire.arm(refusal.code, refusal.message, target=refusal.target)
    if path.startswith("/mlflow/"):
        code = "RESOURCE_DOES_NOT_EXIST" if refusal.status == 404 else refusal.code
        return body | {"error_code": code, "message": refusal.message}
    if path.startswith(("/history/", "/metric/")):
        body |= {
            "correlation": {"operation": request_id, "request": request_id},
            "environment": "local",
            "location": "local",
            "time": now(),
            "componentName": "run-history" if path.startswith("/history/") else "metric",
        }
    return body


def _openai(refusal: Refusal, path: str) -> dict[str, Any]:
    """Return an OpenAI-shaped error; the dated versions name the target beside the parameter."""
    code = "conflict" if refusal.status == 409 else refusal.code
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    message = "Resource not found" if code == "InvalidResourceType" else refusal.message
    code = _OPENAI_CODES.get(code, code)
    body = wire.openai(code, message, param=refusal.target, kind=kind)
    if "/openai/v1/" not in path:
        body["error"] |= {"target": refusal.target, "details": []}
    return body


def _inference(refusal: Refusal) -> dict[str, Any]:
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


def _blob(refusal: Refusal, headers: dict[str, str], request_id: str) -> Response:
    headers["x-ms-error-code"] = refusal.code
    if refusal.status in (304, 204):
        return Response(None, refusal.status, headers)
    text = f"{refusal.message}\nRequestId:{request_id}\nTime:{now()}"
    return Response(
        wire.blob(refusal.code, text), refusal.status, headers, media_type="application/xml"
    )
