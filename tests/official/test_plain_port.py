"""Official clients that use a key or a SAS need neither proxy nor certificate."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from maas_client import Client
from tests.contract.server.conftest import PLAIN_HTTP
from tests.official.conftest import ServerProcess, training_rows


@pytest.fixture(scope="module")
def endpoint(
    server_process: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """URL and key of a serverless endpoint that our client created."""
    data = tmp_path_factory.mktemp("plain") / "train.jsonl"
    data.write_bytes(training_rows())
    with Client.local(url=server_process.url) as client:
        created = client.fine_tune(data, model="Phi-3-mini-4k-instruct", deploy="plain").deployment
        assert created is not None
        assert created.url is not None
        return created.url, client.deployments.keys("plain").secondary.get_secret_value()


def test_azure_ai_inference(endpoint: tuple[str, str]) -> None:
    from azure.ai.inference import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential

    url, key = endpoint
    messages = [{"role": "user", "content": "what is 3 plus 3?"}]
    with ChatCompletionsClient(url, AzureKeyCredential(key)) as client:
        assert "6" in client.complete({"messages": messages}).choices[0].message.content
        chunks = client.complete({"messages": messages, "stream": True})
        assert "6" in "".join(p.choices[0].delta.content or "" for p in chunks if p.choices)
        assert client.get_model_info().model_type == "chat-completion"


async def test_azure_ai_inference_async(endpoint: tuple[str, str]) -> None:
    from azure.ai.inference.aio import ChatCompletionsClient
    from azure.core.credentials import AzureKeyCredential
    from azure.core.pipeline.transport import AsyncioRequestsTransport

    url, key = endpoint
    wire = AsyncioRequestsTransport()  # its default transport needs aiohttp
    messages = [{"role": "user", "content": "what is 3 plus 3?"}]
    async with ChatCompletionsClient(url, AzureKeyCredential(key), transport=wire) as client:
        reply = await client.complete({"messages": messages})
        assert "6" in reply.choices[0].message.content
        chunks = await client.complete({"messages": messages, "stream": True})
        assert "6" in "".join([p.choices[0].delta.content or "" async for p in chunks if p.choices])


def test_openai_on_endpoint(endpoint: tuple[str, str]) -> None:
    url, key = endpoint
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
        (model,) = client.models.list()
        messages = [{"role": "user", "content": "what is 3 plus 3?"}]
        reply = client.chat.completions.create(model=model.id, messages=messages)
        assert "6" in (reply.choices[0].message.content or "")


def test_azure_storage_blob(server_process: ServerProcess, tmp_path: Path) -> None:
    import httpx
    from azure.storage.blob import BlobClient

    ws = (
        "/subscriptions/s/resourceGroups/r/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    query = {"api-version": "2024-10-01-preview"}
    auth = {"Authorization": "Bearer t"}
    with httpx.Client(
        base_url=server_process.url, params=query, headers=auth, **PLAIN_HTTP
    ) as http:
        store = http.get(f"{ws}/datastores/workspaceblobstore").json()["properties"]
        secret = http.post(f"{ws}/datastores/workspaceblobstore/listSecrets", json={}).json()
    account = f"{server_process.url}/{store['accountName']}"
    with BlobClient(account, store["containerName"], "a/b", credential=secret["sasToken"]) as blob:
        blob.upload_blob(training_rows())
        assert blob.download_blob().readall() == training_rows()
        blob.delete_blob()
        assert not blob.exists()
