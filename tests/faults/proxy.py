"""An HTTP proxy in front of a server that carries out a fault plan, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from maas_client.local.fault_plan import Fault, FaultPlan, flip_one_bit

_HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class FaultProxy:
    """A proxy in front of one server. Use it in a ``with`` block.

    Args:
        upstream: The server's address.
        plan: The faults; assign another one to ``plan`` at any time.

    Attributes:
        url: The proxy's address, to connect the client to.
        requests: How often each method and path arrived.
    """

    def __init__(self, upstream: str, plan: FaultPlan | None = None) -> None:
        self.plan = plan or FaultPlan()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.stopped = threading.Event()
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True, name="fault-proxy"
        )
        thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    proxy: FaultProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore connections that a client or a fault has broken."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        proxy = self.server.proxy
        size = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(size)
        if len(body) < size:  # the client is gone
            self.close_connection = True
            return
        proxy.requests[self.command, self.path.partition("?")[0]] += 1
        fault = proxy.plan.next_fault(self.command, self.path) or Fault()
        status, headers, answer = 503, [("Content-Type", "text/plain")], b"not forwarded"
        if fault.forward:
            proxy.stopped.wait(fault.delay_s)
            status, headers, answer = self._forward(flip_one_bit(body, fault.flip_bit))
        if fault.stall_s:
            proxy.stopped.wait(fault.stall_s)
        if fault.disconnect or proxy.stopped.is_set():
            self._close()
            return
        if fault.status is not None or fault.body is not None:
            headers = [] if fault.status is not None else headers
            headers = [item for item in headers if item[0].lower() not in fault.headers]
            status = fault.status if fault.status is not None else status
            answer = (fault.body or "").encode()
        self._answer(status, [*headers, *fault.headers.items()], answer, fault.keep_bytes)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=120)
        with contextlib.closing(connection):
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            connection.putheader("Host", self._upstream)  # the server answers for its own host only
            for name, value in self.headers.items():
                if name.lower() not in _HOP_HEADERS | {"host"}:
                    connection.putheader(name, value)
            if body or self.command in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            headers = [(name, self._point_here(value)) for name, value in response.getheaders()]
            answer = response.read()
            if "json" in response.getheader("content-type", ""):
                answer = self._point_here(answer.decode()).encode()
            return response.status, headers, answer

    @property
    def _upstream(self) -> str:
        return "{}:{}".format(*self.server.proxy.upstream)

    def _point_here(self, text: str) -> str:
        """Replace the server's address in an answer by the proxy's."""
        return text.replace(self._upstream, f"127.0.0.1:{self.server.server_port}")

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, keep_bytes: int | None
    ) -> None:
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _HOP_HEADERS]
        length = next((v for n, v in headers if n.lower() == "content-length"), str(len(body)))
        lines.append(f"Content-Length: {length if self.command == 'HEAD' else len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self.wfile.write(head)
        if self.command != "HEAD":
            self.wfile.write(body if keep_bytes is None else body[:keep_bytes])
        if keep_bytes is not None:
            self._close()

    def _close(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
