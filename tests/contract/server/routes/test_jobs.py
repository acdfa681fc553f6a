"""Jobs, run history and metrics over HTTP (docs/azure-http.md sections 1.2 to 1.7)."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from maas_client.dataset.scanners import message_texts
from maas_client.dataset.scanners.token_counting import load_token_counter
from maas_client.local.embedded_server import serve
from maas_client.local.http.routes.arm import list_page
from maas_client.local.resources.assets import Workspace
from maas_client.local.state.store import MetricPoint, Record
from tests.contract.server.conftest import PLAIN_HTTP, WS, Azure, chats

WS_PARTS = ("00000000-0000-0000-0000-00000000000a", "rg1", "proj1")


def test_file_to_chat(azure: Azure):
    train = azure.upload(chats(), "whole.jsonl")
    created = azure.submit(
        "whole", train, details={"validationData": {"jobInputType": "uri_file", "uri": train}}
    )
    assert created.status_code == 201
    assert created.json()["id"] == f"{WS}/jobs/whole"
    assert azure.wait("whole") == "Completed"
    job = azure.arm("GET", "/jobs/whole").json()["properties"]
    assert job["properties"]["simulated"] == "true"
    assert job["properties"]["maas_client.engine"] == "instant"
    assert job["outputs"]["registered_model"]["uri"] == azure.model_id("whole")
    uri = azure.deploy("tickets", azure.model_id("whole"))
    response = azure.chat(uri, "what is 4 plus 4").json()
    assert response["choices"][0]["message"]["content"] == "it is 8, dear friend number 4"
    assert "simulated" in response["system_fingerprint"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("fromTheFuture", {"fromTheFuture": 1}),
        (
            "properties.notificationSetting",
            {"properties": {"notificationSetting": {"emails": ["a@b"]}}},
        ),
        ("properties.identity", {"properties": {"identity": {"identityType": "Managed"}}}),
        (
            "fineTuningDetails.fromTheFuture",
            {"properties": {"fineTuningDetails": {"fromTheFuture": 1}}},
        ),
    ],
)
def test_fields_that_change_nothing_here_are_refused(azure: Azure, path: str, body: dict[str, Any]):
    request = azure.body(azure.upload(chats(), "echo.jsonl"))
    properties = body.pop("properties", {})
    request["properties"]["fineTuningDetails"] |= properties.pop("fineTuningDetails", {})
    request["properties"] |= properties
    refused = azure.arm("PUT", "/jobs/refused", json=request | body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "NotImplemented")
    assert path in refused.json()["error"]["message"]
    assert azure.arm("GET", "/jobs/refused").status_code == 404


def test_repeated_put_returns_same_job(azure: Azure):
    train = azure.upload(chats(), "again.jsonl")
    assert azure.submit("again", train).status_code == 201
    azure.wait("again")
    repeated = azure.submit("again", train, displayName="shown", tags={"a": "b"})
    assert repeated.status_code == 200
    assert repeated.json()["properties"]["status"] == "Completed"
    assert repeated.json()["properties"]["displayName"] == "shown"
    different = azure.submit("again", train, details={"hyperParameters": {"num_train_epochs": "2"}})
    assert different.status_code == 409
    assert different.json()["error"]["code"] == "UserError"


def test_paths_ignore_case(azure: Azure):
    azure.job("Case.Test-1")
    loud = WS.replace("resourceGroups", "RESOURCEGROUPS").replace("workspaces", "Workspaces")
    shouted = azure.http.get(
        f"{loud}/JOBS/case.test-1",
        params={"api-version": "2024-01-01-preview"},
    )
    assert shouted.json()["name"] == "Case.Test-1"


def model(uri):
    return {"jobInputType": "uri_file", "uri": uri}


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({"jobType": "Command"}, "jobType"),
        ({"details": {"modelProvider": "AzureOpenAI"}}, "modelProvider"),
        ({"details": {"taskType": "QuestionAnswering"}}, "taskType"),
        ({"details": {"model": model("azureml://registries/azureml/models/GPT-9")}}, "model"),
        ({"details": {"model": model("azureml://registries/azureml/models/Phi-4/versions/9")}}, "model"),
        ({"details": {"model": model("azureml://registries/azureml/models/Phi-4/versions/0")}}, "model"),
        ({"details": {"model": model("azureml://registries/azureml-meta/models/Phi-4/versions/8")}}, "model"),
        ({"details": {"model": model("azureml://registries/azureml/models/Phi-4/labels/oldest")}}, "model"),
        ({"details": {"model": model("https://evil.example/m")}}, "model"),
        ({"details": {"trainingData": model("http://169.254.169.254/")}}, "uri"),
        ({"details": {"hyperParameters": {"num_train_epoch": "1"}}}, "hyperParameters"),
        ({"details": {"hyperParameters": {"num_train_epochs": "-1"}}}, "hyperParameters"),
        ({"details": {"hyperParameters": {"learning_rate": "NaN"}}}, "hyperParameters"),
        ({"details": {"hyperParameters": {"learning_rate": {"a": 1}}}}, "hyperParameters"),
        ({"outputs": {"registered_model": {"jobOutputType": "x", "assetName": "../x"}}},
         "outputs.registered_model.assetName"),
    ],
)  # fmt: skip
def test_invalid_job_names_the_field(azure: Azure, change, target):
    train = azure.upload(chats(), "bad.jsonl")
    response = azure.submit("bad", train, **change)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "UserError")
    assert response.json()["error"]["target"] == target
    assert response.headers["x-ms-request-id"]
    assert azure.arm("GET", "/jobs/bad").status_code == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nope", b'{"properties":1}', b'{"properties":{"jobType":"FineTuning"}}',
     b'{"properties":{"jobType":"FineTuning","fineTuningDetails":{"model":NaN}}}', b"\xff\xfe{}",
     b"[" * 100_000],
)  # fmt: skip
def test_malformed_job_bodies(azure: Azure, body):
    response = azure.arm(
        "PUT", "/jobs/nojob", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] == "UserError"


@pytest.mark.parametrize("version", ["2024-10-01", "2023-04-01-preview"])
def test_api_versions_without_fine_tuning_refuse_it(azure: Azure, version):
    train = azure.upload(chats(), "stable.jsonl")
    response = azure.arm("PUT", "/jobs/st", json=azure.body(train), params={"api-version": version})
    assert response.status_code == 400
    assert "preview" in response.json()["error"]["message"]


def test_invalid_file_fails_job_with_reason_in_run_history(azure: Azure):
    bad = chats(11) + b'{"messages": [{"role": "user", "content": "no answer"}]}\n'
    assert azure.job("badfile", bad) == "Failed"
    error = azure.error("badfile")
    assert error["code"] == "UserError"
    assert "training data, line 12" in error["message"]
    assert error["details"]
    assert "no answer" not in str(error)  # the error must not contain the text of a row
    assert "error" not in azure.arm("GET", "/jobs/badfile").json()["properties"]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"not json\n", b'{"prompt": "a", "completion": "b"}\n' * 12]
)
def test_files_without_chats_fail_the_job(azure: Azure, data):
    name = f"nochat{abs(hash(data))}"
    assert azure.job(name, data) == "Failed"
    assert azure.error(name)["code"] == "UserError"


def test_missing_data_fails_the_job(azure: Azure):
    uri = "azureml://datastores/workspaceblobstore/paths/nowhere.jsonl"
    assert azure.submit("nodata", uri).status_code == 201
    assert azure.wait("nodata") == "Failed"
    assert "nowhere.jsonl" in azure.error("nodata")["message"]


def test_job_uses_data_of_its_creation(slow_azure: Azure):
    azure = slow_azure
    train = azure.upload(chats(), "kept.jsonl")
    azure.submit("first", train)
    azure.submit("kept", train)  # waits for the first
    azure.upload(b"not json", "kept.jsonl")
    assert azure.wait("kept") == "Completed"


def test_jobs_run_in_order(slow_azure: Azure):
    azure = slow_azure
    train = azure.upload(chats(10), "q.jsonl")
    for n in range(3):
        azure.submit(f"q{n}", train)
    azure.wait("q0", "Running")
    assert azure.wait("q2", "Queued") == "Queued"
    assert azure.status("q1") == "Queued"
    assert [azure.wait(f"q{n}") for n in range(3)] == ["Completed"] * 3
    end_times = [azure.history("GET", f"/runs/q{n}").json() for n in range(3)]
    assert (
        end_times[0]["endTimeUtc"]
        <= end_times[1]["startTimeUtc"]
        <= end_times[1]["endTimeUtc"]
        <= end_times[2]["startTimeUtc"]
    )


# -- cancel and delete ------------------------------------------------------------------------


def test_cancel_running_job(slow_azure: Azure):
    azure = slow_azure
    azure.submit("run", azure.upload(chats(200), "r.jsonl"))
    azure.wait("run", "Running")
    response = azure.arm("POST", "/jobs/run/cancel")
    assert response.status_code == 202
    assert response.headers["retry-after"]
    begin = time.monotonic()
    assert azure.wait("run") == "Canceled"
    assert time.monotonic() - begin < 5
    assert azure.http.get(response.headers["location"]).status_code == 200
    assert azure.arm("POST", "/jobs/run/cancel").status_code == 200  # a second cancel has no effect
    assert "error" not in azure.history("GET", "/runs/run").json()


def test_cancel_queued_job(slow_azure: Azure):
    azure = slow_azure
    train = azure.upload(chats(100), "w.jsonl")
    azure.submit("one", train)
    azure.submit("two", train)
    assert azure.arm("POST", "/jobs/two/cancel").status_code == 200
    assert azure.status("two") == "Canceled"
    azure.arm("POST", "/jobs/one/cancel")
    assert azure.wait("one") == "Canceled"


@pytest.mark.parametrize("delay_ms", [0, 5, 20, 60, 120, 200, 350])
def test_cancel_at_any_time(slow_azure: Azure, delay_ms):
    azure = slow_azure
    azure.submit("any", azure.upload(chats(200), "a.jsonl"))
    time.sleep(delay_ms / 1000)
    assert azure.arm("POST", "/jobs/any/cancel").status_code in (200, 202)
    assert azure.wait("any", seconds=10) == "Canceled"
    assert azure.history("GET", "/runs/any").json().get("outputs") is None


def test_delete_job(azure: Azure):
    azure.job("gone")
    model = azure.model_id("gone")
    response = azure.arm("DELETE", "/jobs/gone")
    assert response.status_code == 202
    assert azure.http.get(response.headers["location"]).status_code == 200
    assert azure.arm("GET", "/jobs/gone").status_code == 404
    assert azure.arm("DELETE", "/jobs/gone").status_code == 204
    uri = azure.deploy("outlives", model)  # the model remains after its job is deleted
    assert azure.chat(uri, "what is 1 plus 1").status_code == 200


def test_active_job_cannot_be_deleted(slow_azure: Azure):
    slow_azure.submit("live", slow_azure.upload(chats(100), "l.jsonl"))
    slow_azure.wait("live", "Running")
    assert slow_azure.arm("DELETE", "/jobs/live").status_code == 409
    slow_azure.arm("POST", "/jobs/live/cancel")
    slow_azure.wait("live")


# -- lists ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 201, 305])
@pytest.mark.parametrize("step", [1, 2])
def test_pages_are_complete_and_need_one_read_without_filters(count, step):
    reads = []

    def read_page(before, limit):
        reads.append(before)
        numbers = range(count, 0, -1)
        older = [n for n in numbers if before is None or n < before][:limit]
        return [Record(n, str(n), None, {}) for n in older]

    names, link, pages = [], "", 0
    while link is not None:
        params = {"$skip": link} if link else {}
        context = SimpleNamespace(query_params=params, url=lambda **changes: changes["$skip"])
        page = list_page(context, read_page, lambda r: r.seq, lambda r: r.seq % step == 0)
        names, link, pages = names + page["value"], page["nextLink"], pages + 1
        assert len(page["value"]) <= 100
    assert names == [n for n in range(count, 0, -1) if n % step == 0]
    if step == 1:
        assert len(reads) == pages


def test_list_pages_and_filters(server):
    azure = Azure(server.url, WS.replace("proj1", "pages"))
    data = azure.upload(chats(10), "p.jsonl")
    for n in range(105):
        azure.submit(f"p{n}", data, tags={"n": str(n)}, properties={"even": str(n % 2 == 0)})
        azure.arm("POST", f"/jobs/p{n}/cancel")
    page = azure.arm("GET", "/jobs").json()
    names = [job["name"] for job in page["value"]]
    assert len(names) == 100
    assert page["nextLink"].startswith(server.url)
    next_page = azure.http.get(page["nextLink"]).json()
    names += [job["name"] for job in next_page["value"]]
    assert next_page["nextLink"] is None
    assert names == [f"p{n}" for n in reversed(range(105))]

    def named(**params):
        return [j["name"] for j in azure.arm("GET", "/jobs", params=params).json()["value"]]

    assert named(tag="n=7") == ["p7"]
    assert len(named(properties="even=True")) == 53
    assert named(jobType="Command") == []
    azure.history("PATCH", "/experiments/Default/runs/p3", json={"hidden": True})
    assert named(listViewType="ArchivedOnly") == ["p3"]
    assert "p3" not in named(tag="n")
    assert "p3" in named(listViewType="All", tag="n=3")
    assert azure.arm("GET", "/jobs", params={"$skip": "rubbish"}).status_code == 400
    azure.http.close()


# -- run history ------------------------------------------------------------------------------


def test_patch_run_changes_job(azure: Azure):
    azure.job("edit", tags={"a": "1"})
    change = {
        "displayName": "new",
        "description": "d",
        "tags": {"b": "2"},
        "properties": {"p": "q"},
    }
    assert azure.history("PATCH", "/experiments/Default/runs/edit", json=change).status_code == 200
    job = azure.arm("GET", "/jobs/edit").json()["properties"]
    assert (job["displayName"], job["description"]) == ("new", "d")
    assert job["tags"] == {"a": "1", "b": "2"}
    assert job["properties"]["p"] == "q"


def test_run_details_logs_and_children(azure: Azure):
    azure.job("told")
    details = azure.history("GET", "/runs/told/details").json()
    assert details["status"] == "Completed"
    assert details["startTimeUtc"] < details["endTimeUtc"]
    ((name, url),) = details["logFiles"].items()
    assert name == "user_logs/std_log.txt"
    import httpx

    log = httpx.get(url, **PLAIN_HTTP)  # a plain GET: the SAS is the credential
    assert log.status_code == 200
    assert "train_loss" in log.text
    assert "dear friend" not in log.text  # rows are never logged
    bare = url.split("?")[0]
    assert httpx.get(bare, **PLAIN_HTTP).status_code == 401
    assert azure.history("GET", "/runs/told/children").json()["value"] == []
    assert azure.history("GET", "/runs/nobody/details").status_code == 404
    assert azure.history("GET", "/runs/nobody/details").json()["componentName"] == "run-history"


def test_metrics(azure: Azure):
    azure.job("counted", chats(12), details={"hyperParameters": {"num_train_epochs": "3"}})
    names = [m["metricKey"]["name"] for m in azure.metric("counted", "list", {}).json()["value"]]
    assert "loss" in names
    full = azure.metric("counted", "full", {"metricName": "loss"}).json()
    assert [v["step"] for v in full["value"]] == list(range(1, 37))
    assert all(isinstance(v["data"]["loss"], float) for v in full["value"])
    assert full["continuationToken"] is None
    assert azure.metric("counted", "full", {"metricName": "nope"}).status_code == 404
    assert (
        azure.metric(
            "counted", "full", {"metricName": "loss", "continuationToken": "x"}
        ).status_code
        == 400
    )
    assert (
        azure.metric("counted", "sample", {"metricName": "loss"}).json()["value"] == full["value"]
    )


def test_metric_points_are_paged(azure: Azure, server):
    azure.job("pages", chats(10))
    job_id = server._server.services.store.read.newest("job", Workspace(*WS_PARTS).guid)[0].body[
        "id"
    ]
    points = [
        MetricPoint("grad_norm", step, "2026-01-01T00:00:00Z", float(step)) for step in range(2500)
    ]
    server._server.services.jobs.record_progress(job_id, points, [])
    steps, token = [], None
    for _ in range(3):
        body = {"metricName": "grad_norm", "continuationToken": token}
        page = azure.metric("pages", "full", body).json()
        steps.append([v["step"] for v in page["value"]])
        token = page["continuationToken"]
    assert [len(s) for s in steps] == [1000, 1000, 500]
    assert [step for page in steps for step in page] == list(range(2500))
    assert token is None
    newer = [MetricPoint("grad_norm", 9000, "2026-01-02T00:00:00.500000Z", 1.0)]
    server._server.services.jobs.record_progress(job_id, newer, [])
    for since in ("2026-01-02T00:00:00Z", "2026-01-02T01:00:00.5+01:00"):
        body = {"metricName": "grad_norm", "startTime": since}
        page = azure.metric("pages", "full", body).json()
        assert [v["step"] for v in page["value"]] == [9000]
    body = {"metricName": "grad_norm", "startTime": "yesterday"}
    assert azure.metric("pages", "full", body).status_code == 400
    sample = [
        v["step"]
        for v in azure.metric("pages", "sample", {"metricName": "grad_norm"}).json()["value"]
    ]
    assert len(sample) <= 1000
    assert sample[-1] == 9000


def test_a_job_needs_ten_examples(azure: Azure):
    with pytest.raises(
        AssertionError, match=r"The training data has 9 examples\. Fine-tuning needs at"
    ):
        azure.job("nine", chats(9))
    assert azure.arm("GET", "/jobs/nine").status_code == 404
    assert azure.job("ten", chats(10)) == "Completed"


def test_rows_with_errors_are_no_examples(azure: Azure):
    """They are found when the job validates its data, so that job fails."""
    no_answer = b'{"messages": [{"role": "user", "content": "hi"}]}\n'
    assert azure.job("few-rows", chats(9) + no_answer + b"{\n") == "Failed"
    assert "Validation of the data failed" in azure.error("few-rows")["message"]


def test_foundry_job_with_too_few_examples_is_refused(azure: Azure):
    foundry = f"{azure.url}/openai/v1"
    files = {"purpose": (None, "fine-tune"), "file": ("few.jsonl", chats(9))}
    file = azure.http.post(f"{foundry}/files", files=files).json()["id"]
    body = {"model": "gpt-4.1-mini", "training_file": file}
    before = azure.http.get(f"{foundry}/fine_tuning/jobs").json()
    response = azure.http.post(f"{foundry}/fine_tuning/jobs", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "training_file"
    assert error["message"] == "The training data has 9 examples. Fine-tuning needs at least 10."
    assert azure.http.get(f"{foundry}/fine_tuning/jobs").json() == before


def test_the_minimum_of_examples_can_be_changed():
    with serve(engine="instant", min_examples=2) as server:
        azure = Azure(server.url)
        with pytest.raises(AssertionError, match=r"The training data has 1 example\. "):
            azure.job("one", chats(1))
        assert azure.job("two", chats(2)) == "Completed"
        azure.http.close()


def test_trained_tokens_are_those_of_the_named_model(azure: Azure):
    def tokens(name: str, **parameters: str) -> int:
        details = {"hyperParameters": {"num_train_epochs": "1", **parameters}}
        assert azure.job(name, chats(30), details=details) == "Completed"
        properties = azure.arm("GET", f"/jobs/{name}").json()["properties"]["properties"]
        return int(properties["maas_client.trained_tokens"])

    counter = load_token_counter("Phi-3-mini-4k-instruct")
    data = [json.loads(line) for line in chats(30).splitlines()]
    expected = sum(counter.sizes(data, message_texts(data)).totals)
    assert tokens("tokens-1") == expected
    assert tokens("tokens-3", num_train_epochs="3") == 3 * expected
    assert tokens("tokens-b", per_device_train_batch_size="8") == expected
