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
from maas_client.local.http.routes.chat import create_completion
from maas_client.local.http.routes.foundry.responses import to_unix_seconds
from maas_client.local.resources.assets import FOUNDRY_SCOPE, version_key
from maas_client.local.resources.deployments import not_ready_error
from maas_client.local.resources.foundry_deployments import get_ready
from maas_client.local.resources.foundry_files import foundry_not_found, invalid_payload
from maas_client.local.state.store import Record
from maas_client.wire import chat as frames
from maas_client.wire import foundry as ops
from maas_client.wire.op import Op


async def complete(call: RequestContext) -> Response:
    """POST chat: ``model`` names the deployment, or the path does."""
    said = call.path_params.get("deployment") or call.json.get("model")
    if not isinstance(said, str) or not said:
        raise invalid_payload("model is required: the deployment's name.", param="model")
    fact = get_ready(call.services.deployments, said)
    if not call.services.rate_limiter.is_ready(fact):
        raise not_ready_error(f"deployment {said}")
    answer = await create_completion(call, fact)
    if isinstance(answer, StreamingResponse) and call.op.path != ops.INFERENCE_CHAT.path:
        answer.body_iterator = _with_filter(answer.body_iterator)
    return answer


async def _with_filter(rest: Any) -> AsyncIterator[bytes]:
    """Begin as Azure OpenAI does: with a chunk that has no choices (section 5.2)."""
    first = {"id": "", "object": "", "created": 0, "model": "", "choices": [],
             "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}  # fmt: skip
    try:
        yield frames.sse_frame(json.dumps(first))
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def info(call: RequestContext) -> dict[str, Any]:
    """GET /models/info: a resource has many models, and no information of this kind."""
    raise foundry_not_found("operation")


def models(call: RequestContext) -> dict[str, Any]:
    """GET the models: those of the catalog, and those that were tuned here."""
    tuned = [_tuned(fact) for fact in call.services.store.read.newest("model", FOUNDRY_SCOPE)]
    return {"object": "list", "data": [*tuned, *(_base(name) for name in catalog_models())]}


def model(call: RequestContext) -> dict[str, Any]:
    """GET one."""
    name = call.path_params["model"]
    found = call.services.store.read.get("model", FOUNDRY_SCOPE, version_key(name, "1"))
    if found:
        return _tuned(found)
    if name in catalog_models():
        return _base(name)
    raise foundry_not_found("model")


def _tuned(fact: Record) -> dict[str, Any]:
    body = fact.body
    born = to_unix_seconds(body["created"])
    return _shown(body["name"], born, model=body["base_model"], fine_tune=body["job"])


def _base(name: str) -> dict[str, Any]:
    return _shown(name, 0, model=None, fine_tune=None)


def _shown(name: str, born: int | None, **rest: Any) -> dict[str, Any]:
    """Return a model with OpenAI's fields and Azure's; ``fine_tune`` is reported false although the
    open models can be tuned, as there (section 4.2)."""
    return {
        "id": name,
        "object": "model",
        "created": born,
        "created_at": born,
        "owned_by": "maas-client",
        "status": "succeeded",
        "lifecycle_status": "generally-available",
        "capabilities": {
            "fine_tune": False, "inference": True, "completion": False,
            "chat_completion": True, "embeddings": False,
        },
        **rest,
    }  # fmt: skip


HANDLERS: dict[Op[Any], Handler] = {
    ops.CHAT: complete,
    ops.CHAT_DEPLOYMENT: complete,
    ops.INFERENCE_CHAT: complete,
    ops.INFERENCE_INFO: info,
    ops.MODEL_LIST: models,
    ops.MODEL_GET: model,
}
