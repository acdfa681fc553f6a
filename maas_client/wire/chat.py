"""The chat operations of a serverless endpoint, and its event stream (docs/azure-http.md section 5)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

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
