"""Turns of other formats as messages: speakers, calls, results, weights, tools, system texts, transcripts."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from maas_client.dataset.formats.fields import (
    MEANINGFUL_NAMES,
    MEDIA_NAMES,
    ConversionError,
    Fields,
    KeyNote,
    Row,
    describe_word,
    is_empty,
    to_text,
)

SYSTEM_NAMES = (
    "system",
    "system_prompt",
    "system_message",
    "system_instruction",
    "system_text",
    "developer_message",
    "instructions",
)
ROLE_BY_SPEAKER = {
    **dict.fromkeys(("human", "user", "prompter", "question", "customer"), "user"),
    **dict.fromkeys(
        ("gpt", "chatgpt", "bing", "bard", "assistant", "model", "bot", "ai", "chatbot", "answer"),
        "assistant",
    ),
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
_HERMES_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
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


def take_weight(message: Row, place: str = "a turn") -> int | None:
    """Remove the weight and the loss masks of other tools from a message, and return the weight.

    Returns:
        1 if the message is to be learned, 0 if not, None if the message does not say.

    Raises:
        ConversionError: A value is neither 0 nor 1, or two of them contradict each other.
    """
    weights = set()
    for key in [key for key in message if is_mask_key(key) or key == "weight"]:
        value = message.pop(key)
        if value is not None:
            weight = weight_for(key, value)
            if weight is None:
                raise ConversionError(f"{key} of {place} is not clearly 0 or 1")
            weights.add(weight)
    if len(weights) > 1:
        raise ConversionError("a turn has a weight and a loss mask that contradict each other")
    return weights.pop() if weights else None


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
        members = Fields(turn)
        speaker = members.get("from", "role", "speaker", "author")
        if speaker is None:
            self._add_pair(members)
            return
        role = ROLE_BY_SPEAKER.get(str(speaker).strip().casefold())
        if role is None:
            raise ConversionError(f"unknown speaker {describe_word(speaker)}")
        weight = take_weight(dict(turn))
        members.mark_read("weight", *TRAINED_KEYS, *MASKED_KEYS)
        value = members.get("value", "content", "text", "message")
        if role == "call":
            self._add_calls(None, parse_json_text(value, str(speaker)), weight)
        elif role == "tool":
            self._add_results(value, members.get("tool_call_id"))
            members.mark_read("name")
        elif role == "assistant":
            self._add_answer(value, members, weight)
        else:
            self.messages.append({"role": role, "content": content_of(value, "value")})
        self._check_rest(members)

    def _add_pair(self, members: Fields) -> None:
        """Add a turn that holds the question and its answer."""
        question = members.get(
            "human", "user", "question", "prompt", "instruction", "input", "query"
        )
        answer = members.get("assistant", "gpt", "bot", "answer", "response", "output", "model")
        system = members.get("system")
        if question is None and answer is None and system is None:
            raise ConversionError("a turn has no speaker")
        weight = take_weight(dict(members.row))
        members.mark_read("weight", *TRAINED_KEYS, *MASKED_KEYS)
        if system is not None:
            self.messages.append(make_message("system", to_text(system, "system")))
        if question is not None:
            self.messages.append(make_message("user", to_text(question, "human")))
        if answer is not None:
            self._add_answer(answer, members, weight)
        self._check_rest(members)

    def _check_rest(self, members: Fields) -> None:
        for name, key in members.unread():
            has_meaning = name in MEDIA_NAMES or name in MEANINGFUL_NAMES
            if has_meaning and not self.fields.is_ignored(name):
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
        arguments: Any = next(
            (function[k] for k in ("arguments", "parameters", "args") if k in function), {}
        )
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
            raise ConversionError("no answer")
        if end < len(messages):
            self.fields.notes.append("turns after the last answer")
        return messages[:end]


def _split_results(value: Any, calls: int) -> list[Any]:
    """Return one result for each open call, if the value is a list of that length."""
    if calls > 1:
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


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("text"), str)
        and part.get("type", "text") in ("text", "input_text", "output_text")
        and set(part) <= {"type", "text", "annotations", "cache_control", "logprobs"}
    )


def build_messages(turns: Any, fields: Fields, name: str) -> list[Row]:
    """Return the messages of a list of turns, which may be written as JSON text."""
    turns = parse_json_text(turns, name)
    if isinstance(turns, dict):
        turns = [turns]
    if not isinstance(turns, list):
        raise ConversionError(f"{name} is not a list")
    builder = MessageBuilder(fields)
    for turn in turns:
        builder.add(turn)
    return builder.messages


def history_messages(fields: Fields) -> list[Row]:
    """Return the messages of earlier turns: ``history`` or ``chat_history`` in any of its forms."""
    name = "chat_history" if fields.has("chat_history") else "history"
    value = fields.get("chat_history", "history", "conversation_history", "previous_turns")
    if value is None:
        return []
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
    name = "tools" if fields.has("tools") else "functions"
    value = fields.get("tools", "functions")
    if value is None:
        return {}
    tools = parse_json_text(value, name)
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        raise ConversionError(f"{name} is not a list of tools")
    tools = [parse_json_text(tool, name) for tool in tools]
    converted = [_to_tool(tool, name) for entry in tools for tool in _declarations(entry)]
    return {"tools": converted} if converted else {}


def _declarations(tool: Any) -> list[Any]:
    """Return the functions of an entry of Gemini's ``tools``, or the entry itself."""
    names = ("functionDeclarations", "function_declarations")
    lists = [tool[name] for name in names if name in tool] if isinstance(tool, dict) else []
    return lists[0] if lists and isinstance(lists[0], list) and len(tool) == 1 else [tool]


def _to_tool(tool: Any, name: str) -> Row:
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


_ROLES = {
    **dict.fromkeys(("human", "user", "prompter", "instruction", "inst"), "user"),
    **dict.fromkeys(("assistant", "response", "gpt", "bot", "model", "/inst"), "assistant"),
    "system": "system",
    "input": "input",
}
_MARKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"<\|im_start\|>\s*(system|user|assistant)\s*?\n",
        r"<\|(system|user|assistant)\|>",
        r"<\|start_header_id\|>(system|user|assistant)<\|end_header_id\|>",
        r"<start_of_turn>(user|model)\s*?\n",
        r"\[(/?INST)\]",
        r"#{3}[ \t]*(Human|Assistant)[ \t]*:",
        r"(?:^|(?<=\n))[ \t]*#{2,3}[ \t]*(System|Human|User|Instruction|Input|Assistant|Response)[ \t]*:",
        r"(?:^|(?<=\n))[ \t]*(Human|User|Prompter|Assistant|Bot)[ \t]*:",
    )
)
_END = re.compile(
    r"\s*(?:<\|im_end\|>|<\|end\|>|<\|eot_id\|>|<\|endoftext\|>|<\|end_of_text\|>|<end_of_turn>|</s>(?:\s*<s>)?)\s*\Z"
)
_START = re.compile(r"\A\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*")


def parse_transcript(text: str) -> list[Row] | None:
    """Return the messages of a text with marked turns, or None for other texts.

    What stands before the first mark becomes the system message.
    """
    text = _START.sub("", text)
    for mark in _MARKS:
        matches = list(mark.finditer(text))
        roles = [_ROLES[match[1].lower()] for match in matches]
        if "user" in roles:
            return _join_turns(text, matches, roles)
    return None


def _join_turns(text: str, matches: list[re.Match[str]], roles: list[str]) -> list[Row]:
    messages: list[Row] = []
    if before := text[: matches[0].start()].strip():
        messages.append({"role": "system", "content": before})
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, role, end in zip(matches, roles, ends, strict=True):
        content = _END.sub("", text[match.end() : end]).strip()
        if role == "input" and messages:
            messages[-1]["content"] = f"{messages[-1]['content']}\n\n{content}".strip()
        elif role == messages[-1]["role"] if messages else False:
            messages[-1]["content"] = f"{messages[-1]['content']}\n\n{content}"
        elif content:
            messages.append({"role": "user" if role == "input" else role, "content": content})
    return messages


TRAINED_KEYS = frozenset(
    ("loss", "train", "trainable", "training", "train_on_turn", "loss_weight", "loss_mask", "learn",
     "learnable", "do_train", "is_train", "is_trained", "is_trainable", "should_train", "train_on",
     "train_on_message", "train_on_output", "calculate_loss", "compute_loss", "has_loss", "in_loss",
     "include_in_loss", "use_loss", "with_loss")
)  # fmt: skip
"""Keys of a message with a value that is true or 1 if the message is trained on."""
MASKED_KEYS = frozenset(
    ("mask", "masked", "is_masked", "no_loss", "ignore_loss", "skip_loss", "exclude_from_loss", "ignore",
     "ignored", "no_train", "do_not_train", "skip_training")
)  # fmt: skip
"""Keys of a message with a value that is true if the message is not trained on."""
_WEIGHTS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def normalize_mask_key(key: str) -> str:
    """Return a key in the spelling of the tables."""
    return key.strip().casefold().replace("-", "_").replace(" ", "_")


def is_mask_key(key: str) -> bool:
    """Return whether other tools mask a message with this key."""
    return normalize_mask_key(key) in TRAINED_KEYS | MASKED_KEYS


def weight_for(key: str, value: Any) -> int | None:
    """Return the weight that says the same as another tool's mask; None if that is not certain.

    A ``mask`` of 0 or 1 is not certain: with some tools 1 masks the message, with others 0 does.
    """
    name = normalize_mask_key(key)
    weight = _WEIGHTS.get(str(value).strip().casefold())
    if weight is None or name in TRAINED_KEYS or name == "weight":
        return weight
    is_word = str(value).strip().casefold() in ("true", "false")
    return 1 - weight if is_word or name != "mask" else None
