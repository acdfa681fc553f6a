"""How each plane says no (docs/azure-http.md section 7.1), read and written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """A refusal, whatever plane it came from."""

    code: str | None
    message: str
    target: str | None = None
    details: tuple[Any, ...] = ()


def parse_error(body: bytes, headers: Mapping[str, str]) -> ErrorBody:
    """Read a refusal. Never raises; a page of HTML or an empty body gives its first words or none."""
    code = headers.get("x-ms-error-code")
    kind = headers.get("content-type", "")
    if body.lstrip()[:1] == b"<" and b"<Error>" in body[:200]:
        return _xml(body, code)
    if "json" in kind or body.lstrip()[:1] == b"{":
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return _json(value, code)
    text = re.sub(r"<[^>]*>|\s+", " ", body[:2000].decode("utf-8", "replace")).strip()
    return ErrorBody(code, text[:200])


def _json(value: dict[str, Any], code: str | None) -> ErrorBody:
    said: Any = value.get("error", value)
    if isinstance(said, str):
        return ErrorBody(code or said, str(value.get("message") or said))
    if not isinstance(said, dict):
        said = value
    details = said.get("details") or said.get("detail") or ()
    inner = said.get("innererror") or said.get("innerError")
    deeper = inner.get("code") if isinstance(inner, dict) else None
    return ErrorBody(
        str(said.get("code") or deeper or code or "") or None,
        str(said.get("message") or ""),
        said.get("target") or said.get("param"),
        tuple(details) if isinstance(details, list | tuple) else (details,),
    )


def _xml(body: bytes, code: str | None) -> ErrorBody:
    """Blob's ``<Error><Code>..</Code><Message>..</Message></Error>``, without an XML parser: no
    entity of a hostile answer is ever expanded."""

    def part(name: str) -> str:
        found = re.search(rf"<{name}>(.*?)</{name}>", body.decode("utf-8", "replace"), re.S)
        return found.group(1).strip() if found else ""

    return ErrorBody(
        part("Code") or code, part("Message").splitlines()[0] if part("Message") else ""
    )


def arm_error(code: str, message: str, *, target: str | None = None) -> dict[str, Any]:
    """Return ARM's error body as the Azure ML front end writes it."""
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
    """Return the OpenAI-shaped error body."""
    return {"error": {"code": code, "message": message, "param": param, "type": error_type}}


def blob_error(code: str, message: str) -> bytes:
    """Return blob storage's XML error body (the code also goes into ``x-ms-error-code``)."""
    text = message.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
        f"<Message>{text}</Message></Error>"
    ).encode()
