"""A value of another type anywhere in a response ends in an error of this library, or does no harm.

Each verb is called once against the local server, and then with the recorded responses, of which one value of
one response is exchanged. The models of the wire are read with each of their fields exchanged, also those that
the local server does not send.
"""

from __future__ import annotations

import copy
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import maas_client as maas
from maas_client._transport import response
from maas_client._transport.http import HttpResponse
from maas_client.flows.azureml import datasets as azureml_datasets
from maas_client.flows.azureml import deployments as azureml_deployments
from maas_client.flows.azureml import jobs as azureml_jobs
from maas_client.flows.azureml import models as azureml_model_flows
from maas_client.flows.azureml import runs
from maas_client.flows.foundry import deployments as foundry_deployments
from maas_client.flows.foundry import files
from maas_client.flows.foundry import jobs as foundry_jobs
from maas_client.flows.foundry import models as foundry_model_flows
from maas_client.flows.foundry import runs as foundry_runs
from maas_client.local.embedded_server import LocalServer, serve
from maas_client.wire import azureml, azureml_models, chat, foundry, foundry_models, permissions
from maas_client.wire.operation import Operation, Plane, Scope
from maas_client.wire.parsing import parse_item
from tests.unit.fake_port import FakePort

NUMBERS: list[Any] = [7.5, -1, 10**30, 10**4000, float("nan"), float("inf")]
WRONG: list[Any] = [None, True, "x", "\ud800", [], [None], {}, {"a": None}, *NUMBERS]
CASES_PER_VERB = 30
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


class Recorder(httpx.BaseTransport):
    """Sends requests, and keeps the responses."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()
        self.responses: list[httpx.Response] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        response.read()
        self.responses.append(response)
        return response

    def bodies(self) -> list[Any]:
        """Return the JSON of each response; None where there is none."""
        return [
            json.loads(response.content)
            if response.content
            and response.headers.get("content-type", "").startswith("application/json")
            else None
            for response in self.responses
        ]

    def close(self) -> None:
        self._inner.close()


class Replay(httpx.BaseTransport):
    """Answers requests with recorded responses, in one of which a value is exchanged."""

    def __init__(self, recorder: Recorder, index: int, body: Any) -> None:
        self._recorder, self._index, self._body = recorder, index, body
        self._count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        number, self._count = self._count, self._count + 1
        if number >= len(self._recorder.responses):
            raise httpx.ConnectError("no more responses")
        recorded = self._recorder.responses[number]
        content = recorded.content if number != self._index else json.dumps(self._body).encode()
        headers = {k: v for k, v in recorded.headers.items() if k != "content-length"}
        return httpx.Response(recorded.status_code, headers=headers, content=content)


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
    server: LocalServer, dialect: Any, verb: str, train: Path, transport: httpx.BaseTransport
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
    recorder = Recorder()
    try:
        call(server, dialect, verb, train, recorder)
    except maas.UnsupportedError:
        pytest.skip(f"{dialect} has no {verb}")
    bodies = recorder.bodies()
    cases = [
        (index, path, wrong)
        for index, body in enumerate(bodies)
        if body is not None
        for path in paths(body)
        for wrong in WRONG
    ]
    escaped: Counter[str] = Counter()
    for index, path, wrong in random.Random(verb).sample(cases, min(len(cases), CASES_PER_VERB)):
        replay = Replay(recorder, index, exchange(bodies[index], path, wrong))
        try:
            call(server, dialect, verb, train, replay)
        except maas.MaasError:
            continue
        except Exception as error:
            escaped[f"{type(error).__name__}: {str(error)[:80]} at {path[-3:]} = {wrong!r}"] += 1
    assert cases
    assert not escaped, "\n".join(f"{count} x {what}" for what, count in escaped.most_common(12))


OPERATIONS = {
    op.name: op
    for module in (azureml, foundry, chat, permissions)
    for op in vars(module).values()
    if isinstance(op, Operation)
}
SCOPE = Scope("foundry", False, {}, {})
CONVERTERS: dict[type[Any], Callable[[Any], object]] = {
    azureml_models.DataVersion: lambda value: azureml_datasets.to_dataset(value, "n", "1"),
    azureml_models.Job: lambda value: azureml_jobs._to_job(value, "n"),
    azureml_models.ModelVersion: lambda value: azureml_model_flows._build_model(
        value, "n", "1", "a"
    ),
    azureml_models.Endpoint: lambda value: azureml_deployments._to_deployment(value, "n"),
    azureml_models.RunDetails: runs.to_job_error,
    foundry_models.File: files.to_dataset,
    foundry_models.Job: foundry_jobs.to_job,
    foundry_models.JobEvent: foundry_runs._to_event,
    foundry_models.Checkpoint: foundry_runs._to_checkpoint,
    foundry_models.Model: foundry_model_flows._to_model,
    foundry_models.Deployment: lambda value: foundry_deployments._to_deployment(
        FakePort(SCOPE), value, "n"
    ),
}
WIRE_MODELS: dict[str, type[BaseModel]] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": model
    for module in (azureml_models, foundry_models)
    for name, model in vars(module).items()
    if isinstance(model, type)
    and issubclass(model, BaseModel)
    and model.__module__ == module.__name__
}


def sample(schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    """Return a value that fits a JSON schema of pydantic, with all its fields."""
    if "$ref" in schema:
        return sample(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            options = [each for each in schema[word] if each.get("type") != "null"]
            return sample(options[0], definitions)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if "properties" in schema:
        return {name: sample(each, definitions) for name, each in schema["properties"].items()}
    values = {
        "object": {"a": "x"},
        "array": [],
        "string": "x",
        "integer": 1,
        "number": 1,
        "boolean": True,
    }
    if schema.get("type") == "array" and schema.get("items"):
        return [sample(schema["items"], definitions)]
    if isinstance(schema.get("additionalProperties"), dict):
        return {"a": sample(schema["additionalProperties"], definitions)}
    return values.get(schema.get("type", ""))


@pytest.mark.parametrize("name", WIRE_MODELS)
def test_each_field_of_a_wire_model_with_a_wrong_value(name: str) -> None:
    model = WIRE_MODELS[name]
    schema = model.model_json_schema()
    body = sample(schema, schema.get("$defs", {}))
    op = next((op for op in OPERATIONS.values() if op.returns is model), None)
    op = op or Operation("test.get", "GET", Plane.ARM, "/", model)
    convert = CONVERTERS.get(model, lambda value: value)

    def read(value: Any) -> None:
        content = json.dumps(value).encode()
        convert(response.parse(op, HttpResponse(op.ok[0], {}, content)).value)
        convert(parse_item(op, model, json.loads(content)))

    read(body)  # the sample itself is valid
    for path in paths(body):
        for wrong in WRONG:
            with suppress(maas.MaasError):
                read(exchange(body, path, wrong))


def test_wire_models_have_more_than_900_cases() -> None:
    count = 0
    for model in WIRE_MODELS.values():
        schema = model.model_json_schema()
        count += len(WRONG) * len(list(paths(sample(schema, schema.get("$defs", {})))))
    assert count > 900
