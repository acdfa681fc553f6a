"""Deployments: formats by provider, readiness after Succeeded, and what foundry does not support."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maas_client.errors import (
    BadRequestError,
    ConfigError,
    ConflictError,
    ModelRetiredError,
    NotFoundError,
    ServiceError,
    UnsupportedError,
)
from maas_client.flows import deployments as flows_deployments
from maas_client.flows._requests import ChatRequest, DeploymentRequest
from maas_client.flows.foundry import deployments, models
from maas_client.types import Deployment
from maas_client.wire.operation import Response
from tests.unit.fake_port import FakePort, collect
from tests.unit.flows.foundry.fake_resource import Resource

FINE_TUNED = "Ministral-3B.ft-0123456789abcdef-tickets-1a2b3c4d"


def deployment_body(model: str = FINE_TUNED, state: str = "Succeeded") -> dict[str, Any]:
    return {
        "id": "/subscriptions/sub/x/deployments/tickets",
        "name": "tickets",
        "sku": {"name": "GlobalStandard", "capacity": 100},
        "properties": {
            "model": {"format": "Mistral AI", "name": model, "version": "1"},
            "provisioningState": state,
        },
    }


def script_creation(io: FakePort, model: str = FINE_TUNED) -> None:
    io.on("deployments.get", NotFoundError("none", status=404), deployment_body(model))
    headers = {"azure-asyncoperation": "https://management.azure.com/op"}
    io.on("deployments.create", Response(deployment_body(model, "Creating"), 201, headers))
    io.on("operations.status", {"status": "InProgress"}, {"status": "Succeeded"})
    io.on("foundry_chat.complete", {"choices": []})


@pytest.mark.parametrize(
    ("model", "model_format", "sku"),
    [
        (FINE_TUNED, "Mistral AI", "GlobalStandard"),
        ("gpt-oss-20b.ft-00aa", "Microsoft", "GlobalStandard"),
        ("Llama-3.3-70B-Instruct.ft-00aa", "Meta", "GlobalStandard"),
        ("Qwen-32B.ft-00aa:ckpt-step-10", "Alibaba", "GlobalStandard"),
        ("Phi-4-mini-instruct", "Microsoft", "GlobalStandard"),
    ],
)
async def test_deployment_format_is_the_providers(model: str, model_format: str, sku: str) -> None:
    io = Resource()
    script_creation(io, model)
    deployment = await deployments.create(io, DeploymentRequest("tickets", model))
    body = io.asked("deployments.create")[0].body
    assert body["properties"]["model"] == {"format": model_format, "name": model, "version": "1"}
    assert body["sku"] == {"name": sku, "capacity": 100}
    assert deployment.ready


async def test_unknown_deployment_format_is_refused() -> None:
    with pytest.raises(ConfigError, match="deployment_format"):
        await deployments.create(Resource(), DeploymentRequest("tickets", "whatever.ft-00aa"))


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("no", status=404, code="DeploymentNotFound"),
        BadRequestError("not yet", status=409, code="DeploymentNotReady"),
        ServiceError("Failed to load LoRA", status=500),
    ],
)
async def test_create_waits_for_the_first_answer(error: Exception) -> None:
    io = Resource()
    script_creation(io)
    io.on("foundry_chat.complete", error, error, {"choices": []})
    assert (await deployments.create(io, DeploymentRequest("tickets", FINE_TUNED))).ready
    assert len(io.asked("foundry_chat.complete")) == 3


async def test_permanent_error_is_raised() -> None:
    io = Resource()
    script_creation(io)
    io.on("foundry_chat.complete", BadRequestError("no such parameter", status=400))
    with pytest.raises(BadRequestError, match="parameter"):
        await deployments.create(io, DeploymentRequest("tickets", FINE_TUNED))


async def test_existing_deployment_is_returned_and_another_model_is_a_conflict() -> None:
    io = Resource()
    io.on("deployments.get", deployment_body())
    io.on("foundry_chat.complete", {"choices": []})
    assert (
        await deployments.create(io, DeploymentRequest("tickets", FINE_TUNED))
    ).name == "tickets"
    assert not io.asked("deployments.create")
    with pytest.raises(ConflictError, match="another model"):
        await deployments.create(io, DeploymentRequest("tickets", "Ministral-3B.ft-ffff"))


async def test_failed_deployment_is_an_error() -> None:
    io = Resource()
    script_creation(io)
    io.on("deployments.get", NotFoundError("none", status=404), deployment_body(state="Failed"))
    with pytest.raises(ServiceError, match="Failed"):
        await deployments.create(io, DeploymentRequest("tickets", FINE_TUNED))


@pytest.mark.parametrize("verb", ["create", "get", "delete", "keys"])
async def test_missing_account_is_refused(verb: str) -> None:
    io = Resource()
    io.scope.values = {}
    steps = {
        "create": lambda: deployments.create(io, DeploymentRequest("tickets", FINE_TUNED)),
        "get": lambda: deployments.get(io, "tickets"),
        "delete": lambda: deployments.delete(io, "tickets"),
        "keys": lambda: deployments.keys(io, "tickets", None),
    }
    with pytest.raises(ConfigError, match="account_id"):
        await steps[verb]()
    assert not io.sent


async def test_keys_are_the_accounts_and_cannot_be_regenerated() -> None:
    io = Resource()
    io.on("deployments.get", deployment_body())
    io.on("accounts.keys", {"key1": "a", "key2": "b"})
    deployment = await deployments.keys(io, "tickets", None)
    assert (deployment.primary.get_secret_value(), deployment.secondary.get_secret_value()) == (
        "a",
        "b",
    )
    with pytest.raises(UnsupportedError, match="azureml"):
        await deployments.keys(io, "tickets", "primary")


async def test_delete_waits_until_the_deployment_is_gone() -> None:
    io = Resource()
    io.on("deployments.get", deployment_body())
    io.on(
        "deployments.delete", Response(None, 202, {"location": "https://management.azure.com/op"})
    )
    io.on("operations.result", Response({}, 202, {}), Response({}, 204, {}))
    await deployments.delete(io, "tickets")
    assert len(io.asked("operations.result")) == 2


async def test_only_fine_tuned_models_are_listed() -> None:
    io = Resource()
    io.on("foundry_models.list", {"data": [{"id": "Ministral-3B"}, {"id": FINE_TUNED}]})
    (model,) = await collect(models.list_all(io))
    assert (model.id, model.base_model) == (FINE_TUNED, "Ministral-3B")
    with pytest.raises(UnsupportedError, match="azureml"):
        await models.delete(io, FINE_TUNED)


@pytest.mark.parametrize(
    "deployment",
    [
        "tickets",
        "/subscriptions/s/deployments/tickets",
        Deployment(id="x", name="tickets", status="Succeeded"),
    ],
)
async def test_chat_sends_the_deployment_as_model(deployment: Deployment | str) -> None:
    io = Resource()
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}}]}
    io.on("foundry_chat.complete", answer)
    request = ChatRequest(deployment, {"messages": [{"role": "user", "content": "hi"}]})
    reply = await deployments.complete_chat(io, request)
    assert reply.choices[0].message.content == "Hi."
    assert io.asked("foundry_chat.complete")[0].body["model"] == "tickets"


async def test_stream_may_start_with_a_chunk_without_choices() -> None:
    io = Resource()
    lines = [
        'data: {"choices": [], "prompt_filter_results": []}', "",
        'data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}', "", "data: [DONE]", "",
    ]  # fmt: skip
    io.on("foundry_chat.complete", lines)
    request = ChatRequest("tickets", {"messages": []})
    chunks = await collect(deployments.stream_chat(io, request))
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["Hi"]
    assert io.asked("foundry_chat.complete")[0].body["stream"] is True


async def test_tuned_model_past_its_deployment_date_is_refused(
    tmp_path: Path,
) -> None:
    override = tmp_path / "catalog.json"
    override.write_text('{"models": {"gpt-4.1": {"deployment_retired_on": "2026-01-02"}}}')
    io = Resource()
    io.scope = replace(io.scope, catalog=str(override))
    with pytest.raises(ModelRetiredError, match="2026-01-02"):
        await flows_deployments.create(io, "tickets", "gpt-4.1.ft-00aa-tickets")
    assert io.sent == []


GPT = "gpt-4.1-mini.ft-00aa-tickets"


async def test_sku_and_capacity_are_sent_as_azure_spells_them() -> None:
    io = Resource()
    script_creation(io, GPT)
    await flows_deployments.create(io, "tickets", GPT, sku="developer", capacity=7)
    body = io.asked("deployments.create")[0].body
    assert body["sku"] == {"name": "DeveloperTier", "capacity": 7}


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("gpt-4o.ft-00aa", {"sku": "DeveloperTier"}, UnsupportedError, "gpt-4o do not deploy with"),
        ("gpt-5.ft-00aa", {"sku": "GlobalStandard"}, UnsupportedError, "Use .*Standard"),
        ("Qwen3-32B.ft-00aa", {"sku": "Standard"}, UnsupportedError, "GlobalStandard"),
        ("gpt-4.1-mini.ft-00aa", {"sku": "ProvisionedManaged"}, UnsupportedError, "GlobalStandard"),
        ("Qwen3.8-27B.ft-00aa", {}, UnsupportedError, "managed compute and Fireworks only"),
        (GPT, {"sku": "GlobalManagedCompute"}, UnsupportedError, "no source states which"),
        (GPT, {"sku": "Turbo"}, ConfigError, "unknown sku"),
        (GPT, {"capacity": 0}, ConfigError, "invalid capacity"),
        (GPT, {"capacity": True}, ConfigError, "invalid capacity"),
        (GPT, {"capacity": 1.5}, ConfigError, "invalid capacity"),
    ],
)
async def test_sku_that_azure_does_not_offer_is_refused_before_anything_is_sent(
    model: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    io = Resource()
    with pytest.raises(error, match=message):
        await flows_deployments.create(io, "tickets", model, **options)
    assert io.sent == []


async def test_region_without_standard_deployments_is_refused() -> None:
    io = Resource()
    io.on("deployments.get", NotFoundError("none", status=404))
    io.on("accounts.get", {"location": "eastus"})
    with pytest.raises(UnsupportedError, match=r"SKU Standard in eastus.*northcentralus"):
        await flows_deployments.create(io, "tickets", GPT, sku="Standard")
    assert io.asked("deployments.create") == []


async def test_existing_deployment_with_another_sku_is_a_conflict() -> None:
    io = Resource()
    io.on("deployments.get", deployment_body(GPT))
    io.on("foundry_chat.complete", {"choices": []})
    assert (await flows_deployments.create(io, "tickets", GPT, capacity=100)).ready
    with pytest.raises(ConflictError, match="SKU GlobalStandard, not DataZoneStandard"):
        await flows_deployments.create(io, "tickets", GPT, sku="DataZoneStandard")


async def test_base_model_of_openai_is_deployed_with_its_version() -> None:
    io = Resource()
    script_creation(io, "gpt-4.1-mini")
    await flows_deployments.create(io, "tickets", "gpt-4.1-mini")
    model = io.asked("deployments.create")[0].body["properties"]["model"]
    assert model == {"format": "OpenAI", "name": "gpt-4.1-mini", "version": "2025-04-14"}
