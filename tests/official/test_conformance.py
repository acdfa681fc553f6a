"""Requests of our client and responses of our server, checked against schemas of Microsoft and OpenAI.

Skipped where the specifications are not at hand: nothing of them is copied into this project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from maas_client.local import serve
from maas_client.wire import azureml, foundry
from tests.official.conftest import training_rows
from tests.official.recorder import Exchange, Recorder, name_of, record_workflow
from tests.official.schemas import SPECS, Bicep, openai_document, openai_problems
from tests.shared_data import needs_shared_data

pytestmark = needs_shared_data

ML = "Microsoft.MachineLearningServices/workspaces"
AI = "Microsoft.CognitiveServices/accounts"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Recorder]]:
    folder = tmp_path_factory.mktemp("recordings")
    data = folder / "train.jsonl"
    data.write_bytes(training_rows())
    (folder / "val.jsonl").write_bytes(training_rows(5))
    with serve(engine="instant") as server:
        yield {
            "azureml": record_workflow(server, "azureml", data),
            "foundry": record_workflow(server, "foundry", data),
        }


@pytest.fixture(scope="module")
def ml() -> Bicep:
    return Bicep("machinelearningservices-2024-10-01-preview")


@pytest.fixture(scope="module")
def ai() -> Bicep:
    return Bicep("cognitiveservices-2026-07-01")


def test_every_request_is_a_known_operation(recordings: dict[str, Recorder]) -> None:
    for recorder in recordings.values():
        assert not [(e.method, e.path) for e in recorder.exchanges if e.op == "unknown"]


LOCAL_OPERATIONS = {
    "workspaces": ("workspace.get", ML),
    "datastores": ("datastores.get", f"{ML}/datastores"),
    "data": ("data_versions.create", f"{ML}/data/versions"),
    "data, read": ("data_versions.get", f"{ML}/data/versions"),
    "jobs": ("jobs.create", f"{ML}/jobs"),
    "jobs, read": ("jobs.get", f"{ML}/jobs"),
    "models": ("model_versions.get", f"{ML}/models/versions"),
    "endpoints": ("endpoints.create", f"{ML}/serverlessEndpoints"),
    "endpoints, read": ("endpoints.get", f"{ML}/serverlessEndpoints"),
}


@pytest.mark.parametrize(("op", "kind"), LOCAL_OPERATIONS.values(), ids=LOCAL_OPERATIONS)
def test_arm_bodies_of_azure_ml(
    recordings: dict[str, Recorder], ml: Bicep, op: str, kind: str
) -> None:
    exchanges = [e for e in recordings["azureml"].of(op) if e.status < 300]
    assert exchanges
    for exchange in exchanges:
        _check_body(ml, kind, exchange)


def _check_body(bicep: Bicep, kind: str, exchange: Exchange) -> None:
    rule = bicep.resource(kind)
    if exchange.sent is not None:
        assert not list(bicep.problems(rule, exchange.sent, request=True))
    assert not list(bicep.problems(rule, exchange.got, request=False))


@pytest.mark.parametrize("op", ["deployments.create", "deployments.get"])
def test_arm_bodies_of_cognitive_services(
    recordings: dict[str, Recorder], ai: Bicep, op: str
) -> None:
    exchanges = [e for e in recordings["foundry"].of(op) if e.status < 300]
    assert exchanges
    for exchange in exchanges:
        _check_body(ai, f"{AI}/deployments", exchange)


@pytest.mark.parametrize(
    ("op", "kind", "name"),
    [
        ("datastores.secrets", f"{ML}/datastores", "listSecrets"),
        ("endpoints.keys", f"{ML}/serverlessEndpoints", "listKeys"),
    ],
)
def test_arm_functions_of_azure_ml(
    recordings: dict[str, Recorder], ml: Bicep, op: str, kind: str, name: str
) -> None:
    (exchange, *_) = recordings["azureml"].of(op)
    if exchange.sent:
        rule = ml.function(kind, name, "input")
        assert not list(ml.problems(rule, exchange.sent, request=True))
    assert not list(ml.problems(ml.function(kind, name, "output"), exchange.got, request=False))


def test_account_keys(recordings: dict[str, Recorder], ai: Bicep) -> None:
    (exchange, *_) = recordings["foundry"].of("accounts.keys")
    assert not list(ai.problems(ai.function(AI, "listKeys", "output"), exchange.got, request=False))


VIOLATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Poetry": lambda p: p["fineTuningDetails"].update(modelProvider="Poetry"),
    "is no str": lambda p: p["fineTuningDetails"].update(hyperParameters={"num_train_epochs": 3}),
    "trainingData: is missing": lambda p: p["fineTuningDetails"].pop("trainingData"),
    "status: is read-only": lambda p: p.update(status="Completed"),
    "colour: nobody knows it": lambda p: p.update(colour=1),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_checker_detects_violations(
    recordings: dict[str, Recorder], ml: Bicep, violation: str
) -> None:
    body = json.loads(json.dumps(recordings["azureml"].of("jobs.create")[0].sent))
    VIOLATIONS[violation](body["properties"])
    problems = list(ml.problems(ml.resource(f"{ML}/jobs"), body, request=True))
    assert any(violation in problem for problem in problems), problems


AZURE_DIFFERENCES = {
    "/organization_id: None is not of type 'string'",
    "/result_files: None is not of type 'array'",
    "/status: 'pending' is not one of",
    "/status_details: None is not of type 'string'",
    "/data: None is not of type 'object'",
    "/level: 'warning' is not one of",
    "/hyperparameters/learning_rate_multiplier",
    "/hyperparameters/n_epochs: -1",
    "/method/supervised/hyperparameters",
    "/metadata",
    "/first_id: None",
    "/last_id: None",
}
"""Where Azure, and this server with it, differs from OpenAI's schema (docs/azure-http.md section 4.5)."""

SHAPES = {
    "files.create": "OpenAIFile",
    "files.get": "OpenAIFile",
    "files.list": "ListFilesResponse",
    "files.delete": "DeleteFileResponse",
    "fine_tuning.create": "FineTuningJob",
    "fine_tuning.get": "FineTuningJob",
    "fine_tuning.list": "ListPaginatedFineTuningJobsResponse",
    "fine_tuning.events": "ListFineTuningJobEventsResponse",
    "fine_tuning.checkpoints": "ListFineTuningJobCheckpointsResponse",
    "foundry_models.list": "ListModelsResponse",
    "foundry_models.get": "Model",
}


@pytest.mark.parametrize("op", SHAPES)
def test_openai_shapes(recordings: dict[str, Recorder], op: str) -> None:
    exchanges = recordings["foundry"].of(op)
    assert exchanges
    for exchange in exchanges:
        problems = openai_problems(SHAPES[op], exchange.got)
        assert not [
            p for p in problems if not any(_same(p, difference) for difference in AZURE_DIFFERENCES)
        ]


def _same(problem: str, difference: str) -> bool:
    """Compare problems without list indexes."""
    return re.sub(r"^/data/\d+", "", problem).startswith(difference)


NO_REFUSAL = "/choices/0/message: 'refusal' is a required property"
"""Model Inference has no such field (docs/azure-http.md section 5.2)."""


@pytest.mark.parametrize(
    ("dialect", "op"), [("azureml", "chat.complete"), ("foundry", "foundry_chat.complete")]
)
def test_chat_shapes(recordings: dict[str, Recorder], dialect: str, op: str) -> None:
    whole = [e for e in recordings[dialect].of(op) if e.got is not None]
    assert whole
    for exchange in whole:
        assert set(openai_problems("CreateChatCompletionResponse", exchange.got)) <= {NO_REFUSAL}
        body = {"model": "served by its address", **exchange.sent}
        assert not openai_problems("CreateChatCompletionRequest", body)


def test_job_bodies_match_openai_plus_training_type(recordings: dict[str, Recorder]) -> None:
    for exchange in recordings["foundry"].of("fine_tuning.create"):
        body = dict(exchange.sent)
        assert body.pop("trainingType") == "GlobalStandard"
        assert not openai_problems("CreateFineTuningJobRequest", body)
        schema = openai_document()["components"]["schemas"]["CreateFineTuningJobRequest"]
        assert set(body) <= set(schema["properties"])


AZURE_ONLY = {"files.import", "fine_tuning.copy", "fine_tuning.copy_status", "fine_tuning.delete",
              "foundry_chat.deployment"}  # fmt: skip
"""Operations that OpenAI does not have (docs/azure-http.md section 4.2)."""


def test_paths_match_openai() -> None:
    paths = {_plain(path): set(rows) for path, rows in openai_document()["paths"].items()}
    for op in (*foundry.OPERATIONS, *foundry.DATED_OPERATIONS):
        official_methods = paths.get(_plain(op.path.removeprefix("/v1")), set())
        assert op.method.lower() in official_methods or op.name in AZURE_ONLY, op.name


def _operations() -> list[dict[str, Any]]:
    path = SPECS / "azureml-arm-operations.extract.json"
    return list(json.loads(path.read_text())["operations"])


def _plain(path: str) -> str:
    """Return a path template in lower case without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path).lower()


def test_paths_and_status_codes_match_official_client() -> None:
    official = {(o["method"], _plain(o["path"])): o for o in _operations()}
    arm = [
        op for op in azureml.OPERATIONS if op.plane.value == "arm" and "OperationS" not in op.path
    ]
    observed = 0
    for op in arm:
        official_operation = official.get((op.method, _plain(op.path)))
        if official_operation is None:
            assert op.name in ("operations.status", "operations.result"), op.name
            continue
        observed += 1
        assert set(official_operation["ok"]) <= set(op.ok), op.name
    assert observed > 20


def test_responses_have_codes_and_headers_of_official_client(
    recordings: dict[str, Recorder],
) -> None:
    official = {(o["method"], _plain(o["path"])): o for o in _operations()}
    by_name = {op.name: op for op in azureml.OPERATIONS}
    observed = 0
    for exchange in recordings["azureml"].exchanges:
        op = by_name.get(exchange.op)
        official_operation = op and official.get((op.method, _plain(op.path)))
        if not official_operation or exchange.status == 404:
            continue
        observed += 1
        assert exchange.status in official_operation["ok"], (exchange.op, exchange.status)
        if exchange.status == 202:
            assert set(map(str.lower, official_operation["response_headers"])) <= set(
                exchange.headers
            ), exchange.op
    assert observed > 10


LINE = re.compile(r"^(GET|PUT|POST|PATCH|DELETE|HEAD) (https://([^/]+)(/[^? ]*)(?:\?(\S*))?)")


@pytest.mark.parametrize(
    "name",
    ["recorded-azure-ai-ml-1.35.2-traffic.txt", "recorded-openai-and-inference-traffic.txt"],
)
def test_recorded_requests_match_a_route(name: str) -> None:
    from maas_client.local.http import hosts

    unknown = []
    for line in (SPECS / name).read_text().splitlines():
        match = LINE.match(line)
        if not match or "/operationsStatus/" in line or "/x/poll1" in line:
            continue  # URLs invented by the fake server of the recording
        method, _, host, path, query = match.groups()
        prefix = hosts.path_prefix(host)
        assert prefix is not None, host
        prefix = "/maaslocal" if ".blob." in host else prefix
        request_line = dict(pair.partition("=")[::2] for pair in (query or "").split("&"))
        location = prefix + path.replace("/api/projects/p", "")
        names = {
            name_of(method, location, request_line),
            name_of(method, _v1(location), request_line),
        }
        if names == {"unknown"}:
            unknown.append((method, location))
    assert not unknown


def _v1(path: str) -> str:
    """Return the path of a dated operation: that of v1 without ``/v1``."""
    return path.replace("/openai/", "/openai/v1/", 1)
