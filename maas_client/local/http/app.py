"""The HTTP of the server, built from the same tables of operations that the client sends from.

A row without a handler stops the start-up, so the two houses cannot drift apart; a row that this
server does not do is listed as such and answered 501. No rule lives here: handlers read the request,
ask the services, and write the answer.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from pydantic import ValidationError
from starlette.datastructures import QueryParams  # noqa: TID253 - only the server imports this
from starlette.requests import ClientDisconnect, Request  # noqa: TID253 - as above
from starlette.responses import JSONResponse, Response  # noqa: TID253 - as above
from starlette.routing import BaseRoute, Match, Router, compile_path  # noqa: TID253 - as above
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: TID253 - as above

from maas_client.local.http import api_versions
from maas_client.local.http.error_responses import error_response
from maas_client.local.http.hosts import TUNNEL_AUTHORITY, UrlBuilder
from maas_client.local.http.security import SecurityMiddleware, SecurityPolicy
from maas_client.local.resources.assets import Workspace
from maas_client.local.resources.errors import ApiError, user_error
from maas_client.local.services import Services
from maas_client.local.state.reserve import is_disk_full
from maas_client.wire.op import Op

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestContext:
    """One request on its way to a handler."""

    op: Op[Any]
    path_params: Mapping[str, str]
    request: Request
    services: Services
    urls: UrlBuilder
    json: dict[str, Any] = field(default_factory=dict)
    """The body, where the operation's row says that there is a JSON one."""

    @property
    def query_params(self) -> QueryParams:
        """Return the query."""
        return self.request.query_params

    @property
    def workspace(self) -> Workspace:
        """Return the workspace in the path."""
        at = self.path_params
        return Workspace(at["subscription"], at["resource_group"], at["workspace"])

    def url(self, **changes: str) -> str:
        """Return this request's own address with query parameters replaced."""
        query = self.request.url.include_query_params(**changes).query
        return f"{self.urls.arm}{self.request.url.path}?{query}"


Handler = Callable[[RequestContext], Any]
"""Takes a ``RequestContext``; returns a ``Response`` or a JSON-ready value (200). Plain functions of operations
that change something run in a thread, since they wait for the disk."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The operations of a plane, where they hang, and who serves them."""

    prefix: str
    operations: Sequence[Op[Any]]
    handlers: Mapping[Op[Any], Handler]
    not_implemented: frozenset[str] = frozenset()
    """Names of operations that are answered 501, because nobody needs them here."""


def build_app(services: Services, tables: Iterable[RouteTable], policy: SecurityPolicy) -> ASGIApp:
    """Return the whole ASGI app. Raises ``RuntimeError`` for a row that nobody serves."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        await services.start()
        try:
            yield
        finally:
            await services.stop()

    routes = [route for table in tables for route in _routes(table, services)]
    router = Router(routes, redirect_slashes=False, default=_nowhere, lifespan=lifespan)
    return SecurityMiddleware(_Faults(router), policy)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    raise ApiError(404, "InvalidResourceType", "The local server knows no such path.")


def _routes(table: RouteTable, services: Services) -> list[OperationRoute]:
    rows: dict[str, list[tuple[Op[Any], Handler]]] = {}
    for op in table.operations:
        if op.name in table.not_implemented:
            handler: Handler | None = _not_implemented
        else:
            handler = table.handlers.get(op)
        if handler is None:
            raise RuntimeError(f"no handler serves {op.name} ({op.method} {table.prefix}{op.path})")
        rows.setdefault(table.prefix + op.path, []).append((op, handler))
    return [OperationRoute(path, served, services) for path, served in rows.items()]


def _not_implemented(call: RequestContext) -> Response:
    raise ApiError(501, "NotImplemented", f"The local server does not do {call.op.name}.")


class OperationRoute(BaseRoute):
    """All operations of one path. Paths do not differ by case, as in ARM; values keep theirs."""

    def __init__(
        self, path: str, served: list[tuple[Op[Any], Handler]], services: Services
    ) -> None:
        pattern, _, self._convertors = compile_path(path)
        self._pattern = re.compile(pattern.pattern, re.IGNORECASE)
        self._services = services
        # Those that ask for a query come first: comp=block before the bare PUT.
        self._served = sorted(served, key=lambda row: -len(_wanted(row[0])))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found = self._pattern.match(scope["path"]) if scope["type"] == "http" else None
        if not found:
            return Match.NONE, {}
        return Match.FULL, {"path_params": found.groupdict()}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        op, handler = self._choose(request)
        warning = api_versions.check_api_version(op, request.query_params)
        subscription = scope["path_params"].get("subscription")
        said = (
            self._services.rate_limiter.admit_arm_request(subscription, op.method)
            if subscription
            else {}
        )
        call = RequestContext(
            op, scope["path_params"], request, self._services, _addresses(request, self._services)
        )
        if op.body == "json":
            call.json = await _json(request)
        response = await _answer(handler, call)
        response.headers.update(said)
        if warning:
            response.headers["Warning"] = f'299 - "{warning}"'
        await response(scope, receive, send)

    def _choose(self, request: Request) -> tuple[Op[Any], Handler]:
        methods = sorted({op.method for op, _ in self._served})
        query = request.query_params
        for op, handler in self._served:
            if op.method == request.method and all(
                query.get(k, "").lower() == v for k, v in _wanted(op).items()
            ):
                return op, handler
        if request.method in methods:
            raise ApiError(
                400, "InvalidQueryParameterValue", "The query parameters do not go together."
            )
        raise ApiError(
            405, "MethodNotAllowed", f"{request.method} is not allowed here.",
            headers={"Allow": ", ".join(methods)},
        )  # fmt: skip


def _wanted(op: Op[Any]) -> dict[str, str]:
    """Return the part of an operation's query that tells it from others on its path."""
    return {k: v for k, v in op.query.items() if k in ("comp", "restype")}


def _addresses(request: Request, services: Services) -> UrlBuilder:
    scope = request.scope
    tunnel = TUNNEL_AUTHORITY in scope
    host = request.headers.get("host", "")
    region = services.config.region
    return UrlBuilder("https" if tunnel else scope["scheme"], host, tunnel, region, services.secret)


async def _json(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        value = json.loads(raw or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise user_error("The request's body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise user_error("The request's body must be a JSON object.")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


async def _answer(handler: Handler, call: RequestContext) -> Response:
    if inspect.iscoroutinefunction(handler):
        value = await handler(call)
    elif call.op.method in ("GET", "HEAD"):
        value = handler(call)  # one indexed read: quicker than a change of threads
    else:
        value = await anyio.to_thread.run_sync(handler, call)
    return value if isinstance(value, Response) else JSONResponse(value)


class _Faults:
    """Turns what a handler raised into the plane's own form of refusal."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise
            refusal = _refusal(error, scope)
            await error_response(refusal, scope["path"], scope["maas.request_id"])(
                scope, receive, send
            )


def _refusal(error: Exception, scope: Scope) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return user_error(describe_validation_error(error))
    if is_disk_full(error):
        return ApiError(507, "InsufficientStorage", "The disk of the local server is full.")
    _LOG.error("request %s failed", scope["maas.request_id"], exc_info=error)
    return ApiError(500, "InternalServerError", "The local server failed; its log has the details.")


def describe_validation_error(error: ValidationError) -> str:
    """Return what is wrong with a body: fields and reasons, never the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    parts = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in found[:5]]
    return "The request's body is invalid. " + "; ".join(parts)
