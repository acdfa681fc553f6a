"""Chat with a serverless endpoint: whole answers and streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from maas_client.errors import AuthError
from maas_client.flows import _chat_responses
from maas_client.flows._backend import ChatRequest
from maas_client.flows._io import IO
from maas_client.flows.azureml.deployments import endpoint_address
from maas_client.flows.identifiers import arm_name
from maas_client.types import ChatChunk, ChatCompletion
from maas_client.wire import chat

CHAT_TIMEOUT_S = 600.0
"""Deadline of a whole answer: a small machine writes slowly."""


def _name(order: ChatRequest) -> str:
    held = order.deployment
    return arm_name(held) if isinstance(held, str) else held.name


async def complete_chat(io: IO, order: ChatRequest) -> ChatCompletion:
    """Return the whole answer. A key that was regenerated meanwhile is fetched again once."""
    name = _name(order)
    url, key = await endpoint_address(io, name)
    try:
        answer = await io.send(
            chat.CHAT_COMPLETE, order.body, base_url=url, key=key, deadline_s=CHAT_TIMEOUT_S
        )
    except AuthError:
        url, key = await endpoint_address(io, name, refresh=True)
        answer = await io.send(
            chat.CHAT_COMPLETE, order.body, base_url=url, key=key, deadline_s=CHAT_TIMEOUT_S
        )
    return _chat_responses.parse_completion(answer.value)


async def stream_chat(io: IO, order: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
    """Yield the answer as it is written."""
    url, key = await endpoint_address(io, _name(order))
    body: dict[str, Any] = {**order.body, "stream": True}
    async for chunk in _chat_responses.parse_chunks(
        io.lines(chat.CHAT_COMPLETE, body, base_url=url, key=key)
    ):
        yield chunk
