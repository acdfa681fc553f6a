"""Compressed responses are decoded within limits, though this client never asks for one."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from functools import lru_cache
from typing import Any

import pytest

from maas_client import errors
from maas_client._transport import AsyncHttpClient, SyncHttpClient, run_sync
from tests.unit.transport.conftest import GET, ScriptedServer, http_response, make_transport

MOST_BYTES = 32 * 2**20


@lru_cache
def bomb() -> bytes:
    """Return 300 MB of spaces, compressed."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    pieces = [compressor.compress(b" " * 10**6) for _ in range(300)]
    return b"".join([*pieces, compressor.flush()])


def encoded(body: bytes, encoding: str = "gzip") -> bytes:
    return http_response(200, body, f"Content-Encoding: {encoding}\r\n")


def test_gzip_bomb_is_refused_within_32_mb(server: ScriptedServer) -> None:
    server.script = [encoded(bomb())]
    transport = make_transport(server.url, SyncHttpClient(), max_retries=0)
    tracemalloc.start()
    with pytest.raises(errors.TransportError, match="larger than"):
        run_sync(transport.send(GET, thing="x"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES


async def test_gzip_bomb_is_refused_within_32_mb_async(server: ScriptedServer) -> None:
    server.script = [encoded(bomb())]
    http = AsyncHttpClient()
    transport = make_transport(server.url, http, max_retries=0)
    tracemalloc.start()
    with pytest.raises(errors.TransportError, match="larger than"):
        await transport.send(GET, thing="x")
    with pytest.raises(errors.TransportError, match="larger than"):
        async for _ in transport.lines(GET, thing="x"):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES
    await http.aclose()


def test_announced_length_over_the_limit_is_refused_without_reading(server: ScriptedServer) -> None:
    server.script = [b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n"]
    transport = make_transport(server.url, SyncHttpClient(), max_retries=0)
    with pytest.raises(errors.TransportError, match="larger than"):
        run_sync(transport.send(GET, thing="x"))


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_compressed_response_is_read(server: ScriptedServer, encoding: str, compress: Any) -> None:
    server.script = [encoded(compress(b'{"a": 1}'), encoding)]
    sent = run_sync(make_transport(server.url, SyncHttpClient()).send(GET, thing="x"))
    assert sent.value == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        encoded(gzip.compress(b'{"a": 1}')[:-9]),
        encoded(gzip.compress(b'{"a": 1}')[:8]),
        encoded(b"no gzip at all"),
        encoded(b"x", "br"),
        encoded(gzip.compress(gzip.compress(b"{}")), "gzip, gzip"),
    ],
)
def test_damaged_or_unknown_encoding_is_an_error(server: ScriptedServer, answer: bytes) -> None:
    server.script = [answer]
    with pytest.raises(errors.TransportError):
        run_sync(make_transport(server.url, SyncHttpClient(), max_retries=0).send(GET, thing="x"))
