"""The chat operations of a serverless endpoint, and its event stream (docs/azure-http.md section 5)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Any

from pydantic import ValidationError

from maas_client.errors import ServiceError, TransportError
from maas_client.types import ChatChunk, ChatCompletion
from maas_client.wire import error_bodies
from maas_client.wire.operation import Operation, Plane

JSON = dict[str, Any]
_MODEL_INFERENCE = {"api-version": "2024-05-01-preview"}

# fmt: off
CHAT_COMPLETE = Operation("chat.complete", "POST", Plane.INFERENCE, "/v1/chat/completions", JSON,
                          resend="refused", body="json")
"""The OpenAI-shaped route, which Microsoft's fine-tuning notebook uses."""
CHAT_INFERENCE = Operation("chat.inference", "POST", Plane.INFERENCE, "/chat/completions", JSON,
                           resend="refused", body="json", query=_MODEL_INFERENCE)
"""Azure AI Model Inference. The header ``extra-parameters`` is ``error``, ``drop`` or ``pass-through``."""
CHAT_INFO = Operation("chat.info", "GET", Plane.INFERENCE, "/info", JSON, query=_MODEL_INFERENCE)
CHAT_MODELS = Operation("chat.models", "GET", Plane.INFERENCE, "/v1/models", JSON)
# fmt: on

OPERATIONS: tuple[Operation[Any], ...] = (CHAT_COMPLETE, CHAT_INFERENCE, CHAT_INFO, CHAT_MODELS)

STREAM_END = "[DONE]"


def sse_frame(data: str) -> bytes:
    """Return one server-sent event.

    Azure's own client accepts only ``data:`` lines and blank lines that end in ``\\n``.
    """
    return f"data: {data}\n\n".encode()


async def sse_payloads(lines: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """Yield the ``data`` of each event, ``[DONE]`` included. Comments and other fields are skipped.

    A stream that was cut off ends without ``[DONE]``; the caller decides what to do.
    """
    async for line in lines:
        if line.startswith("data:"):
            yield line[5:].strip()


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
        async for data in sse_payloads(lines):
            if data == STREAM_END:
                return
            yield _parse_chunk(data)
    raise TransportError("the stream ended before the answer was complete", hint="Ask again.")


def _parse_chunk(data: str) -> ChatChunk:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
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
