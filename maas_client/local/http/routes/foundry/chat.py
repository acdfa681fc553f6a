"""Chat and models of a Foundry resource (docs/azure-http.md sections 4.2, 5.1 and 5.3)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import (  # noqa: TID253 - only the server imports this module
    Response,
    StreamingResponse,
)

from maas_client.catalog import load_models as catalog_models
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.chat import create_completion
from maas_client.local.http.routes.foundry.responses import to_unix_seconds
from maas_client.local.resources.assets import FOUNDRY_SCOPE, version_key
from maas_client.local.resources.deployments import not_ready_error
from maas_client.local.resources.foundry_deployments import get_ready
from maas_client.local.resources.foundry_files import foundry_not_found, invalid_payload
from maas_client.local.state.store import Record
from maas_client.wire import chat as frames
from maas_client.wire import foundry as ops
from maas_client.wire.operation import Operation


@accepts(headers=("extra-parameters",))
async def chat_completions(context: RequestContext) -> Response:
    """POST chat completions: ``model`` or the path names the deployment."""
    name = context.path_params.get("deployment") or context.json.get("model")
    if not isinstance(name, str) or not name:
        raise invalid_payload("model is required: the deployment's name.", param="model")
    record = get_ready(context.services.deployments, name)
    if not context.services.rate_limiter.is_ready(record):
        raise not_ready_error(f"deployment {name}")
    response = await create_completion(context, record)
    if isinstance(response, StreamingResponse) and context.op.path != ops.INFERENCE_CHAT.path:
        response.body_iterator = _prepend_filter_results(response.body_iterator)
    return response


async def _prepend_filter_results(chunks: Any) -> AsyncIterator[bytes]:
    """Start the stream with a chunk without choices, as Azure OpenAI does (docs/azure-http.md section 5.2)."""
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [],
             "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}  # fmt: skip
    try:
        yield frames.sse_frame(json.dumps(first))
        async for chunk in chunks:
            yield chunk
    finally:
        await chunks.aclose()


def get_model_info(context: RequestContext) -> dict[str, Any]:
    """GET /models/info: 404, because a resource has many models."""
    raise foundry_not_found("operation")


def list_models(context: RequestContext) -> dict[str, Any]:
    """GET the models of the catalog and the fine-tuned models."""
    tuned = [
        _tuned_model_to_json(record)
        for record in context.services.store.read.newest("model", FOUNDRY_SCOPE)
    ]
    return {
        "object": "list",
        "data": [*tuned, *(_base_model_to_json(name) for name in catalog_models())],
    }


def get_model(context: RequestContext) -> dict[str, Any]:
    """GET one model."""
    name = context.path_params["model"]
    record = context.services.store.read.get("model", FOUNDRY_SCOPE, version_key(name, "1"))
    if record:
        return _tuned_model_to_json(record)
    if name in catalog_models():
        return _base_model_to_json(name)
    raise foundry_not_found("model")


def _tuned_model_to_json(record: Record) -> dict[str, Any]:
    body = record.body
    created = to_unix_seconds(body["created"])
    return _model_to_json(
        body["name"],
        created,
        model=body["base_model"],
        fine_tune=body["job"],
        metadata=body["properties"],
    )


def _base_model_to_json(name: str) -> dict[str, Any]:
    return _model_to_json(name, 0, model=None, fine_tune=None)


def _model_to_json(name: str, created: int | None, **extra_fields: Any) -> dict[str, Any]:
    """Return a model with the fields of OpenAI and of Azure.

    ``fine_tune`` is false although the open models can be fine-tuned, as in Azure (docs/azure-http.md
    section 4.2).
    """
    return {
        "id": name,
        "object": "model",
        "created": created,
        "created_at": created,
        "owned_by": "maas-client",
        "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": {
            "fine_tune": False, "inference": True, "completion": False,
            "chat_completion": True, "embeddings": False,
        },
        **extra_fields,
    }  # fmt: skip


HANDLERS: dict[Operation[Any], Handler] = {
    ops.CHAT: chat_completions,
    ops.CHAT_DEPLOYMENT: chat_completions,
    ops.INFERENCE_CHAT: chat_completions,
    ops.INFERENCE_INFO: get_model_info,
    ops.MODEL_LIST: list_models,
    ops.MODEL_GET: get_model,
}
