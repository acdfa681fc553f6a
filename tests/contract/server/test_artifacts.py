"""Files of a run, and MLflow requests, over plain HTTP (docs/azure-http.md section 1.6)."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.contract.server.conftest import Azure

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
    log = httpx.get(items["contentUri"], trust_env=False)
    assert log.status_code == 200
    assert log.text.strip()
    part = httpx.get(items["contentUri"], trust_env=False, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, log.content[:4])
    every = ask(azure, done, "prefix/contentinfo", "outputs").json()["value"]
    assert every
    assert all(httpx.get(item["contentUri"], trust_env=False).content for item in every)
    assert httpx.put(items["contentUri"], content=b"x", trust_env=False,
                     headers={"x-ms-blob-type": "BlockBlob"}).status_code == 403  # fmt: skip
    assert httpx.get(items["contentUri"].partition("?")[0], trust_env=False).status_code == 401


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
        trust_env=False,
    )
    names = re.findall(r"<Name>([^<]+)</Name>", listed.text)
    assert names
    for name in names:
        assert httpx.get(f"{base}/{name}?{token['sasToken']}", trust_env=False).status_code == 200
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
