"""Wrong settings are errors of this library that say what is wrong, before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maas_client import AsyncClient, Client, errors
from tests.unit.transport.conftest import ScriptedServer, http_response

INVALID = [
    "http://[::1",
    "http://::1:8765",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:x",
    "http://127.0.0.1:0",
    "http://",
    "127.0.0.1:8765",
    "http://user:CANARY@127.0.0.1:8765",
    "http://127.0.0.1:8765/path",
    "http://127.0.0.1:8765?x",
    "http://a b",
    "http://evil.example\\@127.0.0.1",
    "http://127.0.0.1\t:1",
    "ftp://127.0.0.1",
    "http://[::1]extra",
]


@pytest.mark.parametrize("url", INVALID)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_invalid_url_of_a_local_server_is_a_config_error(
    url: str, kind: type[Client] | type[AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_URL", url)
    monkeypatch.setenv("MAAS_API_KEY", "key")
    with pytest.raises(errors.ConfigError, match="not the address of a server") as caught:
        kind.from_env()
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://[::1]:8765", "http://localhost", "HTTP://127.0.0.1:1/"])
def test_valid_url_of_a_local_server(url: str) -> None:
    Client.local(url=url).close()


@pytest.mark.parametrize(
    "url", ["https://[", "https://user:CANARY@x", "x", "https://", "https://a:b"]
)
def test_invalid_foundry_endpoint_is_a_config_error(url: str) -> None:
    with pytest.raises(errors.ConfigError, match="is not an address") as caught:
        Client.foundry(endpoint=url, api_key="key")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("k\n", "line break"),
        ("k\r\nx: y", "line break"),
        ("clé", "ASCII"),
        ("a b", "space"),
        ("\x00", "ASCII"),
    ],
)
def test_key_that_cannot_be_a_header_is_a_config_error(key: str, reason: str) -> None:
    with pytest.raises(errors.ConfigError, match=reason):
        Client.local(api_key=key)
    with pytest.raises(errors.ConfigError, match=reason):
        AsyncClient.foundry(endpoint="https://x.openai.azure.com", api_key=key)


@pytest.mark.parametrize(
    "body",
    [
        b"[",
        b"[]",
        b"{}",
        b'[{"resourceManager": "https://["}]',
        b"3",
        b'"x"',
        b"[" * 100_000,
        (
            b'{"resourceManager": "https://arm", "authentication": {"loginEndpoint": "https://login"},'
            b' "suffixes": 3}'
        ),
    ],
)
def test_invalid_cloud_metadata_is_a_config_error(
    server: ScriptedServer, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [http_response(200, body)]
    monkeypatch.setenv("ARM_CLOUD_METADATA_URL", f"{server.url}/metadata")
    with pytest.raises(errors.ConfigError, match="cloud metadata"):
        Client.foundry(endpoint="https://x.openai.azure.com", api_key="key")


@pytest.mark.parametrize("url", ["http://[::1", "x", "http://127.0.0.1:1/x?sig=CANARY"])
def test_unreachable_cloud_metadata_is_a_config_error(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARM_CLOUD_METADATA_URL", url)
    with pytest.raises(errors.ConfigError, match="ARM_CLOUD_METADATA_URL") as caught:
        Client.foundry(endpoint="https://x.openai.azure.com", api_key="key")
    assert "CANARY" not in str(caught.value)


@pytest.fixture
def deleted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return folder


@pytest.mark.usefixtures("deleted_folder")
def test_deleted_working_directory_is_a_config_error() -> None:
    with pytest.raises(errors.ConfigError, match="working directory was deleted"):
        Client.azureml()
    Client.azureml(subscription_id="s", resource_group="g", workspace="w").close()
    Client.local().close()


@pytest.mark.usefixtures("deleted_folder")
def test_upload_from_a_deleted_working_directory_is_an_error_of_this_library(
    server: ScriptedServer,
) -> None:
    server.script = [http_response(404)]
    with Client.local(url=server.url) as client:
        with pytest.raises(errors.MaasError, match="the working directory was deleted"):
            client.datasets.upload("train.jsonl")
        with pytest.raises(errors.MaasError):
            client.models.upload("weights", base_model="phi-4")
        with pytest.raises(errors.MaasError):
            client.jobs.create(model="Phi-4-mini-instruct", training_data="train.jsonl")
    assert not os.path.exists("train.jsonl")


WORKSPACE = {"subscription_id": "s", "resource_group": "g", "workspace": "w"}
RESOURCE_ID = (
    "/subscriptions/S/resourceGroups/G/providers/Microsoft.MachineLearningServices/workspaces/W"
)


@pytest.mark.parametrize(
    "arguments",
    [
        {"resource_id": RESOURCE_ID, "workspace": "w"},
        {"resource_id": RESOURCE_ID, "config": "config.json"},
        {**WORKSPACE, "config": "config.json"},
    ],
)
def test_workspace_given_twice_is_a_config_error(arguments: dict[str, str]) -> None:
    with pytest.raises(errors.ConfigError, match="the workspace is given twice"):
        Client.azureml(**arguments)  # type: ignore[arg-type]  # names and values vary


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({}, "no subscription, resource group or workspace is given"),
        ({"subscription_id": "s"}, "no resource group or workspace is given"),
        ({"subscription_id": "s", "resource_group": "g"}, "no workspace is given"),
    ],
)
def test_missing_part_of_a_workspace_is_named(arguments: dict[str, str], missing: str) -> None:
    with pytest.raises(errors.ConfigError, match=missing):
        Client.azureml(**arguments)  # type: ignore[arg-type]  # names vary


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_client_without_a_constructor_names_the_constructors(
    kind: type[Client] | type[AsyncClient],
) -> None:
    with pytest.raises(errors.ConfigError, match=r"Use Client\.local\(\), .*Client\.from_env\(\)"):
        kind()


def test_config_file_counts_more_than_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"subscription_id": "S", "resource_group": "G", "workspace_name": "W"}')
    monkeypatch.setenv("MAAS_RESOURCE_ID", RESOURCE_ID.replace("/W", "/other"))
    monkeypatch.setenv("MAAS_WORKSPACE", "other")
    with Client.azureml(config=path) as client:
        assert "W" in repr(client)
    with Client.azureml(config=path, workspace="w") as client:
        assert "azureml w" in repr(client)
