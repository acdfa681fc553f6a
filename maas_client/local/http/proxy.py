"""A CONNECT proxy that takes Azure's host names to this server and refuses every other one.

An application with the official SDKs runs against us without a changed line: it opens a tunnel to
``management.azure.com``, meets a certificate of our own CA, and speaks HTTP with our app. The tunnel's
authority goes into the ASGI scope, where it decides which host the request may name (``guard.py``) and
what addresses an answer is built from (``hosts.py``).
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
_HEAD_BYTES = 16 << 10
_HEAD_S = 20.0
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")

ProtocolFactory = Callable[[str], asyncio.Protocol]
"""Makes the protocol that serves HTTP within a tunnel to an authority (``host:port``)."""


class ConnectProxy:
    """A proxy on a bound socket. Always on loopback: it shows certificates for names of others."""

    def __init__(
        self, sock: socket.socket, authority: CertificateAuthority, accept: ProtocolFactory
    ) -> None:
        self._authority = authority
        self._accept = accept
        self._socket = sock
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return what ``HTTPS_PROXY`` is set to."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Begin to take connections on the running loop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Asked(self), sock=self._socket)

    async def close(self) -> None:
        """Take no more. Tunnels that are open belong to the server behind them."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for task in list(self._tasks):
            task.cancel()

    def handle_connect(self, transport: asyncio.Transport, head: bytes) -> None:
        """Open a tunnel to one of Azure's hosts, or refuse."""
        host = _ours(head)
        if host is None:
            _refuse(transport, head)
            return
        task = asyncio.get_running_loop().create_task(self._open(transport, host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, transport: asyncio.Transport, host: str) -> None:
        """Put TLS and then HTTP on the connection; from here on it is the server's."""
        loop = asyncio.get_running_loop()
        try:
            context = await asyncio.to_thread(self._authority.ssl_context, host)
            inner = _Waiting(self._accept(f"{host}:443"))
            transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            secure = await loop.start_tls(
                transport, inner, context, server_side=True, ssl_handshake_timeout=_HEAD_S
            )
        except OSError as gone:  # the client did not like the certificate, or went away
            _LOG.debug("a tunnel to %s was not opened: %s", host, gone)
            transport.abort()
        else:
            if secure is not None:
                inner.begin(secure)


class _Asked(asyncio.Protocol):
    """A connection whose first lines are awaited."""

    def __init__(self, proxy: ConnectProxy) -> None:
        self._proxy = proxy
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._late = asyncio.get_running_loop().call_later(_HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > _HEAD_BYTES:
            self._late.cancel()
            self._transport.pause_reading()  # what follows belongs to TLS
            self._proxy.handle_connect(self._transport, self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()


class _Waiting(asyncio.Protocol):
    """Holds what arrives with the end of the handshake until the protocol behind it has begun."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._early: list[bytes] = []
        self._begun = False

    def begin(self, transport: asyncio.Transport) -> None:
        self._inner.connection_made(transport)
        self._begun = True
        transport.set_protocol(self._inner)
        for data in self._early:
            self._inner.data_received(data)

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            self._inner.connection_lost(exc)


def _ours(head: bytes) -> str | None:
    """Return the host of a CONNECT that we answer for; None for everything else."""
    match = _CONNECT.match(head)
    if match is None or match[2] != b"443":
        return None
    host = match[1].decode("ascii").lower()
    return host if path_prefix(host) is not None else None


def _refuse(transport: asyncio.Transport, head: bytes) -> None:
    """Answer 403 and say why: nothing ever leaves this machine through here."""
    asked = head.split(b"\r\n", 1)[0][:200].decode("latin-1")
    _LOG.info("refused: %s", asked)
    text = (
        b"This proxy of maas-client serve takes HTTPS to Azure's hosts to the local server,"
        b" and nothing else anywhere.\n"
    )
    transport.write(
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        + f"Content-Length: {len(text)}\r\n\r\n".encode()
        + text
    )
    transport.close()


def with_tunnel_authority(app: ASGIApp, authority: str) -> ASGIApp:
    """Return the app as it is met inside a tunnel to ``authority``."""

    async def tunnelled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[TUNNEL_AUTHORITY] = authority
        await app(scope, receive, send)

    return tunnelled
