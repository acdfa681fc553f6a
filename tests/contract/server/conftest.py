"""A server on a real socket, and a plain HTTP client that follows Azure's documentation only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from maas_client.local.embedded_server import LocalServer, serve

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


PLAIN_HTTP: dict[str, Any] = {"trust_env": False, "verify": False}
"""Arguments of httpx. Every client would load the certificates of the authorities, in 20 ms."""
LOGIN_FORM = {
    "grant_type": "client_credentials",
    "client_id": "a",
    "client_secret": "b",
    "scope": "https://management.azure.com/.default",
}


class Azure:
    """Plain HTTP requests to one server and one workspace."""

    def __init__(self, url: str, ws: str = WS) -> None:
        self.url = url
        self.ws = ws
        login = httpx.post(f"{url}/t/oauth2/v2.0/token", data=LOGIN_FORM, timeout=30, **PLAIN_HTTP)
        token = login.json().get("access_token", "token")  # none for a server with a key
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            **PLAIN_HTTP,
        )

    def arm(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        params = {"api-version": ARM, **kwargs.pop("params", {})}
        return self.http.request(method, self.ws + path, params=params, **kwargs)

    def history(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return self.http.request(
            method, f"/history/v1.0{self.ws}{path}", params={"api-version": "v1.0"}, **kwargs
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

    def blob(self, method: str, name: str, query: str = "", **kwargs: Any) -> httpx.Response:
        base, sas = self.container()
        suffix = f"&{query}" if query else ""
        return httpx.request(method, f"{base}/{name}?{sas}{suffix}", **PLAIN_HTTP, **kwargs)

    def upload(self, data: bytes, name: str = "train.jsonl") -> str:
        response = self.blob("PUT", name, content=data, headers={"x-ms-blob-type": "BlockBlob"})
        assert response.status_code == 201, response.text
        return f"azureml://datastores/workspaceblobstore/paths/{name}"

    def body(self, train: str, **kwargs: Any) -> dict[str, Any]:
        details = {
            "modelProvider": "Custom",
            "taskType": "chatCompletion",
            "model": {
                "jobInputType": "mlflow_model",
                "uri": "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/14",
            },
            "trainingData": {"jobInputType": "uri_file", "uri": train},
            "hyperParameters": {"num_train_epochs": "1"},
            **kwargs.pop("details", {}),
        }
        return {
            "properties": {
                "jobType": "FineTuning",
                "fineTuningDetails": details,
                "outputs": {"registered_model": {"jobOutputType": "mlflow_model", "assetName": "tuned"}},
                **kwargs,
            }
        }  # fmt: skip

    def submit(self, name: str, train: str, **kwargs: Any) -> httpx.Response:
        return self.arm("PUT", f"/jobs/{name}", json=self.body(train, **kwargs))

    def status(self, name: str) -> str:
        return str(self.arm("GET", f"/jobs/{name}").json()["properties"]["status"])

    def wait(self, name: str, *states: str, seconds: float = 60) -> str:
        deadline = time.monotonic() + seconds
        while (state := self.status(name)) not in (states or TERMINAL):
            assert time.monotonic() < deadline, f"{name} is still {state}"
            time.sleep(0.01)
        return state

    def job(self, name: str, data: bytes | None = None, **kwargs: Any) -> str:
        train = self.upload(data if data is not None else chats(), f"{name}.jsonl")
        response = self.submit(name, train, **kwargs)
        assert response.status_code == 201, response.text
        return self.wait(name)

    def error(self, name: str) -> dict[str, Any]:
        return dict(self.history("GET", f"/runs/{name}/details").json()["error"]["error"])

    def model_id(self, name: str) -> str:
        run = self.history("POST", "/rundata", json={"runId": name}).json()["runMetadata"]
        return str(run["outputs"]["registered_model"]["assetId"])

    def deploy(self, name: str, model_id: str) -> str:
        body = {"location": "eastus2", "properties": {"modelSettings": {"modelId": model_id}}}
        response = self.arm("PUT", f"/serverlessEndpoints/{name}", json=body)
        assert response.status_code == 201, response.text
        deadline = time.monotonic() + 120
        while (
            self.http.get(response.headers["azure-asyncoperation"]).json()["status"] == "InProgress"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        properties = self.arm("GET", f"/serverlessEndpoints/{name}").json()["properties"]
        assert properties["provisioningState"] == "Succeeded", properties
        return str(properties["inferenceEndpoint"]["uri"])

    def chat(self, uri: str, text: str, **kwargs: Any) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}], **kwargs}
        return self.http.post(
            f"{uri}/v1/chat/completions",
            content=json.dumps(body),  # escapes what is not Unicode
            headers={"Content-Type": "application/json"},
        )


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as running:
        yield running


@pytest.fixture(scope="module")
def azure(server: LocalServer) -> Iterator[Azure]:
    client = Azure(server.url)
    yield client
    client.http.close()


@pytest.fixture
def slow_azure() -> Iterator[Azure]:
    """A server whose instant engine takes 50 ms per step, so that a test can act while a job runs."""
    local_server = serve(engine="instant")
    local_server._config = replace(local_server._config, step_delay_s=0.05, cancel_grace_s=0.5)
    with local_server as server:
        azure = Azure(server.url)
        yield azure
        azure.http.close()
