"""Serverless endpoints, models, data versions and marketplace over HTTP (docs/azure-http.md 1.7, 2.2, 3)."""

from __future__ import annotations

import time

import pytest

from tests.contract.server.conftest import WS, Azure, chats


@pytest.fixture(scope="module")
def model_id(azure: Azure) -> str:
    azure.job("teacher")
    return azure.model_id("teacher")


def named(name: str):
    return {"registered_model": {"jobOutputType": "mlflow_model", "assetName": name}}


def endpoint(model_id: str, **properties):
    return {"location": "eastus2", "sku": {"name": "Consumption"},
            "properties": {"modelSettings": {"modelId": model_id}, **properties}}  # fmt: skip


def test_call_sequence_of_azure_ai_ml(azure: Azure, model_id):
    put = azure.arm("PUT", "/serverlessEndpoints/ep1", json=endpoint(model_id))
    assert put.status_code == 201
    assert put.json()["properties"]["provisioningState"] == "Creating"
    poll = put.headers["azure-asyncoperation"]
    while (state := azure.http.get(poll).json()["status"]) == "InProgress":
        pass
    assert state == "Succeeded"
    record = azure.arm("GET", "/serverlessEndpoints/ep1").json()
    properties = record["properties"]
    assert (properties["provisioningState"], properties["endpointState"]) == ("Succeeded", "Online")
    assert properties["authMode"] == "Key"  # the SDK does not send it
    assert properties["modelSettings"]["modelId"] == model_id
    assert properties["inferenceEndpoint"]["uri"].startswith(azure.url)
    assert record["tags"]["simulated"] == "true"
    keys = azure.arm("POST", "/serverlessEndpoints/ep1/listKeys").json()
    assert len({keys["primaryKey"], keys["secondaryKey"]}) == 2
    deleted = azure.arm("DELETE", "/serverlessEndpoints/ep1")
    assert deleted.status_code == 202
    assert azure.http.get(deleted.headers["location"]).status_code == 200
    assert azure.arm("GET", "/serverlessEndpoints/ep1").status_code == 404
    assert azure.arm("DELETE", "/serverlessEndpoints/ep1").status_code == 204
    assert azure.chat(properties["inferenceEndpoint"]["uri"], "hi").status_code == 404


def test_repeated_put_returns_same_endpoint(azure: Azure, model_id):
    azure.deploy("same", model_id)
    keys = azure.arm("POST", "/serverlessEndpoints/same/listKeys").json()
    repeated = azure.arm("PUT", "/serverlessEndpoints/same", json=endpoint(model_id))
    assert repeated.status_code == 200
    assert azure.arm("POST", "/serverlessEndpoints/same/listKeys").json() == keys
    different = endpoint("azureml://registries/azureml/models/Phi-4")
    assert azure.arm("PUT", "/serverlessEndpoints/same", json=different).status_code == 409


def test_same_name_in_two_workspaces(azure: Azure, model_id, server):
    second_workspace = Azure(server.url, WS.replace("proj1", "proj2"))
    first, second = azure.deploy("shared", model_id), second_workspace.deploy("shared", model_id)
    assert first != second
    assert azure.chat(first, "what is 1 plus 1").status_code == 200
    assert azure.chat(second, "what is 1 plus 1").status_code == 200
    second_workspace.http.close()


def test_patch_list_and_regenerate_keys(azure: Azure, model_id):
    azure.deploy("patched", model_id)
    assert (
        azure.arm("PATCH", "/serverlessEndpoints/patched", json={"tags": {"a": "b"}}).json()[
            "tags"
        ]["a"]
        == "b"
    )
    assert "patched" in [
        e["name"] for e in azure.arm("GET", "/serverlessEndpoints").json()["value"]
    ]
    old_keys = azure.arm("POST", "/serverlessEndpoints/patched/listKeys").json()
    new_keys = azure.arm(
        "POST", "/serverlessEndpoints/patched/regenerateKeys", json={"keyType": "secondary"}
    ).json()
    assert new_keys["primaryKey"] == old_keys["primaryKey"]
    assert new_keys["secondaryKey"] != old_keys["secondaryKey"]
    assert (
        azure.arm(
            "POST", "/serverlessEndpoints/patched/regenerateKeys", json={"keyType": "x"}
        ).status_code
        == 400
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": {"type": "SystemAssigned"}},
        {"properties": {"authMode": "AAD"}},
        {"properties": {"fromTheFuture": 1}},
    ],
)
def test_fields_that_change_nothing_here_are_refused(azure: Azure, changes):
    body = endpoint("azureml://registries/azureml/models/Phi-4", **changes.get("properties", {}))
    body |= {name: value for name, value in changes.items() if name != "properties"}
    refused = azure.arm("PUT", "/serverlessEndpoints/refused", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "NotImplemented")
    assert azure.arm("GET", "/serverlessEndpoints/refused").status_code == 404


@pytest.mark.parametrize(
    "model_id",
    ["", "Phi-4", "https://evil.example/x", "azureml://registries/azureml/models/GPT-9",
     "azureml://registries/azureml/models/Phi-4/versions/7",
     "azureml://registries/azureml-meta/models/Phi-4",
     "azureml://registries/azureml/models/Phi-4/labels/oldest",
     "azureml://locations/eastus2/workspaces/00000000-0000-0000-0000-000000000000/models/m/versions/1"],
)  # fmt: skip
def test_undeployable_models_are_refused(azure: Azure, model_id):
    response = azure.arm("PUT", "/serverlessEndpoints/none", json=endpoint(model_id))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "UserError")
    assert azure.arm("GET", "/serverlessEndpoints/none").status_code == 404


def test_base_model_answer_is_marked_simulated(azure: Azure):
    uri = azure.deploy("base", "azureml://registries/azureml/models/Phi-4-mini-instruct")
    response = azure.chat(uri, "hi").json()
    assert response["model"] == "Phi-4-mini-instruct"
    assert "simulated" in response["choices"][0]["message"]["content"]


def test_deployed_model_cannot_be_deleted(azure: Azure):
    azure.job("held", outputs=named("held-model"))
    azure.deploy("holder", azure.model_id("held"))
    refused = azure.arm("DELETE", "/models/held-model/versions/1")
    assert (refused.status_code, "holder" in refused.text) == (409, True)
    azure.arm("DELETE", "/serverlessEndpoints/holder")
    assert azure.arm("DELETE", "/models/held-model/versions/1").status_code == 200
    assert azure.arm("GET", "/models/held-model/versions/1").status_code == 404
    assert azure.arm("DELETE", "/models/held-model/versions/1").status_code == 204


def test_model_versions(azure: Azure):
    for n in (1, 2):
        azure.job(f"twice{n}", outputs=named("twice"))
    versions = azure.arm("GET", "/models/twice/versions").json()["value"]
    assert [v["name"] for v in versions] == ["2", "1"]
    assert [
        v["name"]
        for v in azure.arm("GET", "/models/TWICE/versions", params={"$top": "1"}).json()["value"]
    ] == ["2"]
    version = azure.arm("GET", "/models/twice/versions/1").json()["properties"]
    assert (version["jobName"], version["modelType"]) == ("twice1", "mlflow_model")
    assert version["properties"]["simulated"] == "true"
    assert "twice" in [m["name"] for m in azure.arm("GET", "/models").json()["value"]]


def test_data_versions(azure: Azure):
    uri = azure.upload(chats(), "data.jsonl")
    body = {"properties": {"dataType": "uri_file", "dataUri": uri, "tags": {"x": "y"}}}
    assert azure.arm("PUT", "/data/set/versions/1", json=body).status_code == 201
    assert azure.arm("PUT", "/data/set/versions/1", json=body).status_code == 200
    moved = {"properties": {**body["properties"], "dataUri": uri + "2"}}
    refused = azure.arm("PUT", "/data/set/versions/1", json=moved)
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        409,
        "Asset paths cannot be updated.",
    )
    assert azure.arm("GET", "/data/set").json()["properties"]["nextVersion"] == "2"
    assert azure.arm("GET", "/data/set/versions/1").json()["properties"]["tags"] == {"x": "y"}
    assert [v["name"] for v in azure.arm("GET", "/data/set/versions").json()["value"]] == ["1"]
    assert azure.arm("DELETE", "/data/set/versions/1").status_code == 200
    assert azure.arm("DELETE", "/data/set/versions/1").status_code == 204
    assert azure.arm("GET", "/data/set").status_code == 404
    for bad in (
        {},
        {"properties": {}},
        {"properties": {"dataUri": 3}},
        {"properties": {"dataUri": "file:///x"}},
    ):
        assert azure.arm("PUT", "/data/bad/versions/1", json=bad).status_code == 400


def test_marketplace_is_for_partner_models(azure: Azure):
    def subscribe(model):
        return azure.arm(
            "PUT", "/marketplaceSubscriptions/sub1", json={"properties": {"modelId": model}}
        )

    refused = subscribe("azureml://registries/azureml/models/Phi-4")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "UserError")
    assert subscribe("azureml://registries/azureml/models/Ministral-3B").status_code == 400
    assert subscribe("azureml://registries/azureml-mistral/models/Ministral-3B").status_code == 201
    record = azure.arm("GET", "/marketplaceSubscriptions/sub1").json()["properties"]
    assert record["marketplaceSubscriptionStatus"] == "Subscribed"
    assert len(azure.arm("GET", "/marketplaceSubscriptions").json()["value"]) == 1
    assert azure.arm("DELETE", "/marketplaceSubscriptions/sub1").status_code == 202
    assert azure.arm("DELETE", "/marketplaceSubscriptions/sub1").status_code == 204


def test_base_model_registry(azure: Azure):
    record = azure.http.get("/registrymanagement/v1.0/registries/azureml/discovery").json()
    assert record["primaryRegionResourceProviderUri"] == azure.url + "/"
    url = (
        f"{record['primaryRegionResourceProviderUri']}mferp/managementfrontend/subscriptions/{record['subscriptionId']}"
        f"/resourceGroups/{record['resourceGroup']}/providers/Microsoft.MachineLearningServices"
        "/registries/azureml/models/{}/versions/{}?api-version=2021-10-01-dataplanepreview"
    )
    for name, version, status in (
        ("Phi-4", "1", 200),
        ("Phi-4", "8", 200),
        ("Phi-4", "9", 404),
        ("Phi-4", "999", 404),
        ("Phi-4", "0", 404),
        ("Phi-4", "latest", 404),
        ("GPT-9", "1", 404),
        ("Phi-4-reasoning", "3", 200),  # the catalog names no version
    ):
        assert azure.http.get(url.format(name, version)).status_code == status, (name, version)


def test_model_of_another_endpoint_stays_loaded(azure: Azure, server, monkeypatch):
    dropped = []
    answers = server._server.services.chat_engine

    async def unload(target):
        dropped.append(target.folder)

    monkeypatch.setattr(answers, "unload", unload)
    azure.job("alone", outputs=named("alone"))  # no other test deploys this model
    model_id = azure.model_id("alone")
    for name in ("first", "second"):
        azure.deploy(name, model_id)
    azure.arm("DELETE", "/serverlessEndpoints/first")
    azure.arm("GET", "")  # by now the scheduled callbacks have run
    assert dropped == []
    azure.arm("DELETE", "/serverlessEndpoints/second")
    deadline = time.monotonic() + 5
    while not dropped:
        assert time.monotonic() < deadline
    assert len(dropped) == 1
