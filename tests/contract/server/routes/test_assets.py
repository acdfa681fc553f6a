"""Data and models after their creation, and the lists with which clients find resources on ARM."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.server.conftest import Azure, chats


@pytest.fixture
def data(azure: Azure) -> str:
    return azure.upload(chats(), "assets.jsonl")


def put(azure: Azure, path: str, uri: str | None = None, **properties: Any) -> Any:
    body = {
        "properties": {**({"dataType": "uri_file", "dataUri": uri} if uri else {}), **properties}
    }
    return azure.arm("PUT", path, json=body)


def names(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["name"] for item in response.json()["value"]]


def test_versions_are_listed_in_pages_and_filtered(azure: Azure, data: str) -> None:
    for number in range(105):
        put(azure, f"/data/pages/versions/{number}", data, tags={"even": str(number % 2 == 0)})
    path = "/data/pages/versions"
    first = azure.arm("GET", path).json()
    assert len(first["value"]) == 100
    second = azure.http.get(first["nextLink"]).json()
    assert [v["name"] for v in second["value"]] == ["4", "3", "2", "1", "0"]
    assert second["nextLink"] is None
    assert names(azure.arm("GET", path, params={"$top": "2"})) == ["104", "103"]
    rising = {"$top": "3", "$orderBy": "createdtime asc"}
    assert names(azure.arm("GET", path, params=rising)) == ["0", "1", "2"]
    filtered = {"$top": "2", "$tags": "even=True"}
    assert names(azure.arm("GET", path, params=filtered)) == ["104", "102"]
    for name, value, status in (
        ("$top", "none", 400), ("$skip", "5", 400), ("listViewType", "Some", 400),
        ("$orderBy", "name desc", 501), ("tags", "even", 501), ("$filter", "x", 501),
    ):  # fmt: skip
        response = azure.arm("GET", path, params={name: value})
        assert response.status_code == status, name
        assert name in response.text


@pytest.mark.parametrize(
    "path", ["/data", "/data/none/versions", "/models", "/models/none/versions", "/jobs"]
)
def test_parameters_of_empty_lists_are_checked(azure: Azure, path: str) -> None:
    empty = azure.http.get(
        azure.ws.replace("proj1", "empty") + path,
        params={"api-version": "2024-10-01-preview", "listViewType": "Some"},
    )
    assert (empty.status_code, empty.json()["error"]["target"]) == (400, "listViewType")


def test_every_property_is_kept_or_refused(azure: Azure, data: str) -> None:
    path = "/data/kept/versions/1"
    stored = {
        "description": "d",
        "tags": {"a": "b"},
        "properties": {"p": "q"},
        "isArchived": True,
        "stage": "s",
    }
    assert put(azure, path, data, **stored).status_code == 201
    assert stored.items() <= azure.arm("GET", path).json()["properties"].items()
    assert put(azure, path, data, tags={"a": "c"}).status_code == 200  # PUT replaces
    properties = azure.arm("GET", path).json()["properties"]
    assert (properties["tags"], properties["isArchived"], properties.get("stage")) == (
        {"a": "c"},
        False,
        None,
    )
    assert azure.arm("PUT", path, json=azure.arm("GET", path).json()).status_code == 200
    for name, value in (
        ("autoDeleteSetting", {"condition": "CreatedGreaterThan"}),
        ("whatElse", 1),
    ):
        response = put(azure, path, data, **{name: value})
        assert response.status_code == 501
        assert response.json()["error"]["code"] == "NotImplemented"
        assert name in response.json()["error"]["message"]
    assert put(azure, path, data, isArchived="yes!").status_code == 400
    assert put(azure, path, data, tags=["a"]).status_code == 400
    assert put(azure, path, data, dataType="uri_folder").status_code == 409


@pytest.mark.parametrize("kind", ["data", "models"])
def test_containers(azure: Azure, data: str, kind: str) -> None:
    path = f"/{kind}/Boxes"
    assert azure.arm("GET", path).status_code == 404
    assert azure.arm("DELETE", path).status_code == 204
    assert put(azure, path, description="d", tags={"a": "b"}).status_code == 201
    assert put(azure, path, description="e", tags={"a": "b"}).status_code == 200
    container = azure.arm("GET", path.lower()).json()
    assert (container["name"], container["properties"]["description"]) == ("Boxes", "e")
    assert container["properties"]["latestVersion"] is None
    assert "Boxes" in names(azure.arm("GET", f"/{kind}"))
    assert put(azure, path, isArchived=True).status_code == 200
    assert "Boxes" not in names(azure.arm("GET", f"/{kind}"))
    assert "Boxes" in names(azure.arm("GET", f"/{kind}", params={"listViewType": "ArchivedOnly"}))
    assert put(azure, path, modelUri="x", dataUri="y").status_code == 501
    if kind == "data":
        put(azure, f"{path}/versions/1", data)
        assert names(azure.arm("GET", f"{path}/versions")) == []  # it is born archived
    assert azure.arm("DELETE", path).status_code == 200
    assert azure.arm("GET", path).status_code == 404
    assert azure.arm("GET", f"{path}/versions/1").status_code == 404


def test_model_of_a_job_is_changed_kept_and_deleted(azure: Azure) -> None:
    assert azure.job("assets-model", outputs={"registered_model": {
        "jobOutputType": "mlflow_model", "assetName": "changed"}}) == "Completed"  # fmt: skip
    path = "/models/changed/versions/1"
    document = azure.arm("GET", path).json()
    document["properties"] |= {"tags": {"a": "b"}, "stage": "Production"}
    assert azure.arm("PUT", path, json=document).json()["properties"]["tags"] == {"a": "b"}
    filters = {"tags": "a=b", "stage": "Production", "version": "1"}
    assert names(azure.arm("GET", "/models/changed/versions", params=filters)) == ["1"]
    for name in filters:
        assert names(azure.arm("GET", "/models/changed/versions", params={name: "x"})) == []
    assert azure.arm("GET", "/models/changed/versions", params={"feed": "x"}).status_code == 501
    changed = {
        "properties": {**document["properties"], "modelUri": "azureml://datastores/d/paths/x"}
    }
    assert azure.arm("PUT", path, json=changed).status_code == 409

    # The files stay readable when the job is deleted, as long as the model is registered.
    prefix = document["properties"]["modelUri"].partition("/paths/")[2]
    azure.arm("DELETE", "/jobs/assets-model")
    store = azure.arm("GET", "/datastores/workspaceartifactstore").json()["properties"]
    sas = azure.arm("POST", "/datastores/workspaceartifactstore/listSecrets", json={}).json()[
        "sasToken"
    ]
    listing = (
        f"/maaslocal/{store['containerName']}?restype=container&comp=list&prefix={prefix}&{sas}"
    )
    assert "<Name>" in azure.http.get(listing).text
    assert azure.arm("DELETE", "/models/changed").status_code == 200
    assert azure.arm("GET", path).status_code == 404


def test_lists_show_the_resources_that_were_named(azure: Azure) -> None:
    azure.arm("GET", "")
    subscription, group = azure.ws.split("/")[2], azure.ws.split("/")[4]
    account = (
        f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.CognitiveServices"
        "/accounts/acc1"
    )

    def get(path: str, version: str = "2025-09-01", **params: str) -> Any:
        return azure.http.get(path, params={"api-version": version, **params})

    assert get(f"{account}/projects/p1").json()["name"] == "acc1/p1"
    root = f"/subscriptions/{subscription}"
    providers = f"{root}/resourceGroups/{group}/providers"
    assert subscription in [s["subscriptionId"] for s in get("/subscriptions").json()["value"]]
    assert get(root).json()["state"] == "Enabled"
    assert names(get(f"{root}/resourcegroups")) == [group]
    for path in (f"{root}/providers", providers):
        assert names(get(f"{path}/Microsoft.MachineLearningServices/workspaces")) == ["proj1"]
        assert names(get(f"{path}/Microsoft.CognitiveServices/accounts")) == ["acc1"]
    assert names(get(f"{account}/projects")) == ["acc1/p1"]
    other_groups = get("/subscriptions/other/resourceGroups")
    assert names(other_groups) == []
    filtered = get(f"{providers}/Microsoft.MachineLearningServices/workspaces", kind="Hub")
    assert names(filtered) == []
    assert get(f"{root}/resourceGroups", **{"$filter": "x"}).status_code == 501
    assert azure.http.get(f"{root}/resourceGroups").status_code == 400  # no api-version
    refused = azure.http.put(account, params={"api-version": "2025-09-01"}, json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "NotImplemented")
    assert "Change Account" in refused.json()["error"]["message"]


ACCOUNT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"


def test_tuned_model_has_the_version_1(azure: Azure) -> None:
    model = {"format": "Microsoft", "name": "Phi-4.ft-1", "version": "99"}
    body = {"sku": {"name": "GlobalStandard", "capacity": 1}, "properties": {"model": model}}
    answer = azure.http.put(f"{ACCOUNT}/deployments/d?api-version=2025-09-01", json=body)
    assert answer.status_code == 400
    assert "version 1, not '99'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "form", "version", "status"),
    [
        ("Phi-4-mini-instruct", "Microsoft", "1", 201),
        ("Phi-4-mini-instruct", "Microsoft", "99", 400),
        ("Phi-4", "Microsoft", "8", 201),
        ("Phi-4", "Microsoft", "9", 400),
        ("Phi-4", "Microsoft", "0", 400),
        ("Phi-4", "Microsoft", 1.5, 400),
        ("gpt-4.1-mini", "OpenAI", "2025-04-14", 201),
        ("gpt-4.1-mini", "OpenAI", "1", 400),
        ("gpt-oss-20b", "Microsoft", "99", 201),  # no source names a version
        ("Phi-4", "Microsoft", None, 201),
    ],
)
def test_versions_of_base_models(
    azure: Azure, name: str, form: str, version: Any, status: int
) -> None:
    model = {"format": form, "name": name, "version": version}
    body = {"sku": {"name": "GlobalStandard", "capacity": 1}, "properties": {"model": model}}
    url = f"{ACCOUNT}/deployments/versions?api-version=2025-09-01"
    answer = azure.http.put(url, json=body)
    azure.http.delete(url)
    assert answer.status_code == status, answer.text
    if status == 400:
        assert f"not {str(version)!r}" in answer.json()["error"]["message"]


def test_offered_versions_can_be_deployed(azure: Azure) -> None:
    models = azure.http.get(f"{ACCOUNT}/models?api-version=2025-09-01").json()["value"]
    versions = {model["name"]: model["version"] for model in models}
    assert (versions["Phi-4"], versions["gpt-4.1-mini"]) == ("1", "2025-04-14")


def test_etag_of_a_foundry_deployment_changes_with_it(azure: Azure) -> None:
    model = {"format": "Microsoft", "name": "Phi-4", "version": "1"}
    url = f"{ACCOUNT}/deployments/changing?api-version=2025-09-01"
    etags = []
    for changes in ({"capacity": 1}, {"capacity": 1}, {"capacity": 2}):
        body = {"sku": {"name": "GlobalStandard", **changes}, "properties": {"model": model}}
        etags.append(azure.http.put(url, json=body).json()["etag"])
    etags.append(azure.http.patch(url, json={"tags": {"a": "b"}}).json()["etag"])
    etags.append(azure.http.get(url).json()["etag"])
    azure.http.delete(url)
    assert etags[0] == etags[1]
    assert etags[3] == etags[4]
    assert len({*etags}) == 3


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"tags": {"a": "b"}, "properties": {"versionUpgradeOption": "NoAutoUpgrade"}}, 200),
        ({"properties": {"versionUpgradeOption": "Never"}}, 400),
        ({"properties": {"raiPolicyName": "Mine"}}, 501),
        ({"properties": {"serviceTier": "Priority"}}, 501),
        ({"properties": {"model": {"whatElse": 1}}}, 501),
        ({"whatElse": 1}, 501),
        ({"properties": {"model": {"name": "Phi-4-mini-instruct"}}}, 409),
        ({"properties": {"model": {"source": "elsewhere"}}}, 400),
        ({"properties": {"model": {"source": ACCOUNT}}}, 200),
    ],
)
def test_second_put_of_a_foundry_deployment(azure: Azure, changes: Any, status: int) -> None:
    model = {"format": "Microsoft", "name": "Phi-4", "version": "1"}
    sku = {"name": "GlobalStandard", "capacity": 1}
    url = f"{ACCOUNT}/deployments/again?api-version=2025-09-01"
    assert azure.http.put(url, json={"sku": sku, "properties": {"model": model}}).status_code in (
        200,
        201,
    )
    properties = {"model": model, **changes.get("properties", {})}
    properties["model"] = {**model, **properties["model"]}
    answer = azure.http.put(url, json={"sku": sku, **changes, "properties": properties})
    assert answer.status_code == status, answer.text
    if status == 501:
        assert answer.json()["error"]["code"] == "NotImplemented"
