"""Convert the turns of other formats to messages: speakers, calls, results, tools, system texts."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from maas_client.dataset.formats.fields import (
    ANSWER_NAMES,
    QUESTION_NAMES,
    TOOL_NAMES,
    ConversionError,
    Fields,
    KeyNote,
    Row,
    describe_word,
    has_meaning,
    is_empty,
    to_text,
)
from maas_client.dataset.formats.labels import (
    is_label_key,
    is_mask_key,
    is_wanted,
    take_weight,
)
from maas_client.dataset.formats.transcripts import parse_transcript

SYSTEM_NAMES = (
    "system",
    "system_prompt",
    "system_message",
    "system_instruction",
    "system_text",
    "system_content",
    "sys_prompt",
    "sys",
    "system_instructions",
    "preamble",
    "developer_message",
    "instructions",
)
_USERS = "human user prompter question customer client patient caller visitor end_user input q"
_ASSISTANTS = """
gpt chatgpt bing bard claude gemini assistant virtual_assistant model bot ai chatbot answer a output agent
support support_agent advisor operator doctor
"""
ROLE_BY_SPEAKER = {
    **dict.fromkeys(_USERS.split(), "user"),
    **dict.fromkeys(_ASSISTANTS.split(), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("function_call", "tool_call", "function-call"), "call"),
    **dict.fromkeys(
        (
            "observation",
            "tool",
            "function",
            "tool_response",
            "function_response",
            "function_result",
            "tool_result",
            "ipython",
        ),
        "tool",
    ),
}
VALUE_NAMES = ("value", "content", "text", "message", "utterance", "body", "mes")
"""Names of what a speaker says in a turn."""
ARGUMENT_NAMES = ("arguments", "parameters", "args")
"""Names of the arguments of a call."""
_HERMES_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_HERMES_RESULT = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
END_TOKENS = re.compile(
    r"(?:\s*(?:<\|endoftext\|>|<\|end_of_text\|>|<\|im_end\|>|<\|end\|>|<\|eot_id\|>|<\|eom_id\|>"
    r"|<\|return\|>|<\|end_of_turn\|>|<\|end▁of▁sentence\|>|<end_of_turn>|<eos>|</s>|\[/?EOS\]))+\s*\Z"
)


def make_message(role: str, content: str) -> Row:
    """Return a message."""
    return {"role": role, "content": content}


def parse_json_text(value: Any, name: str) -> Any:
    """Return a value that may be written as JSON text, such as ``"[{...}]"``."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        pass
    try:  # a table that pandas wrote holds Python's notation
        parsed = ast.literal_eval(value.strip()) if value.strip()[:1] in ("[", "{") else None
        if parsed is not None:
            return json.loads(json.dumps(parsed, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise ConversionError(f"{name} is a text that is not JSON")


def _reject_constant(name: str) -> Any:
    raise ValueError(name)


class MessageBuilder:
    """The messages of one row in the making: joins a text with the call after it, and numbers calls."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.messages: list[Row] = []
        self._open_calls: list[str] = []
        self._calls = 0

    def add(self, turn: Any) -> None:
        """Add a turn: ``from`` and ``value``, role and content, or a pair of human and assistant."""
        if not isinstance(turn, dict):
            raise ConversionError("a turn is not an object")
        if isinstance(turn.get("data"), dict) and set(turn) == {"type", "data"}:  # LangChain
            turn = {**turn["data"], "type": turn["type"]}
        if isinstance(turn.get("kwargs"), dict) and isinstance(turn.get("id"), list) and turn["id"]:
            kind = str(turn["id"][-1]).removesuffix("Chunk").removesuffix("Message")
            turn = {**turn["kwargs"], "type": kind}  # LangChain, as its tracer writes it
        members = Fields(turn)
        speaker = members.get("from", "role", "speaker", "author", "sender", "participant")
        if speaker is None and str(turn.get("type")).casefold() in ROLE_BY_SPEAKER:
            speaker = members.get("type")
        for name in () if speaker else ("is_human", "is_user", "is_bot"):
            if isinstance(is_named := members.get(name), bool):
                speaker = "user" if is_named == (name != "is_bot") else "assistant"
        if speaker is None:
            self._add_pair(members)
            return
        role = ROLE_BY_SPEAKER.get(str(speaker).strip().casefold())
        if role is None:
            raise ConversionError(f"unknown speaker {describe_word(speaker)}")
        weight = take_weight(dict(turn))
        members.mark_read(*filter(is_mask_key, turn))
        value = members.get(*VALUE_NAMES)
        if role == "call":
            self._add_calls(None, parse_json_text(value, str(speaker)), weight)
        elif role == "tool":
            self._add_results(value, members.get("tool_call_id"))
            members.mark_read("name")
        elif role == "assistant":
            self._add_answer(value, members, weight)
        else:
            self.messages.append({"role": role, "content": content_of(value, "value")})
        self._check_unread(members)

    def _add_pair(self, members: Fields) -> None:
        """Add a turn that holds the question and its answer."""
        question = members.get("human", "user", "prompt", "instruction", "input", *QUESTION_NAMES)
        answer = members.get("assistant", "gpt", "bot", "model", *ANSWER_NAMES)
        system = members.get("system")
        if question is None and answer is None and system is None:
            raise ConversionError("a turn has no speaker")
        weight = take_weight(dict(members.row))
        members.mark_read(*filter(is_mask_key, members.row))
        if system is not None:
            self.messages.append(make_message("system", to_text(system, "system")))
        if question is not None:
            self.messages.append(make_message("user", to_text(question, "human")))
        if answer is not None:
            self._add_answer(answer, members, weight)
        self._check_unread(members)

    def _check_unread(self, members: Fields) -> None:
        for name, key in members.unread():
            is_ignored = self.fields.is_ignored(name)
            is_unwanted = not is_ignored and is_wanted(key, members.row[key]) is False
            if is_unwanted and self.messages[-1]["role"] == "assistant":
                self.messages[-1]["weight"] = 0
            elif (
                not is_ignored
                and has_meaning(name)
                and not is_label_key(key)
                and not _has_text(self.messages[-1], members.row[key])
            ):
                raise ConversionError(f"the key {key} of a turn cannot be converted")
            self.fields.notes.append(KeyNote(key, "a turn"))

    def _add_answer(self, value: Any, members: Fields, weight: int | None) -> None:
        calls = members.get("tool_calls", "function_call")
        if calls is None and isinstance(value, str) and "<tool_call>" in value:
            calls = [parse_json_text(text, "a tool_call") for text in _HERMES_CALL.findall(value)]
            value = _HERMES_CALL.sub("", value).strip() or None
        if calls is not None:
            text = None if is_empty(value) else content_of(value, "value")
            self._add_calls(text, parse_json_text(calls, "tool_calls"), weight)
            return
        message: Row = {"role": "assistant", "content": content_of(value, "value")}
        self.messages.append(message if weight is None else {**message, "weight": weight})

    def _add_calls(self, content: Any, calls: Any, weight: int | None) -> None:
        calls = calls if isinstance(calls, list) else [calls]
        tool_calls = [self._to_call(call) for call in calls]
        if not tool_calls:
            raise ConversionError("a turn that calls no tool")
        message: Row = {"role": "assistant"}
        previous = self.messages[-1] if self.messages else {}
        if content is None and previous.get("tool_calls") and previous.get("weight") == weight:
            previous["tool_calls"] += tool_calls  # one turn: a message for each of its calls
            self._open_calls += [call["id"] for call in tool_calls]
            return
        if (
            content is None
            and previous.get("role") == "assistant"
            and "tool_calls" not in previous
            and previous.get("weight") == weight
        ):
            content = self.messages.pop()["content"]  # one turn: the text, then its call
        if content is not None:
            message["content"] = content
        message["tool_calls"] = tool_calls
        if weight is not None:
            message["weight"] = weight
        self.messages.append(message)
        self._open_calls = [call["id"] for call in tool_calls]

    def _to_call(self, call: Any) -> Row:
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
            raise ConversionError("a call has no function name")
        arguments: Any = next((function[key] for key in ARGUMENT_NAMES if key in function), {})
        if isinstance(arguments, str):
            arguments = parse_json_text(arguments or "{}", "the arguments of a call")
        if not isinstance(arguments, dict):
            raise ConversionError("the arguments of a call are not an object")
        self._calls += 1
        identifier = call.get("id")
        return {
            "id": identifier
            if isinstance(identifier, str) and identifier
            else f"call_{self._calls}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }

    def _add_results(self, value: Any, identifier: Any) -> None:
        """Add the result of the oldest call that has none, or a list with one result for each call."""
        if not self._open_calls:
            raise ConversionError("a tool result without a call")
        if isinstance(identifier, str) and identifier in self._open_calls:
            self._open_calls.remove(identifier)
            self._add_result(identifier, value)
            return
        results = _split_results(value, len(self._open_calls))
        for result in results:
            self._add_result(self._open_calls.pop(0), result)

    def add_result_of(self, name: Any, value: Any) -> None:
        """Add the result of the oldest open call of a function."""
        names = {
            call["id"]: call["function"]["name"]
            for message in self.messages
            for call in message.get("tool_calls", ())
        }
        identifier = next((i for i in self._open_calls if names[i] == name), None)
        if identifier is None:
            raise ConversionError("a tool result without a call")
        self._add_results(value, identifier)

    def _add_result(self, identifier: str, value: Any) -> None:
        content = "" if value is None else to_text(value, "a tool result")
        self.messages.append({"role": "tool", "tool_call_id": identifier, "content": content})

    def finish(self) -> list[Row]:
        """Return the messages up to the last answer; what follows it is never trained on."""
        messages = self.messages
        end = len(messages)
        while end and messages[end - 1]["role"] != "assistant":
            end -= 1
        if not end:
            roles = (message["role"] for message in messages)
            speaker = next((role for role in roles if str(role) not in ROLE_BY_SPEAKER), None)
            raise ConversionError(
                "no answer" if speaker is None else f"unknown speaker {describe_word(speaker)}"
            )
        if end < len(messages):
            self.fields.notes.append("turns after the last answer")
        return messages[:end]


def _split_results(value: Any, calls: int) -> list[Any]:
    """Return one result for each open call, if the value is a list of that length."""
    if calls > 1:
        if isinstance(value, str) and len(blocks := _HERMES_RESULT.findall(value)) == calls:
            return blocks
        try:
            values = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, list) and len(values) == calls:
            return values
    return [value]


def content_of(value: Any, name: str) -> Any:
    """Return the content of a message: text, or a list of text parts with their type."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        value = [value]
    if isinstance(value, list) and value and all(map(_is_text_part, value)):
        return [{"type": "text", "text": part["text"]} for part in value]
    return to_text(value, name)


def _has_text(message: Row, text: Any) -> bool:
    """Return whether a text is the content of a message, or its only text part."""
    content = message.get("content")
    if isinstance(content, list) and len(content) == 1:
        content = content[0].get("text")
    return isinstance(text, str) and content == text


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("text"), str)
        and part.get("type", "text") in ("text", "input_text", "output_text")
        and set(part) <= {"type", "text", "annotations", "cache_control", "logprobs"}
    )


def build_messages(turns: Any, fields: Fields, name: str) -> list[Row]:
    """Return the messages of a list of turns, which may be written as JSON text."""
    builder = MessageBuilder(fields)
    for turn in to_turn_list(turns, name):
        builder.add(turn)
    return builder.messages


def to_turn_list(value: Any, name: str) -> list[Any]:
    """Return a list of turns that may be JSON text, one turn, one list in a list, or columns of lists.

    Raises:
        ConversionError: The value is none of these.
    """
    turns = parse_json_text(value, name)
    if isinstance(turns, dict):
        turns = read_columns(turns) or [turns]
    if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], list):
        turns = turns[0]
    if not isinstance(turns, list):
        raise ConversionError(f"{name} is not a list")
    return turns


def is_turn(value: Any) -> bool:
    """Return whether a value is a message or a turn: an object that names its speaker."""
    names = {"role", "from", "speaker", "author", "sender"}
    return isinstance(value, dict) and bool(value.keys() & names)


def read_columns(value: Row) -> list[Row] | None:
    """Return the messages that a table has as columns: ``{"role": [...], "content": [...]}``, or None."""
    lists = list(value.values())
    has_roles = {"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()
    if not has_roles or not all(isinstance(column, list) for column in lists):
        return None
    if len(set(map(len, lists))) != 1:
        return None
    rows = (dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True))
    return [{key: cell for key, cell in row.items() if cell is not None} for row in rows]


_HISTORY_NAMES = (
    "chat_history", "history", "conversation_history", "dialog_history", "dialogue_history", "message_history",
    "messages_history", "previous_turns", "previous_messages", "past_messages", "prior_turns", "prior_messages",
)  # fmt: skip


def history_messages(fields: Fields) -> list[Row]:
    """Return the messages of earlier turns: ``history`` or ``chat_history`` in any of its forms."""
    name, value = fields.key_of(*_HISTORY_NAMES), fields.get(*_HISTORY_NAMES)
    if value is None:
        return []
    if isinstance(value, str) and (transcript := parse_transcript(value)):
        return transcript
    turns = parse_json_text(value, name)
    if not isinstance(turns, list):
        raise ConversionError(f"{name} is not a list of turns")
    builder = MessageBuilder(fields)
    for turn in turns:
        if isinstance(turn, dict) and isinstance(turn.get("inputs"), dict):  # promptflow
            outputs = turn.get("outputs")
            turn = {**turn["inputs"], **(outputs if isinstance(outputs, dict) else {})}
        if isinstance(turn, list):
            if len(turn) != 2:
                raise ConversionError(f"{name} is not a list of pairs")
            turn = {"human": turn[0], "assistant": turn[1]}
        builder.add(turn)
    return builder.messages


def system_messages(fields: Fields, names: tuple[str, ...] = SYSTEM_NAMES) -> list[Row]:
    """Return the system message of a row as a list with no or one message."""
    texts = []
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, dict):
            value = value.get("parts", value)
        content = content_of(value, name)
        text = (
            "\n\n".join(part["text"] for part in content) if isinstance(content, list) else content
        )
        if text not in texts:
            texts.append(text)
    return [make_message("system", "\n\n".join(texts))] if texts else []


def join_system(first: list[Row], messages: list[Row]) -> list[Row]:
    """Return messages after a system message, which is joined with one that they begin with."""
    if first and messages and messages[0].get("role") == "system":
        text, existing = first[0]["content"], messages[0].get("content")
        if isinstance(existing, str):
            joined = existing if text in existing else f"{text}\n\n{existing}"
            return [make_message("system", joined), *messages[1:]]
    return [*first, *messages]


def tools_of(fields: Fields) -> Row:
    """Return ``{"tools": [...]}`` from ``tools`` or ``functions``, which may be JSON text, or ``{}``."""
    name = next((name for name in TOOL_NAMES if fields.has(name)), None)
    value = None if name is None else fields.get(name)
    if name is None or value is None:
        return {}
    tools = parse_json_text(value, name)
    if isinstance(tools, dict) and isinstance(tools.get("tools"), list):  # Bedrock
        tools = tools["tools"]
    tools = tools_by_name(tools) if isinstance(tools, dict) else tools
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        raise ConversionError(f"{name} is not a list of tools")
    tools = [parse_json_text(tool, name) for tool in tools]
    converted = [_to_tool(tool, name) for entry in tools for tool in _declarations(entry)]
    return {"tools": converted} if converted else {}


def tools_by_name(tools: Row) -> Any:
    """Return the tools of ``{"get_weather": {"description": ...}}``, or the value itself."""
    known = {"description", "parameters", "input_schema"}
    if (
        tools
        and not tools.keys() & {"function", "name"}
        and all(isinstance(tool, dict) and tool.keys() & known for tool in tools.values())
    ):
        return [{"name": name, **tool} for name, tool in tools.items()]
    return tools


def _declarations(tool: Any) -> list[Any]:
    """Return the functions of an entry of Gemini's ``tools``, or the entry itself."""
    names = ("functionDeclarations", "function_declarations")
    lists = [tool[name] for name in names if name in tool] if isinstance(tool, dict) else []
    return lists[0] if lists and isinstance(lists[0], list) and len(tool) == 1 else [tool]


def _to_tool(tool: Any, name: str) -> Row:
    if isinstance(tool, dict) and isinstance(tool.get("toolSpec"), dict) and len(tool) == 1:
        tool = dict(tool["toolSpec"])  # Bedrock
        schema = tool.pop("inputSchema", None)
        tool["parameters"] = schema.get("json") if isinstance(schema, dict) else schema
    if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
        return {**tool, "type": "function"}
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise ConversionError(f"an entry of {name} has no name")
    function = {key: value for key, value in tool.items() if key not in ("input_schema", "type")}
    if isinstance(schema := tool.get("input_schema"), dict):  # Anthropic
        function["parameters"] = schema
    return {"type": "function", "function": function}


def strip_end_tokens(messages: list[Row], fields: Fields) -> None:
    """Remove control tokens at the end of answers, and count them."""
    for message in messages:
        content = message.get("content")
        if message.get("role") == "assistant" and isinstance(content, str):
            stripped = END_TOKENS.sub("", content)
            if stripped != content and not stripped.strip() and not message.get("tool_calls"):
                raise ConversionError("an answer is only a control token")
            if stripped != content:
                message["content"] = stripped
                fields.notes.append("control token at the end of an answer")
