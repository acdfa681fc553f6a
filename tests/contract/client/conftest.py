"""One suite for both clients: ``client`` is Client or AsyncClient behind one awaitable face."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from maas_client.local.embed import LocalServer, serve


class Face:
    """Lets ``await face.jobs.get(...)`` and ``async for`` work on either client."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        held = getattr(self._inner, name)
        if not callable(held):
            return Face(held)

        def call(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(getattr(held, "__wrapped__", held)) and not _is_async(
                held
            ):
                return anyio.to_thread.run_sync(lambda: held(*args, **kwargs))
            value = held(*args, **kwargs)
            return _walk(value) if inspect.isgenerator(value) else value

        return call


def _is_async(method: Any) -> bool:
    return inspect.iscoroutinefunction(getattr(method, "__func__", method))


async def _walk(series: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    while True:
        item = await anyio.to_thread.run_sync(lambda: next(series, end))
        if item is end:
            return
        yield item


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as one:
        yield one


@pytest.fixture(params=["sync", "async"])
async def client(request: pytest.FixtureRequest, server: LocalServer) -> AsyncIterator[Any]:
    if request.param == "sync":
        with server.client() as blocking:
            yield Face(blocking)
    else:
        async with server.async_client() as awaiting:
            yield Face(awaiting)


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
    """Rows that differ from test to test, so that no test attaches to another's job."""
    row = (
        '{"messages": [{"role": "user", "content": "What is the colour of box %s of %s?"}, '
        '{"role": "assistant", "content": "Box %s is %s."}]}\n'
    )
    name = request.node.name
    path = tmp_path / "train.jsonl"
    path.write_text("".join(row % (i, name, i, c) for i, c in enumerate(COLOURS)), "utf-8")
    return path
