"""Chat on a serverless endpoint: the OpenAI-shaped route and Azure AI Model Inference (section 5)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.responses import (  # noqa: TID253 - only the server imports this module
    JSONResponse,
    Response,
    StreamingResponse,
)

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.chat_request import read_chat_request
from maas_client.local.resources.deployments import served_model
from maas_client.local.resources.errors import ApiError
from maas_client.local.services.chat_engines import ChatChunk
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record
from maas_client.wire import chat as ops
from maas_client.wire import error_bodies as wire
from maas_client.wire.op import Op


async def complete(call: RequestContext) -> Response:
    """POST chat completions, whole or streamed."""
    return await create_completion(
        call, call.services.deployments.get_by_label(call.path_params["endpoint"])
    )


async def create_completion(call: RequestContext, endpoint: Record) -> Response:
    """Answer a chat with what is deployed as ``endpoint``."""
    chat, target = read_chat_request(call), served_model(endpoint)
    ticket = call.services.rate_limiter.admit(endpoint)
    pieces = ticket.count_tokens(call.services.chat_engine.stream(target, chat))
    shell = {
        "id": f"chatcmpl-{new_id()}",
        "created": int(time.time()),
        "model": target.model,
        "system_fingerprint": call.services.chat_engine.system_fingerprint,
    }
    simulated = {"x-maas-simulated": "true"} if call.services.simulated else {}
    headers = {**ticket.headers, **simulated}
    if call.json.get("stream"):
        first = await anext(pieces)  # what is refused is refused before a 200 is sent
        frames = _frames(first, pieces, shell, _usage_wanted(call))
        return StreamingResponse(
            frames, 200, {"Cache-Control": "no-cache", **headers}, media_type="text/event-stream"
        )
    return JSONResponse(await _whole(call, pieces, shell), headers=headers)


def _usage_wanted(call: RequestContext) -> bool:
    options = call.json.get("stream_options")
    return bool(options.get("include_usage")) if isinstance(options, dict) else False


async def _whole(
    call: RequestContext, pieces: AsyncGenerator[ChatChunk, None], shell: dict[str, Any]
) -> dict[str, Any]:
    text, last = "", ChatChunk(finish_reason="stop")
    async with aclosing(pieces):
        async for piece in pieces:
            text += piece.text
            last = piece
            if await call.request.is_disconnected():
                break
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or None if last.tool_calls else text,
    }
    if last.tool_calls:
        message["tool_calls"] = last.tool_calls
    choice = {"index": 0, "finish_reason": last.finish_reason, "logprobs": None, "message": message}
    return {**shell, "object": "chat.completion", "choices": [choice], "usage": last.usage}


async def _frames(
    first: ChatChunk, rest: AsyncGenerator[ChatChunk, None], shell: dict[str, Any], usage: bool
) -> AsyncIterator[bytes]:
    """Yield SSE frames: the role, the pieces, the reason of the end, ``[DONE]``.

    What goes wrong after the first frame is told in a frame, and there is no ``[DONE]``.
    """
    frame = _Framer(shell)
    try:
        async with aclosing(rest):
            yield frame.delta({"role": "assistant", "content": ""})
            for lines in frame.of(first):
                yield lines
            async for piece in rest:
                for lines in frame.of(piece):
                    yield lines
    except ApiError as refusal:
        body = wire.openai_error(refusal.code, refusal.message, error_type="server_error")
        yield ops.sse_frame(json.dumps(body))
        return
    if usage:
        yield frame.usage()
    yield ops.sse_frame(ops.STREAM_END)


class _Framer:
    def __init__(self, shell: dict[str, Any]) -> None:
        self._shell = {**shell, "object": "chat.completion.chunk"}
        self._usage: dict[str, int] | None = None

    def of(self, piece: ChatChunk) -> list[bytes]:
        """Return the frames of a piece."""
        frames = [self.delta({"content": piece.text})] if piece.text else []
        for index, tool in enumerate(piece.tool_calls or ()):
            frames.append(self.delta({"tool_calls": [{"index": index, **tool}]}))
        if piece.finish_reason:
            self._usage = piece.usage
            frames.append(self.delta({}, piece.finish_reason))
        return frames

    def delta(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        """Return one chunk."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._frame({"choices": [choice]})

    def usage(self) -> bytes:
        """Return the chunk that only counts."""
        return self._frame({"choices": [], "usage": self._usage})

    def _frame(self, parts: dict[str, Any]) -> bytes:
        return ops.sse_frame(json.dumps({**self._shell, **parts}, ensure_ascii=False))


def info(call: RequestContext) -> dict[str, Any]:
    """GET which model answers."""
    target = served_model(call.services.deployments.get_by_label(call.path_params["endpoint"]))
    return {
        "model_name": target.model,
        "model_type": "chat-completion",
        "model_provider_name": "maas-client local server"
        + (" (simulated)" if call.services.simulated else ""),
    }


def models(call: RequestContext) -> dict[str, Any]:
    """GET the one model behind the endpoint, as OpenAI lists models."""
    endpoint = call.services.deployments.get_by_label(call.path_params["endpoint"])
    entry = {
        "id": served_model(endpoint).model, "object": "model", "created": 0, "owned_by": "maas-client",
    }  # fmt: skip
    return {"object": "list", "data": [entry]}


HANDLERS: dict[Op[Any], Handler] = {
    ops.CHAT_COMPLETE: complete,
    ops.CHAT_INFERENCE: complete,
    ops.CHAT_INFO: info,
    ops.CHAT_MODELS: models,
}
