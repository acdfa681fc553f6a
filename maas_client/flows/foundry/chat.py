"""Chat with a deployment: its name is the ``model`` of the request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from maas_client.flows import _chat_responses
from maas_client.flows._backend import ChatRequest
from maas_client.flows._io import IO
from maas_client.types import ChatChunk, ChatCompletion
from maas_client.wire import foundry as ops

CHAT_TIMEOUT_S = 600.0
"""Deadline of a whole answer: a small machine writes slowly."""


def _chat_body(order: ChatRequest) -> dict[str, Any]:
    held = order.deployment
    name = held.rsplit("/", 1)[-1] if isinstance(held, str) else held.name
    return {"model": name, **order.body}


async def complete_chat(io: IO, order: ChatRequest) -> ChatCompletion:
    """Return the whole answer."""
    answer = await io.send(ops.CHAT, _chat_body(order), deadline_s=CHAT_TIMEOUT_S)
    return _chat_responses.parse_completion(answer.value)


async def stream_chat(io: IO, order: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
    """Yield the answer as it is written."""
    body = {**_chat_body(order), "stream": True}
    async for chunk in _chat_responses.parse_chunks(io.lines(ops.CHAT, body)):
        yield chunk
