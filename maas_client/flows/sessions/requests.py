"""Send requests of interactive training, and wait for their results.

Every request that works on the model answers at once with an id, under which the result is polled. A request
that changes the session is sent once: gradients that are accumulated twice cannot be taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date
from typing import Any, TypeVar

from pydantic import ValidationError

from maas_client import catalog
from maas_client._messages import Argument, Call, Constructor, PythonOnly, Text
from maas_client.errors import (
    BadRequestError,
    ConfigError,
    ConflictError,
    MaasError,
    NotFoundError,
    ServiceError,
    StatusError,
    TransportError,
    UnsupportedError,
)
from maas_client.flows import identifiers
from maas_client.flows._arm import MAX_OUTAGE_S, is_transient, poll_intervals
from maas_client.flows._create_once import is_ambiguous
from maas_client.flows._io import IO
from maas_client.flows._requests import catalog_override
from maas_client.types import Session, SessionCheckpoint
from maas_client.wire import sessions as wire
from maas_client.wire.operation import Operation, Plane, Response
from maas_client.wire.parsing import describe_problem

T = TypeVar("T")

REQUEST_TIMEOUT_S = 3600.0
_MISSING_REQUEST_S = 120.0
"""How long a request may be unknown to the service after it was accepted, as in the SDK."""
_MAX_RESUBMITS = 2
"""How often a request that changes nothing is sent again when the service asks for it, as in the SDK."""
_DEFAULT_RESUBMIT_S = 15.0
_PENDING = frozenset({"pending", "running", "queued", "created"})
_HEADERS = dict([wire.PREVIEW_HEADER])
_log = logging.getLogger("maas_client")


async def send(
    io: IO, op: Operation[T], body: Any = None, query: dict[str, str] | None = None, **path: str
) -> Response[T]:
    """Send a request of interactive training. A session that is missing gets a hint."""
    check_backend(io)
    try:
        return await io.send(op, body, headers=_HEADERS, query=query, **path)  # type: ignore[arg-type]  # path values are texts
    except NotFoundError as error:
        if error.hint is None and "session" in path:
            error.hint = Text.format(
                "Look for the session: {}.{}",
                Call("sessions.list"),
                PythonOnly(
                    " A training checkpoint continues in a new session: ",
                    Call("sessions.load", "checkpoint"),
                    ".",
                ),
            )
        raise


async def submit(
    io: IO,
    op: Operation[wire.Accepted],
    body: Any,
    query: dict[str, str] | None = None,
    *,
    unknown_hint: str,
    **path: str,
) -> wire.Accepted:
    """Send a request once. Raises ``TransportError`` with the hint if its outcome is unknown."""
    try:
        return (await send(io, op, body, query, **path)).value
    except MaasError as error:
        if not is_ambiguous(error):
            raise
        unknown = TransportError(
            f"{op.name}: the outcome is unknown ({error.message})",
            url=getattr(error, "url", None),
            hint=unknown_hint,
        )
        raise unknown from error


async def run(
    io: IO,
    op: Operation[wire.Accepted],
    session: Session | str,
    body: Any,
    timeout_s: float,
    *,
    query: dict[str, str] | None = None,
    may_resubmit: bool = False,
    unknown_hint: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Send a request and wait for its result; return the request's id and the result.

    Args:
        io: The connection.
        op: The operation.
        session: The session.
        body: The body.
        timeout_s: Seconds for the result.
        query: More query parameters.
        may_resubmit: The request changes nothing, so it is sent again when the service asks for that.
        unknown_hint: What to do if the outcome of a request that changes something is unknown.
    """
    session_id = path_id(session)
    hint = (
        "The request changes nothing: call it again."
        if may_resubmit
        else unknown_hint
        or Text.format(
            "The session may have changed. To be certain of its state, continue from its last checkpoint: {}.",
            Call("sessions.load", "checkpoint"),
        )
    )
    for attempt in range(_MAX_RESUBMITS + 1):
        accepted = await submit(io, op, body, query, unknown_hint=hint, session=session_id)
        try:
            result = await wait(io, op, session_id, accepted.request_id, timeout_s)
        except ServiceError as error:
            if not may_resubmit or error.retry_after is None or attempt == _MAX_RESUBMITS:
                raise
            _log.info("%s: %s; sending it again", op.name, error.message)
            await io.sleep(error.retry_after)
        else:
            return accepted.request_id, result
    raise AssertionError("the last attempt returns or raises")


async def wait(
    io: IO, op: Operation[Any], session: str, request: str, timeout_s: float
) -> dict[str, Any]:
    """Poll a request until it has ended, and return its result."""
    start = io.elapsed()
    failing_since: float | None = None
    for interval in poll_intervals(io):
        try:
            response = await io.send(
                wire.REQUEST_GET, headers=_HEADERS, session=path_id(session), request=request
            )
        except MaasError as error:
            now = io.elapsed()
            failing_since = now if failing_since is None else failing_since
            limit = _MISSING_REQUEST_S if isinstance(error, NotFoundError) else MAX_OUTAGE_S
            is_late = isinstance(error, NotFoundError) and not io.scope.local
            if not (is_late or is_transient(error)) or now - failing_since > limit:
                raise
        else:
            failing_since = None
            status = response.value.status.lower()
            if status in ("completed", "succeeded"):
                return response.value.result or {}
            if status == "failed":
                raise _failure(op, request, response.value)
            if status not in _PENDING:
                raise ServiceError(
                    f"{op.name}: the request has the unknown status {status[:40]!r}",
                    operation=op.name,
                    request_id=request,
                )
        if io.elapsed() - start > timeout_s:
            late = TransportError(
                f"{op.name}: request {request} of session {session} has not ended after {timeout_s:g} s",
                hint=Text.format("It may still end. Set a longer {}.", Argument("timeout")),
            )
            late.timed_out = True
            raise late
        await io.sleep(interval)
    raise AssertionError("polling has no end")


def _failure(op: Operation[Any], request: str, status: wire.RequestStatus) -> StatusError:
    code = status.error_code or status.code
    text = status.error if isinstance(status.error, str) else None
    if isinstance(status.error, dict):
        text = status.error.get("message")
        code = code or status.error.get("code")
    if code == "invalid_request":
        kind: type[StatusError] = BadRequestError
    elif code in ("model_not_found", "session_not_found", "not_found"):
        kind = NotFoundError
    elif code in ("session_completed", "session_expired", "engine_dead"):
        kind = ConflictError
    else:
        kind = ServiceError
    retry_after = status.retry_after_sec if status.retry_after_sec else _DEFAULT_RESUBMIT_S
    reference = f" (reference {status.debug_ref})" if status.debug_ref else ""
    return kind(
        f"{text or 'the request failed without a reason'}{reference}",
        code=code,
        operation=op.name,
        request_id=request,
        retry_after=min(max(retry_after, 0.0), 120.0) if status.should_retry else None,
        hint="The service says that the same request may succeed: send it again."
        if status.should_retry
        else None,
    )


def check_backend(io: IO) -> None:
    """Raise if the connection has no sessions."""
    if Plane.PROJECT.value in io.scope.base_urls:
        return
    if io.scope.dialect == "azureml":
        raise UnsupportedError(
            "an Azure ML workspace has no interactive training",
            hint=Text.format(
                "Use a Foundry project or the local server: {} or {}.",
                Constructor("foundry"),
                Constructor("local"),
            ),
        )
    raise ConfigError(
        "interactive training needs the endpoint of a project",
        hint=Text.format(
            "Set {} to https://NAME.services.ai.azure.com/api/projects/PROJECT.",
            Argument("endpoint"),
        ),
    )


async def resolve_model(io: IO, model: str) -> str:
    """Return the service's name of a model. Azure's models are in the catalog; the local server has more."""
    if not isinstance(model, str):
        raise ConfigError(f"a value of type {type(model).__name__} is not a model")
    override = catalog_override(io)
    info = catalog.find_model(model, override=override)
    if io.scope.local:
        return info.name if info else model
    info = info or catalog.get_model(model, override=override)
    catalog.check_retirement(info, "foundry", await io.call(date.today))
    if not info.interactive_training:
        names = [
            candidate.name
            for candidate in catalog.load_models(override).values()
            if candidate.interactive_training
        ]
        raise UnsupportedError(
            f"Foundry does not train {info.name} interactively",
            hint=f"It does train {', '.join(names)}; the local server trains every model.",
        )
    return info.name


def path_id(session: Session | str) -> str:
    """Return a session's id as paths have it: the service also names sessions without the prefix."""
    value = identifiers.session_id(session)
    return value if value.startswith(("session_", "model_")) else f"model_{value}"


def split_checkpoint(checkpoint: SessionCheckpoint | str) -> tuple[str, str]:
    """Return the ids of a checkpoint's session and of the checkpoint."""
    if isinstance(checkpoint, SessionCheckpoint):
        return path_id(checkpoint.session), checkpoint.id
    session, _, name = checkpoint.partition("/")
    if not session or not name or "/" in name:
        raise ConfigError(
            f"{checkpoint!r} is not a checkpoint",
            hint="Use SESSION/NAME, or the checkpoint itself.",
        )
    return path_id(session), name


M = TypeVar("M", bound=wire.RequestModel)


def build(model: Callable[..., M], fields: dict[str, Any]) -> M:
    """Return a body. Raises ``ConfigError`` for values out of bounds, without the values."""
    try:
        return model(**fields)
    except ValidationError as error:
        raise ConfigError(f"invalid argument: {describe_problem(error)}") from None
