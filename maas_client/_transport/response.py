"""From bytes to what an operation promised, or to the error that says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from maas_client import errors
from maas_client._transport.retry import parse_retry_after
from maas_client.wire import error_bodies
from maas_client.wire.op import Op, Response

T = TypeVar("T")

_REQUEST_IDS = ("x-ms-request-id", "apim-request-id", "x-request-id", "x-ms-correlation-request-id")

_HINTS = {
    401: "Check the key, or the sign-in: `maas-client doctor` shows which identity was used.",
    403: "The identity is known but lacks a role; `maas-client doctor` names the one that is missing.",
    429: "The service is busy or a quota is used up; try again later or ask for less at once.",
    **dict.fromkeys(
        (500, 502, 503, 504),
        "The service failed; try again later. What was begun is found again by the same call.",
    ),
    501: "The local server does not implement this operation.",
}
_REDIRECTED = "Check the address: a sign-in page or a gateway may stand before the service."


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of this request, whatever plane it came from."""
    return next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)


def parse(op: Op[T], status: int, headers: Mapping[str, str], body: bytes) -> Response[T]:
    """Return the typed answer. Raises a ``StatusError`` for a refusal or an undocumented shape."""
    if status not in op.ok:
        raise status_error(op, status, headers, body)
    return Response(_value(op, status, headers, body), status, headers)


def status_error(
    op: Op[Any], status: int, headers: Mapping[str, str], body: bytes
) -> errors.StatusError:
    """Return the error for an answer that is not one of the operation's success codes."""
    fault = error_bodies.parse_error(body, headers)
    kind = errors.error_class_for_status(status)
    known: dict[str, Any] = {
        "status": status,
        "code": fault.code,
        "request_id": request_id(headers),
        "operation": op.name,
        "target": fault.target,
        "details": fault.details,
        "retry_after": parse_retry_after(headers),
        "hint": _REDIRECTED if 300 <= status < 400 else _HINTS.get(status),
    }
    if 300 <= status < 400:
        text = "the service redirects, and a request with a credential is never redirected"
    else:
        text = fault.message or f"the service answered {status} without a reason"
    return kind(text, **known)


def _value(op: Op[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    kind: Any = op.returns
    if kind is type(None):
        return None  # type: ignore[return-value]  # T is None here
    if kind is bytes:
        return body  # type: ignore[return-value]  # T is bytes here
    if not body and kind == dict[str, Any]:
        return {}  # type: ignore[return-value]  # 202 and 204 have no body
    try:
        value: T = _adapter(kind).validate_python(json.loads(body))
    except (ValueError, ValidationError, RecursionError) as bad:
        raise _shape(op, status, headers, bad) from None
    return value


def _shape(
    op: Op[Any], status: int, headers: Mapping[str, str], bad: Exception
) -> errors.ServiceError:
    kind = headers.get("content-type", "no content type").split(";")[0]
    if isinstance(bad, ValidationError):
        first = bad.errors(include_input=False, include_url=False)[0]
        what = f"{'.'.join(str(p) for p in first['loc']) or 'the body'}: {first['msg']}"
    else:
        what = "not JSON" if isinstance(bad, json.JSONDecodeError) else "not readable"
    return errors.ServiceError(
        f"{op.name}: the answer is not what this operation gives ({kind}; {what})",
        status=status,
        operation=op.name,
        request_id=request_id(headers),
        hint="A proxy or a gateway may have answered instead of the service.",
    )


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
