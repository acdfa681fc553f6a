"""Chat on a serverless endpoint: the OpenAI-shaped route and Azure AI Model Inference.

See docs/azure-http.md section 5.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request  # noqa: TID253 - as below
from starlette.responses import (  # noqa: TID253 - only the server imports this module
    JSONResponse,
    Response,
    StreamingResponse,
)

from maas_client._clock import unix_time
from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes.chat_request import read_chat_request
from maas_client.local.resources.deployments import served_model
from maas_client.local.resources.errors import ApiError
from maas_client.local.services.chat_engines import ChatChunk, ChatRequest, stream_choices
from maas_client.local.state.files import new_id
from maas_client.local.state.store import Record
from maas_client.wire import chat as ops
from maas_client.wire import error_bodies as wire
from maas_client.wire.foundry import INFERENCE_CHAT
from maas_client.wire.operation import Operation

Answer = TypeVar("Answer")


@accepts(headers=("extra-parameters",))
async def chat_completions(context: RequestContext) -> Response:
    """POST chat completions, complete or streamed."""
    return await create_completion(
        context, context.services.deployments.get_by_label(context.path_params["endpoint"])
    )


async def create_completion(context: RequestContext, endpoint: Record) -> Response:
    """Answer a chat with the model that ``endpoint`` serves."""
    target = served_model(endpoint)
    # in a thread: a large schema takes up to a second
    chat = await anyio.to_thread.run_sync(read_chat_request, context, target)
    admission = context.services.rate_limiter.admit(endpoint)
    engine = context.services.chat_engine
    answers = (
        stream_choices(engine, target, chat) if chat.choices > 1 else engine.stream(target, chat)
    )
    chunks = admission.count_tokens(answers)
    envelope = {
        "id": f"chatcmpl-{new_id()}",
        "created": int(unix_time()),
        "model": target.model,
        "system_fingerprint": engine.system_fingerprint,
    }
    if context.json.get("service_tier"):
        envelope["service_tier"] = "default"
    tags = context.services.deployment_tags
    headers = {**admission.headers, **{f"x-maas-{name}": value for name, value in tags.items()}}
    if context.json.get("stream"):
        # errors before the first chunk become an error response, not a 200
        first = await _cancel_on_disconnect(context.request, _first_chunk(chunks))
        encoder = _FrameEncoder(context.op, envelope, has_logprobs=chat.top_logprobs is not None)
        frames = _sse_frames(first, chunks, encoder, chat.choices, _wants_usage(context))
        return StreamingResponse(
            frames, 200, {"Cache-Control": "no-cache", **headers}, media_type="text/event-stream"
        )
    complete = _complete_response(context, chat, chunks)
    body = await _cancel_on_disconnect(context.request, complete)
    return JSONResponse({**envelope, **body}, headers=headers)


async def _first_chunk(chunks: AsyncGenerator[ChatChunk, None]) -> ChatChunk:
    return await anext(chunks)


async def _cancel_on_disconnect(request: Request, answer: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what ``answer`` returns. Raises ``ClientDisconnect`` once the client closes the connection.

    Until the first chunk, which a waiting chat, a long prompt and the calls of tools send late, only this
    ends the work that has no reader.
    """
    tasks = asyncio.create_task(answer), asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wants_usage(context: RequestContext) -> bool:
    options = context.json.get("stream_options")
    return bool(options.get("include_usage")) if isinstance(options, dict) else False


async def _complete_response(
    context: RequestContext, chat: ChatRequest, chunks: AsyncGenerator[ChatChunk, None]
) -> dict[str, Any]:
    parts: list[list[ChatChunk]] = [[] for _ in range(chat.choices)]
    usage = None
    async with aclosing(chunks):
        async for chunk in chunks:
            parts[chunk.index].append(chunk)
            usage = chunk.usage or usage
    choices = [_choice(index, part, chat) for index, part in enumerate(parts)]
    return {
        "object": "chat.completion",
        "choices": choices,
        "usage": _usage_to_json(context.op, usage),
    }


def _usage_to_json(op: Operation[Any], usage: dict[str, int] | None) -> dict[str, Any] | None:
    """Return the token counts in the form of the route: Model Inference has none of cached tokens."""
    if usage is None:
        return None
    counts: dict[str, Any] = {k: count for k, count in usage.items() if k != "cached_tokens"}
    if op not in (ops.CHAT_INFERENCE, INFERENCE_CHAT):
        counts["prompt_tokens_details"] = {"cached_tokens": usage.get("cached_tokens", 0)}
    return counts


def _choice(index: int, chunks: list[ChatChunk], chat: ChatRequest) -> dict[str, Any]:
    """Return one complete answer."""
    last = chunks[-1] if chunks else ChatChunk(finish_reason="stop")
    text = "".join(chunk.text for chunk in chunks)
    content = text or None if last.tool_calls else text
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if last.tool_calls:
        message["tool_calls"] = last.tool_calls
    logprobs = None
    if chat.top_logprobs is not None:
        tokens = [token for chunk in chunks for token in chunk.logprobs]
        logprobs = _logprobs_to_json(tokens if content is not None else None)
    return {
        "index": index,
        "finish_reason": last.finish_reason,
        "logprobs": logprobs,
        "message": message,
    }


def _logprobs_to_json(tokens: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {"content": tokens, "refusal": None}


async def _sse_frames(
    first: ChatChunk,
    chunks: AsyncGenerator[ChatChunk, None],
    encoder: _FrameEncoder,
    choices: int,
    usage: bool,
) -> AsyncIterator[bytes]:
    """Yield server-sent events: the role of each answer, the chunks, the finish reasons, ``[DONE]``.

    An error after the first frame is sent as a frame, and ``[DONE]`` is left out.
    """
    try:
        async with aclosing(chunks):
            for index in range(choices):
                yield encoder.delta(index, {"role": "assistant", "content": ""})
            for lines in encoder.encode(first):
                yield lines
            async for chunk in chunks:
                for lines in encoder.encode(chunk):
                    yield lines
    except ApiError as refusal:
        body = wire.openai_error(refusal.code, refusal.message, error_type="server_error")
        yield ops.sse_frame(json.dumps(body))
        return
    if usage:
        yield encoder.usage()
    yield ops.sse_frame(ops.STREAM_END)


class _FrameEncoder:
    def __init__(self, op: Operation[Any], envelope: dict[str, Any], *, has_logprobs: bool) -> None:
        self._op = op
        self._has_logprobs = has_logprobs
        self._envelope = {**envelope, "object": "chat.completion.chunk"}
        self._usage: dict[str, int] | None = None

    def encode(self, chunk: ChatChunk) -> list[bytes]:
        """Return the frames of a chunk."""
        frames, index = [], chunk.index
        if chunk.text:
            logprobs = _logprobs_to_json(chunk.logprobs) if self._has_logprobs else None
            frames.append(self.delta(index, {"content": chunk.text}, logprobs=logprobs))
        for number, tool in enumerate(chunk.tool_calls or ()):
            frames.append(self.delta(index, {"tool_calls": [{"index": number, **tool}]}))
        if chunk.finish_reason:
            self._usage = chunk.usage
            frames.append(self.delta(index, {}, chunk.finish_reason))
        return frames

    def delta(
        self,
        index: int,
        delta: dict[str, Any],
        reason: str | None = None,
        *,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        """Return the frame of one delta of an answer."""
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._frame({"choices": [choice]})

    def usage(self) -> bytes:
        """Return the frame with the token counts."""
        return self._frame({"choices": [], "usage": _usage_to_json(self._op, self._usage)})

    def _frame(self, parts: dict[str, Any]) -> bytes:
        return ops.sse_frame(json.dumps({**self._envelope, **parts}, ensure_ascii=False))


def get_model_info(context: RequestContext) -> dict[str, Any]:
    """GET which model answers."""
    target = served_model(
        context.services.deployments.get_by_label(context.path_params["endpoint"])
    )
    tags = context.services.deployment_tags
    note = tags.get("precision") or ", ".join(tags)
    return {
        "model_name": target.model,
        "model_type": "chat-completion",
        "model_provider_name": "maas-client local server" + (f" ({note})" if note else ""),
    }


def list_models(context: RequestContext) -> dict[str, Any]:
    """GET the one model behind the endpoint, in the format of OpenAI's list of models."""
    endpoint = context.services.deployments.get_by_label(context.path_params["endpoint"])
    entry = {
        "id": served_model(endpoint).model, "object": "model", "created": 0, "owned_by": "maas-client",
    }  # fmt: skip
    return {"object": "list", "data": [entry]}


HANDLERS: dict[Operation[Any], Handler] = {
    ops.CHAT_COMPLETE: chat_completions,
    ops.CHAT_INFERENCE: chat_completions,
    ops.CHAT_INFO: get_model_info,
    ops.CHAT_MODELS: list_models,
}
