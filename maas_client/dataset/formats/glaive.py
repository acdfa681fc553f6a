"""Convert the rows of Glaive's function calling data: a system text with functions, and a marked chat text."""

from __future__ import annotations

import json
import re
from typing import Any

from maas_client.dataset.formats.fields import ConversionError, Fields, Row, to_text
from maas_client.dataset.formats.messages import (
    END_TOKENS,
    MessageBuilder,
    build_messages,
    join_system,
    parse_json_text,
    tools_of,
)
from maas_client.dataset.formats.transcripts import parse_transcript

_TURN = re.compile(r"^[ \t]*(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE)[ \t]*:", re.MULTILINE)
_SPEAKERS = {
    "SYSTEM": "system",
    "USER": "user",
    "ASSISTANT": "assistant",
    "FUNCTION RESPONSE": "tool",
}
_CALL = "<functioncall>"
_QUOTED_ARGUMENTS = re.compile(
    r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*\'(.*)\'\s*\}', re.DOTALL
)
"""A call is JSON, except that its arguments are JSON in single quotes."""


def from_glaive(fields: Fields) -> Row:
    """Convert ``system`` and ``chat``."""
    chat = fields.get("chat")
    text = fields.get("system")
    system, functions = _split_system("" if text is None else to_text(text, "system"))
    builder = MessageBuilder(fields)
    if isinstance(chat, str):
        _add_turns(builder, chat, fields)
    else:
        builder.messages = build_messages(chat, fields, "chat")
    if system:
        builder.messages = join_system([{"role": "system", "content": system}], builder.messages)
    tools = tools_of(fields)
    if functions and tools:
        raise ConversionError("the row has functions in system and in tools")
    if functions:
        tools = tools_of(Fields({"tools": functions}))
    return {"messages": builder.finish(), **tools}


def _split_system(text: str) -> tuple[str, list[Any]]:
    """Return a system text without its mark and the functions at its end, and these functions."""
    text = re.sub(r"\A\s*SYSTEM[ \t]*:", "", text).strip()
    start = re.search(r"^[ \t]*[\[{]", text, re.MULTILINE)
    if start is None or not re.search(r"functions?|tools?", text[: start.start()]):
        return text, []
    functions: list[Any] = []
    position, decoder = start.start(), json.JSONDecoder()
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            raise ConversionError("the functions in system are not JSON") from None
        functions += value if isinstance(value, list) else [value]
        position = re.compile(r"[\s,]*").match(text, position).end()  # type: ignore[union-attr] # matches always
    return text[: start.start()].rstrip(" -\n\t:"), functions


def _add_turns(builder: MessageBuilder, text: str, fields: Fields) -> None:
    """Add the turns of a chat text."""
    matches = list(_TURN.finditer(text))
    if not matches and (transcript := parse_transcript(text)):
        builder.messages += transcript
        return
    if not matches or text[: matches[0].start()].strip():
        raise ConversionError("chat does not begin with USER: or ASSISTANT:")
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, end in zip(matches, ends, strict=True):
        speaker, content = _SPEAKERS[match[1]], text[match.end() : end].strip()
        if speaker == "assistant":
            stripped = END_TOKENS.sub("", content)
            if stripped != content:
                fields.notes.append("control token at the end of an answer")
            _add_answer(builder, stripped)
        else:
            builder.add({"role": speaker, "content": content})


def _add_answer(builder: MessageBuilder, text: str) -> None:
    """Add an answer: a text, calls, or a text and then calls."""
    content, *calls = (part.strip() for part in text.split(_CALL))
    if not calls:
        builder.add({"role": "assistant", "content": content})
        return
    values = [_parse_call(END_TOKENS.sub("", call)) for call in calls]
    builder.add({"role": "assistant", "content": content, "tool_calls": values})


def _parse_call(text: str) -> Any:
    """Return a call whose arguments may be in single quotes."""
    match = _QUOTED_ARGUMENTS.fullmatch(text)
    if match is None:
        return parse_json_text(text, "a call")
    arguments = parse_json_text(match[2].strip() or "{}", "the arguments of a call")
    return {"name": json.loads(match[1], strict=False), "arguments": arguments}
