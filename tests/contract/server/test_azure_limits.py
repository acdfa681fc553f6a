"""``serve --realistic`` over HTTP: refusals and headers in each dialect, and our client's patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import maas_client as maas
from maas_client.local.embed import LocalServer, serve
from tests.contract.server.conftest import Azure, chats

HI = [{"role": "user", "content": "hi"}]
ACCOUNT = (
    "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg1"
    "/providers/Microsoft.CognitiveServices/accounts/acc/deployments"
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant", realistic=True) as held:
        yield held


@pytest.fixture
def azure(server: LocalServer) -> Iterator[Azure]:
    held = Azure(server.url)
    yield held
    held.http.close()


def put(azure: Azure, name: str, capacity: int) -> None:
    body = {"sku": {"name": "GlobalStandard", "capacity": capacity},
            "properties": {"model": {"format": "Mistral AI", "name": "Ministral-3B"}}}  # fmt: skip
    answer = azure.http.put(f"{ACCOUNT}/{name}", params={"api-version": "2025-06-01"}, json=body)
    assert answer.status_code == 201, answer.text
    assert "x-ms-ratelimit-remaining-subscription-writes" in answer.headers


def test_a_foundry_deployment_is_cold_and_then_counts(azure: Azure) -> None:
    put(azure, "small", 2)
    body = {"model": "small", "messages": HI}
    seen = []
    while len(seen) < 50 and 429 not in seen:
        answer = azure.http.post("/openai/v1/chat/completions", json=body)
        seen.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == "DeploymentNotReady"
        if answer.status_code == 200:
            assert "requests" in answer.headers["x-maas-realistic"]
            left = answer.headers["x-ratelimit-remaining-requests"]
            assert left == str(2 - seen.count(200))
    assert seen[0] == 503
    assert seen.count(200) == 2
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert 0 < int(answer.headers["retry-after-ms"]) <= 60_000
    assert answer.json()["error"]["code"] == "TooManyRequests"


def test_our_client_waits_for_a_cold_deployment(server: LocalServer) -> None:
    with server.client(dialect="foundry") as client:
        made = client.deployments.create("patient", "Ministral-3B")
        assert made.ready
        assert client.chat.complete(made, HI).choices[0].message.content
        client.deployments.delete(made)


def test_one_endpoint_for_a_model_in_a_workspace(azure: Azure, server: LocalServer) -> None:
    azure.job("teacher", chats())
    model = azure.model_id("teacher")
    uri = azure.deploy("first", model)
    answer = azure.chat(uri, "hi")
    assert "200000 tokens" in answer.headers["x-maas-realistic"]
    assert "x-ratelimit-remaining-requests" not in answer.headers  # not documented for this service
    body = {"location": "eastus2", "properties": {"modelSettings": {"modelId": model}}}
    second = azure.arm("PUT", "/serverlessEndpoints/second", json=body)
    assert second.status_code == 400
    assert "first" in second.json()["error"]["message"]
    assert azure.arm("PUT", "/serverlessEndpoints/first", json=body).status_code == 200
    assert azure.arm("DELETE", "/serverlessEndpoints/first").status_code == 202
    assert azure.arm("PUT", "/serverlessEndpoints/second", json=body).status_code == 201


def test_a_resource_has_ten_tuned_deployments(server: LocalServer, tmp_path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(chats())
    with server.client(dialect="foundry") as client:
        job = client.fine_tune(path, model="Ministral-3B").job
        for n in range(10):
            client.deployments.create(f"d{n}", job)
        with pytest.raises(maas.MaasError, match="10 deployments"):
            client.deployments.create("d10", job)
        client.deployments.create("d9", job)  # one that exists is no new one
        client.deployments.delete("d0")
        client.deployments.create("d10", job)
