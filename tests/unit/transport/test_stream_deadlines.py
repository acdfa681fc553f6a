"""A stream ends at its deadline: while its head arrives, and between two pieces of its body."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from maas_client import _transport, errors
from maas_client._transport import AsyncHttpClient, SyncHttpClient, run_sync
from maas_client.wire.operation import Operation, Plane
from tests.unit.transport.conftest import (
    GET,
    ScriptedServer,
    http_response,
    make_transport,
    send_head_slowly,
    send_slowly,
)


async def collect(lines: AsyncGenerator[str, None]) -> list[str]:
    return [line async for line in lines]


HEAD = b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
never = threading.Event()


def send_nothing(connection: socket.socket) -> None:
    never.wait(5)  # this is the fault itself: a server that never answers


def stall_after_one_line(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"data: 1\n")
    never.wait(5)  # this is the fault itself


FAULTS = [send_head_slowly, send_slowly, send_nothing, stall_after_one_line]


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "_STREAM_TIMEOUT_S", 0.5)


@pytest.mark.parametrize("fault", FAULTS)
def test_stream_ends_at_its_deadline(server: ScriptedServer, fault: Any) -> None:
    server.script = [fault]
    lines = make_transport(server.url, SyncHttpClient(), timeout_s=0.5).lines(GET, thing="x")
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        run_sync(collect(lines))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("fault", FAULTS)
async def test_stream_ends_at_its_deadline_async(server: ScriptedServer, fault: Any) -> None:
    server.script = [fault]
    http = AsyncHttpClient()
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        async for _ in make_transport(server.url, http, timeout_s=0.5).lines(GET, thing="x"):
            pass
    assert time.monotonic() - start < 3
    await http.aclose()


def answer_late(connection: socket.socket) -> None:
    time.sleep(
        0.4
    )  # this is the fault itself: a chat whose answer takes longer than a lost connection
    connection.sendall(http_response(200, b'{"a": 1}'))


CHAT = Operation("chat", "POST", Plane.ARM, "/chat", dict[str, Any], resend="refused", body="json")


async def test_only_requests_with_a_json_body_may_be_silent_until_their_deadline(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport.http, "READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(_transport, "_STREAM_TIMEOUT_S", 5.0)
    server.script = [answer_late]
    blocking = make_transport(server.url, SyncHttpClient(), max_retries=0)
    assert run_sync(blocking.send(CHAT, {}, deadline_s=5)).value == {"a": 1}
    assert run_sync(collect(blocking.lines(CHAT, {}))) == ['{"a": 1}']
    with pytest.raises(errors.TransportError, match="in time"):
        run_sync(blocking.send(GET, thing="x"))
    http = AsyncHttpClient()
    waiting = make_transport(server.url, http, max_retries=0)
    assert (await waiting.send(CHAT, {}, deadline_s=5)).value == {"a": 1}
    with pytest.raises(errors.TransportError, match="in time"):
        await waiting.send(GET, thing="x")
    await http.aclose()


def test_deadline_of_a_stream_does_not_reach_into_the_callers_requests(
    server: ScriptedServer,
) -> None:
    """Between two lines the caller may use another client, to which this deadline means nothing."""
    server.script = [HEAD + b"data: 1\ndata: 2\n", http_response()]
    http = SyncHttpClient()
    lines = make_transport(server.url, http, timeout_s=0.5).lines(GET, thing="x")
    assert run_sync(anext(lines)) == "data: 1"
    time.sleep(0.6)  # the stream's deadline passes while the caller holds a line
    assert run_sync(make_transport(server.url, http).send(GET, thing="x")).status == 200
    run_sync(lines.aclose())
    http.close()


def read_slowly(connection: socket.socket) -> None:
    for _ in range(1000):
        if not connection.recv(2**16):
            return
        time.sleep(0.01)  # this is the fault itself: a server that takes an upload bit by bit


def test_upload_that_trickles_ends_at_its_deadline() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            read_slowly(connection)

    threading.Thread(target=serve, daemon=True).start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    put = _transport.Operation("blobs.put", "PUT", _transport.Plane.ARM, "/x", bytes, body="bytes")
    transport = make_transport(url, SyncHttpClient(), timeout_s=1.0, max_retries=0)
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        run_sync(transport.send(put, b"x" * 64 * 2**20))
    assert time.monotonic() - start < 5
    listener.close()


def test_line_without_end_is_refused(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "_STREAM_TIMEOUT_S", 30.0)

    def send_endless_line(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for _ in range(100):
            connection.sendall(b"x" * 2**20)

    server.script = [send_endless_line]
    lines = make_transport(server.url, SyncHttpClient()).lines(GET, thing="x")
    with pytest.raises(errors.TransportError, match="a line of more than"):
        run_sync(anext(lines))


def test_error_body_without_end_is_refused(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "_STREAM_TIMEOUT_S", 30.0)

    def send_endless_error(connection: socket.socket) -> None:
        connection.sendall(HEAD.replace(b"200", b"500"))
        while True:
            connection.sendall(b"x" * 2**20)

    server.script = [send_endless_error]
    lines = make_transport(server.url, SyncHttpClient()).lines(GET, thing="x")
    with pytest.raises(errors.ServiceError):
        run_sync(anext(lines))
