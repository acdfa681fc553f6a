"""Chat completions on a serverless endpoint (docs/azure-http.md section 5), and the frames of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from maas_client.wire.op import Op, Plane

CHAT_COMPLETE = Op(
    "chat.complete",
    "POST",
    Plane.INFERENCE,
    "/v1/chat/completions",
    dict[str, Any],
    resend="refused",
    body="json",
)
"""The OpenAI-shaped route; what the fine-tuning notebook uses."""
CHAT_INFERENCE = Op(
    "chat.inference",
    "POST",
    Plane.INFERENCE,
    "/chat/completions",
    dict[str, Any],
    resend="refused",
    body="json",
    query={"api-version": "2024-05-01-preview"},
)
"""Azure AI Model Inference: header ``extra-parameters`` error|drop|pass-through."""
CHAT_INFO = Op(
    "chat.info",
    "GET",
    Plane.INFERENCE,
    "/info",
    dict[str, Any],
    query={"api-version": "2024-05-01-preview"},
)
CHAT_MODELS = Op("chat.models", "GET", Plane.INFERENCE, "/v1/models", dict[str, Any])

OPERATIONS: tuple[Op[Any], ...] = (CHAT_COMPLETE, CHAT_INFERENCE, CHAT_INFO, CHAT_MODELS)

STREAM_END = "[DONE]"


def sse_frame(data: str) -> bytes:
    """Return one server-sent event. Only ``data:`` lines and blank ones, ``\\n`` alone: Azure's own
    client raises on anything else."""
    return f"data: {data}\n\n".encode()


async def sse_payloads(lines: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """Yield the ``data`` of each event up to ``[DONE]``; comments and other fields are skipped.

    Ends without ``[DONE]`` only when the stream did; the caller decides what that means.
    """
    async for line in lines:
        if line.startswith("data:"):
            yield line[5:].strip()
