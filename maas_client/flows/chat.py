"""``client.chat``: ask a deployment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from maas_client.errors import ConfigError
from maas_client.flows import _backend, identifiers
from maas_client.flows._backend import ChatRequest
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
        extra,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=stop,
        seed=seed,
        tools=tools,
        tool_choice=tool_choice,
    )
    return await _backend.backend_for(io).complete(io, order)


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
        extra,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        stop=stop,
        seed=seed,
        tools=tools,
        tool_choice=tool_choice,
    )
    async with aclosing(_backend.backend_for(io).stream(io, order)) as chunks:
        async for chunk in chunks:
            yield chunk


def _order(
    deployment: Deployment | str,
    messages: Messages,
    extra: Mapping[str, Any] | None,
    **given: Any,
) -> ChatRequest:
    """Return the request: what was given, any sequence as a list, and ``extra`` verbatim."""
    if isinstance(messages, str | Mapping) or not messages:
        raise ConfigError(
            "messages is a list of messages",
            hint='For example [{"role": "user", "content": "Hello"}].',
        )
    said = [
        m.model_dump(exclude_none=True) if isinstance(m, Message) else dict(m) for m in messages
    ]
    told = {
        name: value
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence)
        else list(value)
        for name, value in given.items()
        if value is not None
    }
    identifiers.deployment_id(deployment)  # raises for what names none
    return ChatRequest(deployment, {"messages": said, **told, **(extra or {})})
