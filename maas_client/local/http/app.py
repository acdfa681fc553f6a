"""ASGI application of the local server, built from the operation tables that the client uses.

Start-up fails when an operation has no handler, so that client and server cannot diverge. Operations that
this server does not implement are listed as such and answered with 501. This module contains no business
logic: handlers read the request, call the services and write the response.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from pydantic import ValidationError
from starlette.datastructures import QueryParams  # noqa: TID253 - only the server imports this
from starlette.requests import ClientDisconnect, Request  # noqa: TID253 - as above
from starlette.responses import JSONResponse, Response  # noqa: TID253 - as above
from starlette.routing import BaseRoute, Match, Router  # noqa: TID253 - as above
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send  # noqa: TID253 - as above

from maas_client.local.http import parameters
from maas_client.local.http.error_responses import error_response
from maas_client.local.http.hosts import TUNNEL_AUTHORITY, UrlBuilder
from maas_client.local.http.parameters import check_fields, check_parameters
from maas_client.local.http.path_index import PathIndex, match_path
from maas_client.local.http.security import SecurityMiddleware, SecurityPolicy
from maas_client.local.resources.assets import Workspace
from maas_client.local.resources.errors import ApiError, user_error
from maas_client.local.services import Services
from maas_client.local.state.files import is_disk_full
from maas_client.wire.operation import Operation, Plane

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestContext:
    """One request, as its handler receives it."""

    op: Operation[Any]
    path_params: Mapping[str, str]
    request: Request
    services: Services
    urls: UrlBuilder
    json: dict[str, Any] = field(default_factory=dict)
    """The parsed body, for operations that take JSON."""

    @property
    def query_params(self) -> QueryParams:
        """Return the query parameters."""
        return self.request.query_params

    @property
    def workspace(self) -> Workspace:
        """Return the workspace that the path names."""
        params = self.path_params
        return Workspace(params["subscription"], params["resource_group"], params["workspace"])

    def url(self, **changes: str) -> str:
        """Return this request's own URL with query parameters replaced."""
        query = self.request.url.include_query_params(**changes).query
        return f"{self.urls.arm}{self.request.url.path}?{query}"


Handler = Callable[[RequestContext], Any]
"""Takes a ``RequestContext``; returns a ``Response``, or a JSON-serializable value (sent with 200).

Synchronous handlers of operations that change something run in a thread, because they wait for the disk; so
do those that may read many records.
"""
_LONG_READS = (".list", ".events", ".checkpoints", ".content", ".metric")
"""Endings of the names of these operations."""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Operations under one path prefix, with their handlers."""

    prefix: str
    operations: Sequence[Operation[Any]]
    handlers: Mapping[Operation[Any], Handler]
    not_implemented: frozenset[str] = frozenset()
    """Names of operations that are answered with 501 because no client needs them here."""


def build_app(services: Services, tables: Iterable[RouteTable], policy: SecurityPolicy) -> ASGIApp:
    """Build the ASGI application, which stops ``services`` in the end; the server starts them.

    Raises ``RuntimeError`` for an operation without a handler.
    """

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await services.stop()

    router = OperationRouter(_routes(tables, services), lifespan)
    return SecurityMiddleware(ErrorMiddleware(router), policy)


class OperationRouter(Router):
    """Starlette's router, which tries only the routes whose path may be the request's."""

    def __init__(self, routes: Sequence[OperationRoute], lifespan: Lifespan[Any]) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan)
        self._index = PathIndex((route.path, route) for route in routes)
        self._first_segments = frozenset(route.path.split("/")[1] for route in routes)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        chosen: tuple[OperationRoute, Scope] | None = None
        for route in self._index.candidates(scope["path"]):
            match, values = route.matches(scope)
            if match is Match.FULL:
                chosen = route, values
                break
            if match is Match.PARTIAL and chosen is None:
                chosen = route, values
        if chosen is None:
            raise _unknown_path(scope["path"], self._first_segments)
        route, values = chosen
        scope.update(values)
        await route.handle(scope, receive, send)


_PROVIDER = re.compile(r"/providers/([a-z]+(?:\.[a-z]+)+)(?=/|$)", re.IGNORECASE)
_KNOWN_PROVIDERS = frozenset({"microsoft.machinelearningservices", "microsoft.cognitiveservices"})
_WORKSPACE_SERVICE = re.compile(r"/([a-z]+)/v\d+\.\d+/.*subscriptions/", re.IGNORECASE)
_RESOURCE_SERVICE = re.compile(
    r"/(anthropic|computervision|contentsafety|contentunderstanding|documentintelligence|face|formrecognizer"
    r"|language|speech|speechtotext|text|translator|vision)/",
    re.IGNORECASE,
)


def _unknown_path(path: str, first_segments: Collection[str]) -> ApiError:
    """Return 501 with the name of a service that Azure has at the path, and 404 if there is none.

    Services that begin with one of ``first_segments`` are implemented: only the path is unknown.
    """
    is_arm = re.match("/(subscriptions|providers)/", path, re.IGNORECASE)
    providers = _PROVIDER.findall(path) if is_arm else []
    match = _WORKSPACE_SERVICE.match(path) or _RESOURCE_SERVICE.match(path)
    name = match[1] if match and match[1].lower() not in first_segments else None
    if providers and providers[-1].lower() not in _KNOWN_PROVIDERS:
        name = providers[-1]
    if name:
        return ApiError(501, "NotImplemented", f"The local server does not implement {name}.")
    return ApiError(404, "InvalidResourceType", "The local server has no such path.")


def _routes(tables: Iterable[RouteTable], services: Services) -> list[OperationRoute]:
    by_path: dict[str, list[tuple[Operation[Any], Handler]]] = {}
    for table in tables:
        for op in table.operations:
            handler = (
                _not_implemented if op.name in table.not_implemented else table.handlers.get(op)
            )
            if handler is None:
                raise RuntimeError(
                    f"no handler for {op.name} ({op.method} {table.prefix}{op.path})"
                )
            by_path.setdefault(table.prefix + op.path, []).append((op, handler))
    return [OperationRoute(path, operations, services) for path, operations in by_path.items()]


def _not_implemented(context: RequestContext) -> Response:
    subpath = context.path_params.get("subpath")
    name = f"{context.op.name} ({subpath[:120]})" if subpath else context.op.name
    raise ApiError(501, "NotImplemented", f"The local server does not implement {name}.")


class OperationRoute(BaseRoute):
    """All operations of one path."""

    def __init__(
        self, path: str, operations: list[tuple[Operation[Any], Handler]], services: Services
    ) -> None:
        self.path = path
        self._services = services
        # Operations that require query parameters are tried first: comp=block before the plain PUT.
        self._operations = sorted(
            ((op, handler, _distinguishing_query(op)) for op, handler in operations),
            key=lambda entry: -len(entry[2]),
        )
        self._methods = {op.method for op, _ in operations}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        values = match_path(self.path, scope["path"]) if scope["type"] == "http" else None
        if values is None:
            return Match.NONE, {}
        # With another method, a later route may match: one for all operations below a path.
        has_method = scope["method"] in self._methods
        return Match.FULL if has_method else Match.PARTIAL, {"path_params": values}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        op, handler = self._choose(request)
        warning = parameters.check_api_version(op, request.query_params)
        subscription = scope["path_params"].get("subscription")
        rate_limit_headers = (
            self._services.rate_limiter.consume_arm_quota(subscription, op.method)
            if subscription
            else {}
        )
        context = RequestContext(
            op, scope["path_params"], request, self._services, url_builder(request, self._services)
        )
        if handler is not _not_implemented:
            check_parameters(op, handler, request)
            if _has_json_body(op, request):
                context.json = await read_json(request)
                check_fields(op, handler, context.json)
        response = await _run_handler(handler, context)
        if unknown := self._services.arm_resources.unknown_ids(context.path_params):
            await anyio.to_thread.run_sync(self._services.arm_resources.add, unknown)
        response.headers.update(rate_limit_headers)
        if warning:
            response.headers["Warning"] = f'299 - "{warning}"'
        await response(scope, receive, send)

    def _choose(self, request: Request) -> tuple[Operation[Any], Handler]:
        query = request.query_params
        for op, handler, values in self._operations:
            if op.method == request.method and all(
                query.get(k, "").lower() == v for k, v in values.items()
            ):
                return op, handler
        if request.method in self._methods:
            raise ApiError(
                400,
                "InvalidQueryParameterValue",
                "This combination of query parameters is not supported.",
            )
        raise ApiError(
            405, "MethodNotAllowed", f"{request.method} is not allowed here.",
            headers={"Allow": ", ".join(sorted(self._methods))},
        )  # fmt: skip


def _distinguishing_query(op: Operation[Any]) -> dict[str, str]:
    """Return the query parameters that select an operation among those on the same path."""
    return {k: v for k, v in op.query.items() if k in ("comp", "restype")}


def url_builder(request: Request, services: Services) -> UrlBuilder:
    """Return what builds absolute URLs in the form that the caller of a request used."""
    scope = request.scope
    tunnel = TUNNEL_AUTHORITY in scope
    host = request.headers.get("host", "")
    region = services.config.region
    return UrlBuilder("https" if tunnel else scope["scheme"], host, tunnel, region, services.secret)


def _has_json_body(op: Operation[Any], request: Request) -> bool:
    """Return whether the body is read as JSON: also where none is expected, to refuse its fields."""
    if op.body != "none" or op.plane is Plane.BLOB or op.method in ("GET", "HEAD"):
        return op.body == "json"
    return "json" in request.headers.get("content-type", "").lower()


async def read_json(request: Request) -> dict[str, Any]:
    """Return the body of a request, a JSON object. Raises ``ApiError`` (400) for another one."""
    raw = await request.body()
    try:
        value = json.loads(
            raw.decode("utf-8-sig", "surrogatepass") or "{}",
            parse_constant=_reject_constant,
            parse_float=_parse_float,
            object_pairs_hook=_to_object,
        )
        if b"\\u" in raw or not raw.isascii():  # no response could repeat half of a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise user_error(
            "The request's body has half of a surrogate pair, which is no Unicode text."
        ) from None
    except (ValueError, RecursionError):
        raise user_error("The request's body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise user_error("The request's body must be a JSON object.")
    return value


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object. A repeated key is refused: readers differ in which of its values counts."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise user_error(f"The request's body has the key {repeated[:40]!r} twice.")
    return value


def _reject_constant(name: str) -> float:
    raise ValueError(name)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # no JSON could repeat it
        raise user_error(f"The request's body has a number that is too large: {text[:40]}.")
    return value


async def _run_handler(handler: Handler, context: RequestContext) -> Response:
    if inspect.iscoroutinefunction(handler):
        value = await handler(context)
    elif context.op.method in ("GET", "HEAD") and not context.op.name.endswith(_LONG_READS):
        value = handler(context)  # one indexed read is faster than a switch of threads
    else:
        value = await anyio.to_thread.run_sync(_call_with_reserve, handler, context)
    return value if isinstance(value, Response) else JSONResponse(value)


def _call_with_reserve(handler: Handler, context: RequestContext) -> Any:
    """Call a handler. One that makes space may use the reserved disk space when the disk is full."""
    reserve = context.services.files.reserve
    try:
        return handler(context)
    except (OSError, sqlite3.OperationalError) as error:
        makes_space = context.op.method == "DELETE" or context.op.name.endswith(".cancel")
        if not makes_space or not is_disk_full(error) or not reserve.release():
            raise
    try:
        return handler(context)
    finally:
        reserve.allocate()


STOP_REASON = "the server stops"
"""Why requests in progress are cancelled."""


def _render_error(error: ApiError, scope: Scope) -> Response:
    return error_response(error, scope["path"], scope["maas.request_id"])


class ErrorMiddleware:
    """Turns exceptions of handlers into responses, by default in the format of the API that was called."""

    def __init__(
        self, app: ASGIApp, render: Callable[[ApiError, Scope], Response] = _render_error
    ) -> None:
        self._app = app
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def tracked_send(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, tracked_send)
        except ClientDisconnect:
            return
        except asyncio.CancelledError as cancelled:
            if cancelled.args != (STOP_REASON,):
                raise
            if not started:
                error = ApiError(503, "ServerStopping", "The local server is stopping.")
                await self._render(error, scope)(scope, receive, send)
        except Exception as error:
            if started:
                raise
            await self._render(_to_api_error(error, scope), scope)(scope, receive, send)


def _to_api_error(error: Exception, scope: Scope) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return user_error(describe_validation_error(error))
    if is_disk_full(error):
        return ApiError(
            507,
            "InsufficientStorage",
            "The disk of the local server is full. Free some space and try again.",
        )
    _LOG.error("request %s failed", scope["maas.request_id"], exc_info=error)
    return ApiError(500, "InternalServerError", "The local server failed. See its log for details.")


def describe_validation_error(error: ValidationError) -> str:
    """Describe what is wrong with a body: fields and reasons, never the values."""
    details = error.errors(include_input=False, include_url=False, include_context=False)
    parts = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in details[:5]]
    return "The request's body is invalid. " + "; ".join(parts)
