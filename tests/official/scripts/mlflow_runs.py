"""mlflow, unmodified: find the run of a job and its model, and read metrics, tags and files."""

import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

os.environ["MLFLOW_TRACKING_TOKEN"] = "a-token"  # noqa: TID251 - mlflow reads it there
import mlflow
import pytest
from mlflow.exceptions import RestException

URL, TRAIN = sys.argv[1], Path(sys.argv[2])
WORKSPACE = (
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg1"
    "/providers/Microsoft.MachineLearningServices/workspaces/mlflow"
)


def send(method: str, url: str, body: Any = None, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers |= {"Authorization": "Bearer a-token", "Content-Type": "application/json"}
    request = urllib.request.Request(url, raw, headers, method=method)
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read() or b"null")


def arm(method: str, path: str, body: Any = None) -> Any:
    return send(method, f"{URL}{WORKSPACE}/{path}?api-version=2024-10-01-preview", body)


def train(name: str) -> None:
    """Run a job over plain HTTP."""
    store = arm("GET", "datastores/workspaceblobstore")["properties"]
    blob = f"{URL}/{store['accountName']}/{store['containerName']}/train.jsonl"
    send("PUT", blob, TRAIN.read_bytes(), **{"x-ms-blob-type": "BlockBlob"})
    data = {
        "jobInputType": "uri_file",
        "uri": "azureml://datastores/workspaceblobstore/paths/train.jsonl",
    }
    model = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"
    details = {
        "modelProvider": "Custom", "taskType": "ChatCompletion", "trainingData": data,
        "model": {"jobInputType": "mlflow_model", "uri": model}, "hyperParameters": {"num_train_epochs": "1"},
    }  # fmt: skip
    outputs = {"registered_model": {"jobOutputType": "mlflow_model", "assetName": "sums"}}
    properties = {"jobType": "FineTuning", "experimentName": "exp", "fineTuningDetails": details,
                  "outputs": outputs}  # fmt: skip
    arm("PUT", f"jobs/{name}", {"properties": properties})
    deadline = time.monotonic() + 60
    while arm("GET", f"jobs/{name}")["properties"]["status"] != "Completed":
        assert time.monotonic() < deadline
        time.sleep(0.05)


train("run1")
mlflow.set_tracking_uri(f"{URL}/mlflow/v2.0{WORKSPACE}")
client = mlflow.MlflowClient()
run = client.get_run("run1")
experiment = client.get_experiment_by_name("exp")
assert experiment is not None
assert client.get_experiment(run.info.experiment_id).name == "exp"
assert [e.name for e in client.search_experiments()] == ["exp"]
assert client.get_experiment_by_name("none") is None
found = mlflow.search_runs(
    experiment_names=["exp"], filter_string="metrics.loss > 0", output_format="list"
)
assert [r.info.run_id for r in found] == ["run1"]
assert not mlflow.search_runs([experiment.experiment_id], "tags.a = 'b'", output_format="list")
assert client.get_metric_history("run1", "loss")[-1].value == run.data.metrics["loss"]
client.set_tag("run1", "eval", "ok")
assert client.get_run("run1").data.tags["eval"] == "ok"
client.delete_tag("run1", "eval")
assert [m.name for m in client.search_registered_models()] == ["sums"]
assert client.get_registered_model("sums").latest_versions[0].run_id == "run1"
assert (
    client.search_model_versions("name='sums'")[0].source
    == client.get_model_version("sums", "1").source
)
for refused in (
    lambda: client.log_metric("run1", "eval", 0.5),
    lambda: client.create_experiment("mine"),
    lambda: client.delete_run("run1"),
):
    with pytest.raises(
        RestException, match="NotImplemented: The local server does not implement MLflow"
    ):
        refused()
with pytest.raises(RestException) as missing:
    client.get_run("none")
assert missing.value.error_code == "RESOURCE_DOES_NOT_EXIST"
print("answered")
