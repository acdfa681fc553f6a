"""Parse and write the error bodies of each plane (docs/azure-http.md section 7.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error body, from any plane."""

    code: str | None
    message: str
    target: str | None = None
    details: tuple[Any, ...] = ()


def parse_error(body: bytes, headers: Mapping[str, str]) -> ErrorBody:
    """Parse an error body. Never raises: of an HTML page the first words are the message."""
    code = headers.get("x-ms-error-code")
    kind = headers.get("content-type", "")
    if body.lstrip()[:1] == b"<" and b"<Error>" in body[:200]:
        return _parse_xml(body, code)
    if "json" in kind or body.lstrip()[:1] == b"{":
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return _parse_json(value, code)
    text = re.sub(r"<[^>]*>|\s+", " ", body[:2000].decode("utf-8", "replace")).strip()
    return ErrorBody(code, text[:200])


def _parse_json(value: dict[str, Any], code: str | None) -> ErrorBody:
    error: Any = value.get("error", value)
    if isinstance(error, str):
        return ErrorBody(code or error, str(value.get("message") or error))
    if not isinstance(error, dict):
        error = value
    details = error.get("details") or error.get("detail") or ()
    inner = error.get("innererror") or error.get("innerError")
    inner_code = inner.get("code") if isinstance(inner, dict) else None
    return ErrorBody(
        str(error.get("code") or inner_code or code or "") or None,
        str(error.get("message") or ""),
        error.get("target") or error.get("param"),
        tuple(details) if isinstance(details, list | tuple) else (details,),
    )


def _parse_xml(body: bytes, code: str | None) -> ErrorBody:
    """Parse ``<Error><Code>..</Code><Message>..</Message></Error>`` of blob storage.

    Without an XML parser, so that no entity of a hostile response is expanded.
    """

    def get_element(name: str) -> str:
        match = re.search(rf"<{name}>(.*?)</{name}>", body.decode("utf-8", "replace"), re.S)
        return match.group(1).strip() if match else ""

    message = get_element("Message")
    return ErrorBody(get_element("Code") or code, message.splitlines()[0] if message else "")


def arm_error(code: str, message: str, *, target: str | None = None) -> dict[str, Any]:
    """Return an error body of ARM, as the Azure ML front end writes it."""
    return {
        "error": {
            "code": code,
            "message": message,
            "target": target,
            "details": [],
            "additionalInfo": [{"type": "ComponentName", "info": {"value": "managementfrontend"}}],
        }
    }


def openai_error(
    code: str | None,
    message: str,
    *,
    param: str | None = None,
    error_type: str = "invalid_request_error",
) -> dict[str, Any]:
    """Return an OpenAI-shaped error body."""
    return {"error": {"code": code, "message": message, "param": param, "type": error_type}}


def blob_error(code: str, message: str) -> bytes:
    """Return an XML error body of blob storage. The header ``x-ms-error-code`` has the code as well."""
    text = message.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
        f"<Message>{text}</Message></Error>"
    ).encode()
