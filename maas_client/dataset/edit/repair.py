"""Repairs of one line and of one row that lose nothing, each with the words that name it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from maas_client.dataset.edit.encoding import decode_cp1252
from maas_client.dataset.parsing.json_scan import scan_json

Row = dict[str, Any]
CP1252_REPAIR = "Windows-1252 written as UTF-8"
_PADDING = "\x00\x0b\x0c \t\r\n\x85\xa0\u2028\u2029\ufeff"
_COMMA = re.compile(r",(\s*[}\]])")
_DECODER = json.JSONDecoder(strict=False)


class UnrepairableError(ValueError):
    """A line that cannot be mended without guessing."""


def parse_leniently(line: bytes) -> tuple[list[Any], list[str]]:
    """Return the JSON values that a line holds and what had to be mended to read them.

    Raises ``UnrepairableError``. Two equal keys are one if their values are equal, and else beyond repair.
    """
    done = []
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        western_text = decode_cp1252(line)
        if western_text is None:
            raise UnrepairableError("bytes that are not UTF-8") from None
        text, line = western_text, western_text.encode()
        done.append(CP1252_REPAIR)
    document = scan_json(line)
    if not document.errors:
        return [document.value], done
    stripped = text.strip(_PADDING)
    done += ["stray characters around the object"] if stripped != text.strip(" \t\r\n") else []
    try:
        found = _several(stripped)
    except ValueError:
        found, more = _mended(stripped)
        done += more
    else:
        done += _named(document.errors, len(found))
        if stripped.endswith(","):
            done.append("commas behind the object taken out")
    for value in found:
        _check(value)
    return [_plain(value) for value in found], done or ["written anew"]


def parse_all_leniently(text: str) -> list[Any]:
    """Return the values of a text, one behind the other over any lines. Raises ``UnrepairableError``."""
    try:
        found = _several(text)
    except ValueError:
        found, _ = _mended(text)
    for value in found:
        _check(value)
    return [_plain(value) for value in found]


def _named(faults: list[Any], count: int) -> list[str]:
    names = {
        "JSON_CONTROL_CHARACTER": "raw control characters escaped",
        "JSON_DUPLICATE_KEY": "equal keys with equal values joined",
    }
    done = [names[fault.code] for fault in faults if fault.code in names]
    if count > 1:
        done.append("several objects on one line taken apart")
    return list(dict.fromkeys(done))


def _several(text: str) -> list[Any]:
    """Read the values of a line, one behind the other, with commas or nothing between them."""
    found, at = [], 0
    while at < len(text):
        value, at = _read(text, at)
        found.append(value)
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
    if not found:
        raise ValueError("nothing there")
    return found


def _read(text: str, at: int) -> tuple[Any, int]:
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, strict=False, parse_constant=_refuse)
    try:
        return decoder.raw_decode(text, at)
    except RecursionError:
        raise UnrepairableError("nested too deeply") from None


def _refuse(name: str) -> Any:
    raise UnrepairableError(f"{name} is not JSON")


class _Pairs(list[tuple[str, Any]]):
    """An object's members in order, equal keys and all."""


def _check(value: Any) -> None:
    if isinstance(value, _Pairs):
        seen: dict[str, Any] = {}
        for key, inner in value:
            if key in seen and _plain(seen[key]) != _plain(inner):
                raise UnrepairableError("equal keys with different values")
            seen[key] = inner
            _check(inner)
    elif isinstance(value, list):
        for inner in value:
            _check(inner)


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(inner) for key, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _mended(text: str) -> tuple[list[Any], list[str]]:
    """Read what a JSON reader refuses: trailing commas, a Python dictionary."""
    without = _outside_strings(text)
    if without != text:
        try:
            return _several(without), ["trailing commas taken out"]
        except ValueError:
            pass
    if len(text) < 1 << 20 and text[:1] == "{":
        try:
            value = ast.literal_eval(text)
            return [json.loads(json.dumps(value, allow_nan=False))], ["Python written as JSON"]
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    raise UnrepairableError("no JSON")


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _outside_strings(text: str) -> str:
    """Take out commas before a closing bracket, but not those within texts."""
    parts, at = [], 0
    for match in _STRING.finditer(text):
        parts += [(text[at : match.start()], False), (match[0], True)]
        at = match.end()
    parts.append((text[at:], False))
    joined = "".join(part if quoted else part.replace("\x00", " ") for part, quoted in parts)
    marks = "".join(("\x00" * len(part)) if quoted else part for part, quoted in parts)
    drop = {match.start() for match in _COMMA.finditer(marks)}
    return "".join(c for at, c in enumerate(joined) if at not in drop) if drop else text


_KEYS = ("messages", "tools", "role", "content", "name", "weight", "tool_calls", "tool_call_id")
_ROLES = ("system", "user", "assistant", "tool")


def repair_row(value: Row) -> tuple[Row, list[str]]:
    """Return a row with the repairs that do not change what it says, and their names."""
    done: list[str] = []
    mended = _keys(value, done)
    messages = mended.get("messages")
    if isinstance(messages, list):
        mended["messages"] = [
            _message(each, done) if isinstance(each, dict) else each for each in messages
        ]
    return mended, list(dict.fromkeys(done))


def _keys(value: Row, done: list[str]) -> Row:
    """Give keys that are known but for their case or spaces around them their right form."""
    renamed: Row = {}
    for key, inner in value.items():
        plain = key.strip().lower()
        if key not in _KEYS and plain in _KEYS and plain not in value:
            done.append(f"key {plain} in its right form")
            renamed[plain] = inner
        else:
            renamed[key] = inner
    return renamed


def _message(value: Row, done: list[str]) -> Row:
    message = _keys(value, done)
    role = message.get("role")
    if isinstance(role, str) and role not in _ROLES and role.strip().lower() in _ROLES:
        done.append("role in its right form")
        message["role"] = role.strip().lower()
    weight = message.get("weight")
    if weight in ("0", "1", "0.0", "1.0", True, False, 0.0, 1.0) and type(weight) is not int:
        done.append("weight as a whole number")
        message["weight"] = int(float(weight))
    for call in _calls(message):
        _arguments(call, done)
    return message


def _calls(message: Row) -> Iterator[Row]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            yield call["function"]


def _arguments(function: Row, done: list[str]) -> None:
    """Write a call's arguments as the text of one JSON object."""
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        done.append("tool arguments as text")
        function["arguments"] = json.dumps(arguments, ensure_ascii=False)
    elif isinstance(arguments, str):
        try:
            once = json.loads(arguments)
            if isinstance(once, str) and isinstance(json.loads(once), dict):
                done.append("tool arguments encoded once")
                function["arguments"] = once
        except (ValueError, RecursionError):
            return
