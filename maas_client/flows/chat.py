"""``client.chat``: ask a deployment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from maas_client.errors import ConfigError
from maas_client.flows import _dialect
from maas_client.flows._dialect import ChatOrder
from maas_client.flows._io import IO
from maas_client.types import ChatChunk, ChatCompletion, Deployment, Message

Messages = Sequence[Mapping[str, Any] | Message]


async def complete(
    io: IO,
    deployment: Deployment | str,
    messages: Messages,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> ChatCompletion:
    """Return the whole answer: ``reply.choices[0].message.content``.

    ``extra`` goes into the body verbatim.
    """
    order = _order(
        deployment,
        messages,
        {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "stop": _stop(stop),
            "seed": seed,
            "tools": tools and [dict(t) for t in tools],
            "tool_choice": tool_choice,
        },
        extra,
    )
    return await _dialect.of(io).complete(io, order)


async def stream(
    io: IO,
    deployment: Deployment | str,
    messages: Messages,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> AsyncGenerator[ChatChunk, None]:
    """Iterate over the answer as it is written: ``chunk.choices[0].delta.content``.

    Raises ``TransportError`` when the stream ends before the answer does.
    """
    order = _order(
        deployment,
        messages,
        {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "stop": _stop(stop),
            "seed": seed,
            "tools": tools and [dict(t) for t in tools],
            "tool_choice": tool_choice,
        },
        extra,
    )
    async with aclosing(_dialect.of(io).stream(io, order)) as chunks:
        async for chunk in chunks:
            yield chunk


def _stop(stop: str | Sequence[str] | None) -> str | list[str] | None:
    return stop if stop is None or isinstance(stop, str) else list(stop)


def _order(
    deployment: Deployment | str,
    messages: Messages,
    given: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
) -> ChatOrder:
    if isinstance(messages, str | Mapping) or not messages:
        raise ConfigError(
            "messages is a list of messages",
            hint='For example [{"role": "user", "content": "Hello"}].',
        )
    said = [
        m.model_dump(exclude_none=True) if isinstance(m, Message) else dict(m) for m in messages
    ]
    body = {"messages": said, **{k: v for k, v in given.items() if v is not None}, **(extra or {})}
    return ChatOrder(deployment, body)
