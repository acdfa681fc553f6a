"""A value of another type anywhere in a response ends in an error of this library, or does no harm.

Each verb is called against the local server through a transport that exchanges one value of one response.
"""

from __future__ import annotations

import copy
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve

WRONG: list[Any] = [None, "x", 7.5, -1, 10**30, [], {}, [None], True]
CASES_PER_VERB = 12
MESSAGES = [{"role": "user", "content": "What is the colour of box 3?"}]
Keys = tuple[str | int, ...]


def paths(value: Any, path: Keys = ()) -> Iterator[Keys]:
    """Yield the place of every value; of a list only the first item."""
    yield path
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value[:1]))
    for key, child in children:
        yield from paths(child, (*path, key))


def exchange(value: Any, path: Keys, wrong: Any) -> Any:
    if not path:
        return wrong
    changed = copy.deepcopy(value)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = wrong
    return changed


class ExchangingTransport(httpx.BaseTransport):
    """Records the JSON of each response, and exchanges a value in one of them."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.bodies: list[Any] = []
        self.target: tuple[int, Keys, Any] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        response.read()
        body = None
        if response.headers.get("content-type", "").startswith("application/json"):
            body = json.loads(response.content) if response.content else None
        self.bodies.append(body)
        if self.target is None or self.target[0] != len(self.bodies) - 1:
            content = response.content
        else:
            content = json.dumps(exchange(body, *self.target[1:])).encode()
        headers = {k: v for k, v in response.headers.items() if k != "content-length"}
        return httpx.Response(response.status_code, headers=headers, content=content)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    row = (
        '{"messages": [{"role": "user", "content": "What is the colour of box %s?"}, '
        '{"role": "assistant", "content": "It is number %s."}]}\n'
    )
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    path.write_text("".join(row % (i, i) for i in range(20)), "utf-8")
    return path


@pytest.fixture(scope="module")
def server(train: Path) -> Iterator[LocalServer]:
    with serve(engine="instant") as local_server:
        for dialect in ("azureml", "foundry"):
            with local_server.client(dialect=dialect) as client:
                client.fine_tune(train, model=MODEL, deploy=f"{dialect}-box")
        yield local_server


MODEL = "Phi-4-mini-instruct"


def only(items: Any) -> Any:
    for item in items:
        return item
    raise maas.NotFoundError("the list is empty")


VERBS: dict[str, Callable[[maas.Client, str, Path], Any]] = {
    "datasets.list": lambda c, d, t: list(c.datasets.list()),
    "datasets.get": lambda c, d, t: c.datasets.get("train"),
    "datasets.upload": lambda c, d, t: c.datasets.upload(t),
    "jobs.list": lambda c, d, t: list(c.jobs.list()),
    "jobs.get": lambda c, d, t: c.jobs.get(only(c.jobs.list()).id),
    "jobs.create": lambda c, d, t: c.jobs.create(model=MODEL, training_data=t),
    "jobs.wait": lambda c, d, t: c.jobs.wait(only(c.jobs.list()).id),
    "jobs.events": lambda c, d, t: list(c.jobs.events(only(c.jobs.list()).id)),
    "jobs.logs": lambda c, d, t: c.jobs.logs(only(c.jobs.list()).id),
    "jobs.checkpoints": lambda c, d, t: list(c.jobs.checkpoints(only(c.jobs.list()).id)),
    "jobs.cancel": lambda c, d, t: c.jobs.cancel(only(c.jobs.list()).id),
    "models.list": lambda c, d, t: list(c.models.list()),
    "models.get": lambda c, d, t: c.models.get(only(c.models.list()).name),
    "deployments.list": lambda c, d, t: list(c.deployments.list()),
    "deployments.get": lambda c, d, t: c.deployments.get(f"{d}-box"),
    "deployments.keys": lambda c, d, t: c.deployments.keys(f"{d}-box"),
    "chat.complete": lambda c, d, t: c.chat.complete(f"{d}-box", MESSAGES),
}


def call(
    server: LocalServer, dialect: Any, verb: str, train: Path, transport: ExchangingTransport
) -> Any:
    with (
        httpx.Client(transport=transport) as http,
        maas.Client.local(url=server.url, dialect=dialect, http=http, max_retries=0) as client,
    ):

        async def stop(seconds: float) -> None:
            raise maas.JobTimeoutError("this test does not wait")

        client._http.sleep = stop  # type: ignore[method-assign]  # what is polled for ever ends here
        return VERBS[verb](client, dialect, train)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize("verb", VERBS)
def test_wrong_value_is_an_error_of_this_library(
    server: LocalServer, train: Path, dialect: str, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    recording = ExchangingTransport()
    try:
        call(server, dialect, verb, train, recording)
    except maas.UnsupportedError:
        pytest.skip(f"{dialect} has no {verb}")
    cases = [
        (index, path, wrong)
        for index, body in enumerate(recording.bodies)
        if body is not None
        for path in paths(body)
        for wrong in WRONG
    ]
    escaped: Counter[str] = Counter()
    for case in random.Random(verb).sample(cases, min(len(cases), CASES_PER_VERB)):
        transport = ExchangingTransport()
        transport.target = case
        try:
            call(server, dialect, verb, train, transport)
        except maas.MaasError:
            continue
        except Exception as error:
            _, path, wrong = case
            escaped[f"{type(error).__name__}: {str(error)[:80]} at {path[-3:]} = {wrong!r}"] += 1
    assert cases
    assert not escaped, "\n".join(f"{count} x {what}" for what, count in escaped.most_common(12))
