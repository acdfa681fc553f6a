"""From file to chat in an Azure ML workspace, with Microsoft's and OpenAI's clients only.

The script is written for Azure and contains nothing about a local server.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
import uuid
from pathlib import Path

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient  # noqa: TID253 - an application's own script
from azure.ai.inference.models import SystemMessage, UserMessage  # noqa: TID253 - as above
from azure.ai.ml import MLClient  # noqa: TID253 - as above
from azure.ai.ml.entities import (  # noqa: TID253 - as above
    Data,
    MarketplaceSubscription,
    ServerlessEndpoint,
)
from azure.ai.ml.finetuning import (  # noqa: TID253 - as above
    FineTuningTaskType,
    create_finetuning_job,
)
from azure.core.credentials import AzureKeyCredential  # noqa: TID253 - as above
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError  # noqa: TID253 - as above
from azure.identity import ClientSecretCredential  # noqa: TID253 - as above

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
BASE = "azureml://registries/azureml/models/Phi-3-mini-4k-instruct/versions/14"

credential = ClientSecretCredential(TENANT, "an-application", "a-secret")
workspace = MLClient(credential, SUBSCRIPTION, "rg1", "proj1")
registry = MLClient(credential, SUBSCRIPTION, "rg1", registry_name="azureml")


def assets(path: str, version: str) -> str:
    """Register a data asset from a local file, read it, and verify that its path cannot change."""
    data = Data(path=path, type="uri_file", name="train", version=version, description="chats")
    created = workspace.data.create_or_update(data)
    assert created.id.endswith(f"/data/train/versions/{version}"), created.id
    reread = workspace.data.get("train", version=version)
    assert reread.path == created.path
    assert version in [d.version for d in workspace.data.list("train")]
    return str(created.id)


def train(data: str, name: str) -> None:
    """Create the job with default hyperparameters and stream it to its end."""
    job = create_finetuning_job(
        task=FineTuningTaskType.CHAT_COMPLETION,
        training_data=data,
        validation_data=sys.argv[2],
        hyperparameters={
            "per_device_train_batch_size": "1",
            "learning_rate": "0.00002",
            "num_train_epochs": "1",
        },
        model=BASE,
        display_name=name,
        name=name,
        experiment_name="tickets",
        tags={"team": "support"},
        properties={"mine": "kept"},
        output_model_name_prefix="tickets-phi",
    )
    created = workspace.jobs.create_or_update(job)
    assert created.name == name
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        workspace.jobs.stream(name)
    assert f"RunId: {name}" in output.getvalue(), output.getvalue()
    done = workspace.jobs.get(name)
    assert done.status == "Completed"
    assert done.tags == {"team": "support"}
    assert done.properties["mine"] == "kept"
    assert done.properties["simulated"] == "true"
    assert done.experiment_name == "tickets"
    assert name in [j.name for j in workspace.jobs.list()]


def download(name: str) -> None:
    """Download what the run left: its log, and what it learned.

    Not with ``all=True``: azure-ai-ml 1.35.2 raises a TypeError of its own for a job that registers a model.
    """
    with tempfile.TemporaryDirectory() as folder:
        workspace.jobs.download(name, download_path=folder)
        files = {
            p.relative_to(folder).as_posix(): p for p in Path(folder).rglob("*") if p.is_file()
        }
        log = files.pop("artifacts/user_logs/std_log.txt").read_text()
        assert log.strip(), "an empty log"
        assert any(path.startswith("artifacts/outputs/") for path in files), files


def edit(name: str) -> None:
    """Archive and restore the job through run history."""
    workspace.jobs.archive(name)
    assert name not in [j.name for j in workspace.jobs.list()]
    workspace.jobs.restore(name)
    assert name in [j.name for j in workspace.jobs.list()]


def fail(path: str, name: str) -> None:
    """Verify that an invalid row fails the job, and that stream reports why."""
    with open(path, "w") as file:
        file.writelines(
            json.dumps({"messages": [{"role": "robot", "content": "x"}]}) + "\n" for _ in range(12)
        )
    job = create_finetuning_job(
        task="chatCompletion",
        training_data=path,
        validation_data=sys.argv[2],
        hyperparameters={"num_train_epochs": "1"},
        model=BASE,
        name=name,
        output_model_name_prefix="bad",
    )
    workspace.jobs.create_or_update(job)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(Exception, match="line 1"):
        workspace.jobs.stream(name)
    assert workspace.jobs.get(name).status == "Failed"


def cancel(path: str, name: str) -> None:
    """Cancel a job and delete it."""
    job = create_finetuning_job(
        task="chatCompletion",
        training_data=path,
        validation_data=sys.argv[2],
        hyperparameters={"num_train_epochs": "900"},
        model=BASE,
        name=name,
        output_model_name_prefix="cancelled",
    )
    workspace.jobs.create_or_update(job)
    workspace.jobs.begin_cancel(name).result()
    end = time.monotonic() + 30
    while workspace.jobs.get(name).status not in ("Canceled", "Completed"):
        assert time.monotonic() < end
        time.sleep(0.1)
    workspace.jobs.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        workspace.jobs.get(name)


def model(name: str) -> str:
    """Read the model that the job registered, and base models in the registry."""
    models = [m for m in workspace.models.list() if m.name.startswith("tickets-phi")]
    assert models, [m.name for m in workspace.models.list()]
    version = workspace.models.get(models[0].name, label="latest").version
    tuned = workspace.models.get(models[0].name, version=version)
    assert tuned.job_name == name
    assert registry.models.get("Phi-3-mini-4k-instruct", version="14").name
    project = workspace.workspaces.get("proj1")
    assert project.location == "eastus2"
    return f"{models[0].name}:{version}"


def marketplace() -> None:
    """Verify that only partner models get a marketplace subscription."""
    with pytest.raises(HttpResponseError):
        workspace.marketplace_subscriptions.begin_create_or_update(
            MarketplaceSubscription(
                model_id="azureml://registries/azureml/models/Phi-4", name="phi"
            )
        ).result()
    partner = "azureml://registries/azureml-mistral/models/Ministral-3B"
    created = workspace.marketplace_subscriptions.begin_create_or_update(
        MarketplaceSubscription(model_id=partner, name="ministral")
    ).result()
    assert created.provisioning_state == "succeeded"
    assert "ministral" in [s.name for s in workspace.marketplace_subscriptions.list()]
    workspace.marketplace_subscriptions.begin_delete("ministral").result()


def deploy(model_id: str, name: str) -> tuple[str, str]:
    """Create a serverless endpoint and return its URL and key."""
    created = workspace.serverless_endpoints.begin_create_or_update(
        ServerlessEndpoint(name=name, model_id=model_id)
    ).result()
    assert created.provisioning_state == "succeeded", created
    assert name in [e.name for e in workspace.serverless_endpoints.list()]
    assert workspace.serverless_endpoints.get(name).scoring_uri == created.scoring_uri
    keys = workspace.serverless_endpoints.get_keys(name)
    assert keys.primary_key != keys.secondary_key
    return created.scoring_uri, keys.primary_key


def chat(uri: str, key: str) -> None:
    """Chat through azure-ai-inference, with key and with token, and through openai."""
    messages = [SystemMessage("You add numbers."), UserMessage("what is 3 plus 3?")]
    for login in (AzureKeyCredential(key), credential):
        options = (
            {}
            if login is not credential
            else {"credential_scopes": ["https://ml.azure.com/.default"]}
        )
        with ChatCompletionsClient(uri, login, **options) as client:
            info = client.get_model_info()
            assert info.model_type == "chat-completion"
            reply = client.complete(messages=messages, temperature=0, max_tokens=50)
            assert "6" in reply.choices[0].message.content
            assert reply.usage.total_tokens > 0
            updates = list(client.complete(messages=messages, stream=True))
            streamed = "".join(u.choices[0].delta.content or "" for u in updates if u.choices)
            assert streamed == reply.choices[0].message.content
    with ChatCompletionsClient(uri, AzureKeyCredential(key)) as client:
        with pytest.raises(HttpResponseError) as refused:
            client.complete(messages=messages, response_format="json_object")
        assert refused.value.status_code == 422
        client.complete(messages=messages, model_extras={"safe_prompt": True})
    client = openai.OpenAI(base_url=f"{uri}/v1", api_key=key)
    reply = client.chat.completions.create(
        model="tickets", messages=[{"role": "user", "content": "what is 3 plus 3?"}]
    )
    assert "6" in reply.choices[0].message.content


def delete(name: str) -> None:
    """Delete the endpoint."""
    workspace.serverless_endpoints.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        workspace.serverless_endpoints.get(name)


run = uuid.uuid4().hex[:8]
data = assets(sys.argv[1], run)
train(data, f"job-{run}")
download(f"job-{run}")
edit(f"job-{run}")
fail(sys.argv[3], f"bad-{run}")
cancel(sys.argv[1], f"cancel-{run}")
registered = model(f"job-{run}")
marketplace()
name, version = registered.split(":")
guid = workspace.workspaces._operation.get("rg1", "proj1").properties.workspace_id
uri, key = deploy(
    f"azureml://locations/eastus2/workspaces/{guid}/models/{name}/versions/{version}", f"ep-{run}"
)
chat(uri, key)
delete(f"ep-{run}")
print("answered")
