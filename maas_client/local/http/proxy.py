"""CONNECT proxy that directs Azure's host names to this server and refuses every other host.

It lets applications with the official SDKs run against the local server unchanged: the application opens a
tunnel to ``management.azure.com``, receives a certificate of this server's CA, and speaks HTTP with this
server. The authority of the tunnel is stored in the ASGI scope, where it decides which Host is accepted
(``security.py``) and how URLs in responses are built (``hosts.py``).
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: TID253 - only the server imports this

from maas_client.local.http.connections import CertificateAuthority
from maas_client.local.http.hosts import TUNNEL_AUTHORITY, path_prefix

_LOG = logging.getLogger(__name__)
_MAX_HEADER_BYTES = 16 << 10
_TLS_SHUTDOWN_S = 0.2
"""How long the end of a tunnel waits for the client: one that keeps an idle connection does not notice it."""
_HEADER_TIMEOUT_S = 20.0
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_CONNECT = re.compile(
    rb"CONNECT (?=[^:]{1,253}:)(" + _LABEL + rb"(?:\." + _LABEL + rb")*):(\d{1,5}) HTTP/1\.[01]\r\n"
)

ProtocolFactory = Callable[[str], asyncio.Protocol]
"""Creates the protocol that serves HTTP inside a tunnel to an authority (``host:port``)."""


class ConnectProxy:
    """A proxy on a bound socket.

    It listens on loopback only, because it presents certificates for host names of others.
    """

    def __init__(
        self,
        sock: socket.socket,
        authority: CertificateAuthority,
        protocol_factory: ProtocolFactory,
    ) -> None:
        self._authority = authority
        self._protocol_factory = protocol_factory
        self._socket = sock
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return the value for ``HTTPS_PROXY``."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Accept connections on the running event loop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _ConnectRequestProtocol(self), sock=self._socket
        )

    async def close(self) -> None:
        """Stop accepting connections. Open tunnels are closed by the server behind the proxy."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for task in list(self._tasks):
            task.cancel()

    def handle_connect(self, transport: asyncio.Transport, header: bytes) -> None:
        """Open a tunnel to one of Azure's hosts, or refuse the request."""
        host = _azure_host(header)
        if host is None:
            _reject(transport, header)
            return
        task = asyncio.get_running_loop().create_task(self._open_tunnel(transport, host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_tunnel(self, transport: asyncio.Transport, host: str) -> None:
        """Start TLS and then HTTP on the connection, and hand it to the server."""
        loop = asyncio.get_running_loop()
        try:
            context = await asyncio.to_thread(self._authority.ssl_context, host)
            protocol = _BufferingProtocol(self._protocol_factory(f"{host}:443"))
            transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            tls_transport = await loop.start_tls(
                transport,
                protocol,
                context,
                server_side=True,
                ssl_handshake_timeout=_HEADER_TIMEOUT_S,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
            )
        except OSError as error:  # the client rejected the certificate or disconnected
            _LOG.debug("could not open a tunnel to %s: %s", host, error)
            transport.abort()
        except asyncio.CancelledError:
            transport.abort()
            raise
        except Exception:  # the connection must not outlive its task
            _LOG.exception("could not open a tunnel to %s", host)
            transport.abort()
        else:
            if tls_transport is not None:
                protocol.start(tls_transport)


class _ConnectRequestProtocol(asyncio.Protocol):
    """Reads the header of a CONNECT request."""

    def __init__(self, proxy: ConnectProxy) -> None:
        self._proxy = proxy
        self._header = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timeout = asyncio.get_running_loop().call_later(_HEADER_TIMEOUT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._header += data
        if b"\r\n\r\n" in self._header or len(self._header) > _MAX_HEADER_BYTES:
            self._timeout.cancel()
            self._transport.pause_reading()  # the next bytes belong to the TLS handshake
            self._proxy.handle_connect(self._transport, self._header)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timeout.cancel()


class _BufferingProtocol(asyncio.Protocol):
    """Buffers what arrives with the end of the TLS handshake until the next protocol is ready."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._buffered: list[bytes] = []
        self._started = False

    def start(self, transport: asyncio.Transport) -> None:
        self._protocol.connection_made(transport)
        self._started = True
        transport.set_protocol(self._protocol)
        for data in self._buffered:
            self._protocol.data_received(data)

    def data_received(self, data: bytes) -> None:
        self._buffered.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._started:
            self._protocol.connection_lost(exc)


def _azure_host(header: bytes) -> str | None:
    """Return the host of a CONNECT request that this server handles; None for any other request."""
    match = _CONNECT.match(header)
    if match is None or match[2] != b"443":
        return None
    host = match[1].decode("ascii").lower()
    return host if path_prefix(host) is not None else None


def _reject(transport: asyncio.Transport, header: bytes) -> None:
    """Respond with 403 and the reason: nothing is ever forwarded to another machine."""
    request_line = header.split(b"\r\n", 1)[0][:200].decode("latin-1")
    _LOG.info("proxy refused: %s", request_line)
    text = (
        b"This proxy of maas-client serve accepts HTTPS for Azure's hosts only"
        b" and directs it to the local server.\n"
    )
    transport.write(
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        + f"Content-Length: {len(text)}\r\n\r\n".encode()
        + text
    )
    transport.close()


def with_tunnel_authority(app: ASGIApp, authority: str) -> ASGIApp:
    """Return the application as it is served inside a tunnel to ``authority``."""

    async def tunnel_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[TUNNEL_AUTHORITY] = authority
        await app(scope, receive, send)

    return tunnel_app
