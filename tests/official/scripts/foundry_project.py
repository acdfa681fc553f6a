"""azure-ai-projects, unmodified: deployments, connections and datasets of a Foundry project."""

import re
import sys
import tempfile
from pathlib import Path

import pytest
from azure.ai.projects import AIProjectClient  # noqa: TID253 - an application's own script
from azure.ai.projects.models import (  # noqa: TID253 - as above
    ConnectionType,
    DatasetVersion,
    FileDatasetVersion,
)
from azure.core.exceptions import (  # noqa: TID253 - as above
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.core.rest import HttpRequest  # noqa: TID253 - as above
from azure.identity import DefaultAzureCredential  # noqa: TID253 - as above
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient  # noqa: TID253 - as above
from azure.storage.blob import ContainerClient  # noqa: TID253 - as above

TRAIN = Path(sys.argv[1])
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
credential = DefaultAzureCredential()
project = AIProjectClient("https://proj-acc.services.ai.azure.com/api/projects/one", credential)
accounts = CognitiveServicesManagementClient(credential, SUBSCRIPTION)


def deployments() -> None:
    """List deployments with every filter."""
    model = {"format": "Mistral AI", "name": "Ministral-3B", "version": "1"}
    body = {"sku": {"name": "GlobalStandard", "capacity": 5}, "properties": {"model": model}}
    poller = accounts.deployments.begin_create_or_update(
        "rg1", "proj-acc", "listed", body, polling_interval=0.1
    )
    assert poller.result().name == "listed"
    found = project.deployments.get("listed")
    assert (found.model_name, found.model_publisher, found.sku.capacity) == (
        "Ministral-3B", "Mistral AI", 5)  # fmt: skip
    by_publisher = project.deployments.list(model_publisher="Mistral AI", model_name="Ministral-3B")
    assert "listed" in [d.name for d in by_publisher]
    assert not list(project.deployments.list(model_publisher="none"))
    assert list(project.deployments.list(deployment_type="ModelDeployment"))
    with pytest.raises(ResourceNotFoundError) as missing:
        project.deployments.get("none")
    assert missing.value.error.code == "ResourceNotFound"


def connections() -> None:
    """List connections; only one request returns a key."""
    default = project.connections.get_default(
        ConnectionType.AZURE_OPEN_AI, include_credentials=True
    )
    assert default.credentials.api_key == accounts.accounts.list_keys("rg1", "proj-acc").key1
    assert project.connections.get(default.name).credentials.get("key") is None
    storage = project.connections.list(connection_type=ConnectionType.AZURE_STORAGE_ACCOUNT)
    assert [c.target for c in storage] == ["https://maaslocal.blob.core.windows.net/"]
    assert len(list(project.connections.list())) == 2
    assert not list(project.connections.list(connection_type="CosmosDB"))
    with pytest.raises(ResourceNotFoundError):
        project.connections.get("none")
    with pytest.raises(ValueError, match="No default connection"):
        project.connections.get_default("CosmosDB")


def datasets() -> None:
    """Upload a file and a folder, read them back, change, list and delete them."""
    created = project.datasets.upload_file(name="Chats", version="1", file_path=str(TRAIN))
    assert created.id.endswith("/projects/one/data/Chats/versions/1")
    assert created.type == "uri_file"
    project.datasets.upload_file(
        name="Chats", version="2", file_path=str(TRAIN), connection_name="maaslocal"
    )
    folder = Path(tempfile.mkdtemp())
    for name in ("a.jsonl", "sub/b.jsonl", "c.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(TRAIN.read_bytes())
    made = project.datasets.upload_folder(
        name="folder", version="1", folder=str(folder), file_pattern=re.compile(r"\.jsonl$")
    )
    assert made.type == "uri_folder"
    assert [d.version for d in project.datasets.list_versions("chats")] == ["2", "1"]
    assert {(d.name, d.version) for d in project.datasets.list()} >= {
        ("Chats", "2"),
        ("folder", "1"),
    }

    sas = project.datasets.get_credentials("folder", "1").blob_reference.credential.sas_uri
    with ContainerClient.from_container_url(sas) as container:
        assert [b.name for b in container.list_blobs()] == ["a.jsonl", "sub/b.jsonl"]
        assert container.download_blob("sub/b.jsonl").readall() == TRAIN.read_bytes()
        with pytest.raises(HttpResponseError) as refused:
            container.upload_blob("more", b"x")
        assert refused.value.status_code == 403

    changed = project.datasets.create_or_update(
        "Chats", "1", {"type": "uri_file", "description": "d", "tags": {"a": "b"}}
    )
    assert changed.data_uri == created.data_uri
    again = project.datasets.get("Chats", "1")
    assert (again["description"], again["tags"]) == ("d", {"a": "b"})
    with pytest.raises(ResourceExistsError):
        project.datasets.create_or_update(
            "Chats", "1", FileDatasetVersion(data_uri="https://maaslocal.blob.core.windows.net/x/y")
        )
    for wrong in ("https://example.org/train.jsonl", "https://maaslocal.blob.core.windows.net/x/y"):
        with pytest.raises(HttpResponseError, match="dataUri"):
            project.datasets.create_or_update("other", "1", FileDatasetVersion(data_uri=wrong))
    with pytest.raises(ResourceNotFoundError):
        project.datasets.upload_file(
            name="other", version="1", file_path=str(TRAIN), connection_name="none"
        )
    with pytest.raises(HttpResponseError, match="whatElse") as unknown:
        project.datasets.create_or_update("Chats", "1", {"whatElse": 1})
    assert unknown.value.status_code == 501
    with pytest.raises(ResourceExistsError):
        project.datasets.upload_file(name="Chats", version="1", file_path=str(TRAIN))
    import_to_files(project.datasets.get("Chats", "1"))

    project.datasets.delete("Chats", "1")
    project.datasets.delete("Chats", "1")
    with pytest.raises(ResourceNotFoundError):
        project.datasets.get("Chats", "1")
    assert [d.version for d in project.datasets.list_versions("Chats")] == ["2"]


def import_to_files(dataset: DatasetVersion) -> None:
    """Import a dataset as a training file; a URL without a valid SAS is refused."""
    sas = project.datasets.get_credentials(
        dataset.name, dataset.version
    ).blob_reference.credential.sas_uri
    url = f"{dataset.data_uri}?{sas.partition('?')[2]}"
    endpoint = (
        "https://proj-acc.openai.azure.com/openai/files/import?api-version=2025-04-01-preview"
    )

    def post(content_url: str) -> object:
        body = {"purpose": "fine-tune", "filename": "chats.jsonl", "content_url": content_url}
        return project.send_request(HttpRequest("POST", endpoint, json=body))

    imported = post(url)
    assert imported.status_code == 201, imported.text()
    assert imported.json()["bytes"] == TRAIN.stat().st_size
    for refused in (url.replace("sp=rl", "sp=w"), dataset.data_uri, "https://example.org/a.jsonl"):
        assert post(refused).json()["error"]["code"] == "fileImportFailed"


def absent() -> None:
    """Other groups are refused by name, and unknown parameters too."""
    for refused in (
        lambda: list(project.indexes.list()),
        lambda: list(project.agents.list()),
        lambda: project.datasets.list(headers={"If-Match": "x"}).next(),
    ):
        with pytest.raises(HttpResponseError) as error:
            refused()
        assert (error.value.status_code, error.value.error.code) == (501, "NotImplemented")
    assert list(accounts.projects.list("rg1", "proj-acc")) == []
    assert accounts.projects.get("rg1", "proj-acc", "one").name == "proj-acc/one"
    assert [p.name for p in accounts.projects.list("rg1", "proj-acc")] == ["proj-acc/one"]
    assert "proj-acc" in [a.name for a in accounts.accounts.list_by_resource_group("rg1")]
    assert accounts.accounts.list_skus("rg1", "proj-acc").value
    assert [s.name for s in accounts.resource_skus.list()] == ["S0"]


for act in (deployments, connections, datasets, absent):
    act()
print("answered")
