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
import ssl
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: TID253 - only the server imports this

from maas_client.local.hosts import TUNNEL, prefix
from maas_client.local.tls import Authority

_LOG = logging.getLogger(__name__)
_HEAD_BYTES = 16 << 10
_HEAD_S = 20.0
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]\r\n")

Accept = Callable[[str], asyncio.Protocol]
"""Makes the protocol that serves HTTP within a tunnel to an authority (``host:port``)."""


class Proxy:
    """A proxy on a bound socket. Always on loopback: it shows certificates for names of others."""

    def __init__(self, sock: socket.socket, authority: Authority, accept: Accept) -> None:
        self._authority = authority
        self._accept = accept
        self._socket = sock
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return what ``HTTPS_PROXY`` is set to."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def start(self) -> None:
        """Begin to take connections on the running loop."""
        self._server = await asyncio.start_server(self._take, sock=self._socket, limit=_HEAD_BYTES)

    async def close(self) -> None:
        """Take no more. Tunnels that are open belong to the server behind them."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for task in list(self._open):
            task.cancel()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
                host = _ours(head)
                if host is None:
                    await _refuse(writer, head)
                    return
                await self._hand_over(writer, host)
        except (
            OSError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            TimeoutError,
        ) as gone:
            _LOG.debug("a connection to the proxy ended: %s", gone)
            writer.transport.abort()

    async def _hand_over(self, writer: asyncio.StreamWriter, host: str) -> None:
        """Put TLS and then HTTP on the connection; from here on it is the server's."""
        loop = asyncio.get_running_loop()
        context: ssl.SSLContext = await asyncio.to_thread(self._authority.context, host)
        inner = _Waiting(self._accept(f"{host}:443"))
        # What follows the 200 belongs to TLS: nobody may read it before.
        writer.transport.pause_reading()
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        transport = await loop.start_tls(writer.transport, inner, context, server_side=True)
        if transport is not None:  # None: the client went away meanwhile
            inner.begin(transport)


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
    return host if prefix(host) is not None else None


async def _refuse(writer: asyncio.StreamWriter, head: bytes) -> None:
    """Answer 403 and say why: nothing ever leaves this machine through here."""
    asked = head.split(b"\r\n", 1)[0][:200].decode("latin-1")
    _LOG.info("refused: %s", asked)
    text = (
        b"This proxy of maas-client serve takes HTTPS to Azure's hosts to the local server,"
        b" and nothing else anywhere.\n"
    )
    writer.write(
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        + f"Content-Length: {len(text)}\r\n\r\n".encode()
        + text
    )
    with suppress(OSError):
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def within(app: ASGIApp, authority: str) -> ASGIApp:
    """Return the app as it is met inside a tunnel to ``authority``."""

    async def tunnelled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[TUNNEL] = authority
        await app(scope, receive, send)

    return tunnelled
