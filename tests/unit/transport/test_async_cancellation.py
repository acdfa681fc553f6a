"""A cancelled call leaves nothing behind: no slot in the connection pool, no socket, no task, no warning."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from maas_client import AsyncClient
from tests.unit.transport.conftest import ScriptedServer

HEAD = b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"


def answer_in_two_pieces(connection: socket.socket) -> None:
    time.sleep(random.random() * 0.01)  # the moments at which a call can be cancelled
    connection.sendall(HEAD + b'{"val')
    time.sleep(random.random() * 0.005)
    connection.sendall(b'ue": []}')


@pytest.fixture
def keep_alive_server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(keep_alive=True)
    server.script = [answer_in_two_pieces]
    yield server
    server.close()


def pools(client: AsyncClient) -> list[Any]:
    http: Any = client._http._client
    transports = {http._transport, *http._mounts.values()} - {None}
    return [transport._pool for transport in transports]


async def cancel_calls(client: AsyncClient, cancels: int, times: int) -> int:
    """Start calls in batches of 20 and cancel them at random moments; return how many were cancelled."""

    async def call() -> None:
        async for _ in client.jobs.list():
            pass

    cancelled = 0
    rng = random.Random(5)
    while cancelled < cancels:
        tasks = [asyncio.create_task(call()) for _ in range(20)]
        await asyncio.sleep(rng.random() * 0.03)
        for _ in range(times):
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [r for r in results if isinstance(r, Exception)]
        cancelled += sum(isinstance(r, asyncio.CancelledError) for r in results)
    return cancelled


@pytest.mark.slow
@pytest.mark.parametrize(("cancels", "times"), [(800, 1), (200, 2)])
async def test_800_cancelled_calls_leave_the_client_usable(
    keep_alive_server: ScriptedServer, cancels: int, times: int
) -> None:
    """``times`` is 2: a second cancellation arrives while the first one is being cleaned up."""
    before = asyncio.all_tasks()
    async with AsyncClient.local(url=keep_alive_server.url) as client:
        assert await cancel_calls(client, cancels, times) >= cancels
        for pool in pools(client):
            assert not pool._requests
            assert all(connection.is_idle() for connection in pool.connections)
        calls = [asyncio.create_task(anext(client.jobs.list(), None)) for _ in range(64)]
        await asyncio.gather(*calls)
    assert asyncio.all_tasks() == before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert not caught


async def test_stream_that_is_left_early_frees_its_connection(
    keep_alive_server: ScriptedServer,
) -> None:
    body = b"data: 1\n" * 1000
    keep_alive_server.script = [
        b"HTTP/1.1 200 X\r\nContent-Length: 9000\r\n\r\n" + body,
    ]
    async with AsyncClient.local(url=keep_alive_server.url, dialect="foundry") as client:
        from maas_client.wire import foundry

        for _ in range(100):
            lines = client._io.lines(foundry.CHAT, {})
            assert await anext(lines) == "data: 1"
            await lines.aclose()
        assert not [c for pool in pools(client) for c in pool.connections]


_LOOPS = """
import asyncio, sys
import maas_client as maas

client = maas.AsyncClient.local(url=sys.argv[1], max_retries=0)

async def call():
    async for _ in client.jobs.list():
        pass

for _ in range(3):
    asyncio.run(call())
with asyncio.Runner() as runner:
    runner.run(call())
    try:
        asyncio.run(call())
    except maas.errors.ConfigError as error:
        print(error)
    runner.run(call())
    runner.run(client.aclose())
try:
    asyncio.run(call())
except maas.errors.ConfigError as error:
    print(error)
"""


def test_client_in_several_event_loops(keep_alive_server: ScriptedServer) -> None:
    """The connections of a loop that has ended are not used; those of another one are not shared.

    In a process of its own, as Python warns of sockets that stay open when their loop ends.
    """
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", _LOOPS, keep_alive_server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    other_loop, closed = ended.stdout.splitlines()
    assert other_loop.startswith("this client is used in another event loop. Create an AsyncClient")
    assert closed.startswith("this client is closed.")
    assert len(keep_alive_server.requests) == 5
