"""From a file to a chat on a Foundry resource, with Microsoft's and OpenAI's clients only, as written for
the cloud: nothing here knows of a local server."""

import asyncio
import sys
import time

import openai
import pytest
from azure.identity import (  # noqa: TID253 - an application's own script
    ClientSecretCredential,
    get_bearer_token_provider,
)
from azure.mgmt.cognitiveservices import (  # noqa: TID253 - as above
    CognitiveServicesManagementClient,
)
from azure.mgmt.cognitiveservices.models import (  # noqa: TID253 - as above
    Deployment,
    DeploymentModel,
    DeploymentProperties,
    Sku,
)

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
ACCOUNT = ("rg1", "contoso")
ASKED = [{"role": "user", "content": "what is 3 plus 3?"}]

credential = ClientSecretCredential(TENANT, "an-application", "a-secret")
tokens = get_bearer_token_provider(credential, "https://cognitiveservices.azure.com/.default")
azure = openai.AzureOpenAI(
    azure_endpoint="https://contoso.openai.azure.com",
    azure_ad_token_provider=tokens,
    api_version="2025-04-01-preview",
)
v1 = openai.OpenAI(base_url="https://contoso.services.ai.azure.com/openai/v1/", api_key="K")
management = CognitiveServicesManagementClient(credential, SUBSCRIPTION)


def train(path: str) -> str:
    """Upload, create the job, wait, return the model's name."""
    with open(path, "rb") as data:
        file = azure.files.create(file=data, purpose="fine-tune")
    azure.files.wait_for_processing(file.id, poll_interval=0.1)
    job = azure.fine_tuning.jobs.create(
        model="gpt-oss-20b",
        training_file=file.id,
        suffix="road",
        hyperparameters={"n_epochs": 3},
        extra_body={"trainingType": "globalStandard"},
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.1)
        job = azure.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    return job.fine_tuned_model


def deploy(model: str, name: str) -> None:
    """Create the deployment through ARM and look at it in every way the client offers."""
    wanted = Deployment(
        sku=Sku(name="GlobalStandard", capacity=100),
        properties=DeploymentProperties(
            model=DeploymentModel(format="Microsoft", name=model, version="1")
        ),
    )
    made = management.deployments.begin_create_or_update(*ACCOUNT, name, wanted).result()
    assert made.properties.provisioning_state == "Succeeded"
    assert made.properties.model.name == model
    assert made.sku.capacity == 100
    assert name in [d.name for d in management.deployments.list(*ACCOUNT)]
    assert management.deployments.get(*ACCOUNT, name).id == made.id
    assert "GlobalStandard" in [
        s.sku.name for s in management.deployments.list_skus(*ACCOUNT, name)
    ]
    account = management.accounts.get(*ACCOUNT)
    assert account.kind == "AIServices"
    assert management.accounts.list_keys(*ACCOUNT).key1
    assert "gpt-oss-20b" in [m.name for m in management.accounts.list_models(*ACCOUNT)]


def wrong_format(model: str) -> None:
    """Another provider's word for the format is refused."""
    from azure.core.exceptions import HttpResponseError

    wanted = Deployment(
        properties=DeploymentProperties(model=DeploymentModel(format="OpenAI", name=model))
    )
    with pytest.raises(HttpResponseError) as refused:
        management.deployments.begin_create_or_update(*ACCOUNT, "wrong", wanted)
    assert refused.value.error.code == "DeploymentModelNotSupported"


def chat(name: str) -> None:
    """Whole answers and streams, through both clients and both addresses."""
    for client in (v1, azure):
        reply = client.chat.completions.create(model=name, messages=ASKED)
        assert "6" in reply.choices[0].message.content, reply
        assert reply.usage.total_tokens > 0
        chunks = list(client.chat.completions.create(model=name, messages=ASKED, stream=True))
        assert not chunks[0].choices  # Azure's first chunk has none
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert said == reply.choices[0].message.content
        assert chunks[-1].choices[0].finish_reason == "stop"
    with pytest.raises(openai.NotFoundError) as missing:
        v1.chat.completions.create(model="nobody", messages=ASKED)
    assert missing.value.code == "DeploymentNotFound"
    with pytest.raises(openai.BadRequestError) as refused:
        v1.chat.completions.create(model=name, messages=ASKED, extra_body={"colour": 1})
    assert refused.value.param == "colour"


async def chat_async(name: str) -> None:
    """The same, awaited."""
    client = openai.AsyncAzureOpenAI(
        azure_endpoint="https://contoso.cognitiveservices.azure.com",
        api_key="K",
        api_version="2025-04-01-preview",
    )
    async with client:
        reply = await client.chat.completions.create(model=name, messages=ASKED)
        assert "6" in reply.choices[0].message.content
        stream = await client.chat.completions.create(
            model=name, messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        last = [chunk async for chunk in stream][-1]
        assert last.usage.total_tokens > 0


def inference(name: str) -> None:
    """Azure AI Model Inference on the resource."""
    from azure.ai.inference import ChatCompletionsClient
    from azure.ai.inference.models import UserMessage
    from azure.core.credentials import AzureKeyCredential

    endpoint = "https://contoso.services.ai.azure.com/models"
    with ChatCompletionsClient(endpoint, AzureKeyCredential("K")) as client:
        asked = [UserMessage(content="what is 3 plus 3?")]
        assert "6" in client.complete(messages=asked, model=name).choices[0].message.content
        stream = client.complete(messages=asked, model=name, stream=True)
        assert "6" in "".join(u.choices[0].delta.content or "" for u in stream if u.choices)


def delete(name: str) -> None:
    """Delete the deployment."""
    management.deployments.begin_delete(*ACCOUNT, name).result()
    assert name not in [d.name for d in management.deployments.list(*ACCOUNT)]


model = train(sys.argv[1])
deploy(model, "road")
wrong_format(model)
chat("road")
asyncio.run(chat_async("road"))
inference("road")
delete("road")
print("answered")
