"""Messages to text: for training with what is learned marked, for answering as a prompt.

What a template would drop is never dropped silently: a leading system message is merged into the
first user turn (as Azure does for models without a system role), anything else is refused.
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
    """A piece of the text, and whether the model learns to write it."""

    text: str
    in_loss: bool


@dataclass(frozen=True, slots=True)
class TemplateMismatch:
    """A place where a template has no room for what a row says."""

    pointer: str
    """JSON pointer into the row: ``/messages/0/role``, ``/tools``."""
    message: str
    is_merged: bool
    """True: nothing is lost, the text goes elsewhere. False: the row cannot be rendered."""


def find_mismatches(
    messages: Messages, tools: Tools, template: ChatTemplate
) -> list[TemplateMismatch]:
    """Return what ``template`` would drop or move of this row, in order; empty if it all fits."""
    found = [
        TemplateMismatch(
            "/tools", f"{template.name}'s template has no place for tools", is_merged=False
        )
        for _ in range(bool(tools) and template.tools is None)
    ]
    for at, message in enumerate(messages):
        found += _misfits_of(at, message, messages, template)
    return found


def _misfits_of(
    at: int, message: Mapping[str, Any], messages: Messages, template: ChatTemplate
) -> Iterator[TemplateMismatch]:
    role, place = message.get("role"), f"/messages/{at}"
    if role == "system" and template.system_handling == "merged":
        if not _text(message.get("content")):
            return
        if at == 0 and any(other.get("role") == "user" for other in messages):
            text = f"{template.name}'s template drops system messages: merged into the first user"
            yield TemplateMismatch(
                f"{place}/role", f"{text} message, as the service does", is_merged=True
            )
        else:
            text = f"{template.name}'s template drops system messages, and only a first one with a"
            yield TemplateMismatch(
                f"{place}/role", f"{text} user message after it is merged", is_merged=False
            )
    elif role not in template.roles:
        known = ", ".join(template.roles)
        text = f"{template.name}'s template has no place for role {role!r} (it knows {known})"
        yield TemplateMismatch(f"{place}/role", text, is_merged=False)
    if message.get("tool_calls"):
        if template.tools is None:
            text = f"{template.name}'s template has no place for tool calls"
            yield TemplateMismatch(f"{place}/tool_calls", text, is_merged=False)
        elif role != "assistant":
            yield TemplateMismatch(
                f"{place}/tool_calls", "only assistants call tools", is_merged=False
            )


def render(messages: Messages, tools: Tools, template: ChatTemplate) -> list[Segment]:
    """Return the whole conversation for training; its text is the model's own template's.

    Learned are the assistant's content and the end-of-turn token after it, unless the message
    says ``"weight": 0``. Raises ``DatasetError`` for what the template has no place for.
    """
    merged: list[Segment] = []
    for segment in _segments(messages, tools, template, template.eos):
        if merged and merged[-1].in_loss == segment.in_loss:
            merged[-1] = Segment(merged[-1].text + segment.text, segment.in_loss)
        elif segment.text:
            merged.append(segment)
    return merged


def render_prompt(messages: Messages, tools: Tools, template: ChatTemplate) -> str:
    """Return the conversation as a prompt: the next thing the model writes is its answer."""
    pieces = _segments(messages, tools, template, template.generation_prompt)
    return "".join(segment.text for segment in pieces)


def _segments(
    messages: Messages, tools: Tools, template: ChatTemplate, tail: str
) -> Iterator[Segment]:
    for misfit in find_mismatches(messages, tools, template):
        if not misfit.is_merged:
            raise DatasetError(
                f"{misfit.message} (at {misfit.pointer})",
                hint="Take it out, or choose a model whose template has a place for it.",
            )
    yield Segment(template.bos, in_loss=False)
    for role, content, learned in _turns(messages, tools, template):
        turn, end = template.turns[role], len(template.end_of_turn) if learned else 0
        yield Segment(turn.before, in_loss=False)
        yield Segment(content + turn.after[:end], learned)
        yield Segment(turn.after[end:], in_loss=False)
    yield Segment(tail, in_loss=False)


def _turns(
    messages: Messages, tools: Tools, template: ChatTemplate
) -> Iterator[tuple[str, str, bool]]:
    """Yield ``(role, content, learned)`` as the template writes them."""
    defined = _definitions(tools, template.tools) if tools and template.tools else ""
    first = messages[0].get("role") if messages else None
    if first != "system" and (template.default_system_message is not None or defined):
        yield "system", (template.default_system_message or "") + defined, False
    waiting = ""
    for at, message in enumerate(messages):
        role, content = str(message["role"]), _text(message.get("content"))
        if role == "system" and template.system_handling == "merged":
            waiting = f"{content}\n\n" if content else ""
        elif role == "system":
            content += defined if at == 0 else ""
            if content or template.system_handling == "kept":
                yield role, content, False
        elif role == "user":
            yield role, waiting + content, False
            waiting = ""
        elif role == "tool" and template.tools:
            yield template.tools.result_role, content, False
        else:
            calls = message.get("tool_calls")
            called = _calls(calls, template.tools, at) if calls and template.tools else ""
            yield role, content + called, message.get("weight", 1) != 0


def _text(content: Any) -> str:
    """Return a message's content as text; the text parts of a list are joined by line ends."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _definitions(tools: Sequence[Mapping[str, Any]], form: ToolFormat) -> str:
    return (
        form.definitions_before
        + _json([tool.get("function", tool) for tool in tools])
        + form.definitions_after
    )


def _calls(calls: Sequence[Mapping[str, Any]], form: ToolFormat, at: int) -> str:
    said = []
    for number, call in enumerate(calls):
        function = call.get("function", {})
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except (TypeError, ValueError):
            place = f"/messages/{at}/tool_calls/{number}/function/arguments"
            raise DatasetError(
                f"the arguments of a tool call are not JSON (at {place})",
                hint="Write them as the text of one JSON object.",
            ) from None
        said.append({"name": function.get("name"), "arguments": arguments})
    return form.call_before + _json(said) + form.call_after
