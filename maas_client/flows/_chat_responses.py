"""Parse chat responses and stream frames into the public types, for both dialects."""

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
    """Return a chat completion's body as a ``ChatCompletion``."""
    try:
        return ChatCompletion.model_validate({**body, "raw": body})
    except ValidationError as error:
        raise _invalid_shape(error) from None


def _invalid_shape(error: ValidationError) -> ServiceError:
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return ServiceError(
        f"the response is not a chat completion ({field}: {first['msg']})",
        operation="chat.complete",
    )


async def parse_chunks(lines: AsyncGenerator[str, None]) -> AsyncGenerator[ChatChunk, None]:
    """Yield the chunks of a stream.

    Raises ``TransportError`` when the stream ends before ``[DONE]``, so that half an answer is never
    taken for a whole one, and ``ServiceError`` when the service reports an error within the stream.
    """
    async with aclosing(lines):
        async for data in chat.sse_payloads(lines):
            if data == chat.STREAM_END:
                return
            yield _parse_chunk(data)
    raise TransportError("the stream ended before the answer was complete", hint="Ask again.")


def _parse_chunk(data: str) -> ChatChunk:
    try:
        body = json.loads(data)
    except ValueError:
        raise ServiceError("a stream event is not JSON", operation="chat.stream") from None
    if isinstance(body, dict) and body.get("error"):
        error = error_bodies.parse_error(data.encode(), {"content-type": "application/json"})
        raise ServiceError(
            error.message or "the service reported an error within the stream",
            code=error.code,
            operation="chat.stream",
        )
    try:
        return ChatChunk.model_validate({**body, "raw": body})
    except ValidationError as invalid:
        raise _invalid_shape(invalid) from None
    except TypeError:
        raise ServiceError("a stream event is not a JSON object", operation="chat.stream") from None
