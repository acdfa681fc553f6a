"""Interactive training in a Foundry project (docs/azure-http.md section 4.7)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from starlette.responses import Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.resources.errors import ApiError
from maas_client.local.sessions.service import Sessions
from maas_client.wire import sessions as wire
from maas_client.wire.operation import Operation

_MAX_PAGE = 100
_DEFAULT_PAGE = 20


def _preview(handler: Callable[[Sessions, str, RequestContext], Any]) -> Handler:
    """Return the handler of a route: it needs the preview header, and gets the sessions and the project."""

    @wraps(handler)
    async def run(context: RequestContext) -> Any:
        name, value = wire.PREVIEW_HEADER
        sent = context.request.headers.get(name, "")
        if value.casefold() not in [part.strip().casefold() for part in sent.split(",")]:
            raise ApiError(
                403,
                "preview_feature_required",
                "Fine-tuning sessions are in preview. This operation requires the following opt-in preview "
                f"feature(s): {value}. Include the '{name}: {value}' header in your request.",
                target=name,
            )
        project = context.path_params["project"].casefold()
        result = handler(context.services.sessions, project, context)
        return await result if inspect.isawaitable(result) else result

    return run


@_preview
async def create(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST: create a session; its model is loaded in the background."""
    body = wire.CreateSession.model_validate(context.json)
    return await sessions.create(project, body.dump())


def _integer(context: RequestContext, name: str, default: int, low: int, high: int) -> int:
    text = context.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise ApiError(
            400, "invalid_request", f"{name} must be a number from {low} to {high}.", target=name
        )
    return int(text)


@accepts(query=("limit", "offset"))
@_preview
def list_sessions(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """GET a page of sessions, newest first."""
    limit = _integer(context, "limit", _DEFAULT_PAGE, 1, _MAX_PAGE)
    return sessions.list(project, limit, _integer(context, "offset", 0, 0, 1 << 31))


@_preview
def get(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """GET a session."""
    return sessions.records.describe(project, context.path_params["session"])


@_preview
async def delete(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """DELETE a session with its checkpoints."""
    await sessions.delete(project, context.path_params["session"])
    return Response(None, 204)


@_preview
async def complete(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST: unload a session after its waiting requests."""
    return await sessions.complete(project, context.path_params["session"])


@_preview
async def heartbeat(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST: keep a session alive."""
    return await sessions.heartbeat(project, context.path_params["session"])


@_preview
async def forward_backward(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST a batch for gradients."""
    read = partial(_loss_input, wire.ForwardBackward, context.json)
    return await sessions.train(project, context.path_params["session"], "forward_backward", read)


@_preview
async def forward(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST a batch without gradients."""
    read = partial(_loss_input, wire.Forward, context.json)
    return await sessions.train(project, context.path_params["session"], "forward", read)


def _loss_input(
    model: type[wire.ForwardBackward | wire.Forward], body: dict[str, Any]
) -> dict[str, Any]:
    """Return the batch of a request. Called in a thread, because a batch may have megabytes."""
    (value,) = model.model_validate(body).dump().values()
    batch: dict[str, Any] = value
    return batch


@_preview
async def optim_step(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST: apply the accumulated gradients."""
    body = wire.OptimStep.model_validate(context.json).adam_params
    return await sessions.optim_step(project, context.path_params["session"], body.model_dump())


@_preview
async def save_checkpoint(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST: write a training checkpoint."""
    body = wire.SaveCheckpoint.model_validate(context.json)
    return await sessions.save_checkpoint(project, context.path_params["session"], body.dump())


@_preview
async def save_sampler(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST: keep the weights for sampling, on disk unless a ``sampling_session_seq_id`` is given."""
    body = wire.SaveSampler.model_validate(context.json)
    return await sessions.save_sampler(
        project,
        context.path_params["session"],
        body.checkpoint_id,
        body.seq_id,
        persist=body.sampling_session_seq_id is None,
    )


@_preview
def list_checkpoints(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """GET all checkpoints of a session."""
    return sessions.records.checkpoints(project, context.path_params["session"])


@_preview
def get_checkpoint(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """GET one checkpoint."""
    session, checkpoint = context.path_params["session"], context.path_params["checkpoint"]
    return sessions.records.checkpoint(project, session, checkpoint)


@accepts(query=("checkpoint_id",))
@_preview
async def sample(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """POST a prompt to sample from."""
    checkpoint = context.query_params.get("checkpoint_id")
    if not checkpoint:
        raise ApiError(
            400,
            "invalid_request",
            "The query parameter checkpoint_id is missing. Give the id of a sampler checkpoint.",
            target="checkpoint_id",
        )
    body = wire.Sample.model_validate(context.json)
    session = context.path_params["session"]
    return await sessions.sample(
        project,
        session,
        checkpoint,
        {**body.dump(), "sampling_params": body.sampling_params.dump()},
    )


@_preview
async def get_request(sessions: Sessions, project: str, context: RequestContext) -> Any:
    """GET the state of a request, with its result once it is completed."""
    session, request = context.path_params["session"], context.path_params["request"]
    return await sessions.request(project, session, request)


HANDLERS: dict[Operation[Any], Handler] = {
    wire.SESSION_CREATE: create,
    wire.SESSION_LIST: list_sessions,
    wire.SESSION_GET: get,
    wire.SESSION_DELETE: delete,
    wire.SESSION_COMPLETE: complete,
    wire.SESSION_HEARTBEAT: heartbeat,
    wire.FORWARD_BACKWARD: forward_backward,
    wire.FORWARD: forward,
    wire.OPTIM_STEP: optim_step,
    wire.CHECKPOINT_SAVE: save_checkpoint,
    wire.SAMPLER_SAVE: save_sampler,
    wire.CHECKPOINT_LIST: list_checkpoints,
    wire.CHECKPOINT_GET: get_checkpoint,
    wire.SAMPLE: sample,
    wire.REQUEST_GET: get_request,
}
