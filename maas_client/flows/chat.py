"""``client.chat``: send chat requests to a deployment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypedDict, Unpack

from maas_client._messages import Argument, Call, Text
from maas_client.errors import ConfigError
from maas_client.flows import identifiers
from maas_client.flows._io import IO, Coro
from maas_client.flows._requests import ChatRequest, given_twice, is_foundry
from maas_client.flows._signature import expand_options
from maas_client.types import ChatChunk, ChatCompletion, Deployment, Message

Messages = Sequence[Mapping[str, Any] | Message]


class ChatBackend(Protocol):
    """What a backend's module for chat must have."""

    def complete_chat(self, io: IO, request: ChatRequest) -> Coro[ChatCompletion]: ...
    def stream_chat(self, io: IO, request: ChatRequest) -> AsyncGenerator[ChatChunk, None]: ...


def _backend(io: IO) -> ChatBackend:
    if is_foundry(io):
        from maas_client.flows.foundry import deployments as foundry_deployments

        return foundry_deployments
    from maas_client.flows.azureml import deployments as azureml_deployments

    return azureml_deployments


class ChatOptions(TypedDict, total=False):
    """Options that ``chat.complete`` and ``chat.stream`` share; the docstrings of both describe them."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str] | None
    seed: int | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    extra: Mapping[str, Any] | None


CHAT_OPTION_DEFAULTS: ChatOptions = {
    "max_tokens": None,
    "temperature": None,
    "top_p": None,
    "stop": None,
    "seed": None,
    "tools": None,
    "tool_choice": None,
    "extra": None,
}


@expand_options(ChatOptions, CHAT_OPTION_DEFAULTS)
async def complete(
    io: IO,
    deployment: Deployment | str,
    messages: Messages,
    **options: Unpack[ChatOptions],
) -> ChatCompletion:
    """Send a chat and return the complete answer.

    Args:
        deployment: A deployment or its name.
        messages: The conversation: mappings such as ``{"role": "user", "content": "Hello"}``, or
            ``Message`` objects.
        max_tokens: The largest number of tokens to generate; default: the service's.
        temperature: Randomness: 0 always takes the likeliest token; default: the service's, usually 1.
        top_p: Sample only from the likeliest tokens whose probabilities add up to this, from 0 to 1;
            default: the service's, usually 1.
        stop: One or more texts at which generation ends; they are not part of the answer; default: none.
        seed: Makes sampling repeatable where the service supports it; default: not repeatable.
        tools: Functions that the model may call, as OpenAI-shaped tool definitions; default: none.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or ``{"type": "function", ...}``; default: the
            service's, ``"auto"`` if there are tools.
        extra: More fields for the request body, sent unchanged; default: none.

    Returns:
        The completion. The text is ``reply.choices[0].message.content``.

    Raises:
        ConfigError: ``messages`` is not a list of messages, or ``extra`` has a field that is also an
            argument, with another value, or ``stream``.
        NotFoundError: There is no such deployment.
        BadRequestError: The service rejected the request, for example because it is too long.
        RateLimitError: The deployment is overloaded, also after retries.

    Example:
        >>> reply = client.chat.complete("tickets", [{"role": "user", "content": "Hello"}])
        >>> reply.choices[0].message.content
        'Hello! How can I help?'
    """
    request = _to_request(deployment, messages, options)
    return await _backend(io).complete_chat(io, request)


@expand_options(ChatOptions, CHAT_OPTION_DEFAULTS)
async def stream(
    io: IO,
    deployment: Deployment | str,
    messages: Messages,
    **options: Unpack[ChatOptions],
) -> AsyncGenerator[ChatChunk, None]:
    """Send a chat and iterate over the answer as it is generated.

    Args:
        deployment: A deployment or its name.
        messages: The conversation: mappings such as ``{"role": "user", "content": "Hello"}``, or
            ``Message`` objects.
        max_tokens: The largest number of tokens to generate; default: the service's.
        temperature: Randomness: 0 always takes the likeliest token; default: the service's, usually 1.
        top_p: Sample only from the likeliest tokens whose probabilities add up to this, from 0 to 1;
            default: the service's, usually 1.
        stop: One or more texts at which generation ends; they are not part of the answer; default: none.
        seed: Makes sampling repeatable where the service supports it; default: not repeatable.
        tools: Functions that the model may call, as OpenAI-shaped tool definitions; default: none.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or ``{"type": "function", ...}``; default: the
            service's, ``"auto"`` if there are tools.
        extra: More fields for the request body, sent unchanged; default: none.

    Yields:
        The chunks of the answer. The text of each is ``chunk.choices[0].delta.content``.

    Raises:
        TransportError: The stream ended before the answer was complete.
        ConfigError: ``messages`` is not a list of messages, or ``extra`` has a field that is also an
            argument, with another value, or ``stream``.
        NotFoundError: There is no such deployment.
        BadRequestError: The service rejected the request, for example because it is too long.

    Example:
        >>> for chunk in client.chat.stream("tickets", [{"role": "user", "content": "Hello"}]):
        ...     print(chunk.choices[0].delta.content or "", end="")
        Hello! How can I help?
    """
    request = _to_request(deployment, messages, options)
    async with aclosing(_backend(io).stream_chat(io, request)) as chunks:
        async for chunk in chunks:
            yield chunk


def _to_request(
    deployment: Deployment | str, messages: Messages, options: ChatOptions
) -> ChatRequest:
    """Return the request: the options that are set, sequences as lists, and ``extra`` unchanged."""
    if (
        isinstance(messages, str | Mapping)
        or not isinstance(messages, Collection)
        or not messages
        or not all(isinstance(message, Message | Mapping) for message in messages)
    ):
        raise ConfigError(
            "messages must be a list of messages",
            hint='For example [{"role": "user", "content": "Hello"}].',
        )
    body: dict[str, Any] = {
        "messages": [
            message.model_dump(exclude_none=True) if isinstance(message, Message) else dict(message)
            for message in messages
        ]
    }
    for name, value in options.items():
        if name != "extra" and value is not None:
            is_list = isinstance(value, Sequence) and not isinstance(value, str)
            body[name] = list(value) if is_list else value  # type: ignore[call-overload]  # a sequence
    extra = options.get("extra") or {}
    for name, value in extra.items():
        if name in body and body[name] != value:
            raise given_twice(name)
        if name == "stream":
            raise ConfigError(
                Text.format(
                    "{} has the field stream, which the called method sets", Argument("extra")
                ),
                hint=Text.format(
                    "Leave it out, and call {} or {}.", Call("chat.complete"), Call("chat.stream")
                ),
            )
    identifiers.deployment_id(deployment)  # raises for a value that is not a deployment
    return ChatRequest(deployment, {**body, **extra})
