"""``serve --realistic`` over HTTP: errors and headers in each dialect, and the retries of our client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve
from tests.contract.server.conftest import Azure, chats

HI = [{"role": "user", "content": "hi"}]
ACCOUNT = (
    "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg1"
    "/providers/Microsoft.CognitiveServices/accounts/acc/deployments"
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant", realistic=True) as running:
        yield running


@pytest.fixture
def azure(server: LocalServer) -> Iterator[Azure]:
    client = Azure(server.url)
    yield client
    client.http.close()


def put(azure: Azure, name: str, capacity: int) -> None:
    body = {"sku": {"name": "GlobalStandard", "capacity": capacity},
            "properties": {"model": {"format": "Mistral AI", "name": "Ministral-3B"}}}  # fmt: skip
    response = azure.http.put(f"{ACCOUNT}/{name}", params={"api-version": "2025-06-01"}, json=body)
    assert response.status_code == 201, response.text
    assert "x-ms-ratelimit-remaining-subscription-writes" in response.headers


def test_foundry_deployment_is_not_ready_at_first_then_rate_limited(azure: Azure) -> None:
    put(azure, "small", 2)
    body = {"model": "small", "messages": HI}
    statuses = []
    while len(statuses) < 50 and 429 not in statuses:
        response = azure.http.post("/openai/v1/chat/completions", json=body)
        statuses.append(response.status_code)
        if response.status_code == 503:
            assert response.json()["error"]["code"] == "DeploymentNotReady"
        if response.status_code == 200:
            assert "requests" in response.headers["x-maas-realistic"]
            remaining = response.headers["x-ratelimit-remaining-requests"]
            assert remaining == str(2 - statuses.count(200))
    assert statuses[0] == 503
    assert statuses.count(200) == 2
    assert 0 < int(response.headers["retry-after"]) <= 60
    assert 0 < int(response.headers["retry-after-ms"]) <= 60_000
    assert response.json()["error"]["code"] == "TooManyRequests"


def test_client_waits_until_deployment_is_ready(server: LocalServer) -> None:
    with server.client(dialect="foundry") as client:
        created = client.deployments.create("patient", "Ministral-3B")
        assert created.ready
        assert client.chat.complete(created, HI).choices[0].message.content
        client.deployments.delete(created)


def test_one_endpoint_per_model_and_workspace(azure: Azure, server: LocalServer) -> None:
    azure.job("teacher", chats())
    model = azure.model_id("teacher")
    uri = azure.deploy("first", model)
    response = azure.chat(uri, "hi")
    assert "200000 tokens" in response.headers["x-maas-realistic"]
    assert (
        "x-ratelimit-remaining-requests" not in response.headers
    )  # not documented for this service
    body = {"location": "eastus2", "properties": {"modelSettings": {"modelId": model}}}
    second = azure.arm("PUT", "/serverlessEndpoints/second", json=body)
    assert second.status_code == 400
    assert "first" in second.json()["error"]["message"]
    assert azure.arm("PUT", "/serverlessEndpoints/first", json=body).status_code == 200
    assert azure.arm("DELETE", "/serverlessEndpoints/first").status_code == 202
    assert azure.arm("PUT", "/serverlessEndpoints/second", json=body).status_code == 201


def test_limit_of_ten_tuned_deployments(server: LocalServer, tmp_path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(chats())
    with server.client(dialect="foundry") as client:
        job = client.fine_tune(path, model="Ministral-3B").job
        for n in range(10):
            client.deployments.create(f"d{n}", job)
        with pytest.raises(maas.MaasError, match="10 deployments"):
            client.deployments.create("d10", job)
        client.deployments.create("d9", job)  # an existing deployment does not count as a new one
        client.deployments.delete("d0")
        client.deployments.create("d10", job)
