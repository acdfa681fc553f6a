"""A server over a real socket, and a plain HTTP client that knows no more than Azure's documents."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from maas_client.local.embed import LocalServer, serve

WS = (
    "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg1"
    "/providers/Microsoft.MachineLearningServices/workspaces/proj1"
)
ARM = "2024-10-01-preview"
TERMINAL = ("Completed", "Failed", "Canceled")


def chats(n: int = 12) -> bytes:
    rows = [
        {"messages": [
            {"role": "user", "content": f"what is {i} plus {i}?"},
            {"role": "assistant", "content": f"it is {2 * i}, dear friend number {i}"}]}
        for i in range(n)
    ]  # fmt: skip
    return "\n".join(json.dumps(row) for row in rows).encode() + b"\n"


class Azure:
    """Raw HTTP against one server and one workspace."""

    def __init__(self, url: str, ws: str = WS) -> None:
        self.url = url
        self.ws = ws
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": "Bearer token"}, timeout=30, trust_env=False
        )

    def arm(self, method: str, path: str, **rest: Any) -> httpx.Response:
        params = {"api-version": ARM, **rest.pop("params", {})}
        return self.http.request(method, self.ws + path, params=params, **rest)

    def history(self, method: str, path: str, **rest: Any) -> httpx.Response:
        return self.http.request(
            method, f"/history/v1.0{self.ws}{path}", params={"api-version": "v1.0"}, **rest
        )

    def metric(self, run: str, verb: str, body: dict[str, Any]) -> httpx.Response:
        return self.http.post(f"/metric/v2.0{self.ws}/runs/{run}/{verb}", json=body)

    def container(self) -> tuple[str, str]:
        store = self.arm("GET", "/datastores/workspaceblobstore").json()["properties"]
        secret = self.arm(
            "POST",
            "/datastores/workspaceblobstore/listSecrets",
            json={"expirableSecret": True, "expireAfterHours": 1},
        ).json()
        base = f"{store['protocol']}://{store['endpoint']}/{store['accountName']}"
        return f"{base}/{store['containerName']}", secret["sasToken"]

    def blob(self, method: str, name: str, query: str = "", **rest: Any) -> httpx.Response:
        base, sas = self.container()
        extra = f"&{query}" if query else ""
        return httpx.request(method, f"{base}/{name}?{sas}{extra}", trust_env=False, **rest)

    def upload(self, data: bytes, name: str = "train.jsonl") -> str:
        answer = self.blob("PUT", name, content=data, headers={"x-ms-blob-type": "BlockBlob"})
        assert answer.status_code == 201, answer.text
        return f"azureml://datastores/workspaceblobstore/paths/{name}"

    def body(self, train: str, **rest: Any) -> dict[str, Any]:
        details = {
            "modelProvider": "Custom",
            "taskType": "chatCompletion",
            "model": {
                "jobInputType": "mlflow_model",
                "uri": "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/14",
            },
            "trainingData": {"jobInputType": "uri_file", "uri": train},
            "hyperParameters": {"num_train_epochs": "1"},
            **rest.pop("details", {}),
        }
        return {
            "properties": {
                "jobType": "FineTuning",
                "fineTuningDetails": details,
                "outputs": {"registered_model": {"jobOutputType": "mlflow_model", "assetName": "tuned"}},
                **rest,
            }
        }  # fmt: skip

    def submit(self, name: str, train: str, **rest: Any) -> httpx.Response:
        return self.arm("PUT", f"/jobs/{name}", json=self.body(train, **rest))

    def status(self, name: str) -> str:
        return str(self.arm("GET", f"/jobs/{name}").json()["properties"]["status"])

    def wait(self, name: str, *states: str, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while (state := self.status(name)) not in (states or TERMINAL):
            assert time.monotonic() < end, f"{name} is still {state}"
            time.sleep(0.01)
        return state

    def job(self, name: str, data: bytes | None = None, **rest: Any) -> str:
        train = self.upload(data if data is not None else chats(), f"{name}.jsonl")
        answer = self.submit(name, train, **rest)
        assert answer.status_code == 201, answer.text
        return self.wait(name)

    def error(self, name: str) -> dict[str, Any]:
        return dict(self.history("GET", f"/runs/{name}/details").json()["error"]["error"])

    def model_id(self, name: str) -> str:
        run = self.history("POST", "/rundata", json={"runId": name}).json()["runMetadata"]
        return str(run["outputs"]["registered_model"]["assetId"])

    def deploy(self, name: str, model_id: str) -> str:
        body = {"location": "eastus2", "properties": {"modelSettings": {"modelId": model_id}}}
        answer = self.arm("PUT", f"/serverlessEndpoints/{name}", json=body)
        assert answer.status_code == 201, answer.text
        end = time.monotonic() + 120
        while (
            self.http.get(answer.headers["azure-asyncoperation"]).json()["status"] == "InProgress"
        ):
            assert time.monotonic() < end
            time.sleep(0.01)
        found = self.arm("GET", f"/serverlessEndpoints/{name}").json()["properties"]
        assert found["provisioningState"] == "Succeeded", found
        return str(found["inferenceEndpoint"]["uri"])

    def chat(self, uri: str, text: str, **rest: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], **rest}
        return self.http.post(f"{uri}/v1/chat/completions", json=body)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as held:
        yield held


@pytest.fixture(scope="module")
def azure(server: LocalServer) -> Iterator[Azure]:
    held = Azure(server.url)
    yield held
    held.http.close()


@pytest.fixture
def slow_azure() -> Iterator[Azure]:
    """A server of its own whose instant engine takes 50 ms a step: time to interfere."""
    held = serve(engine="instant")
    held._config = replace(held._config, step_delay_s=0.05, cancel_grace_s=0.5)
    with held as server:
        azure = Azure(server.url)
        yield azure
        azure.http.close()
