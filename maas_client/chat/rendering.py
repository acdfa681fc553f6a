"""Render messages to text: for training as segments with their loss mask, for answering as a prompt.

Nothing that a template would drop is dropped silently. A leading system message is merged into the first user
message if the template has no system role (as Azure does); everything else is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maas_client.chat.templates import ChatTemplate, ToolFormat
from maas_client.errors import DatasetError

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the rendered text.

    Attributes:
        text: The text.
        in_loss: True if its tokens count in the loss: the model learns to write them.
    """

    text: str
    in_loss: bool


@dataclass(frozen=True, slots=True)
class TemplateMismatch:
    """A part of a row that a template cannot express.

    Attributes:
        pointer: A JSON pointer into the row, such as ``/messages/0/role`` or ``/tools``.
        message: What does not fit.
        is_merged: True if nothing is lost, because the text is moved; False if the row cannot be rendered.
    """

    pointer: str
    message: str
    is_merged: bool


def find_mismatches(
    messages: Messages, tools: Tools, template: ChatTemplate
) -> list[TemplateMismatch]:
    """Return what a template would drop or move of a row, in the row's order.

    Args:
        messages: The row's messages.
        tools: The row's tool definitions.
        template: The model's chat template.
    """
    mismatches = []
    if tools and template.tools is None:
        text = f"{template.name}'s template does not support tools"
        mismatches.append(TemplateMismatch("/tools", text, is_merged=False))
    for index, message in enumerate(messages):
        mismatches += _message_mismatches(index, message, messages, template)
    return mismatches


def _message_mismatches(
    index: int, message: Mapping[str, Any], messages: Messages, template: ChatTemplate
) -> Iterator[TemplateMismatch]:
    role, pointer = message.get("role"), f"/messages/{index}"
    if role == "system" and template.system_handling == "merged":
        if not _text(message.get("content")):
            return
        text = f"{template.name}'s template has no system role"
        if index == 0 and any(m.get("role") == "user" for m in messages):
            text += ": the message is merged into the first user message, as the service does"
            yield TemplateMismatch(f"{pointer}/role", text, is_merged=True)
        else:
            text += ": only a first message, with a user message after it, can be merged"
            yield TemplateMismatch(f"{pointer}/role", text, is_merged=False)
    elif role not in template.roles:
        roles = ", ".join(template.roles)
        text = f"{template.name}'s template does not support role {role!r} (supported: {roles})"
        yield TemplateMismatch(f"{pointer}/role", text, is_merged=False)
    if message.get("tool_calls"):
        if template.tools is None:
            text = f"{template.name}'s template does not support tool calls"
            yield TemplateMismatch(f"{pointer}/tool_calls", text, is_merged=False)
        elif role != "assistant":
            text = "only assistant messages can call tools"
            yield TemplateMismatch(f"{pointer}/tool_calls", text, is_merged=False)


def render(messages: Messages, tools: Tools, template: ChatTemplate) -> list[Segment]:
    """Render a conversation for training, exactly as the model's own template would.

    The assistant's content and the end-of-turn token after it count in the loss, unless the message has
    ``"weight": 0``.

    Args:
        messages: The row's messages.
        tools: The row's tool definitions.
        template: The model's chat template.

    Returns:
        The text as segments, alternating between outside and inside the loss.

    Raises:
        DatasetError: The template cannot express a part of the row.
    """
    segments: list[Segment] = []
    for segment in _segments(messages, tools, template, template.eos):
        if segments and segments[-1].in_loss == segment.in_loss:
            segments[-1] = Segment(segments[-1].text + segment.text, segment.in_loss)
        elif segment.text:
            segments.append(segment)
    return segments


def render_prompt(messages: Messages, tools: Tools, template: ChatTemplate) -> str:
    """Render a conversation as a prompt, after which the model writes its answer.

    Args:
        messages: The messages.
        tools: The tool definitions.
        template: The model's chat template.

    Raises:
        DatasetError: The template cannot express a part of the conversation.
    """
    segments = _segments(messages, tools, template, template.generation_prompt)
    return "".join(segment.text for segment in segments)


def _segments(
    messages: Messages, tools: Tools, template: ChatTemplate, end: str
) -> Iterator[Segment]:
    for mismatch in find_mismatches(messages, tools, template):
        if not mismatch.is_merged:
            raise DatasetError(
                f"{mismatch.message} (at {mismatch.pointer})",
                hint="Remove it, or choose a model whose template supports it.",
            )
    yield Segment(template.bos, in_loss=False)
    for role, content, in_loss in _turns(messages, tools, template):
        turn = template.turns[role]
        end_of_turn = len(template.end_of_turn) if in_loss else 0
        yield Segment(turn.before, in_loss=False)
        yield Segment(content + turn.after[:end_of_turn], in_loss)
        yield Segment(turn.after[end_of_turn:], in_loss=False)
    yield Segment(end, in_loss=False)


def _turns(
    messages: Messages, tools: Tools, template: ChatTemplate
) -> Iterator[tuple[str, str, bool]]:
    """Yield ``(role, content, in_loss)`` for every turn that the template writes."""
    definitions = _render_definitions(tools, template.tools) if tools and template.tools else ""
    first_role = messages[0].get("role") if messages else None
    if first_role != "system" and (template.default_system_message is not None or definitions):
        yield "system", (template.default_system_message or "") + definitions, False
    merged = ""
    for index, message in enumerate(messages):
        role, content = str(message["role"]), _text(message.get("content"))
        if role == "system" and template.system_handling == "merged":
            merged = f"{content}\n\n" if content else ""
        elif role == "system":
            content += definitions if index == 0 else ""
            if content or template.system_handling == "kept":
                yield role, content, False
        elif role == "user":
            yield role, merged + content, False
            merged = ""
        elif role == "tool" and template.tools:
            yield template.tools.result_role, content, False
        else:
            calls = message.get("tool_calls")
            text = _render_calls(calls, template.tools, index) if calls and template.tools else ""
            yield role, content + text, message.get("weight", 1) != 0


def _text(content: Any) -> str:
    """Return a message's content as text; the text parts of a list are joined by newlines."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        texts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _render_definitions(tools: Sequence[Mapping[str, Any]], tool_format: ToolFormat) -> str:
    functions = _to_json([tool.get("function", tool) for tool in tools])
    return tool_format.definitions_before + functions + tool_format.definitions_after


def _render_calls(calls: Sequence[Mapping[str, Any]], tool_format: ToolFormat, index: int) -> str:
    rendered = []
    for number, call in enumerate(calls):
        function = call.get("function", {})
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except (TypeError, ValueError, RecursionError):
            pointer = f"/messages/{index}/tool_calls/{number}/function/arguments"
            raise DatasetError(
                f"the arguments of a tool call are not valid JSON (at {pointer})",
                hint="Write them as a string that contains one JSON object.",
            ) from None
        rendered.append({"name": function.get("name"), "arguments": arguments})
    return tool_format.call_before + _to_json(rendered) + tool_format.call_after
