"""Chat with a serverless endpoint: whole answers and streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from maas_client.errors import AuthError
from maas_client.flows import _replies
from maas_client.flows._dialect import ChatOrder
from maas_client.flows._io import IO
from maas_client.flows.azureml.deployments import address
from maas_client.flows.names import arm_name
from maas_client.types import ChatChunk, ChatCompletion
from maas_client.wire import chat

ANSWER_S = 600.0
"""Deadline of a whole answer: a small machine writes slowly."""


def _name(order: ChatOrder) -> str:
    held = order.deployment
    return arm_name(held) if isinstance(held, str) else held.name


async def complete(io: IO, order: ChatOrder) -> ChatCompletion:
    """Return the whole answer. A key that was regenerated meanwhile is fetched again once."""
    name = _name(order)
    url, key = await address(io, name)
    try:
        answer = await io.send(chat.CHAT_COMPLETE, order.body, at=url, key=key, deadline_s=ANSWER_S)
    except AuthError:
        url, key = await address(io, name, renew=True)
        answer = await io.send(chat.CHAT_COMPLETE, order.body, at=url, key=key, deadline_s=ANSWER_S)
    return _replies.completion(answer.value)


async def stream(io: IO, order: ChatOrder) -> AsyncGenerator[ChatChunk, None]:
    """Yield the answer as it is written."""
    url, key = await address(io, _name(order))
    body: dict[str, Any] = {**order.body, "stream": True}
    async for chunk in _replies.chunks(io.lines(chat.CHAT_COMPLETE, body, at=url, key=key)):
        yield chunk
