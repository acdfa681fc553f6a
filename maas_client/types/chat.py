"""Chat completions, in the shape this whole field uses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from maas_client.types._api_model import ApiModel


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


class FunctionCall(_Part):
    """What a tool call names and passes."""

    name: str = ""
    arguments: str = ""
    """JSON text, as the model wrote it."""


class ToolCall(_Part):
    """One call the model asks for."""

    index: int | None = None
    id: str | None = None
    type: str = "function"
    function: FunctionCall = Field(default_factory=FunctionCall)


class Message(_Part):
    """One message of a conversation."""

    role: str
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None


class Choice(_Part):
    """One answer among those asked for."""

    index: int = 0
    message: Message
    finish_reason: str | None = None


class Usage(_Part):
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ChatCompletion(ApiModel):
    """A whole answer: ``reply.choices[0].message.content``."""

    id: str = ""
    created: int | None = None
    model: str | None = None
    choices: tuple[Choice, ...]
    usage: Usage | None = None


class Delta(_Part):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None


class ChunkChoice(_Part):
    """One choice's part of a chunk."""

    index: int = 0
    delta: Delta = Field(default_factory=Delta)
    finish_reason: str | None = None


class ChatChunk(ApiModel):
    """A piece of a streamed answer: ``chunk.choices[0].delta.content``.

    ``choices`` may be empty: the usage chunk, and Azure OpenAI's first one.
    """

    id: str = ""
    created: int | None = None
    model: str | None = None
    choices: tuple[ChunkChoice, ...] = ()
    usage: Usage | None = None
