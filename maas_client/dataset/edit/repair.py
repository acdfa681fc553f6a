"""Repair one line or one row without losing data. Each repair is described in words."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from maas_client.dataset.edit.encoding import decode_cp1252
from maas_client.dataset.formats.labels import is_mask_key, weight_for
from maas_client.dataset.formats.messages import ROLE_BY_SPEAKER
from maas_client.dataset.parsing.json_scan import scan_json
from maas_client.dataset.rules.unsupported_fields import is_system_key, system_text
from maas_client.dataset.rules.wrapping import (
    find_mergeable_messages,
    find_wrapping,
    join_turn,
    parse_tools,
)

Row = dict[str, Any]
CP1252_REPAIR = "converted Windows-1252 to UTF-8"
_PADDING = "\x00\x0b\x0c \t\r\n\x85\xa0\u2028\u2029\ufeff"
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")


def dump_json(value: Any) -> bytes:
    """Return a value as one line of JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


class UnrepairableError(ValueError):
    """A line cannot be repaired without guessing."""


def parse_leniently(line: bytes) -> tuple[list[Any], list[str]]:
    """Return the JSON values of a line and the repairs that were needed to read them.

    Raises ``UnrepairableError``. Duplicate keys are merged if their values are equal; otherwise the line
    cannot be repaired.
    """
    repairs = []
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        cp1252_text = decode_cp1252(line)
        if cp1252_text is None:
            raise UnrepairableError("bytes that are not UTF-8") from None
        text, line = cp1252_text, cp1252_text.encode()
        repairs.append(CP1252_REPAIR)
    document = scan_json(line)
    if not document.errors:
        return [document.value], repairs
    stripped = text.strip(_PADDING)
    if stripped != text.strip(" \t\r\n"):
        repairs.append("removed stray characters around the object")
    try:
        values = _parse_values(stripped)
    except ValueError:
        values, syntax_repairs = _parse_invalid(stripped)
        repairs += syntax_repairs
    else:
        repairs += _describe_errors(document.errors, len(values))
        if stripped.endswith(","):
            repairs.append("removed commas after the object")
    for value in values:
        _check_duplicate_keys(value)
    return [_to_plain(value) for value in values], repairs or ["rewrote the line"]


def _describe_errors(errors: list[Any], count: int) -> list[str]:
    descriptions = {
        "JSON_CONTROL_CHARACTER": "escaped raw control characters",
        "JSON_DUPLICATE_KEY": "merged duplicate keys with equal values",
    }
    repairs = [descriptions[error.code] for error in errors if error.code in descriptions]
    if count > 1:
        repairs.append("split several objects on one line")
    return list(dict.fromkeys(repairs))


def _parse_values(text: str) -> list[Any]:
    """Parse consecutive values, with commas or nothing between them."""
    values, at = [], 0
    while at < len(text):
        value, at = _parse_value(text, at)
        values.append(value)
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
    if not values:
        raise ValueError("the text is empty")
    return values


def _parse_value(text: str, at: int) -> tuple[Any, int]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_Pairs, strict=False, parse_constant=_reject_constant
    )
    try:
        return decoder.raw_decode(text, at)
    except RecursionError:
        raise UnrepairableError("nested too deeply") from None


def _reject_constant(name: str) -> Any:
    raise UnrepairableError(f"{name} is not JSON")


class _Pairs(list[tuple[str, Any]]):
    """The members of an object in order, including duplicate keys."""


def _check_duplicate_keys(value: Any) -> None:
    """Raise ``UnrepairableError`` for duplicate keys with different values."""
    if isinstance(value, _Pairs):
        seen: dict[str, Any] = {}
        for key, inner in value:
            if key in seen and _to_plain(seen[key]) != _to_plain(inner):
                raise UnrepairableError("duplicate keys with different values")
            seen[key] = inner
            _check_duplicate_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_duplicate_keys(inner)


def _to_plain(value: Any) -> Any:
    """Return a value with every ``_Pairs`` converted to a dict."""
    if isinstance(value, _Pairs):
        return {key: _to_plain(inner) for key, inner in value}
    return [_to_plain(inner) for inner in value] if isinstance(value, list) else value


def _parse_invalid(text: str) -> tuple[list[Any], list[str]]:
    """Parse what a JSON reader rejects: trailing commas, or a Python dictionary."""
    without_commas = _remove_trailing_commas(text)
    if without_commas != text:
        try:
            return _parse_values(without_commas), ["removed trailing commas"]
        except ValueError:
            pass
    if len(text) < 1 << 20 and text[:1] == "{":
        try:
            value = ast.literal_eval(text)
            return [json.loads(json.dumps(value, allow_nan=False))], ["converted Python to JSON"]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    raise UnrepairableError("not JSON")


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _remove_trailing_commas(text: str) -> str:
    """Remove commas before a closing bracket, except inside strings."""
    parts, at = [], 0
    for match in _STRING.finditer(text):
        parts += [(text[at : match.start()], False), (match[0], True)]
        at = match.end()
    parts.append((text[at:], False))
    joined = "".join(part if quoted else part.replace("\x00", " ") for part, quoted in parts)
    masked = "".join(("\x00" * len(part)) if quoted else part for part, quoted in parts)
    commas = {match.start() for match in _TRAILING_COMMA.finditer(masked)}
    return "".join(c for at, c in enumerate(joined) if at not in commas) if commas else text


_KEYS = ("messages", "tools", "role", "content", "name", "weight", "tool_calls", "tool_call_id")
_ROLES = ("system", "user", "assistant", "tool")


REPAIRABLE_WARNINGS = frozenset(("CHAT_KEY_UNKNOWN", "CHAT_SYSTEM_OUTSIDE", "CHAT_ALTERNATION"))
"""Codes of valid rows that ``repair_row`` may change, so that their meaning is not lost."""


def repair_row(value: Any) -> tuple[Any, list[str]]:
    """Return a row after the repairs that do not change its meaning, and their descriptions."""
    repairs: list[str] = []
    if isinstance(value, dict):
        value = _repair_keys(value, repairs)
    row = unwrap(value, repairs)
    if not isinstance(row, dict):
        return row, repairs
    row = _repair_keys(row, repairs)
    if (tools := parse_tools(row.get("tools"))) is not None:
        repairs.append("replaced the notation of tools")
        row["tools"] = tools
    messages = row.get("messages")
    if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        messages = [_repair_message(message, repairs) for message in messages]
        _number_calls(messages, repairs)
        row["messages"] = _join_turns(messages, repairs)
        _insert_system(row, repairs)
    return row, list(dict.fromkeys(repairs))


def unwrap(value: Any, repairs: list[str]) -> Any:
    """Remove the wrappings around a row or its messages, at most a few."""
    for _ in range(4):
        wrapping = find_wrapping(value)
        if wrapping is None:
            break
        repairs.append(f"removed a wrapping: {wrapping[1]}")
        value = wrapping[2]()
    return value


def _join_turns(messages: list[Row], repairs: list[str]) -> list[Row]:
    """Join assistant messages that are one turn."""
    split = find_mergeable_messages(messages)
    joined: list[Row] = []
    for index, message in enumerate(messages):
        if index in split:
            repairs.append("joined two assistant messages that are one turn")
            joined[-1] = join_turn(joined[-1], message)
        else:
            joined.append(message)
    return joined


def _insert_system(row: Row, repairs: list[str]) -> None:
    """Make a system prompt beside the messages the first message, unless that is not certain."""
    keys = [key for key in row if is_system_key(key)]
    texts = [text for key in keys if (text := system_text(row[key]))]
    messages = row["messages"]
    if len(keys) != 1 or len(texts) != 1 or not messages:
        return
    if not any(message.get("role") == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": texts[0]})
    elif messages[0].get("role") != "system" or messages[0].get("content") != texts[0]:
        return
    del row[keys[0]]
    repairs.append(f"put {keys[0].strip().casefold()} first, as a system message")


def _repair_keys(value: Row, repairs: list[str]) -> Row:
    """Correct the case of known keys and remove spaces around them."""
    renamed: Row = {}
    for key, inner in value.items():
        normalized = key.strip().lower()
        if key not in _KEYS and normalized in _KEYS and normalized not in value:
            repairs.append(f"corrected the spelling of the key {normalized}")
            renamed[normalized] = inner
        else:
            renamed[key] = inner
    return renamed


def _repair_message(value: Row, repairs: list[str]) -> Row:
    message = _repair_keys(value, repairs)
    role = message.get("role")
    if isinstance(role, str) and role not in _ROLES:
        standard_role = ROLE_BY_SPEAKER.get(role.strip().lower())
        if standard_role in _ROLES and role != "function":
            repairs.append("corrected the spelling of the role")
            message["role"] = standard_role
    _repair_content(message, repairs)
    _repair_calls(message, repairs)
    _replace_masks(message, repairs)
    weight = message.get("weight")
    if weight in ("0", "1", "0.0", "1.0", True, False, 0.0, 1.0) and type(weight) is not int:
        repairs.append("converted the weight to an integer")
        message["weight"] = int(float(weight))
    for function in _called_functions(message):
        _repair_arguments(function, repairs)
    return message


def _replace_masks(message: Row, repairs: list[str]) -> None:
    """Replace the loss masks of other tools by a weight, if all of them say the same."""
    keys = [key for key in message if key != "weight" and is_mask_key(key)]
    weights = {weight_for(key, message[key]) for key in keys if message[key] is not None}
    if not keys or None in weights or len(weights) > 1:
        return
    is_answer = message.get("role") == "assistant"
    if not is_answer and 1 in weights:
        return  # no target trains on this message
    if is_answer and weights:
        weight = weights.pop()
        if message.get("weight") is not None and str(message["weight"]) not in (
            f"{weight}",
            f"{weight}.0",
            f"{bool(weight)}",
        ):
            return
        if weight == 0 or "weight" in message:
            message["weight"] = weight
    for key in keys:
        del message[key]
    repairs.append("replaced a loss mask of another tool by the weight")


def _repair_content(message: Row, repairs: list[str]) -> None:
    """Write a content that is no text as text parts, or as JSON text."""
    content = message.get("content")
    if content is None and message.get("role") == "tool":
        repairs.append("replaced the missing result of a tool by an empty text")
        message["content"] = ""
    elif isinstance(content, dict) and ("type" in content or content.keys() == {"text"}):
        repairs.append("put a content part into a list")
        message["content"] = [{"type": "text", **content}]
    elif isinstance(content, list) and content and all(isinstance(part, str) for part in content):
        repairs.append("wrote texts as text parts")
        message["content"] = [{"type": "text", "text": part} for part in content]
    elif isinstance(content, int | float) or _is_data(content):
        repairs.append("wrote content that is no text as JSON text")
        message["content"] = json.dumps(content, ensure_ascii=False)


def _is_data(content: Any) -> bool:
    """Return whether a content is an object or a list of numbers, and no message parts."""
    if isinstance(content, dict):
        return bool(content) and not content.keys() & {"parts", "content", "text"}
    is_list = isinstance(content, list) and bool(content)
    return is_list and all(isinstance(item, int | float | list) for item in content)


def _repair_calls(message: Row, repairs: list[str]) -> None:
    """Make tool calls a list of objects with a type and a function."""
    calls = message.get("tool_calls")
    if calls == [] or (isinstance(calls, str) and not calls.strip()):
        repairs.append("removed an empty list of tool calls")
        del message["tool_calls"]
        return
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except (ValueError, RecursionError):
            return
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return
    complete = [_complete_call(call) for call in calls]
    if complete != message.get("tool_calls"):
        repairs.append("completed the notation of tool calls")
        message["tool_calls"] = complete


def _complete_call(call: Row) -> Row:
    """Return a call with its type, and with its function as an object of its own."""
    if isinstance(call.get("function"), dict):
        return call if "type" in call else {**call, "type": "function"}
    if isinstance(call.get("name"), str) and "arguments" in call:
        function = {key: value for key, value in call.items() if key in ("name", "arguments")}
        others = {key: value for key, value in call.items() if key not in function}
        return {**others, "type": "function", "function": function}
    return call


def _number_calls(messages: list[Row], repairs: list[str]) -> None:
    """Give calls that have no ids, and the results that follow each, ids in their order."""
    count = 0
    for index, message in enumerate(messages):
        calls = message.get("tool_calls")
        if not isinstance(calls, list) or not calls:
            continue
        results = []
        for result in messages[index + 1 :]:
            if result.get("role") != "tool":
                break
            results.append(result)
        _match_results(calls, results, repairs)
        has_ids = any(isinstance(call, dict) and call.get("id") for call in calls)
        has_ids = has_ids or any(result.get("tool_call_id") for result in results)
        if (
            has_ids
            or len(results) not in (0, len(calls))
            or not all(isinstance(c, dict) for c in calls)
        ):
            continue
        repairs.append("numbered tool calls and their results")
        for at, call in enumerate(calls):
            count += 1
            calls[at] = {**call, "id": f"call_{count}"}
            if results:
                results[at]["tool_call_id"] = f"call_{count}"


def _match_results(calls: list[Any], results: list[Row], repairs: list[str]) -> None:
    """Give results without ids those of the calls before them, if there is one with the same name for each."""
    if len(calls) != len(results) or any(result.get("tool_call_id") for result in results):
        return
    for call, result in zip(calls, results, strict=True):
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not name or not call.get("id") or result.get("name", name) != name:
            return
    repairs.append("gave tool results the ids of their calls")
    for call, result in zip(calls, results, strict=True):
        result["tool_call_id"] = call["id"]


def _called_functions(message: Row) -> Iterator[Row]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            yield call["function"]


def _repair_arguments(function: Row, repairs: list[str]) -> None:
    """Encode a call's arguments as a string with one JSON object."""
    arguments = function.get("arguments")
    if arguments is None or arguments == "":
        repairs.append("wrote the arguments of a call without any as {}")
        function["arguments"] = "{}"
    elif isinstance(arguments, dict):
        repairs.append("encoded tool arguments as a string")
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    elif isinstance(arguments, str):
        try:
            decoded = json.loads(arguments)
            if isinstance(decoded, str) and isinstance(json.loads(decoded), dict):
                repairs.append("decoded tool arguments that were encoded twice")
                function["arguments"] = decoded
        except (ValueError, RecursionError):
            return
