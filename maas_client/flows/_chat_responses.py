"""From chat bodies and stream frames to the public nouns, the same for every dialect."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import ValidationError

from maas_client.errors import ServiceError, TransportError
from maas_client.types import ChatChunk, ChatCompletion
from maas_client.wire import chat, error_bodies


def parse_completion(body: dict[str, Any]) -> ChatCompletion:
    """Return the noun for a chat completion's body."""
    try:
        return ChatCompletion.model_validate({**body, "raw": body})
    except ValidationError as bad:
        raise _shape(bad) from None


def _shape(bad: ValidationError) -> ServiceError:
    first = bad.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(p) for p in first["loc"])
    return ServiceError(
        f"the answer is not a chat completion ({place}: {first['msg']})", operation="chat.complete"
    )


async def parse_chunks(lines: AsyncGenerator[str, None]) -> AsyncGenerator[ChatChunk, None]:
    """Yield the chunks of a stream.

    Raises ``TransportError`` when the stream ends before ``[DONE]``: half an answer is never taken for
    a whole one; ``ServiceError`` when the service reports an error within the stream.
    """
    async with aclosing(lines):
        async for data in chat.sse_payloads(lines):
            if data == chat.STREAM_END:
                return
            yield _chunk(data)
    raise TransportError("the stream ended before the answer did", hint="Ask again.")


def _chunk(data: str) -> ChatChunk:
    try:
        body = json.loads(data)
    except ValueError:
        raise ServiceError("a frame of the stream is not JSON", operation="chat.stream") from None
    if isinstance(body, dict) and body.get("error"):
        fault = error_bodies.parse_error(data.encode(), {"content-type": "application/json"})
        raise ServiceError(
            fault.message or "the stream broke off", code=fault.code, operation="chat.stream"
        )
    try:
        return ChatChunk.model_validate({**body, "raw": body})
    except (ValidationError, TypeError) as bad:
        if isinstance(bad, ValidationError):
            raise _shape(bad) from None
        raise ServiceError("a frame of the stream is no object", operation="chat.stream") from None
