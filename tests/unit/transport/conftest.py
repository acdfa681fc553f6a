"""A scripted HTTP server on a real socket. Each response is raw bytes, so that it can be invalid."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from maas_client._transport import AsyncHttpClient, SyncHttpClient, Transport
from maas_client._transport.clouds import CLOUDS
from maas_client._transport.connection import Connection
from maas_client.wire.operation import Operation, Plane, Scope

Script = list[bytes | Callable[[socket.socket], None]]


@pytest.fixture(autouse=True)
def no_running_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test must not find the developer's local server."""
    monkeypatch.setenv("MAAS_STATE_DIR", str(tmp_path / "no server"))


class ScriptedServer:
    """Answers the n-th request with the n-th entry; the last entry repeats. ``requests`` has what came in."""

    def __init__(self, *, keep_alive: bool = False) -> None:
        self.script: Script = []
        self.requests: list[bytes] = []
        self._keep_alive = keep_alive
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            with contextlib.suppress(OSError):
                while self._answer(connection) and self._keep_alive:
                    pass

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request; return False if the client closed the connection instead."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(65536)
            if not chunk:
                return False
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        entry = self.script[min(len(self.requests), len(self.script)) - 1]
        if callable(entry):
            entry(connection)
        else:
            connection.sendall(entry)
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(
                socket.SHUT_RDWR
            )  # close alone leaves a blocked accept listening
        self._listener.close()
        self._thread.join(5)


def http_response(
    status: int = 200, body: bytes = b"{}", headers: str = "", *, keep_alive: bool = False
) -> bytes:
    connection = "keep-alive" if keep_alive else "close"
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {connection}\r\n{headers}\r\n"
    ).encode() + body


def send_slowly(connection: socket.socket) -> None:
    connection.sendall(
        b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    for _ in range(100):
        time.sleep(0.05)  # this is the fault itself: a byte now and then
        connection.sendall(b" ")


def send_head_slowly(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}":
        time.sleep(0.05)  # this is the fault itself
        connection.sendall(bytes([byte]))


def close_connection(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


GET = Operation("things.get", "GET", Plane.ARM, "/things/{thing}", dict[str, Any])
PUT = Operation("things.put", "PUT", Plane.ARM, "/things", dict[str, Any], body="json")
H = TypeVar("H", SyncHttpClient, AsyncHttpClient)


def make_transport(url: str, http: H, **options: Any) -> Transport[H]:
    """Return a transport for the local server at ``url``."""
    scope = Scope("azureml", True, {}, {"arm": url})
    return Transport(Connection(scope, CLOUDS["public"], None, local_origin=url, **options), http)


@pytest.fixture(autouse=True)
def close_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the clients of a test: their sockets would be a warning in whatever test collects the garbage."""
    created: list[SyncHttpClient] = []
    init = SyncHttpClient.__init__

    def record(self: SyncHttpClient, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        created.append(self)

    monkeypatch.setattr(SyncHttpClient, "__init__", record)
    yield
    for client in created:
        client.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted_server = ScriptedServer()
    yield scripted_server
    scripted_server.close()
