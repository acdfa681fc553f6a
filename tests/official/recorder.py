"""What our client says to our server, whole: both roads from file to chat, every exchange kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from maas_client.local.embed import LocalServer
from maas_client.wire import azureml, blob, chat, foundry, permissions
from maas_client.wire.op import Op

TABLES: dict[str, tuple[Op[Any], ...]] = {
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
    """One request and its answer; bodies are parsed where they are JSON."""

    op: str
    method: str
    path: str
    sent: Any
    status: int
    headers: dict[str, str]
    got: Any


@dataclass
class Recorder:
    """Hooks for httpx, and what they heard."""

    heard: list[Exchange] = field(default_factory=list)

    def http(self) -> httpx.Client:
        return httpx.Client(trust_env=False, event_hooks={"response": [self._hear]})

    def _hear(self, response: httpx.Response) -> None:
        streamed = "event-stream" in response.headers.get("content-type", "")
        if not streamed:
            response.read()
        request = response.request
        self.heard.append(
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
        return [one for one in self.heard if one.op == op]


def _json(message: httpx.Request | httpx.Response) -> Any:
    if "json" not in message.headers.get("content-type", ""):
        return None
    return json.loads(message.read() or b"null")


def name_of(method: str, path: str, query: dict[str, str]) -> str:
    """Return the name of the operation that a request is, or ``unknown``."""
    from starlette.routing import compile_path

    found = []
    for lead, operations in TABLES.items():
        for op in operations:
            pattern = compile_path(lead + op.path)[0]
            marks = {k: v for k, v in op.query.items() if k in ("comp", "restype")}
            same = all(query.get(k) == v for k, v in marks.items())
            if op.method == method and pattern.fullmatch(path) and same:
                found.append((-len(marks), op.path.count("{"), op.name))
    return min(found)[2] if found else "unknown"


def road(server: LocalServer, dialect: Literal["azureml", "foundry"], data: Path) -> Recorder:
    """Go the whole road of a dialect once, with everything a client may look at on the way."""
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
        asked = [{"role": "user", "content": "what is 3 plus 3?"}]
        client.chat.complete("tickets", asked)
        list(client.chat.stream("tickets", asked))
        for listed in (client.datasets, client.jobs, client.models, client.deployments):
            assert list(listed.list())
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
