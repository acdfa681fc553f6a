"""Every query parameter, header and body field that a handler declares changes the answer or what is stored.

``test_ignored_parameters.py`` shows that what is not declared is refused. These tables name a value for every
declared name: a route without an entry fails the test, so that a new one cannot be forgotten. The members of
bodies come from Microsoft's and OpenAI's published specifications.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from maas_client.local.embedded_server import LocalServer
from maas_client.local.http import parameters
from maas_client.local.http.app import OperationRoute, _not_implemented
from maas_client.local.http.routes import chat_request
from maas_client.wire.operation import Operation, Plane
from tests.contract.server.conftest import WS, Azure, chats
from tests.shared_data import shared_file

ACCOUNT = WS.replace("MachineLearningServices/workspaces", "CognitiveServices/accounts")
SUBSCRIPTION = WS.partition("/resourceGroups")[0]
MLFLOW = f"/mlflow/v2.0{WS}/api/2.0/mlflow"
ARTIFACTS = f"/artifact/v2.0{WS}/artifacts"
REGISTRY = (
    f"/mferp/managementfrontend{SUBSCRIPTION}/resourceGroups/rg1"
    "/providers/Microsoft.MachineLearningServices/registries/azureml/models"
)
PROJECT = "/api/projects/proj1"
PAGE = {"after": "SECOND", "limit": "1", "order": "asc"}


def operations(server: LocalServer) -> Iterator[tuple[Operation[Any], Any]]:
    """Yield every operation of the running application with its handler."""
    app = server._server._uvicorn.config.app
    while not hasattr(app, "routes"):
        app = app._api if hasattr(app, "_api") else app._app  # the page has no operations of Azure
    for route in app.routes:
        assert isinstance(route, OperationRoute), f"{route} does not check its parameters"
        for op, handler, _ in route._operations:
            if handler is not _not_implemented:
                yield op, handler


def declared(server: LocalServer, kind: str) -> dict[str, frozenset[str]]:
    """Return the names that each operation declares."""
    return {
        op.name: names
        for op, handler in operations(server)
        if (names := getattr(parameters._BY_HANDLER.get(handler, parameters._NONE), kind))
    }


@pytest.fixture(scope="module")
def ids(azure: Azure) -> dict[str, str]:
    """Two or more of everything that is listed; the names of what the service names itself."""
    uri = azure.upload(chats(), "effects.jsonl")
    for job, team in (("first", "a"), ("second", "b")):
        azure.job(job, tags={"team": team}, properties={"team": team}, experimentName=team)
    azure.arm("PUT", "/jobs/hidden", json=azure.body(uri, isArchived=True))
    azure.wait("hidden")
    for version in ("1", "2", "3"):
        values = {"dataType": "uri_file", "dataUri": uri, "tags": {"v": version}}
        archived = {"isArchived": version == "3"}
        azure.arm("PUT", f"/data/rows/versions/{version}", json={"properties": values | archived})
        output = {"registered_model": {"jobOutputType": "mlflow_model", "assetName": "mine"}}
        azure.job(f"mine{version}", outputs=output)
        path = f"/models/mine/versions/{version}"
        kept = azure.arm("GET", path).json()["properties"]
        values = {"tags": {"v": version}, "stage": f"S{version}", "properties": {"p": version}}
        changed = azure.arm("PUT", path, json={"properties": kept | values | archived})
        assert changed.status_code == 200, changed.text
    for name in ("rows", "gone"):
        body = {"properties": {"dataType": "uri_file", "isArchived": name == "gone"}}
        azure.arm("PUT", f"/data/{name}", json=body)
        azure.arm("PUT", f"/models/{name}", json={"properties": {"isArchived": name == "gone"}})
    base = "azureml://registries/azureml/models/Phi-4-mini-instruct"
    for name in ("one", "two"):
        azure.deploy(name, base)
        partner = {"modelId": "azureml://registries/azureml-mistral/models/Ministral-3B"}
        azure.arm("PUT", f"/marketplaceSubscriptions/{name}", json={"properties": partner})
    for number, model in enumerate(("Phi-4-mini-instruct", "Ministral-3B")):
        form = ("Microsoft", "Mistral AI")[number]
        body = {"sku": {"name": "GlobalStandard"},
                "properties": {"model": {"format": form, "name": model, "version": "1"}}}  # fmt: skip
        azure.http.put(f"{ACCOUNT}/deployments/d{number}?api-version=2025-09-01", json=body)
    for other in ("rg2/providers/Microsoft.MachineLearningServices/workspaces/w2",
                  "rg2/providers/Microsoft.CognitiveServices/accounts/a2"):  # fmt: skip
        azure.http.get(f"{SUBSCRIPTION}/resourceGroups/{other}?api-version=2024-10-01")
    for number in range(3):
        azure.http.put(
            f"/maaslocal/effects{number}?restype=container", headers={"x-ms-meta-k": "v"}
        )
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-meta-k": "v"}
        for blob in ("a/1", "a/2", "b"):
            azure.http.put(f"/maaslocal/effects{number}/{blob}", content=b"12345", headers=headers)
    azure.http.put("/maaslocal/effects0/b?comp=block&blockid=AAAA", content=b"1")
    files, jobs = [], []
    for number in range(3):
        content = {"file": (f"f{number}.jsonl", chats(12 + number)), "purpose": (None, "fine-tune")}
        files.append(azure.http.post("/openai/v1/files", files=content).json()["id"])
    for file in files:
        body = {"model": "gpt-4.1-mini", "training_file": file, "trainingType": "globalStandard",
                "hyperparameters": {"n_epochs": 3}}  # fmt: skip
        jobs.append(azure.http.post("/openai/v1/fine_tuning/jobs", json=body).json()["id"])
    path = f"/openai/v1/fine_tuning/jobs/{jobs[0]}"
    deadline = time.monotonic() + 60
    while azure.http.get(path).json()["status"] != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    events = azure.http.get(f"{path}/events").json()["data"]
    checkpoints = azure.http.get(f"{path}/checkpoints").json()["data"]
    metric = azure.metric("first", "full", {"metricName": "loss"}).json()
    return {
        "FILE": files[1], "JOB": jobs[1], "JOB0": jobs[0], "EVENT": events[1]["id"],
        "CHECKPOINT": checkpoints[0]["id"], "UID": uri, "METRIC": metric["value"][0]["createdUtc"],
        "EXPERIMENT_A": azure.http.get(f"{MLFLOW}/experiments/get-by-name?experiment_name=a").json()
        ["experiment"]["experiment_id"],
        "EXPERIMENT_B": azure.http.get(f"{MLFLOW}/experiments/get-by-name?experiment_name=b").json()
        ["experiment"]["experiment_id"],
    }  # fmt: skip


VERSIONS = {"$orderBy": "createdtime asc", "$skip": "s1", "$top": "1", "listViewType": "All"}
SEARCH = {
    "filter": "name = 'tuned'",
    "max_results": "1",
    "order_by": "name DESC",
    "page_token": "1",
}
QUERY: Mapping[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "datastores.list": (f"{WS}/datastores", {}, {"count": "1", "isDefault": "true", "orderByAsc": "true"}),
    "data.list": (f"{WS}/data", {}, {"$skip": "s1", "listViewType": "All"}),
    "data_versions.list": (f"{WS}/data/rows/versions", {}, VERSIONS | {"$tags": "v=1"}),
    "jobs.list": (f"{WS}/jobs", {}, {"$skip": "s1", "listViewType": "All", "jobType": "Command",
                                     "properties": "team=a", "tag": "team=a"}),
    "models.list": (f"{WS}/models", {}, {"$skip": "s1", "count": "1", "listViewType": "All"}),
    "model_versions.list": (f"{WS}/models/mine/versions", {}, VERSIONS | {
        "properties": "p=1", "stage": "S1", "tags": "v=1", "version": "1"}),
    "subscriptions.list": (f"{WS}/marketplaceSubscriptions", {}, {"$skip": "s1"}),
    "endpoints.list": (f"{WS}/serverlessEndpoints", {}, {"$skip": "s1"}),
    "registry_models.list": (REGISTRY, {}, {
        "$skip": "s1", "listViewType": "ArchivedOnly"}),
    "registry_model_versions.list": (f"{REGISTRY}/Phi-4-mini-instruct/versions", {}, {
        "$skip": "s1", "listViewType": "ArchivedOnly", "$top": "0", "$orderBy": "name"}),
    "resource_groups.list": (f"{SUBSCRIPTION}/resourceGroups", {}, {"$skip": "s2", "$top": "1"}),
    "workspaces.list_all": (
        f"{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/workspaces", {}, {
            "$skip": "s2", "kind": "none"}),
    "workspaces.list": (WS.rpartition("/")[0], {}, {"$skip": "s1", "kind": "none"}),
    "accounts.list_all": (
        f"{SUBSCRIPTION}/providers/Microsoft.CognitiveServices/accounts", {}, {"$skip": "s2"}),
    "accounts.list": (ACCOUNT.rpartition("/")[0], {}, {"$skip": "s1"}),
    "deployments.list": (f"{ACCOUNT}/deployments", {}, {"$skip": "s1"}),
    "mlflow.run": (f"{MLFLOW}/runs/get", {"run_id": "first"}, {"run_id": "second", "run_uuid": "second"}),
    "mlflow.metric": (f"{MLFLOW}/metrics/get-history", {"run_id": "first", "metric_key": "loss"}, {
        "run_id": "second", "run_uuid": "second", "metric_key": "learning_rate", "max_results": "1",
        "page_token": "1"}),
    "mlflow.artifacts": (f"{MLFLOW}/artifacts/list", {"run_id": "first"}, {
        "run_id": "none", "run_uuid": "none", "path": "outputs"}),
    "mlflow.experiment": (f"{MLFLOW}/experiments/get", {"experiment_id": "EXPERIMENT_A"}, {
        "experiment_id": "EXPERIMENT_B"}),
    "mlflow.experiment_by_name": (f"{MLFLOW}/experiments/get-by-name", {"experiment_name": "a"}, {
        "experiment_name": "b"}),
    "mlflow.models": (f"{MLFLOW}/registered-models/search", {}, SEARCH),
    "mlflow.model": (f"{MLFLOW}/registered-models/get", {"name": "tuned"}, {"name": "mine"}),
    "mlflow.model_versions": (f"{MLFLOW}/model-versions/search", {}, SEARCH | {
        "order_by": "version_number DESC"}),
    "mlflow.model_version": (f"{MLFLOW}/model-versions/get", {"name": "tuned", "version": "1"}, {
        "name": "mine", "version": "2"}),
    "mlflow.model_uri": (f"{MLFLOW}/model-versions/get-download-uri", {"name": "tuned", "version": "1"}, {
        "name": "mine", "version": "2"}),
    "blocks.list": ("/maaslocal/effects0/b?comp=blocklist", {"blocklisttype": "all"}, {
        "blocklisttype": "committed"}),
    "blobs.list": ("/maaslocal/effects0?restype=container&comp=list", {}, {
        "delimiter": "/", "include": "metadata", "marker": "MARKER", "maxresults": "1", "prefix": "b"}),
    "containers.list": ("/maaslocal?comp=list", {}, {
        "include": "metadata", "marker": "MARKER", "maxresults": "1", "prefix": "effects1"}),
    "files.list": ("/openai/v1/files", {}, {**PAGE, "after": "FILE", "purpose": "evals"}),
    "fine_tuning.list": ("/openai/v1/fine_tuning/jobs", {}, {**PAGE, "after": "JOB"}),
    "fine_tuning.events": ("/openai/v1/fine_tuning/jobs/JOB0/events", {}, {**PAGE, "after": "EVENT"}),
    "project_deployments.list": (f"{PROJECT}/deployments", {}, {
        "deploymentType": "none", "modelName": "Phi-4-mini-instruct", "modelPublisher": "Microsoft"}),
    "connections.list": (f"{PROJECT}/connections", {}, {
        "connectionType": "AzureBlob", "defaultConnection": "false"}),
}  # fmt: skip
"""By operation: the URL, a query, and for each declared name a value that changes the answer."""
ELSEWHERE = {
    **dict.fromkeys(("artifacts.under", "artifacts.metadata", "artifacts.content", "artifacts.contents"),
                    "test_artifacts.py"),
    "blocks.put": "test_blob.py",
    "fine_tuning.checkpoints": "the instant engine has one checkpoint; lists share their code",
    "sessions.list": "test_sessions.py",
    "sessions.sample": "test_sessions.py",
    "projects.list": "an account has one project",
    "login.instance": "the question is which hosts belong to a cloud: there is one cloud",
}  # fmt: skip


def test_every_declared_query_parameter_has_an_entry(server: LocalServer):
    names = declared(server, "query")
    assert {name: frozenset(changes) for name, (_, _, changes) in QUERY.items()} == {
        name: accepted for name, accepted in names.items() if name not in ELSEWHERE
    }


def _get(azure: Azure, ids: dict[str, str], url: str, query: dict[str, str]) -> Any:
    for name, value in ids.items():
        url = re.sub(rf"\b{name}\b", value, url)
        query = {key: value if text == name else text for key, text in query.items()}
    version = {"api-version": "v1"} if url.startswith(PROJECT) else {"api-version": "2024-10-01"}
    version = {} if url.startswith(("/openai/v1", "/maaslocal")) else version
    fixed = dict(part.split("=") for part in url.partition("?")[2].split("&") if part)
    return azure.http.get(url.partition("?")[0], params=version | fixed | query)


def test_declared_query_parameters_change_the_answer(azure: Azure, ids: dict[str, str]):
    for name, (url, base, changes) in QUERY.items():
        before = _get(azure, ids, url, base)
        assert before.status_code == 200, (name, before.text)
        for parameter, value in changes.items():
            after = _get(azure, ids, url, base | {parameter: value})
            assert after.text != before.text, (name, parameter)


PAST, FUTURE = "Sun, 29 Nov 2020 00:00:00 GMT", "Sun, 29 Nov 2099 00:00:00 GMT"
MD5 = "gnzLDuqKcGxMNKFokfhOew=="
HEADERS = {
    "if-match": '"x"',
    "if-none-match": "*",
    "if-modified-since": FUTURE,
    "if-unmodified-since": PAST,
    "range": "bytes=1-2",
    "x-ms-range": "bytes=1-2",
    "content-encoding": "gzip",
    "x-ms-blob-type": "PageBlob",
    "x-ms-copy-source": "https://example.org/x",
    "x-ms-delete-snapshots": "only",
    "x-ms-meta-": "1",
    "x-ms-blob-cache-control": "no-store",
    "x-ms-blob-content-disposition": "inline",
    "x-ms-blob-content-encoding": "gzip",
    "x-ms-blob-content-language": "de",
    "x-ms-blob-content-md5": MD5,
    "x-ms-blob-content-type": "text/css",
}
"""For each declared header of the blob API, a value that changes what a request does."""
NO_EFFECT = {
    ("blobs.head", "range"): "RFC 9110 section 14.2: only GET has ranges",
    ("blobs.head", "x-ms-range"): "as above",
    ("blobs.head", "x-ms-range-get-content-md5"): "as above",
    ("blobs.get", "x-ms-range-get-content-md5"): "test_blob.py: with a range",
    ("blocks.put", "x-ms-meta-"): "the blob's metadata is set with the list of blocks",
}
CHANGING = (
    "etag",
    "last-modified",
    "date",
    "x-ms-request-id",
    "x-ms-creation-time",
    "x-ms-error-code",
)


def _observed(azure: Azure, op: Operation[Any], headers: dict[str, str]) -> tuple[Any, ...]:
    """Return what an operation answers for a new blob, and what the blob and its container are then."""
    container = "/maaslocal/observed"
    blob = f"{container}/blob"
    azure.http.put(f"{container}?restype=container")
    kind = {"x-ms-blob-type": "BlockBlob"}
    azure.http.put(blob, content=b"12345", headers=kind)
    content = b"6789" if op.method == "PUT" else b""
    if op.name == "blocks.commit":
        azure.http.put(f"{blob}?comp=block&blockid=AAAA", content=b"1")
        content = b"<BlockList><Latest>AAAA</Latest></BlockList>"
    params = dict(op.query) | ({"blockid": "AAAA"} if op.name == "blocks.put" else {})
    path = blob if "{blob" in op.path or "{name" in op.path else container
    if op.name == "containers.create":
        path = container = "/maaslocal/observed-new"
    sent = (kind if op.name == "blobs.put" else {}) | headers
    if op.name == "blobs.headers":
        content = b""
    response = azure.http.request(op.method, path, params=params, content=content, headers=sent)
    after = [azure.http.head(blob), azure.http.head(f"{container}?restype=container")]
    azure.http.delete(f"{container}?restype=container")
    kept = [
        sorted((name, value) for name, value in r.headers.items() if name not in CHANGING)
        for r in (response, *after)
    ]
    return response.status_code, response.text if response.status_code < 300 else "", kept


def test_declared_headers_change_what_happens(server: LocalServer, azure: Azure):
    seen = set()
    for op, handler in operations(server):
        names = parameters._BY_HANDLER.get(handler, parameters._NONE).headers
        if op.plane is not Plane.BLOB or op.name in seen or not names:
            continue
        seen.add(op.name)
        before = _observed(azure, op, {})
        assert before[0] < 300, (op.name, before)
        for name in names:
            if (op.name, name) not in NO_EFFECT:
                sent = {name + "a" if name.endswith("-") else name: HEADERS[name]}
                assert _observed(azure, op, sent) != before, (op.name, name)
    assert seen > {"blobs.put", "blobs.get", "containers.create"}


FIELDS: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "datastores.secrets": (f"{WS}/datastores/workspaceblobstore/listSecrets", {}, {
        "expirableSecret": False, "expireAfterHours": 2}),
    "runs.data": (f"/history/v1.0{WS}/rundata", {"runId": "first"}, {
        "runId": "second", "selectJobSpecification": True, "selectRunDefinition": True,
        "selectRunMetadata": False}),
    "metrics.list": (f"/metric/v2.0{WS}/runs/first/list", {}, {
        "continuationToken": "zzz", "metricNamespace": "eval"}),
    "metrics.values": (f"/metric/v2.0{WS}/runs/first/full", {"metricName": "loss"}, {
        "continuationToken": "zzz", "metricName": "learning_rate", "metricNamespace": "eval",
        "startTime": "2099-01-01T00:00:00Z"}),
    "metrics.sample": (f"/metric/v2.0{WS}/runs/first/sample", {"metricName": "loss"}, {
        "metricName": "learning_rate", "metricNamespace": "eval", "startTime": "2099-01-01T00:00:00Z"}),
    "endpoints.regenerate": (f"{WS}/serverlessEndpoints/one/regenerateKeys", {"keyType": "Primary"}, {
        "keyType": "Secondary"}),
    "mlflow.experiments": (f"{MLFLOW}/experiments/search", {}, {
        "filter": "name = 'a'", "max_results": 1, "order_by": ["name DESC"], "page_token": "1",
        "view_type": "DELETED_ONLY"}),
    "mlflow.runs": (f"{MLFLOW}/runs/search", {"experiment_ids": ["EXPERIMENT_A", "EXPERIMENT_B"]}, {
        "experiment_ids": ["EXPERIMENT_A"], "filter": "tags.team = 'b'", "max_results": 1,
        "order_by": ["tags.team ASC"], "page_token": "1", "run_view_type": "DELETED_ONLY"}),
    "mlflow.set_tag": (f"{MLFLOW}/runs/set-tag", {"run_id": "first", "key": "k", "value": "v"}, {
        "run_id": "second", "run_uuid": "second", "key": "l", "value": "w"}),
    "mlflow.delete_tag": (f"{MLFLOW}/runs/delete-tag", {"run_id": "first", "key": "k"}, {
        "run_id": "second", "key": "l"}),
}  # fmt: skip
"""By operation: the URL, a body, and for each declared field a value that changes the answer or the run."""
FIELDS_ELSEWHERE = {
    **dict.fromkeys(("datasets.create", "datasets.start_upload"), "tests/official/scripts/foundry_project.py"),
    "models.paths": "test_artifacts.py",
    "runs.patch": "test_jobs.py",
    **dict.fromkeys(("data.create", "data_versions.create", "jobs.create", "models.create", "endpoints.create",
                     "model_versions.create", "subscriptions.create", "endpoints.patch", "deployments.create",
                     "deployments.patch"), "test_members_of_microsofts_schemas"),
}  # fmt: skip


def test_declared_fields_change_what_happens(
    server: LocalServer, azure: Azure, ids: dict[str, str]
):
    names = {k: v for k, v in declared(server, "fields").items() if k not in FIELDS_ELSEWHERE}
    assert {name: frozenset(changes) for name, (_, _, changes) in FIELDS.items()} == names

    def observed(name: str, body: dict[str, Any]) -> Any:
        url = FIELDS[name][0]
        query = {"api-version": "2024-10-01"} if url.startswith("/subscriptions") else {}
        body = {
            key: [ids.get(item, item) for item in value] if isinstance(value, list) else value
            for key, value in body.items()
        }
        if name == "mlflow.delete_tag":
            for run in ("first", "second"):
                for key in ("k", "l"):
                    azure.http.post(
                        f"{MLFLOW}/runs/set-tag", json={"run_id": run, "key": key, "value": "v"}
                    )
        keys = f"{WS}/serverlessEndpoints/one/listKeys"
        before = azure.http.post(keys, params={"api-version": "2024-10-01"}).json()
        response = azure.http.post(url, params=query, json=body)
        tags = [
            azure.http.get(f"{MLFLOW}/runs/get", params={"run_id": run}).json()["run"]["data"][
                "tags"
            ]
            for run in ("first", "second")
        ]
        if name == "mlflow.set_tag":
            for run in ("first", "second"):
                for key in ("k", "l"):
                    azure.http.post(f"{MLFLOW}/runs/delete-tag", json={"run_id": run, "key": key})
        text = re.sub(r"sig=[^&\"]+", "", response.text)
        if name == "endpoints.regenerate":
            text = str([response.json()[key] == before[key] for key in sorted(before)])
        return response.status_code, text, tags

    for name, (_, base, changes) in FIELDS.items():
        before = observed(name, base)
        assert before[0] == 200, (name, before)
        for field, value in changes.items():
            assert observed(name, base | {field: value}) != before, (name, field)


# -- bodies ----------------------------------------------------------------------------------------

JOB_BODY = "JOB_BODY"
ARM_SPEC = "machinelearningservices-2024-10-01-preview"
MODEL = {"modelId": "azureml://registries/azureml/models/Phi-4-mini-instruct"}
RESOURCES: Mapping[str, tuple[str, str, Any, str]] = {
    "workspaces/jobs": ("/jobs/members", ARM_SPEC, JOB_BODY, "FineTuning"),
    "workspaces/data": ("/data/members", ARM_SPEC, {"dataType": "uri_file"}, ""),
    "workspaces/data/versions": ("/data/members/versions/1", ARM_SPEC, {
        "dataType": "uri_file", "dataUri": "URI"}, "uri_file"),
    "workspaces/models": ("/models/members", ARM_SPEC, {}, ""),
    "workspaces/serverlessEndpoints": ("/serverlessEndpoints/members", ARM_SPEC, {"modelSettings": MODEL}, ""),
    "workspaces/marketplaceSubscriptions": ("/marketplaceSubscriptions/members", ARM_SPEC, {
        "modelId": "azureml://registries/azureml-mistral/models/Ministral-3B"}, ""),
    "accounts/deployments": ("/deployments/members", "cognitiveservices-2026-07-01", {
        "model": {"format": "Microsoft", "name": "Phi-4-mini-instruct", "version": "1"}}, ""),
}  # fmt: skip
"""By resource: its path, the file of its schema, properties of a valid body, and the schema's variant."""


class Schema:
    """The members of the bodies of one file of Microsoft's bicep types."""

    def __init__(self, name: str) -> None:
        file = shared_file(f"specs/bicep-types/{name}.types.json")
        self._types: list[dict[str, Any]] = json.loads(file.read_text())

    def members(self, resource: str, variant: str) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Yield the path of each member that a client may write, with a value of its type."""
        kind = next(
            t for t in self._types
            if t["$type"] == "ResourceType" and t["name"].split("@")[0].endswith("/" + resource)
        )  # fmt: skip
        yield from self._walk(self._at(kind["body"]), (), variant)

    def _at(self, ref: dict[str, str]) -> dict[str, Any]:
        return self._types[int(ref["$ref"].removeprefix("#/"))]

    def _walk(
        self, rule: dict[str, Any], path: tuple[str, ...], variant: str
    ) -> Iterator[tuple[tuple[str, ...], Any]]:
        kind = rule["$type"]
        properties = dict(rule.get("properties") or rule.get("baseProperties") or {})
        if kind == "DiscriminatedObjectType":
            if variant not in rule["elements"]:
                return  # of this member only what the valid body has is known
            properties |= self._at(rule["elements"][variant])["properties"]
            properties.pop(rule["discriminator"])
        if kind == "UnionType":
            yield from self._walk(self._at(rule["elements"][-1]), path, variant)
        elif kind in ("ObjectType", "DiscriminatedObjectType") and properties and len(path) < 5:
            for name, member in properties.items():
                is_written = not member["flags"] & 2 and (path or name not in ENVELOPE_NAMES)
                if is_written:
                    inner = "Custom" if name == "fineTuningDetails" else variant
                    yield from self._walk(self._at(member["type"]), (*path, name), inner)
        else:
            examples = {
                "StringType": "zzz",
                "IntegerType": 7,
                "BooleanType": True,
                "ArrayType": ["zzz"],
            }
            yield path, rule.get("value", examples.get(kind, {"zzz": "zzz"}))


ENVELOPE_NAMES = ("id", "name", "type", "apiVersion", "systemData")


def _changed(body: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a body with another value at a path."""
    copy = json.loads(json.dumps(body))
    place = copy
    for name in path[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return body
    place[path[-1]] = value
    return dict(copy)


@pytest.mark.parametrize("resource", RESOURCES)
def test_members_of_microsofts_schemas_are_kept_or_refused(azure: Azure, resource: str):
    suffix, spec, properties, variant = RESOURCES[resource]
    uri = azure.upload(chats(), "members.jsonl")
    is_account = resource.startswith("accounts")
    lead = ACCOUNT if is_account else WS
    version = {"api-version": "2025-09-01" if is_account else "2024-10-01-preview"}
    body = azure.body(uri) if properties == JOB_BODY else {"properties": properties}
    if "Endpoints" in resource:
        body |= {"location": "eastus2"}
    if is_account:
        body |= {"sku": {"name": "GlobalStandard"}}
    body = json.loads(json.dumps(body).replace('"URI"', json.dumps(uri)))
    count, problems = 0, []
    for path, value in Schema(spec).members(resource, variant):
        count += 1
        url = f"{lead}{suffix.replace('members', f'members{count}')}"
        response = azure.http.put(url, params=version, json=_changed(body, path, value))
        place = f"{'.'.join(path)} = {value!r}: {response.status_code} {response.text[:300]}"
        if response.status_code >= 400:
            target = (response.json()["error"]["target"] or "").lower()
            is_named = target and path[-1].lower().endswith(target)
            if not is_named and not any(n.lower() in response.text.lower() for n in path[-2:]):
                problems.append(place)
            continue
        kept = azure.http.get(url, params=version).json()
        for name in path:
            kept = kept.get(name) if isinstance(kept, dict) else None
        if isinstance(kept, dict) and isinstance(value, dict):
            kept = {name: kept.get(name) for name in value}  # such as tags that the server adds to
        if str(kept).lower() != str(value).lower():
            problems.append(place)
        azure.http.delete(url, params=version)
    assert (count > 0, problems) == (True, [])


OPENAI: Mapping[str, tuple[str, dict[str, Any], frozenset[str]]] = {
    "CreateFineTuningJobRequest": ("/openai/v1/fine_tuning/jobs", {
        "model": "gpt-4.1-mini", "training_file": "FILE", "trainingType": "globalStandard"}, frozenset()),
    "CreateChatCompletionRequest": ("/openai/v1/chat/completions", {
        "model": "d0", "messages": [{"role": "user", "content": "x"}]},
        chat_request._KNOWN_PARAMETERS | chat_request._SAMPLES),
}  # fmt: skip
"""By schema of OpenAI: the path, a valid body, and the members that test_chat.py shows to be honoured."""


@pytest.mark.parametrize("schema", OPENAI)
def test_members_of_openais_schemas_are_honoured_or_refused(
    azure: Azure, ids: dict[str, str], schema: str
):
    file = shared_file("specs/openai/openai-files-finetuning-uploads-chat.subset.json")
    schemas = json.loads(file.read_text())["components"]["schemas"]

    def names(rule: dict[str, Any]) -> set[str]:
        if "$ref" in rule:
            rule = schemas[rule["$ref"].rpartition("/")[2]]
        found = set(rule.get("properties", {}))
        return found.union(*(names(part) for part in rule.get("allOf", ())))

    url, body, honoured = OPENAI[schema]
    body = json.loads(json.dumps(body).replace("FILE", ids["FILE"]))
    examples = ("zzz", 7, True, ["zzz"], {"zzz": "zzz"})
    problems = []
    for name in sorted(names({"$ref": schema}) - honoured):
        for value in examples:
            response = azure.http.post(url, json=body | {name: value})
            if response.status_code < 400:
                kept = response.json().get(name)
                if isinstance(kept, dict) and isinstance(value, dict):
                    kept = {key: kept.get(key) for key in value}  # the server adds some
                if str(kept).lower() != str(value).lower() and f"-{value}" not in response.text:
                    problems.append((name, value, response.text[:200]))
            elif name not in response.text and name.rstrip("s") not in response.text:
                problems.append((name, value, response.text[:200]))
    assert problems == []
