"""Both dialects with maas_client, as written for Azure: workspace, resource, sync and async client."""

import asyncio
import sys

from azure.identity import ClientSecretCredential  # noqa: TID253 - an application's own script

import maas_client as maas

MESSAGES = [{"role": "user", "content": "what is 3 plus 3?"}]
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
ACCOUNT = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1"
    "/providers/Microsoft.CognitiveServices/accounts/contoso"
)
credential = ClientSecretCredential("72f988bf-86f1-41af-91ab-2d7cd011db47", "app", "a-secret")


def workspace() -> maas.Client:
    return maas.Client.azureml(
        subscription_id=SUBSCRIPTION, resource_group="rg1", workspace="ours", credential=credential
    )


def resource() -> maas.Client:
    return maas.Client.foundry(
        endpoint="https://contoso.services.ai.azure.com/api/projects/p1",
        credential=credential,
        account_id=ACCOUNT,
    )


def run_workflow(client: maas.Client, model: str, path: str) -> None:
    messages = []
    result = client.fine_tune(path, model=model, deploy="ours", on_event=messages.append)
    assert result.job.succeeded
    assert result.deployment is not None
    assert result.deployment.ready
    assert any(event.type == "metrics" for event in messages)
    attached = client.fine_tune(path, model=model, deploy="ours")
    assert attached.job.id == result.job.id
    assert attached.job.attached
    assert attached.dataset.attached
    assert "6" in client.chat.complete("ours", MESSAGES).choices[0].message.content
    chunks = client.chat.stream("ours", MESSAGES)
    reply = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "6" in reply
    assert result.job.fine_tuned_model in [m.id for m in client.models.list()]
    client.deployments.delete("ours")
    assert "ours" not in [each.name for each in client.deployments.list()]
    client.jobs.delete(result.job)
    client.datasets.delete(result.dataset)


async def run_async(path: str) -> None:
    client = maas.AsyncClient.foundry(
        endpoint="https://contoso.openai.azure.com", api_key="K", account_id=ACCOUNT
    )
    async with client:
        job = await client.jobs.create(model="Qwen3-32B", training_data=path)
        assert (await client.jobs.wait(job)).succeeded
        assert [e.type async for e in client.jobs.events(job)][-1] == "status"
        # The resource uses the key; ARM uses the default credential, here from the environment.
        assert "ours" not in [d.name async for d in client.deployments.list()]


with workspace() as client:
    run_workflow(client, "Phi-4-mini-instruct", sys.argv[1])
with resource() as client:
    run_workflow(client, "Ministral-3B", sys.argv[1])
    try:
        client.jobs.create(model="Phi-4-mini-instruct", training_data=sys.argv[1])
    except maas.UnsupportedError as refused:
        assert "Client.azureml" in str(refused)  # noqa: PT017 - no pytest in an application
    else:
        raise AssertionError("foundry took a Phi")
asyncio.run(run_async(sys.argv[1]))
print("answered")
