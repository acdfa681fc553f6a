"""Messages with roles: their functions, and content parts of Anthropic, Bedrock, Gemini and others."""

from __future__ import annotations

import json
from typing import Any

from maas_client.dataset.formats.fields import (
    ConversionError,
    Fields,
    KeyNote,
    Row,
    describe_key,
    is_empty,
    normalize_key,
    to_text,
)
from maas_client.dataset.formats.labels import is_label_key, is_wanted, take_weight
from maas_client.dataset.formats.messages import (
    ROLE_BY_SPEAKER,
    VALUE_NAMES,
    MessageBuilder,
    build_messages,
    content_of,
    parse_json_text,
    to_turn_list,
)


def build_chat_messages(value: Any, fields: Fields, name: str) -> list[Row]:
    """Return messages that have roles, with functions, content blocks and masks of other tools converted."""
    source = to_turn_list(value, name)
    source = [_read_item(parse_json_text(item, "a message")) for item in source]
    if any(isinstance(message, dict) and "parts" in message for message in source):
        return build_gemini_messages(source, fields)
    if any(isinstance(message, dict) and _needs_builder(message) for message in source):
        return build_messages(source, fields, name)
    messages: list[Row] = []
    open_calls: list[str] = []
    for number, message in enumerate(source):
        if not isinstance(message, dict):
            raise ConversionError("a message is not an object")
        messages += _convert_message(dict(message), number, open_calls, fields)
    return messages


def _needs_builder(message: Row) -> bool:
    """Return whether a message is a turn in another notation: no role, a call as its text, no content."""
    role = str(message.get("role")).strip().casefold()
    return (
        "role" not in message
        or ROLE_BY_SPEAKER.get(role) == "call"
        or (ROLE_BY_SPEAKER.get(role) == "tool" and role not in ("tool", "function", "ipython"))
        or ("content" not in message and bool(message.keys() & {*VALUE_NAMES}))
    )


def _read_item(item: Any) -> Any:
    """Return an item of OpenAI's Responses API as a message; other values as they are."""
    kind = item.get("type") if isinstance(item, dict) and "from" not in item else None
    if kind == "function_call" and "name" in item:
        function = {"name": item["name"], "arguments": item.get("arguments") or "{}"}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        content = _result_text(item.get("output"))
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
    if kind == "message" and "role" in item:
        return {key: value for key, value in item.items() if key not in ("type", "id", "status")}
    return item


def build_gemini_messages(contents: list[Any], fields: Fields) -> list[Row]:
    """Return turns whose content is a list of parts: texts, calls and results."""
    builder = MessageBuilder(fields)
    for content in contents:
        if not isinstance(content, dict):
            raise ConversionError("a turn is not an object")
        turn = {key: value for key, value in content.items() if key != "parts"}
        parts = content.get("parts")
        calls: list[Row] = []
        texts: list[Row] = []
        results: list[Row] = []
        for part in parts if isinstance(parts, list) else [parts]:
            part = {"text": part} if isinstance(part, str) else part
            members = fields.of(part if isinstance(part, dict) else {})
            text = members.get("text")
            call = members.get("functionCall")
            result = members.get("functionResponse")
            if isinstance(call, dict):
                calls.append(call)
            elif isinstance(result, dict):
                results.append(result)
            elif isinstance(text, str):
                texts.append({"type": "text", "text": text})
            members.mark_read("thoughtSignature")
            for name, key in members.unread():
                if not members.is_ignored(name):
                    shown = describe_key(key)
                    raise ConversionError(f"the key {shown} of a part cannot be converted")
                fields.notes.append(KeyNote(key, "a part"))
        for result in results:
            builder.add_result_of(result.get("name"), result.get("response"))
        text = texts[0]["text"] if len(texts) == 1 else texts
        if calls or texts:
            role = turn.pop("role", None) or "user"
            builder.add({**turn, "role": role, "content": text, "tool_calls": calls})
        elif not results:
            raise ConversionError("a turn has no parts")
    return builder.messages


_KEPT_KEYS = ("role", "content")
"""Keys of a message that stay where they are null: the rules name them."""
_STANDARD_ROLES = ("system", "user", "assistant", "tool", "function")


def _convert_message(message: Row, number: int, open_calls: list[str], fields: Fields) -> list[Row]:
    """Return a message as messages; ``open_calls`` has the ids of calls of ``function_call``."""
    role = message["role"]
    if isinstance(role, str) and role not in _STANDARD_ROLES:
        standard_role = ROLE_BY_SPEAKER.get(role.strip().casefold())
        message["role"] = role = standard_role if standard_role in _STANDARD_ROLES else role
    weight = take_weight(message)
    if weight is not None and role == "assistant":
        message["weight"] = weight
    call = message.pop("function_call", None)
    if isinstance(call, dict):
        open_calls.append(f"call_{number}")
        message["tool_calls"] = [{"id": open_calls[-1], "type": "function", "function": call}]
        if message.get("content") is None:
            message.pop("content", None)
    elif call is not None:
        raise ConversionError("function_call is not an object")
    elif role == "function":
        if not open_calls:
            raise ConversionError("a function result without a call")
        message["role"], message["tool_call_id"] = "tool", open_calls.pop(0)
        message.pop("name", None)
    for key in list(message) if role == "assistant" else ():
        is_ignored = fields.is_ignored(normalize_key(key))
        wanted = None if is_ignored else is_wanted(key, message[key])
        if wanted is False:
            message["weight"] = 0
        if wanted is not None or is_label_key(key):
            del message[key]
            fields.notes.append(KeyNote(key, "a message"))
    message = {key: v for key, v in message.items() if key in _KEPT_KEYS or v not in (None, [])}
    if isinstance(message.get("content"), list):
        return _convert_blocks(message, fields)
    return [message]


_BLOCK_KEYS = {
    "tool_use": ("type", "id", "name", "input"),
    "tool_result": ("type", "tool_use_id", "content", "tool_result"),
}


CONVERTED_PARTS = {
    "text",
    "toolUse",
    "toolResult",
    "tool_use",
    "tool_result",
    "tool_call",
    "input_text",
    "output_text",
}
"""Types, or the only keys, of content parts of other tools that ``build_chat_messages`` converts."""


def _read_block(block: Any) -> Any:
    """Return a content part of Bedrock, Azure's evaluation or LLaMA-Factory in Anthropic's notation."""
    if not isinstance(block, dict):
        return block
    if isinstance(call := block.get("toolUse"), dict) and len(block) == 1:
        names = {"toolUseId": "id"}
        return {"type": "tool_use", **{names.get(key, key): v for key, v in call.items()}}
    if isinstance(result := block.get("toolResult"), dict) and len(block) == 1:
        names = {"toolUseId": "tool_use_id"}
        return {"type": "tool_result", **{names.get(key, key): v for key, v in result.items()}}
    if block.get("type") == "tool_call" and isinstance(block.get("name"), str):
        names = {"tool_call_id": "id", "arguments": "input"}
        call = {names.get(key, key): value for key, value in block.items()}
        arguments = parse_json_text(call.get("input"), "arguments")
        return {**call, "type": "tool_use", "input": arguments}
    if block.get("type") == "text" and "value" in block and "text" not in block:
        return {**{key: v for key, v in block.items() if key != "value"}, "text": block["value"]}
    return block


def _result_text(value: Any) -> Any:
    """Return what a tool returned as the content of a message."""
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        value = [{"text": to_text(p["json"], "json")} if set(p) == {"json"} else p for p in value]
    return "" if is_empty(value) else content_of(value, "a tool result")


def _convert_blocks(message: Row, fields: Fields) -> list[Row]:
    """Return a message with Anthropic's content blocks as messages with calls and results."""
    texts, calls, results = [], [], []
    for block in map(_read_block, message["content"]):
        kind = block.get("type") if isinstance(block, dict) else None
        if isinstance(kind, str) and kind in _BLOCK_KEYS:
            fields.notes += [
                KeyNote(key, "a content block")
                for key in block
                if key not in _BLOCK_KEYS[kind] and not is_empty(block[key])
            ]
        if kind == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind == "tool_result":
            identifier = block.get("tool_use_id", message.get("tool_call_id"))
            content = _result_text(block.get("content", block.get("tool_result")))
            results.append({"role": "tool", "tool_call_id": identifier, "content": content})
        elif isinstance(block, dict) and set(block) == {"text"}:
            texts.append({"type": "text", "text": block["text"]})
        elif kind in ("input_text", "output_text"):
            texts.append({"type": "text", "text": block.get("text")})
        else:
            texts.append(block)
    converted = {**message, "content": texts}
    if calls:
        converted["tool_calls"] = calls
        if not texts:
            del converted["content"]
    return [*results, converted] if texts or calls or not results else results
