"""Which requests are for the page, and the checks in front of it.

``WithPage`` passes a request to the page or to the API. The page is reached with its cookie, or with a
credential of the API. Every response has a content security policy without inline code and other hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from starlette.responses import Response  # noqa: TID253 - only the server imports this module
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: TID253 - as above

from maas_client.local.http.hosts import TUNNEL_AUTHORITY
from maas_client.local.http.page.access import PageAccess
from maas_client.local.http.security import (
    SecurityMiddleware,
    SecurityPolicy,
    add_headers,
    read_headers,
)
from maas_client.local.resources.errors import ApiError

PREFIX = "/page/"
LINK = PREFIX + "link"
STATIC = PREFIX + "static/"
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class WithPage:
    """Passes each request to the page or to the API."""

    def __init__(self, api: ASGIApp, page: ASGIApp, access: PageAccess) -> None:
        self._api = api
        self._page = page
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and self._is_page_request(scope)
        await (self._page if is_page else self._api)(scope, receive, send)

    def _is_page_request(self, scope: Scope) -> bool:
        if TUNNEL_AUTHORITY in scope:
            return False
        path = str(scope["path"])
        if path.startswith(PREFIX):
            return True
        # Beside / only for a browser that was given the address of an operation.
        is_navigation = (b"sec-fetch-mode", b"navigate") in scope["headers"]
        if scope["method"] not in ("GET", "HEAD") or not (path == "/" or is_navigation):
            return False
        headers, query = read_headers(scope), _query(scope)
        if "authorization" in headers or "api-key" in headers:
            return False
        if path == "/":
            is_signed_in = self._access.is_signed_in(headers)
            return accepts_html(headers) or "token" in query or is_signed_in
        needs_credential = not SecurityMiddleware.is_public(path) and "sig" not in query
        return needs_credential and accepts_html(headers)


def accepts_html(headers: Mapping[str, list[str]]) -> bool:
    """Return whether a request asks for HTML, as browsers do."""
    return any("text/html" in value.lower() for value in headers.get("accept", ()))


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))


def _is_link(scope: Scope) -> bool:
    is_read = scope["method"] in ("GET", "HEAD")
    return is_read and scope["path"] == "/" and "token" in _query(scope)


class PageSecurity(SecurityMiddleware):
    """The checks and headers of every request, with the page's cookie as another credential."""

    def __init__(
        self,
        app: ASGIApp,
        policy: SecurityPolicy,
        access: PageAccess,
        render_error: Callable[[ApiError, Scope], Response],
    ) -> None:
        super().__init__(app, policy)
        self._access = access
        self._render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, add_headers(send, _HEADERS))

    def check_origin(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        """Raise ``ApiError`` as for the API, except for a click on a one-time link, as in a web terminal."""
        is_click = headers.get("sec-fetch-dest") == ["document"] and "origin" not in headers
        if not (is_click and _is_link(scope)):
            super().check_origin(scope, headers)

    def check_credential(self, scope: Scope, headers: Mapping[str, list[str]]) -> None:
        path, is_read = str(scope["path"]), scope["method"] in ("GET", "HEAD")
        if path.startswith(STATIC) or _is_link(scope):
            return
        if path == LINK or not self._access.is_signed_in(headers):
            super().check_credential(scope, headers)
        elif not is_read and "origin" not in headers and "sec-fetch-site" not in headers:
            # Both are compared with this server's origin if they are sent; every browser sends one of them.
            raise ApiError(
                403, "CrossOriginRequest", "The request does not say which page sent it."
            )

    def refuse(self, error: ApiError, scope: Scope) -> Response:
        return self._render_error(error, scope)
