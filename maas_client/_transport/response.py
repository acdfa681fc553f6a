"""Turn an HTTP response into an operation's typed value, or into the error for its status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from maas_client import errors
from maas_client._transport.http import HttpResponse
from maas_client._transport.retry import parse_retry_after
from maas_client.wire import error_bodies
from maas_client.wire.operation import Operation, Response
from maas_client.wire.parsing import describe_problem

T = TypeVar("T")

_REQUEST_ID_HEADERS = (
    "x-ms-request-id",
    "apim-request-id",
    "x-request-id",
    "x-ms-correlation-request-id",
)

_HINTS = {
    401: "Check the key, or the sign-in: `maas-client doctor` shows which identity was used.",
    403: "The identity is known but lacks a role: `maas-client doctor` names the missing one.",
    429: "The service is busy or a quota is used up. Try again later, or request less at once.",
    **dict.fromkeys(
        (500, 502, 503, 504),
        "The service failed. Try again later: the same call finds what was already started.",
    ),
    501: "The local server does not implement this operation.",
}
_LASTING_FAILURES = frozenset({"model_unusable", "DeploymentFailed"})
"""Codes of the local server for failures that do not pass by themselves."""
_REDIRECT_HINT = "Check the address: a sign-in page or a gateway may be in front of the service."


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the service's id of the request, from whichever header it used."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def parse(op: Operation[T], reply: HttpResponse) -> Response[T]:
    """Return the typed response of an operation.

    Args:
        op: The operation that was sent.
        reply: The complete response. Its body may be a key, so it is in no local variable here.

    Raises:
        StatusError: The status is an error, or the body is not what the operation returns.
    """
    if reply.status not in op.ok:
        raise status_error(op, reply.status, reply.headers, reply.body)
    return Response(_parse_body(op, reply), reply.status, reply.headers)


def status_error(
    op: Operation[Any], status: int, headers: Mapping[str, str], body: bytes
) -> errors.StatusError:
    """Return the error for a response whose status is not one of the operation's success codes."""
    details = error_bodies.parse_error(body, headers)
    attributes: dict[str, Any] = {
        "status": status,
        "code": details.code,
        "request_id": request_id(headers),
        "operation": op.name,
        "target": details.target,
        "details": details.details,
        "retry_after": parse_retry_after(headers),
        "hint": _REDIRECT_HINT if 300 <= status < 400 else _HINTS.get(status),
    }
    # They name what is not implemented or cannot be loaded, and what to do.
    if (status == 501 or details.code in _LASTING_FAILURES) and details.message:
        attributes["hint"] = None
    if 300 <= status < 400:
        message = "the service redirects, and requests with a credential do not follow redirects"
    else:
        message = details.message or f"the service answered {status} without a message"
    return errors.error_class_for_status(status)(message, **attributes)


def _parse_body(op: Operation[T], reply: HttpResponse) -> T:
    returns: Any = op.returns
    if returns is type(None):
        return None  # type: ignore[return-value]  # T is None here
    if returns is bytes:
        return reply.body  # type: ignore[return-value]  # T is bytes here
    if not reply.body and returns == dict[str, Any]:
        return {}  # type: ignore[return-value]  # 202 and 204 have no body
    try:
        value: T = _adapter(returns).validate_python(json.loads(reply.body))
    except (ValueError, ValidationError, RecursionError) as error:
        raise _unexpected_body(op, reply.status, reply.headers, error) from None
    return value


def _unexpected_body(
    op: Operation[Any], status: int, headers: Mapping[str, str], error: Exception
) -> errors.ServiceError:
    content_type = headers.get("content-type", "no content type").split(";")[0]
    if isinstance(error, ValidationError):
        reason = describe_problem(error)
    else:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError) else "not readable"
    return errors.ServiceError(
        f"{op.name}: the response has an unexpected body ({content_type}; {reason})",
        status=status,
        operation=op.name,
        request_id=request_id(headers),
        hint="A proxy or a gateway may have answered instead of the service.",
    )


@lru_cache(maxsize=64)
def _adapter(returns: Any) -> TypeAdapter[Any]:
    return TypeAdapter(returns)
