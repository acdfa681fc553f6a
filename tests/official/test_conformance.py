"""Our client's requests and our server's answers, held to the shapes that Microsoft and OpenAI publish.

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
from tests.official.conftest import rows
from tests.official.recorder import Exchange, Recorder, name_of, road
from tests.official.schemas import SPECS, Bicep, openai_document, openai_problems
from tests.shared_data import needs_shared_data

pytestmark = needs_shared_data

ML = "Microsoft.MachineLearningServices/workspaces"
AI = "Microsoft.CognitiveServices/accounts"


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Recorder]]:
    folder = tmp_path_factory.mktemp("roads")
    data = folder / "train.jsonl"
    data.write_bytes(rows())
    (folder / "val.jsonl").write_bytes(rows(5))
    with serve(engine="instant") as server:
        yield {
            "azureml": road(server, "azureml", data),
            "foundry": road(server, "foundry", data),
        }


@pytest.fixture(scope="module")
def ml() -> Bicep:
    return Bicep("machinelearningservices-2024-10-01-preview")


@pytest.fixture(scope="module")
def ai() -> Bicep:
    return Bicep("cognitiveservices-2026-07-01")


def test_every_request_is_an_operation_of_the_treaty(roads: dict[str, Recorder]) -> None:
    for recorder in roads.values():
        assert not [(e.method, e.path) for e in recorder.heard if e.op == "unknown"]


OWN = {
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


@pytest.mark.parametrize(("op", "kind"), OWN.values(), ids=OWN)
def test_arm_bodies_of_azure_ml(roads: dict[str, Recorder], ml: Bicep, op: str, kind: str) -> None:
    exchanges = [e for e in roads["azureml"].of(op) if e.status < 300]
    assert exchanges
    for one in exchanges:
        _hold(ml, kind, one)


def _hold(bicep: Bicep, kind: str, one: Exchange) -> None:
    rule = bicep.resource(kind)
    if one.sent is not None:
        assert not list(bicep.problems(rule, one.sent, request=True))
    assert not list(bicep.problems(rule, one.got, request=False))


@pytest.mark.parametrize("op", ["deployments.create", "deployments.get"])
def test_arm_bodies_of_cognitive_services(roads: dict[str, Recorder], ai: Bicep, op: str) -> None:
    exchanges = [e for e in roads["foundry"].of(op) if e.status < 300]
    assert exchanges
    for one in exchanges:
        _hold(ai, f"{AI}/deployments", one)


@pytest.mark.parametrize(
    ("op", "kind", "name"),
    [
        ("datastores.secrets", f"{ML}/datastores", "listSecrets"),
        ("endpoints.keys", f"{ML}/serverlessEndpoints", "listKeys"),
    ],
)
def test_functions_of_azure_ml(
    roads: dict[str, Recorder], ml: Bicep, op: str, kind: str, name: str
) -> None:
    (one, *_) = roads["azureml"].of(op)
    if one.sent:
        rule = ml.function(kind, name, "input")
        assert not list(ml.problems(rule, one.sent, request=True))
    assert not list(ml.problems(ml.function(kind, name, "output"), one.got, request=False))


def test_account_keys(roads: dict[str, Recorder], ai: Bicep) -> None:
    (one, *_) = roads["foundry"].of("accounts.keys")
    assert not list(ai.problems(ai.function(AI, "listKeys", "output"), one.got, request=False))


HARM: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Poetry": lambda p: p["fineTuningDetails"].update(modelProvider="Poetry"),
    "is no str": lambda p: p["fineTuningDetails"].update(hyperParameters={"num_train_epochs": 3}),
    "trainingData: is missing": lambda p: p["fineTuningDetails"].pop("trainingData"),
    "status: is read-only": lambda p: p.update(status="Completed"),
    "colour: nobody knows it": lambda p: p.update(colour=1),
}


@pytest.mark.parametrize("told", HARM)
def test_the_checker_finds_what_is_wrong(roads: dict[str, Recorder], ml: Bicep, told: str) -> None:
    sent = json.loads(json.dumps(roads["azureml"].of("jobs.create")[0].sent))
    HARM[told](sent["properties"])
    found = list(ml.problems(ml.resource(f"{ML}/jobs"), sent, request=True))
    assert any(told in problem for problem in found), found


AZURE_SAYS = {
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
"""Where Azure itself leaves OpenAI's schema (docs/azure-http.md section 4.5), and we with it."""

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
def test_openai_shapes(roads: dict[str, Recorder], op: str) -> None:
    exchanges = roads["foundry"].of(op)
    assert exchanges
    for one in exchanges:
        found = openai_problems(SHAPES[op], one.got)
        assert not [p for p in found if not any(_same(p, known) for known in AZURE_SAYS)]


def _same(problem: str, known: str) -> bool:
    """Compare without the place in a list."""
    return re.sub(r"^/data/\d+", "", problem).startswith(known)


NO_REFUSAL = "/choices/0/message: 'refusal' is a required property"
"""Model Inference knows no such field (docs/azure-http.md section 5.2)."""


@pytest.mark.parametrize(
    ("dialect", "op"), [("azureml", "chat.complete"), ("foundry", "foundry_chat.complete")]
)
def test_chat_shapes(roads: dict[str, Recorder], dialect: str, op: str) -> None:
    whole = [e for e in roads[dialect].of(op) if e.got is not None]
    assert whole
    for one in whole:
        assert set(openai_problems("CreateChatCompletionResponse", one.got)) <= {NO_REFUSAL}
        sent = {"model": "served by its address", **one.sent}
        assert not openai_problems("CreateChatCompletionRequest", sent)


def test_job_bodies_are_openais_with_azures_tier(roads: dict[str, Recorder]) -> None:
    for one in roads["foundry"].of("fine_tuning.create"):
        sent = dict(one.sent)
        assert sent.pop("trainingType") == "globalStandard"
        assert not openai_problems("CreateFineTuningJobRequest", sent)
        schema = openai_document()["components"]["schemas"]["CreateFineTuningJobRequest"]
        assert set(sent) <= set(schema["properties"])


AZURES_OWN = {"files.import", "fine_tuning.copy", "fine_tuning.copy_status", "fine_tuning.delete",
              "foundry_chat.deployment"}  # fmt: skip
"""Operations that OpenAI does not have (docs/azure-http.md section 4.2)."""


def test_paths_are_openais() -> None:
    paths = {_plain(path): set(rows) for path, rows in openai_document()["paths"].items()}
    for op in (*foundry.OPERATIONS, *foundry.DATED_OPERATIONS):
        known = paths.get(_plain(op.path.removeprefix("/v1")), set())
        assert op.method.lower() in known or op.name in AZURES_OWN, op.name


def _operations() -> list[dict[str, Any]]:
    path = SPECS / "azureml-arm-operations.extract.json"
    return list(json.loads(path.read_text())["operations"])


def _plain(path: str) -> str:
    """Return a path template without the names of its fields, in lower case."""
    return re.sub(r"\{[^}]*\}", "{}", path).lower()


def test_paths_and_codes_are_those_of_the_official_client() -> None:
    official = {(o["method"], _plain(o["path"])): o for o in _operations()}
    arm = [
        op for op in azureml.OPERATIONS if op.plane.value == "arm" and "OperationS" not in op.path
    ]
    seen = 0
    for op in arm:
        known = official.get((op.method, _plain(op.path)))
        if known is None:
            assert op.name in ("operations.status", "operations.result"), op.name
            continue
        seen += 1
        assert set(known["ok"]) <= set(op.ok), op.name
    assert seen > 20


def test_answers_carry_the_codes_and_headers_of_the_official_client(
    roads: dict[str, Recorder],
) -> None:
    official = {(o["method"], _plain(o["path"])): o for o in _operations()}
    by_name = {op.name: op for op in azureml.OPERATIONS}
    seen = 0
    for one in roads["azureml"].heard:
        op = by_name.get(one.op)
        known = op and official.get((op.method, _plain(op.path)))
        if not known or one.status == 404:
            continue
        seen += 1
        assert one.status in known["ok"], (one.op, one.status)
        if one.status == 202:
            assert set(map(str.lower, known["response_headers"])) <= set(one.headers), one.op
    assert seen > 10


LINE = re.compile(r"^(GET|PUT|POST|PATCH|DELETE|HEAD) (https://([^/]+)(/[^? ]*)(?:\?(\S*))?)")


@pytest.mark.parametrize(
    "name",
    ["recorded-azure-ai-ml-1.35.2-traffic.txt", "recorded-openai-and-inference-traffic.txt"],
)
def test_recorded_requests_of_official_clients_find_a_route(name: str) -> None:
    from maas_client.local.http import hosts

    unknown = []
    for line in (SPECS / name).read_text().splitlines():
        match = LINE.match(line)
        if not match or "/operationsStatus/" in line or "/x/poll1" in line:
            continue  # addresses that the recording's own fake made up
        method, _, host, path, query = match.groups()
        lead = hosts.path_prefix(host)
        assert lead is not None, host
        lead = "/maaslocal" if ".blob." in host else lead
        said = dict(pair.partition("=")[::2] for pair in (query or "").split("&"))
        where = lead + path.replace("/api/projects/p", "")
        names = {name_of(method, where, said), name_of(method, _v1(where), said)}
        if names == {"unknown"}:
            unknown.append((method, where))
    assert not unknown


def _v1(path: str) -> str:
    """The dated operations are the v1 ones without ``/v1``."""
    return path.replace("/openai/", "/openai/v1/", 1)
