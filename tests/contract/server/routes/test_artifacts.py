"""Files of a run, and MLflow requests, over plain HTTP (docs/azure-http.md section 1.6)."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.contract.server.conftest import PLAIN_HTTP, Azure

OWN = "user_logs/std_log.txt"


@pytest.fixture(scope="module")
def done(azure: Azure) -> str:
    assert azure.job("Artifacts-1") == "Completed"
    return "Artifacts-1"


def test_artifacts_by_experiment_name_and_by_id(azure: Azure, done: str) -> None:
    by_id = azure.history("GET", f"/experimentids/any/runs/{done}/artifacts").json()["value"]
    by_name = azure.history("GET", f"/experiments/tickets/runs/{done}/artifacts").json()["value"]
    assert by_id == by_name
    paths = [item["path"] for item in by_id]
    assert OWN in paths
    assert any(path.startswith("outputs/") for path in paths)
    assert by_id[0]["artifactId"] == f"ExperimentRun/dcid.{done}/{by_id[0]['path']}"


def test_path_filter_matches_whole_segments(azure: Azure, done: str) -> None:
    def below(path: str) -> list[str]:
        items = azure.http.get(
            f"/history/v1.0{azure.ws}/experimentids/e/runs/{done}/artifacts/path",
            params={"path": path},
        )
        return [item["path"] for item in items.json()["value"]]

    assert below("user_logs") == below("user_logs/") == below(OWN) == [OWN]
    assert below("user") == below("../../etc") == []


def ask(azure: Azure, done: str, kind: str, path: str | None) -> httpx.Response:
    return azure.http.get(
        f"/history/v1.0{azure.ws}/experimentids/e/runs/{done}/artifacts/{kind}",
        params={} if path is None else {"path": path},
    )


def test_content_uri_needs_no_other_credential(azure: Azure, done: str) -> None:
    items = ask(azure, done, "contentinfo", OWN).json()
    log = httpx.get(items["contentUri"], **PLAIN_HTTP)
    assert log.status_code == 200
    assert log.text.strip()
    part = httpx.get(items["contentUri"], **PLAIN_HTTP, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, log.content[:4])
    every = ask(azure, done, "prefix/contentinfo", "outputs").json()["value"]
    assert every
    assert all(httpx.get(item["contentUri"], **PLAIN_HTTP).content for item in every)
    assert httpx.put(items["contentUri"], content=b"x", **PLAIN_HTTP,
                     headers={"x-ms-blob-type": "BlockBlob"}).status_code == 403  # fmt: skip
    assert httpx.get(items["contentUri"].partition("?")[0], **PLAIN_HTTP).status_code == 401


@pytest.mark.parametrize(
    ("kind", "path", "status"),
    [("contentinfo", None, 400), ("contentinfo", "no/such", 404), ("metadata", "../facts.db", 404),
     ("metadata", OWN, 200)],
)  # fmt: skip
def test_unknown_artifacts_are_404(
    azure: Azure, done: str, kind: str, path: str | None, status: int
) -> None:
    assert ask(azure, done, kind, path).status_code == status


def test_unknown_run_is_404(azure: Azure) -> None:
    assert azure.history("GET", "/experimentids/e/runs/none/artifacts").status_code == 404


def test_resolved_model_uri_points_to_artifact_store(azure: Azure, done: str) -> None:
    model = azure.model_id(done)
    url = f"/modelregistry/v1.0{azure.ws}/models/batchGetResolvedUris"
    place = azure.http.post(url, json={"values": [model]}).json()["values"][model]["path"]
    assert place.endswith(
        f"/datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{done}/outputs/"
    )
    store = azure.arm("GET", "/datastores/workspaceartifactstore").json()["properties"]
    token = azure.arm("POST", "/datastores/workspaceartifactstore/listSecrets", json={}).json()
    base = f"{azure.url}/maaslocal/{store['containerName']}"
    listed = httpx.get(
        f"{base}?restype=container&comp=list&prefix={place.partition('/paths/')[2]}&{token['sasToken']}",
        **PLAIN_HTTP,
    )
    names = re.findall(r"<Name>([^<]+)</Name>", listed.text)
    assert names
    for name in names:
        assert httpx.get(f"{base}/{name}?{token['sasToken']}", **PLAIN_HTTP).status_code == 200
    missing = azure.http.post(url, json={"values": [model.replace("versions/1", "versions/99")]})
    assert missing.status_code == 400
    assert azure.http.post(url, json={"values": "x"}).status_code == 400
    defaults = azure.arm("GET", "/datastores", params={"isDefault": "true"}).json()["value"]
    assert [item["name"] for item in defaults] == ["workspaceblobstore"]


def mlflow(azure: Azure, verb: str, /, **params: Any) -> httpx.Response:
    return azure.http.get(f"/mlflow/v2.0{azure.ws}/api/2.0/mlflow/{verb}", params=params)


def test_mlflow_run_metrics_and_artifacts(azure: Azure, done: str) -> None:
    run = mlflow(azure, "runs/get", run_id=done).json()["run"]
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["end_time"] >= run["info"]["start_time"]
    newest = {item["key"]: item for item in run["data"]["metrics"]}
    points = mlflow(azure, "metrics/get-history", run_id=done, metric_key="loss").json()["metrics"]
    assert [p["step"] for p in points] == sorted(p["step"] for p in points)
    assert newest["loss"] == points[-1]
    assert {"key": "num_train_epochs", "value": "1"} in run["data"]["params"]
    top = mlflow(azure, "artifacts/list", run_id=done).json()["files"]
    assert {"path": "user_logs", "is_dir": True} in top
    logs = mlflow(azure, "artifacts/list", run_id=done, path="user_logs").json()["files"]
    assert [(f["path"], f["is_dir"]) for f in logs] == [(OWN, False)]


def test_mlflow_error_format(azure: Azure, done: str) -> None:
    missing = mlflow(azure, "runs/get", run_id="none")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert mlflow(azure, "runs/get").json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert mlflow(azure, "metrics/get-history", run_id=done, metric_key="no").json() == {
        "metrics": []
    }


def search(azure: Azure, verb: str, /, **body: Any) -> httpx.Response:
    return azure.http.post(f"/mlflow/v2.0{azure.ws}/api/2.0/mlflow/{verb}", json=body)


@pytest.fixture(scope="module")
def experiment(azure: Azure, done: str) -> str:
    """The id of an experiment with three runs; ``done`` belongs to another."""
    for name in ("Exp-1", "Exp-2", "Exp-3"):
        assert azure.job(name, experimentName="sums", tags={"team": name[-1]}) == "Completed"
    experiment_found = mlflow(azure, "experiments/get-by-name", experiment_name="Sums").json()[
        "experiment"
    ]
    return str(experiment_found["experiment_id"])


def test_mlflow_experiments(azure: Azure, experiment: str) -> None:
    by_id = mlflow(azure, "experiments/get", experiment_id=experiment).json()["experiment"]
    assert (by_id["name"], by_id["lifecycle_stage"]) == ("sums", "active")
    experiments = search(azure, "experiments/search", max_results=10).json()["experiments"]
    assert {e["name"] for e in experiments} >= {"sums", "Default"}
    only = search(azure, "experiments/search", filter="name LIKE 's%s'").json()["experiments"]
    assert [e["experiment_id"] for e in only] == [experiment]
    for parameters in ({"experiment_id": "0"}, {"experiment_name": "none"}):
        verb = "experiments/get" + ("" if "experiment_id" in parameters else "-by-name")
        missing = mlflow(azure, verb, **parameters)
        assert (missing.status_code, missing.json()["error_code"]) == (
            404,
            "RESOURCE_DOES_NOT_EXIST",
        )


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("", ["Exp-3", "Exp-2", "Exp-1"]),
        ("tags.team = '2'", ["Exp-2"]),
        ("tags.team != '2' and attributes.status = 'FINISHED'", ["Exp-3", "Exp-1"]),
        ("params.num_train_epochs = '1' AND metrics.loss > 1e9", []),
        ("metrics.`loss` < 1e9 AND run_name ILIKE 'EXP-_'", ["Exp-3", "Exp-2", "Exp-1"]),
        ("run_name LIKE 'EXP-%'", []),
        ("tags.absent != 'x'", ["Exp-3", "Exp-2", "Exp-1"]),
        ("status = 'FAILED'", []),
    ],
)
def test_mlflow_filters(azure: Azure, experiment: str, condition: str, runs: list[str]) -> None:
    matches = search(azure, "runs/search", experiment_ids=[experiment], filter=condition).json()[
        "runs"
    ]
    assert [r["info"]["run_id"] for r in matches] == runs


def test_mlflow_orders_and_pages(azure: Azure, experiment: str) -> None:
    query = {"experiment_ids": [experiment], "order_by": ["tags.team ASC"], "max_results": 2}
    first = search(azure, "runs/search", **query).json()
    second = search(azure, "runs/search", **query, page_token=first["next_page_token"]).json()
    assert [r["info"]["run_id"] for r in first["runs"] + second["runs"]] == [
        "Exp-1",
        "Exp-2",
        "Exp-3",
    ]
    assert "next_page_token" not in second
    assert search(azure, "runs/search", experiment_ids=["other"]).json() == {"runs": []}
    for wrong in (
        {"filter": "tags.team = '1' OR tags.team = '2'"}, {"filter": "team is null"}, {"order_by": ["a b c"]},
        {"max_results": 0}, {"page_token": "x"}, {"filter": "metrics.loss > 'high'"}, {"experiment_ids": "x"},
    ):  # fmt: skip
        response = search(azure, "runs/search", **{"experiment_ids": [experiment], **wrong})
        assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE", wrong
    unknown = search(azure, "runs/search", experiment_ids=[experiment], what=1)
    assert (unknown.status_code, unknown.json()["error_code"]) == (501, "NotImplemented")


def test_mlflow_tags_are_those_of_the_job(azure: Azure, experiment: str) -> None:
    assert search(azure, "runs/set-tag", run_id="Exp-1", key="eval", value="ok").json() == {}
    assert azure.arm("GET", "/jobs/Exp-1").json()["properties"]["tags"]["eval"] == "ok"
    assert search(azure, "runs/delete-tag", run_id="Exp-1", key="eval").status_code == 200
    assert search(azure, "runs/delete-tag", run_id="Exp-1", key="eval").status_code == 404
    assert search(azure, "runs/set-tag", run_id="none", key="a", value="b").status_code == 404


def test_mlflow_registered_models(azure: Azure, done: str) -> None:
    assert azure.job("Reg-1", outputs={"registered_model": {
        "jobOutputType": "mlflow_model", "assetName": "registered"}}) == "Completed"  # fmt: skip
    version = mlflow(azure, "model-versions/get", name="registered", version="1").json()[
        "model_version"
    ]
    assert (version["run_id"], version["status"]) == ("Reg-1", "READY")
    uri = mlflow(azure, "model-versions/get-download-uri", name="registered", version="1").json()
    assert uri == {"artifact_uri": version["source"]}
    model = mlflow(azure, "registered-models/get", name="registered").json()["registered_model"]
    assert model["latest_versions"] == [version]
    condition = "name = 'registered' AND tag.`a.b` != 'true'"
    models = mlflow(azure, "registered-models/search", filter=condition).json()["registered_models"]
    assert models == [model]
    versions = mlflow(azure, "model-versions/search", filter="run_id='Reg-1'").json()
    assert versions == {"model_versions": [version]}
    assert mlflow(azure, "registered-models/get", name="none").status_code == 404
    assert mlflow(azure, "model-versions/get", name="registered", version="9").status_code == 404


@pytest.mark.parametrize(
    "verb", ["runs/create", "runs/log-metric", "experiments/create", "no/such"]
)
def test_other_operations_of_mlflow_are_refused_by_name(azure: Azure, verb: str) -> None:
    response = search(azure, verb)
    assert (response.status_code, response.json()["error_code"]) == (501, "NotImplemented")
    assert f"MLflow ({verb})" in response.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("POST", "/history/v1.0{ws}/runs/{run}", 501, "Runs"),
        ("GET", "/history/v1.0{ws}/experiments/tickets", 501, "Experiments"),
        ("POST", "/metric/v2.0{ws}/runs/{run}/batch", 501, "Run Metrics"),
        ("DELETE", "/mlflow/v2.0{ws}/api/2.0/mlflow/runs/search", 501, "MLflow"),
        ("DELETE", "/discovery", 405, "DELETE is not allowed"),
        ("GET", "/history/v1.0{ws}/nothing", 404, "no such path"),
    ],
)
def test_other_operations_of_run_history_are_refused_by_name(
    azure: Azure, done: str, method: str, path: str, status: int, name: str
) -> None:
    response = azure.http.request(method, path.format(ws=azure.ws, run=done))
    assert response.status_code == status
    assert name in response.text
