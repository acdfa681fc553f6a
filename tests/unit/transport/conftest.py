"""A scripted HTTP server on a real socket: each answer is raw bytes, so that it can be wrong."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

Script = list[bytes | Callable[[socket.socket], None]]


class Scripted:
    """Answers the n-th request with the n-th entry; the last one repeats. ``seen`` keeps requests."""

    def __init__(self) -> None:
        self.script: Script = []
        self.seen: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with peer:
            peer.settimeout(5)
            data = b""
            try:
                while b"\r\n\r\n" not in data:
                    piece = peer.recv(65536)
                    if not piece:
                        return
                    data += piece
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
                    body += peer.recv(65536)
                self.seen.append(head + b"\r\n\r\n" + body)
                entry = self.script[min(len(self.seen), len(self.script)) - 1]
                if callable(entry):
                    entry(peer)
                else:
                    peer.sendall(entry)
            except OSError:
                return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(
                socket.SHUT_RDWR
            )  # close alone leaves a blocked accept listening
        self._listener.close()
        self._thread.join(5)


def answer(status: int = 200, body: bytes = b"{}", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{headers}\r\n"
    ).encode() + body


def drip(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
    for _ in range(100):
        time.sleep(0.05)  # this is the fault itself: a byte now and then
        peer.sendall(b" ")


def drip_head(peer: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}":
        time.sleep(0.05)  # this is the fault itself
        peer.sendall(bytes([byte]))


def hang_up(peer: socket.socket) -> None:
    peer.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[Scripted]:
    one = Scripted()
    yield one
    one.close()
