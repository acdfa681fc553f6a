"""Requests to a local server without a client: whether one answers at an address, and a link to its page."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from maas_client import _settings
from maas_client._local_server.record import ServerRecord
from maas_client.errors import AuthError, TransportError, UnsupportedError

if TYPE_CHECKING:
    from http.client import HTTPConnection

_PROBE_TIMEOUT_S = 2.0
_PAGE_TIMEOUT_S = 10.0
_MAX_BYTES = 1 << 16


def find_default_server(api_key: str | None) -> ServerRecord | None:
    """Return the server at the default address, such as one in a container.

    None if nothing answers there as this library's server does, if the port belongs to another user, or if
    the server needs a key and none is given.
    """
    parts = urlsplit(_settings.DEFAULT_URL)
    host, port = str(parts.hostname), int(parts.port or 80)
    with suppress(OSError), socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S):
        if _is_port_of_other_user(port) or not _answers_discovery(host, port):
            return None
        if not api_key and _needs_key(host, port):
            return None
        return ServerRecord(_settings.DEFAULT_URL)
    return None


def _answers_discovery(host: str, port: int) -> bool:
    """Return whether the program at an address answers as the local server does. No key is sent."""
    try:
        content = json.loads(_get(host, port, "/discovery")[1])
        return {"history", "metric", "modelmanagement"} <= set(content)
    except (ValueError, TypeError, RecursionError):
        return False


def _needs_key(host: str, port: int) -> bool:
    """Return whether the server at an address refuses a credential that is no key of it."""
    return _get(host, port, "/", {"Authorization": "Bearer local"})[0] == 401


def _get(
    host: str, port: int, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Return the status and the body of an answer; 0 and nothing without an answer."""
    from http.client import HTTPConnection

    return _send(HTTPConnection(host, port, timeout=_PROBE_TIMEOUT_S), "GET", path, headers)


def _send(
    connection: HTTPConnection, method: str, path: str, headers: Mapping[str, str] | None
) -> tuple[int, bytes]:
    from http.client import HTTPException

    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read(_MAX_BYTES)
    except (OSError, HTTPException) as error:
        return 0, str(error)[:200].encode("utf-8", "replace")  # why there is no answer
    finally:
        connection.close()


def new_page_link(server: ServerRecord) -> str:
    """Return a link that opens the page of a running server in a browser, once.

    Raises:
        TransportError: The server does not answer.
        AuthError: The server does not accept the key.
        UnsupportedError: The server has no page.
    """
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(server.url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        import ssl

        context = ssl.create_default_context(cafile=server.ca_file)
        connection: HTTPConnection = HTTPSConnection(
            host, parts.port, timeout=_PAGE_TIMEOUT_S, context=context
        )
    else:
        connection = HTTPConnection(host, parts.port, timeout=_PAGE_TIMEOUT_S)
    credential = {"Authorization": f"Bearer {server.api_key or 'local'}"}
    status, body = _send(connection, "POST", "/page/link", credential)
    if status == 200:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            return str(json.loads(body)["url"])
    if status in (401, 403):
        raise AuthError(
            f"the local server at {server.url} does not accept the key",
            status=status,
            hint="Set MAAS_API_KEY to the key that it was started with (serve --api-key).",
        )
    if status == 0:
        reason = f" ({body.decode()})" if body else ""
        raise TransportError(
            f"cannot connect to {server.url}{reason}",
            hint="Start the local server with: maas-client serve",
        )
    raise UnsupportedError(
        f"the server at {server.url} has no page (it answers {status})",
        hint="Check the address, or start the local server again with this version: maas-client serve",
    )


def _is_port_of_other_user(port: int) -> bool:
    """Return whether another user than root listens on a loopback port; False where it cannot be read."""
    if os.name != "posix":
        return False
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            address, local_port = fields[1].split(":")
            is_here = address in ("0100007F", "00000000") and int(local_port, 16) == port
            if is_here and fields[3] == "0A" and int(fields[7]) not in (0, os.geteuid()):
                return True
    return False
