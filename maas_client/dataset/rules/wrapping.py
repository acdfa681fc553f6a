"""Recognise rows in a wrapping that can be removed without loss, and turns written as two messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from maas_client.dataset.formats.labels import holds_unwanted
from maas_client.dataset.formats.messages import read_columns, tools_by_name
from maas_client.dataset.issues import KeyPath

Row = dict[str, Any]
Wrapping = tuple[KeyPath, str, Callable[[], Any]]
"""Where the wrapping is, what it is, and a function that returns the row without it."""


def find_wrapping(value: Any) -> Wrapping | None:
    """Return the outermost wrapping of a row that the rules reject, or None."""
    if isinstance(value, str):
        inner = parse_text(value)
        if _is_row(inner) or _are_messages(inner):
            return (), "the row is JSON text", lambda: inner
    elif isinstance(value, list):
        if _are_messages(value):
            return (), "a list of messages", lambda: {"messages": value}
        if len(value) == 1 and (_is_row(value[0]) or _are_messages(value[0])):
            return (), "a list around one row", lambda: value[0]
    elif is_viewer_row(value) and not value.get("truncated_cells"):
        return (), "a row of the Hugging Face dataset viewer", lambda: value["row"]
    elif isinstance(value, dict) and "messages" in value:
        return _find_inner_wrapping(value)
    elif isinstance(value, dict) and len(value) == 1:
        [(key, inner)] = value.items()
        if _is_row(inner) and not holds_unwanted(key):
            return (), "an object around the row", lambda: inner
    return None


def is_viewer_row(value: Any) -> bool:
    """Return whether a value is a row as the Hugging Face dataset viewer returns it.

    The cells that it names in ``truncated_cells`` are incomplete.
    """
    return (
        isinstance(value, dict)
        and {"row_idx", "row"} <= value.keys() <= {"row_idx", "row", "truncated_cells"}
        and isinstance(value["row"], dict)
    )


def _find_inner_wrapping(row: Row) -> Wrapping | None:
    messages = row["messages"]
    path: KeyPath = ("messages",)
    if isinstance(messages, str) and (
        _are_messages(inner := parse_text(messages)) or _is_row(inner)
    ):
        return path, "JSON text", lambda: {**row, "messages": inner}
    if isinstance(messages, list) and len(messages) == 1 and _are_messages(messages[0]):
        return path, "a list within a list", lambda: {**row, "messages": messages[0]}
    if isinstance(messages, dict) and (columns := read_columns(messages)):
        return path, "a list for each key", lambda: {**row, "messages": columns}
    if isinstance(messages, dict) and set(messages) == {"messages"}:
        return path, "an object within the row", lambda: {**row, **messages}
    if isinstance(messages, list) and messages and all(isinstance(m, str) for m in messages):
        texts = [parse_text(message) for message in messages]
        if _are_messages(texts):
            return path, "a list of JSON texts", lambda: {**row, "messages": texts}
    return None


def parse_tools(value: Any) -> list[Any] | None:
    """Return the tools of a row whose notation can be corrected without loss, else None.

    JSON text, a single tool in place of a list, and functions without ``{"type": "function"}`` around them.
    """
    tools = parse_text(value) if isinstance(value, str) else value
    tools = tools_by_name(tools) if isinstance(tools, dict) else tools
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or not tools:
        return None
    parsed = [parse_text(tool) if isinstance(tool, str) else tool for tool in tools]
    if not all(isinstance(tool, dict) for tool in parsed):
        return None
    complete = [_complete_tool(tool) for tool in parsed]
    return complete if complete != value else None


def _complete_tool(tool: Row) -> Row:
    if isinstance(tool.get("function"), dict):
        return tool if "type" in tool else {"type": "function", **tool}
    if isinstance(tool.get("name"), str) and tool.keys() <= {
        "name",
        "description",
        "parameters",
        "strict",
    }:
        return {"type": "function", "function": tool}
    return tool


def parse_text(text: str) -> Any:
    """Return the value of a JSON text, or None; a repeated key or NaN makes it unclear."""
    if text.strip()[:1] not in ("[", "{", '"'):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_to_object, parse_constant=_reject)
    except (ValueError, RecursionError):
        return None
    return parse_text(value) if isinstance(value, str) else value


def _to_object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a repeated key")
    return row


def _reject(name: str) -> Any:
    raise ValueError(name)


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict) and ("role" in message or {"from", "value"} <= message.keys())
            for message in value
        )
    )


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("messages"), list | str)


def find_mergeable_messages(messages: list[Row]) -> list[int]:
    """Return the indices of assistant messages that continue the turn of the message before.

    These are a call after a text, a second call before the results of the first, and a text between a call
    and its result. Two texts, or a text after a call without a result, may be a lost message instead.
    """
    indices = []
    for index in range(1, len(messages)):
        before, message = messages[index - 1], messages[index]
        if before.get("role") != "assistant" or message.get("role") != "assistant":
            continue
        follows = _has_result_next(messages, index)
        if message.get("tool_calls") and not before.get("tool_calls"):
            is_split = index - 1 in indices or bool(before.get("content"))
        else:
            is_split = bool(before.get("tool_calls") or index - 1 in indices) and follows
        if is_split and can_join(before, message):
            indices.append(index)
    return indices


def _has_result_next(messages: list[Row], index: int) -> bool:
    """Return whether the next message that is not from the assistant is a tool result."""
    role = next((m.get("role") for m in messages[index:] if m.get("role") != "assistant"), None)
    return role == "tool"


_JOINABLE_KEYS = {"role", "content", "tool_calls", "weight", "name"}


def can_join(first: Row, second: Row) -> bool:
    """Return whether two assistant messages can be written as one without losing anything."""
    if (first.keys() | second.keys()) - _JOINABLE_KEYS:
        return False
    if _weight(first) != _weight(second) or first.get("name") != second.get("name"):
        return False
    calls = [message.get("tool_calls") or [] for message in (first, second)]
    texts = [message.get("content") or "" for message in (first, second)]
    return all(isinstance(c, list) for c in calls) and all(isinstance(t, str) for t in texts)


def _weight(message: Row) -> Any:
    weight = message.get("weight")
    return 1 if weight is None else weight


def join_turn(first: Row, second: Row) -> Row:
    """Return two assistant messages of one turn as one: the texts, a blank line between, and the calls."""
    texts = [text for text in (first.get("content"), second.get("content")) if text]
    calls = [*(first.get("tool_calls") or []), *(second.get("tool_calls") or [])]
    joined = {**first, **second, "content": "\n\n".join(texts) if texts else None}
    if calls:
        joined["tool_calls"] = calls
    return joined
