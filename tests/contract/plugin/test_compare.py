"""Recording of exchanges without secrets, and their comparison with the local server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer
from maas_client.testing import compare

SUBSCRIPTION = "c0ffee00-1234-5678-9abc-def012345678"


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    question = {"role": "user", "content": "canary question"}
    answer = {"role": "assistant", "content": "canary answer"}
    return [{"messages": [question, answer]}] * 12


def record_azureml(http: Any, rows: list[dict[str, Any]]) -> None:
    workspace = {"resource_group": "canary-group", "workspace": "canary-space"}
    with maas.Client.azureml(subscription_id=SUBSCRIPTION, **workspace, http=http) as client:
        result = client.fine_tune(rows, "Phi-4-mini-instruct", deploy="canary-name")
        client.chat.complete(result.deployment, [{"role": "user", "content": "canary question"}])
        list(client.jobs.list())
        client.deployments.keys("canary-name")
        with pytest.raises(maas.NotFoundError):
            client.jobs.get("canary-name-of-none")


def record_foundry(http: Any, rows: list[dict[str, Any]]) -> None:
    endpoint = "https://canary-space.openai.azure.com"
    account = (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/canary-group"
        "/providers/Microsoft.CognitiveServices/accounts/canary-space"
    )
    with maas.Client.foundry(
        endpoint=endpoint, api_key="canary-key", account_id=account, http=http
    ) as client:
        job = client.jobs.wait(client.jobs.create("gpt-4.1-mini", training_data=rows))
        list(client.jobs.events(job))
        list(client.jobs.checkpoints(job))


@pytest.fixture
def http_options(maas_server: LocalServer) -> dict[str, Any]:
    import ssl

    file = maas_server.environment["SSL_CERT_FILE"]
    return {"verify": ssl.create_default_context(cafile=file)}


@pytest.mark.maas_environment("azure")
@pytest.mark.parametrize("record", [record_azureml, record_foundry])
def test_cassette_has_no_secrets_and_replays(
    maas_server: LocalServer,
    tmp_path: Path,
    rows: list[dict[str, Any]],
    http_options: dict[str, Any],
    record: Callable[[Any, list[dict[str, Any]]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "cassette.json"
    with compare.Recorder(path) as recorder:
        record(recorder.client(**http_options), rows)
    text = path.read_text()
    secrets = [SUBSCRIPTION, "canary", "sig", "Bearer", "eyJ", maas_server.url]
    assert [s for s in secrets if s.casefold() in text.casefold()] == []
    for label in maas_server.requests:
        assert label.operation
    assert compare.compare(path) == []
    assert compare.main([str(path)]) == 0
    assert capsys.readouterr().out == "no differences\n"

    cassette = json.loads(text)
    answers = [e["response"] for e in cassette["exchanges"] if isinstance(e["response"], dict)]
    answer, first = next(
        (answer, k) for answer in answers for k, v in answer.items() if isinstance(v, str)
    )
    answer |= {"only_on_azure": 1, first: {"other": "type"}}
    cassette["exchanges"][-1]["status"] = 418
    path.write_text(json.dumps(cassette))
    differences = "\n".join(compare.compare(path))
    assert "only_on_azure only on Azure" in differences
    assert f"body.{first} is an object on Azure" in differences
    assert "status 418 on Azure" in differences
    assert compare.main([str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)


@pytest.mark.maas_environment("azure")
async def test_async_client_is_recorded(
    maas_server: LocalServer, tmp_path: Path, http_options: dict[str, Any]
) -> None:
    path = tmp_path / "cassette.json"
    with compare.Recorder(path) as recorder:
        async with (
            recorder.async_client(**http_options) as http,
            maas.AsyncClient.azureml(
                subscription_id=SUBSCRIPTION, resource_group="g", workspace="w", http=http
            ) as client,
        ):
            assert [job async for job in client.jobs.list()] == []
    assert compare.compare(path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{", "not JSON"), ("[" * 50_000, "not JSON"),
     ("[]", "no cassette"), ('{"exchanges": [{}]}', "no cassette"),
     ('{"version": 9, "exchanges": []}', "another version")],
)  # fmt: skip
def test_files_that_are_no_cassettes(
    tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cassette.json"
    if text is not None:
        path.write_text(text)
    assert compare.main([str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "secret",
    ["https://acct.blob.core.windows.net/c/b?sv=2024-11-04&sr=c&sig=aB%2Fc%3D",
     "Bearer eyJ0eXAi.eyJhdWQi.c2ln", "AccountKey=aGVsbG8/d29ybGQ=;EndpointSuffix=x",
     SUBSCRIPTION.upper(), "someone@example.com", "sk-live-123456"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["uri", "value", "anything", "error"])
def test_scrubber_leaves_no_piece_of_a_secret(secret: str, field: str) -> None:
    scrubbed = json.dumps(compare.Scrubber().value({field: secret, "tags": {secret: secret}}))
    for piece in (
        "acct",
        "aB",
        "eyJ",
        "aGVsbG8",
        "d29ybGQ",
        "c0ffee",
        "C0FFEE",
        "someone",
        "live",
        "123456",
    ):
        assert piece not in scrubbed
