"""One suite for both clients: ``client`` is a Client or an AsyncClient, with awaitable methods."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from maas_client.local.embedded_server import LocalServer, serve
from tests.faults import FaultProxy


class AwaitableClient:
    """Makes ``await client.jobs.get(...)`` and ``async for`` work on either client."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return AwaitableClient(attribute)

        def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(
                getattr(attribute, "__wrapped__", attribute)
            ) and not _is_async(attribute):
                return anyio.to_thread.run_sync(lambda: attribute(*args, **kwargs))
            value = attribute(*args, **kwargs)
            return _iterate(value) if inspect.isgenerator(value) else value

        return call


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(method, "__func__", method))


async def _iterate(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    while True:
        item = await anyio.to_thread.run_sync(lambda: next(iterator, end))
        if item is end:
            return
        yield item


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as local_server:
        yield local_server


@pytest.fixture
def proxy(server: LocalServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, server: LocalServer) -> AsyncIterator[Any]:
    if request.param == "sync":
        with server.client() as sync_client:
            yield AwaitableClient(sync_client)
    else:
        async with server.async_client() as async_client:
            yield AwaitableClient(async_client)


COLOURS = [
    "red",
    "green",
    "blue",
    "black",
    "white",
    "brown",
    "pink",
    "gold",
    "grey",
    "lilac",
    "amber",
    "olive",
    "teal",
    "navy",
    "coral",
    "ivory",
]


@pytest.fixture
def train(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Write rows that differ between tests, so that no test finds the job of another."""
    row = (
        '{"messages": [{"role": "user", "content": "What is the colour of box %s of %s?"}, '
        '{"role": "assistant", "content": "Box %s is %s."}]}\n'
    )
    name = request.node.name
    path = tmp_path / "train.jsonl"
    path.write_text("".join(row % (i, name, i, c) for i, c in enumerate(COLOURS)), "utf-8")
    return path
