"""Recording of all exchanges of our client with our server, from file to chat, in both dialects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from maas_client.local.embedded_server import LocalServer
from maas_client.local.http.path_index import match_path
from maas_client.wire import azureml, blob, chat, foundry, permissions
from maas_client.wire.operation import Operation
from tests.contract.server.conftest import PLAIN_HTTP

TABLES: dict[str, tuple[Operation[Any], ...]] = {
    "": (
        *azureml.OPERATIONS,
        *foundry.ARM_OPERATIONS,
        *foundry.INFERENCE_OPERATIONS,
        *permissions.WORKSPACE_OPERATIONS,
        *permissions.ACCOUNT_OPERATIONS,
    ),
    "/openai": (*foundry.OPERATIONS, *foundry.DATED_OPERATIONS),
    "/serverless/{endpoint}": chat.OPERATIONS,
    "/maaslocal/{container}": blob.OPERATIONS,
}


@dataclass
class Exchange:
    """One request and its response; JSON bodies are parsed."""

    op: str
    method: str
    path: str
    sent: Any
    status: int
    headers: dict[str, str]
    got: Any


@dataclass
class Recorder:
    """Event hooks for httpx, and the exchanges they recorded."""

    exchanges: list[Exchange] = field(default_factory=list)

    def http(self) -> httpx.Client:
        return httpx.Client(**PLAIN_HTTP, event_hooks={"response": [self._record]})

    def _record(self, response: httpx.Response) -> None:
        streamed = "event-stream" in response.headers.get("content-type", "")
        if not streamed:
            response.read()
        request = response.request
        self.exchanges.append(
            Exchange(
                name_of(request.method, request.url.path, dict(request.url.params)),
                request.method,
                request.url.path,
                _json(request),
                response.status_code,
                dict(response.headers),
                None if streamed else _json(response),
            )
        )

    def of(self, op: str) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.op == op]


def _json(message: httpx.Request | httpx.Response) -> Any:
    if "json" not in message.headers.get("content-type", ""):
        return None
    return json.loads(message.read() or b"null")


def name_of(method: str, path: str, query: dict[str, str]) -> str:
    """Return the name of the operation of a request, or ``unknown``."""
    matches = []
    for prefix, operations in TABLES.items():
        for op in operations:
            selectors = {k: v for k, v in op.query.items() if k in ("comp", "restype")}
            same = all(query.get(k) == v for k, v in selectors.items())
            if op.method == method and same and match_path(prefix + op.path, path) is not None:
                matches.append((-len(selectors), op.path.count("{"), op.name))
    return min(matches)[2] if matches else "unknown"


def record_workflow(
    server: LocalServer, dialect: Literal["azureml", "foundry"], data: Path
) -> Recorder:
    """Run the complete workflow of a dialect once, and record its exchanges."""
    import maas_client as maas

    recorder = Recorder()
    with (
        recorder.http() as http,
        server.client(dialect=dialect, http=http) as client,
    ):
        result = client.fine_tune(
            data,
            model="Phi-4-mini-instruct" if dialect == "azureml" else "Ministral-3B",
            validation_data=data.with_name("val.jsonl"),
            hyperparameters=maas.Hyperparameters(epochs=2, batch_size=2),
            deploy="tickets",
        )
        messages = [{"role": "user", "content": "what is 3 plus 3?"}]
        client.chat.complete("tickets", messages)
        list(client.chat.stream("tickets", messages))
        for resource in (client.datasets, client.jobs, client.models, client.deployments):
            assert list(resource.list())
        list(client.jobs.events(result.job))
        client.jobs.logs(result.job)
        client.datasets.get(result.dataset)
        client.models.get(result.job.fine_tuned_model)
        client.deployments.get("tickets")
        client.deployments.keys("tickets")
        if dialect == "foundry":
            list(client.jobs.checkpoints(result.job))
        client.jobs.cancel(result.job)
        client.deployments.delete("tickets")
        client.jobs.delete(result.job)
        client.datasets.delete(result.dataset)
    return recorder
