"""No route answers with success while it ignores a parameter that changes what the request means."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request  # noqa: TID253 - as the server does

from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.embedded_server import LocalServer
from maas_client.local.http import parameters
from maas_client.local.http.routes import azureml, foundry, login
from maas_client.local.resources.errors import ApiError
from maas_client.wire import openai_service
from maas_client.wire.operation import Operation, Plane, expand_path
from tests.contract.server.conftest import LOGIN_FORM, WS, Azure, chats
from tests.contract.server.routes.test_parameter_effects import operations

ROUTES = sorted(
    {
        (op.method, table.prefix + op.path, op.name): (table.prefix + op.path, op)
        for table in (*azureml.TABLES, *foundry.TABLES, *login.TABLES)
        for op in table.operations
        if op.name not in table.not_implemented
    }.items()
)
QUERY = ("snapshot", "versionid", "$filter", "$tags", "$expand", "what", "comp", "deletetype")
HEADERS = {
    "If-Match": '"x"',
    "If-None-Match": "*",
    "If-Modified-Since": "Sun, 29 Nov 2026 00:00:00 GMT",
    "If-Unmodified-Since": "Sun, 29 Nov 2020 00:00:00 GMT",
    "X-HTTP-Method-Override": "DELETE",
    "Content-Encoding": "gzip",
    "x-ms-lease-id": "6f0c1dbb-0c0a-4a1d-b1b7-3c2f0c1f2a11",
    "x-ms-if-tags": "\"a\" = 'b'",
    "x-ms-access-tier": "Cool",
    "x-ms-encryption-key": "AAAA",
    "x-ms-encryption-scope": "scope",
    "x-ms-blob-public-access": "blob",
    "x-ms-copy-source": "https://example.org/x",
    "x-ms-source-if-match": "*",
    "x-ms-immutability-policy-mode": "locked",
    "x-ms-legal-hold": "true",
    "x-ms-delete-snapshots": "only",
    "x-ms-content-crc64": "AAAAAAAAAAA=",
}
HARMLESS = {
    "x-ms-client-request-id": "1",
    "x-ms-useragent": "someone",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-custom": "1",
}


def send(
    azure: Azure, path: str, op: Operation[Any], query: dict[str, str], headers: dict[str, str]
):
    names = dict.fromkeys(path.replace("{", "}").split("}")[1::2], "a1")
    url = expand_path(path, {name.removesuffix(":path"): value for name, value in names.items()})
    body: dict[str, Any] = {"json": {}} if op.body == "json" else {}
    is_v1 = op.plane is Plane.FOUNDRY and op.path.startswith("/v1/")
    version = "preview" if is_v1 else "2024-10-01-preview"
    params = {"api-version": version, **op.query, **query}
    return azure.http.request(op.method, url, params=params, headers=headers, **body)


def assert_refused(response: Any, op: Operation[Any], name: str) -> None:
    assert response.status_code >= 400, (op.name, name, response.status_code)
    if response.status_code != 501 or op.method == "HEAD":
        return
    assert name.lower() in response.text.lower(), (op.name, name, response.text)
    shape = "<Code>NotImplemented</Code>" if op.plane is Plane.BLOB else '"NotImplemented"'
    assert shape in response.text, (op.name, response.text)


HONOURED_QUERY = {("data_versions.list", "$tags")}


@pytest.mark.parametrize("name", QUERY)
def test_unknown_query_parameters(azure: Azure, name: str):
    for _, (path, op) in ROUTES:
        if name not in op.query and (op.name, name) not in HONOURED_QUERY:
            assert_refused(send(azure, path, op, {name: "zz"}, {}), op, name)


@pytest.mark.parametrize("name", HEADERS)
def test_headers_with_a_meaning(azure: Azure, name: str):
    for _, (path, op) in ROUTES:
        if name.startswith("x-ms-") and op.plane is not Plane.BLOB:
            continue
        before = send(azure, path, op, {}, {})
        after = send(azure, path, op, {}, {name: HEADERS[name]})
        if after.status_code < 400:  # it honours the header: on this route it is implemented
            assert (op.plane, name) in HONOURED, (op.name, name, before.status_code)


HONOURED = {
    (Plane.BLOB, name)
    for name in ("If-Modified-Since", "If-Unmodified-Since", "If-None-Match", "Content-Encoding")
}


def test_unknown_harmless_headers_pass(azure: Azure):
    for _, (path, op) in ROUTES:
        if op.method == "GET":
            expected = send(azure, path, op, {}, {}).status_code
            assert send(azure, path, op, {}, HARMLESS).status_code == expected, op.name


def test_login_accepts_the_request_id_of_azure_identity_in_javascript(azure: Azure):
    response = azure.http.post("/tenant/oauth2/v2.0/token?client-request-id=1", data=LOGIN_FORM)
    assert response.status_code == 200


def test_unknown_fields_of_actions(azure: Azure):
    for _, (path, op) in ROUTES:
        if op.method == "POST" and op.plane is not Plane.BLOB and op.body in ("json", "none"):
            url = path
            names = dict.fromkeys(url.replace("{", "}").split("}")[1::2], "a1")
            response = azure.http.post(
                expand_path(url, names),
                params={"api-version": "v1" if "/v1/" in url else "2024-10-01-preview", **op.query},
                json={"whatElse": 1},
            )
            assert response.status_code >= 400, (op.name, response.text)


def test_storage_account_has_xml_errors(azure: Azure):
    for path in ("", "/", "/no/such/path?comp=nothing"):
        response = azure.http.post(f"/{STORAGE_ACCOUNT}{path}")
        assert response.text.startswith("<?xml"), path


ABSENT = [
    *((f"/openai{op.path}", op) for op in openai_service.V1_OPERATIONS),
    *((f"/api/projects/p1/openai{op.path}", op) for op in openai_service.V1_OPERATIONS),
    *(
        (f"/openai{op.path}?api-version=2025-04-01-preview", op)
        for op in openai_service.DATED_OPERATIONS
    ),
    *((op.path, op) for op in openai_service.RESOURCE_INFERENCE_OPERATIONS),
    *((f"/serverless/a1{op.path}", op) for op in openai_service.ENDPOINT_OPERATIONS),
]


def test_absent_operations_are_501_by_name(azure: Azure):
    for path, op in ABSENT:
        names = dict.fromkeys(path.replace("{", "}").split("}")[1::2], "a1")
        response = azure.http.request(op.method, expand_path(path, names), json={"model": "x"})
        assert response.status_code == 501, (path, response.text)
        error = response.json()["error"]
        assert error["code"] == "NotImplemented"
        assert op.name in error["message"]
        is_openai = "/openai/" in path or path.startswith("/serverless/a1/v1/")
        assert ("param" in error) is is_openai, path


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/openai/files", 404, "Resource not found"),
        ("/openai/deployments/d/chat/completions", 404, "Resource not found"),
        ("/openai/files?api-version=2024-10-21", 200, ""),
        ("/openai/v1/files", 200, ""),
        ("/openai/v1/files?api-version=v1", 200, ""),
        ("/openai/v1/files?api-version=preview", 200, ""),
        ("/openai/v1/files?api-version=2024-10-21", 400, "API version not supported"),
        ("/api/projects/p/openai/v1/files?api-version=2025-04-01-preview", 400, "not supported"),
    ],
)
def test_each_base_url_has_its_api_versions(azure: Azure, path: str, status: int, message: str):
    method = "POST" if path.endswith("completions") else "GET"
    response = azure.http.request(method, path, json={} if method == "POST" else None)
    assert response.status_code == status
    if message:
        assert message in response.json()["error"]["message"]


def test_a_tuned_open_model_is_not_tuned_again(azure: Azure):
    for model, status in (("Ministral-3B.ft-0a1b", 400), ("gpt-4.1-mini.ft-0a1b-x", 501)):
        body = {"model": model, "training_file": "file-1", "trainingType": "globalStandard"}
        response = azure.http.post("/openai/v1/fine_tuning/jobs", json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (status, "model")
        assert "continuous fine-tuning" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metadata", {"a": 1}, "metadata.a must be a string."),
        ("metadata", {"a": "x" * 513}, "metadata.a must have at most 512 characters."),
        ("metadata", {str(n): "" for n in range(17)}, "metadata must have at most 16 keys."),
        ("metadata", "a", "metadata must be an object."),
        ("hyperparameters", {"learning_rate_multiplier": "0.1"}, "must be a number or auto."),
        ("hyperparameters", {"n_epochs": 2}, "differs from method.dpo.hyperparameters.n_epochs"),
        ("hyperparameters", {"beta": "0.1"}, "hyperparameters.beta differs from"),
    ],
)
def test_job_fields_without_effect_are_refused(azure: Azure, field: str, value: Any, message: str):
    method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.1}}}
    body = {"model": "gpt-4.1-mini", "training_file": "file-1", "trainingType": "globalStandard"}
    response = azure.http.post(
        "/openai/v1/fine_tuning/jobs", json={**body, "method": method, field: value}
    )
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == (
        "learning_rate_multiplier" if "multiplier" in str(value) else field
    )
    assert message in response.json()["error"]["message"]


def test_the_training_type_of_a_job_is_in_its_answers(azure: Azure):
    content = {"file": ("t.jsonl", chats()), "purpose": (None, "fine-tune")}
    file = azure.http.post("/openai/v1/files", files=content).json()["id"]
    body = {"model": "gpt-4.1-mini", "training_file": file, "trainingType": "globalstandard"}
    job = azure.http.post("/openai/v1/fine_tuning/jobs", json=body).json()
    path = f"/openai/v1/fine_tuning/jobs/{job['id']}"
    for answer in (job, azure.http.get(path).json(), azure.http.post(f"{path}/cancel").json()):
        assert answer["trainingType"] == "GlobalStandard"


DETAILS = "properties.fineTuningDetails"


@pytest.mark.parametrize(
    ("change", "status", "target"),
    [
        ({"resources": {"shmSize": "2g"}}, 501, "properties.resources.shmSize"),
        ({"resources": {"instanceTypes": "Standard_NC6"}}, 400, "properties.resources"),
        ({"queueSettings": {"priority": 3}}, 501, "properties.queueSettings.priority"),
        ({"queueSettings": {"jobTier": "Gold"}}, 400, "properties.queueSettings.jobTier"),
        ({"details": {"trainingData": {"jobInputType": "uri_folder", "uri": "URI"}}}, 400,
         f"{DETAILS}.trainingData.jobInputType"),
        ({"details": {"trainingData": {"jobInputType": "uri_file", "uri": "URI", "zzz": 1}}}, 501,
         f"{DETAILS}.trainingData.zzz"),
        ({"details": {"validationData": {"jobInputType": "uri_file", "uri": "URI", "zzz": 1}}}, 501,
         f"{DETAILS}.validationData.zzz"),
        ({"outputs": {"logs": {"jobOutputType": "mlflow_model"}}}, 501, "properties.outputs.logs"),
        ({"outputs": {"registered_model": {"jobOutputType": "triton_model"}}}, 400,
         "properties.outputs.registered_model.jobOutputType"),
        ({"outputs": {"registered_model": {"jobOutputType": "mlflow_model", "assetVersion": "7"}}}, 501,
         "properties.outputs.registered_model.assetVersion"),
    ],
)  # fmt: skip
def test_members_of_a_workspace_job_without_effect_are_refused(
    azure: Azure, change: dict[str, Any], status: int, target: str
):
    train = azure.upload(chats(), "members.jsonl")
    body = json.loads(json.dumps(azure.body(train, **change)).replace('"URI"', json.dumps(train)))
    response = azure.arm("PUT", "/jobs/members", json=body)
    assert (response.status_code, response.json()["error"]["target"]) == (status, target)
    assert azure.arm("GET", "/jobs/members").status_code == 404


def test_what_azure_chooses_a_machine_by_is_returned(azure: Azure):
    settings = {
        "resources": {"instanceTypes": ["Standard_NC24ads_A100_v4"]},
        "queueSettings": {"jobTier": "Spot"},
        "computeId": "/subscriptions/s/computes/gpu",
    }
    answer = azure.submit("machine", azure.upload(chats()), **settings).json()
    assert settings.items() <= answer["properties"].items()


@pytest.mark.parametrize(
    ("properties", "status", "target"),
    [
        ({"contentSafety": {"contentSafetyStatus": "Sometimes"}}, 400, "contentSafetyStatus"),
        ({"contentSafety": {"contentSafetyStatus": "Enabled", "zzz": "1"}}, 501,
         "properties.contentSafety.zzz"),
        ({"modelSettings": {"modelId": "azureml://registries/azureml/models/Phi-4", "zzz": "1"}}, 501,
         "properties.modelSettings.zzz"),
    ],
)  # fmt: skip
def test_members_of_an_endpoint_without_effect_are_refused(
    azure: Azure, properties: dict[str, Any], status: int, target: str
):
    model = {"modelSettings": {"modelId": "azureml://registries/azureml/models/Phi-4"}}
    body = {"location": "eastus2", "properties": {**model, **properties}}
    response = azure.arm("PUT", "/serverlessEndpoints/members", json=body)
    assert (response.status_code, response.json()["error"]["target"]) == (status, target)


def test_members_of_a_sku_without_effect_are_refused(azure: Azure):
    accounts = WS.replace("MachineLearningServices/workspaces", "CognitiveServices/accounts")
    model = {"format": "Microsoft", "name": "Phi-4-mini-instruct", "version": "1"}
    for path, sku, properties in (
        (f"{accounts}/deployments/d1", "GlobalStandard", {"model": model}),
        (f"{WS}/serverlessEndpoints/d1", "Consumption",
         {"modelSettings": {"modelId": "azureml://registries/azureml/models/Phi-4"}}),
    ):  # fmt: skip
        body = {"location": "eastus2"} if "serverless" in path else {}
        body |= {"sku": {"name": sku, "tier": "Free"}, "properties": properties}
        params = {"api-version": "2024-10-01-preview" if "serverless" in path else "2025-09-01"}
        for refused in (azure.http.put(path, params=params, json=body),
                        azure.http.patch(path, params=params, json={"sku": body["sku"]})):  # fmt: skip
            assert (refused.status_code, refused.json()["error"]["target"]) == (501, "sku.tier")


ACCOUNT = WS.replace("MachineLearningServices/workspaces", "CognitiveServices/accounts")
MLFLOW = f"/mlflow/v2.0{WS}/api/2.0/mlflow"


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("GET", f"{WS}/datastores", {"isDefault": "zzz"}, None),
        ("GET", "/api/projects/p/connections", {"defaultConnection": "zzz"}, None),
        ("POST", f"{WS}/datastores/workspaceblobstore/listSecrets", {}, {"expireAfterHours": True}),
        ("POST", f"{MLFLOW}/runs/search", {}, {"experiment_ids": ["0"], "run_view_type": "zzz"}),
        ("POST", f"{MLFLOW}/experiments/search", {}, {"view_type": "zzz", "max_results": 5}),
        ("PUT", f"{WS}/data/typed", {}, {"properties": {"isArchived": "no"}}),
        ("PUT", f"{WS}/data/typed/versions/1", {}, {"properties": {"dataUri": "URI", "stage": 5}}),
        (
            "PUT",
            f"{WS}/data/typed/versions/1",
            {},
            {"properties": {"dataUri": "URI", "isArchived": "no"}},
        ),
        (
            "PUT",
            f"{WS}/data/typed/versions/1",
            {},
            {"properties": {"dataUri": "URI", "dataType": "zzz"}},
        ),
        ("PUT", f"{WS}/jobs/typed", {}, {"description": []}),
        ("PUT", f"{WS}/jobs/typed", {}, {"isArchived": "yes"}),
        ("PUT", f"{WS}/serverlessEndpoints/typed", {}, {"sku": {"name": 5}}),
        ("PATCH", f"{WS}/serverlessEndpoints/typed", {}, {"tags": {"a": 1}}),
        ("PUT", f"{ACCOUNT}/deployments/typed", {}, {"tags": {"a": 1}}),
        ("PATCH", f"{ACCOUNT}/deployments/typed", {}, {"tags": {"a": 1}}),
    ],
)
def test_values_of_another_type_are_refused(
    azure: Azure, method: str, path: str, query: dict[str, str], body: dict[str, Any] | None
):
    uri = azure.upload(chats(), "typed.jsonl")
    if path.endswith("jobs/typed"):
        body = azure.body(uri, **(body or {}))
    elif method == "PUT" and "typed" in path and "data" not in path:
        model = {"format": "Microsoft", "name": "Phi-4-mini-instruct", "version": "1"}
        settings = {"modelId": "azureml://registries/azureml/models/Phi-4"}
        is_endpoint = "serverless" in path
        body = {
            "properties": {"modelSettings": settings} if is_endpoint else {"model": model},
            **({"location": "eastus2"} if is_endpoint else {"sku": {"name": "GlobalStandard"}}),
            **(body or {}),
        }
    version = "2025-09-01" if path.startswith(ACCOUNT) else "2024-10-01-preview"
    text = json.dumps(body).replace('"URI"', json.dumps(uri))
    content = {} if body is None else {"json": json.loads(text)}
    params = {"api-version": "v1" if path.startswith("/api/projects") else version, **query}
    response = azure.http.request(method, path, params=params, **content)
    assert response.status_code == 400, response.text
    if method == "PUT":
        assert azure.http.get(path, params=params).status_code == 404


def test_fields_of_run_history_without_effect_are_refused(azure: Azure):
    azure.job("history")
    for verb in ("list", "full", "sample"):
        wanted = {} if verb == "list" else {"metricName": "loss"}
        assert azure.metric("history", verb, {**wanted, "metricNamespace": None}).status_code == 200
        for change in ({"zzz": 1}, {"metricNamespace": "eval"}):
            response = azure.metric("history", verb, {**wanted, **change})
            assert (response.status_code, *change) == (501, response.json()["error"]["target"])
    path = "/experiments/Default/runs/history"
    for change in ({"displayName": 5}, {"description": []}, {"hidden": "yes"}):
        response = azure.history("PATCH", path, json=change)
        assert (response.status_code, *change) == (400, response.json()["error"]["target"])


def test_expiry_of_an_upload_is_that_of_its_file(azure: Azure):
    base, version = "/openai", {"api-version": "2025-04-01-preview"}
    body = {"filename": "t.jsonl", "purpose": "fine-tune", "mime_type": "application/jsonl"}
    data = chats()
    refused = azure.http.post(
        f"{base}/uploads",
        params=version,
        json={**body, "bytes": len(data), "expires_after": {"anchor": "created_at", "seconds": 5}},
    )
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "expires_after.seconds")
    expiry = {"anchor": "created_at", "seconds": 1_209_600}
    upload = azure.http.post(
        f"{base}/uploads",
        params=version,
        json={**body, "bytes": len(data), "expires_after": expiry},
    ).json()
    path = f"{base}/uploads/{upload['id']}"
    part = azure.http.post(f"{path}/parts", params=version, files={"data": ("p", data)}).json()
    done = azure.http.post(f"{path}/complete", params=version, json={"part_ids": [part["id"]]})
    file = done.json()["file"]
    assert file["expires_at"] == file["created_at"] + expiry["seconds"]


@pytest.mark.parametrize(
    ("purpose", "status"),
    [("assistants", 501), ("batch", 501), ("user_data", 501), ("vision", 501), ("evals", 501),
     ("fine-tune-results", 400), ("unknown", 400), ("", 400)],
)  # fmt: skip
def test_purposes_of_files(azure: Azure, purpose: str, status: int):
    """Those that Azure accepts are not the caller's mistake."""
    files = {"purpose": (None, purpose), "file": ("t", b"x")}
    body = {"filename": "t.jsonl", "purpose": purpose, "bytes": 1, "mime_type": "application/jsonl"}
    version = {"api-version": "2025-04-01-preview"}
    for response in (
        azure.http.post("/openai/v1/files", files=files),
        azure.http.post("/openai/uploads", params=version, json=body),
    ):
        assert (response.status_code, response.json()["error"]["param"]) == (status, "purpose")


@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [
        ("o4-mini", "reinforcement", 501),
        ("gpt-4.1-mini", "reinforcement", 400),  # Azure tunes it in other ways
        ("o4-mini", "unknown", 400),
    ],
)
def test_methods_of_jobs(azure: Azure, model: str, kind: str, status: int):
    body = {"model": model, "training_file": "file-1", "trainingType": "globalStandard"}
    sent = {**body, "method": {"type": kind}}
    response = azure.http.post("/openai/v1/fine_tuning/jobs", json=sent)
    assert (response.status_code, response.json()["error"]["param"]) == (status, "method")


def test_a_form_field_with_two_values_is_refused(azure: Azure):
    content = [
        ("purpose", (None, "evals")),
        ("purpose", (None, "fine-tune")),
        ("file", ("t", b"x")),
    ]
    response = azure.http.post("/openai/v1/files", files=content)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "purpose")


# -- what Microsoft's packages send ----------------------------------------------------------------

PACKAGES = {
    Plane.BLOB: ("azure.storage.blob._generated.operations",),
    Plane.ARM: ("azure.ai.ml._restclient.arm_ml_service.operations", "azure.mgmt.cognitiveservices.operations"),
    Plane.HISTORY: tuple(
        f"azure.ai.ml._restclient.{name}.operations"
        for name in ("runhistory", "dataset_dataplane", "model_dataplane", "registry_discovery")
    ),
    Plane.INFERENCE: ("azure.ai.inference._operations",),
    Plane.PROJECT: ("azure.ai.projects.operations", "azure.ai.finetuningsessions.operations"),
    Plane.FOUNDRY: ("azure.ai.projects.operations",),
}  # fmt: skip
FORM_HEADERS = {
    "accept", "content-type", "content-length",  # the form of the body
    "content-md5",  # checked where a body is stored
    "x-ms-version", "x-ms-date", "x-ms-client-request-id", "date",
    "foundry-features",  # switches a preview on
    "x-ms-blob-type", "x-ms-meta",
}  # fmt: skip


def _names_sent(package: str) -> tuple[set[str], set[str]]:
    """Return the query parameters and headers that the operations of a package send."""
    spec = find_spec("azure")  # a namespace: its packages are read, not imported
    assert spec is not None
    query, headers = set(), set()
    for folder in spec.submodule_search_locations or ():
        for path in Path(folder, *package.split(".")[1:]).glob("*.py"):
            text = path.read_text("utf-8")
            query |= set(re.findall(r'_(?:query_)?param(?:eter)?s\["([^"]+)"\]\s*=', text))
            headers |= set(re.findall(r'_headers\["([^"]+)"\]\s*=\s*_SERIALIZER', text))
            headers |= set(re.findall(r'header_parameters\["([^"]+)"\]\s*=', text))
    return query, headers


def test_what_microsofts_packages_send_is_declared_or_refused(server: LocalServer):
    sent = {
        plane: [set().union(*parts) for parts in zip(*map(_names_sent, packages), strict=True)]
        for plane, packages in PACKAGES.items()
    }
    count = 0
    for op, handler in operations(server):
        if op.plane not in sent:
            continue
        accepted = parameters._BY_HANDLER.get(handler, parameters._NONE)
        query, headers = sent[op.plane]
        always = parameters._BLOB_QUERY if op.plane is Plane.BLOB else parameters._QUERY
        for name in query - accepted.query - always - set(op.query):
            assert _refuses(op, handler, name, query=f"{name}=zz")
            count += 1
        for name in {header.lower() for header in headers} - accepted.headers - FORM_HEADERS:
            if name in ("range", "x-ms-range") and op.method != "GET":
                continue  # RFC 9110 section 14.2: only GET has ranges
            if not any(h.endswith("-") and name.startswith(h) for h in accepted.headers):
                assert _refuses(op, handler, name, header=name)
                count += 1
    assert count > 1000


def _refuses(
    op: Operation[Any], handler: Any, name: str, query: str = "", header: str = ""
) -> bool:
    headers = [(header.encode(), b"zz")] if header else []
    scope = {
        "type": "http",
        "method": op.method,
        "headers": headers,
        "query_string": query.encode(),
    }
    try:
        parameters.check_parameters(op, handler, Request(scope))
    except ApiError as error:
        return (error.status, error.target) == (501, name[:60])
    raise AssertionError(f"{op.name} ignores {name}")
