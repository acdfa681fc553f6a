"""Convert rows of other tasks to chat rows: one function per format, without guessing missing data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Row = dict[str, Any]


class ConversionError(ValueError):
    """A row cannot be converted. The message contains none of its text."""


def _get_first(row: Row, *names: str) -> Any:
    """Return the first non-empty member with one of these names in any case, or None."""
    lowered = {key.strip().casefold(): value for key, value in row.items() if key is not None}
    return next((lowered[name] for name in names if lowered.get(name) not in (None, "")), None)


def _to_text(value: Any, name: str) -> str:
    """Return a value as text. Raises ``ConversionError`` if it is missing, empty or not text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("text"), list) and value["text"]:
        value = value["text"][0]  # the answers of SQuAD
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConversionError(f"{name} is missing or empty")
    return value


def _make_chat(question: Any, answer: Any, names: tuple[str, str], system: Any = None) -> Row:
    """Return a chat row with one question and one answer; ``names`` are their keys in the source."""
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    return {
        "messages": [
            *first,
            {"role": "user", "content": _to_text(question, names[0])},
            {"role": "assistant", "content": _to_text(answer, names[1])},
        ]
    }


def _from_prompt_completion(row: Row) -> Row:
    """Convert ``prompt`` and ``completion`` or ``response``; both may be lists of messages."""
    prompt = _get_first(row, "prompt", "context", "input_text")
    completion = _get_first(row, "completion", "response", "output_text")
    if isinstance(prompt, list) and isinstance(completion, list):
        return {"messages": [*prompt, *completion], **_get_tools(row)}
    if isinstance(completion, str):
        completion = completion.removeprefix(" ")  # the legacy format requires a leading space
    return _make_chat(prompt, completion, ("prompt", "completion"), _get_first(row, "system"))


def _from_text_ground_truth(row: Row) -> Row:
    """Convert ``text`` and ``ground_truth`` (older Azure ML pipelines), or a document and its summary."""
    return _make_chat(
        _get_first(row, "text", "document"),
        _get_first(row, "ground_truth", "summary"),
        ("text", "ground_truth"),
        _get_first(row, "system"),
    )


def _from_alpaca(row: Row) -> Row:
    """Convert ``instruction``, optional ``input``, and ``output``; ``history`` holds earlier turns."""
    instruction, context = _get_first(row, "instruction"), _get_first(row, "input", "context")
    if instruction is None:
        question = context
    else:
        question = f"{instruction}\n\n{context}" if isinstance(context, str) else instruction
    chat = _make_chat(
        question,
        _get_first(row, "output", "response"),
        ("instruction", "output"),
        _get_first(row, "system"),
    )
    for pair in reversed(_get_first(row, "history") or []):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ConversionError("history is not a list of pairs")
        turn = _make_chat(pair[0], pair[1], ("history", "history"))["messages"]
        at = 1 if chat["messages"][0]["role"] == "system" else 0
        chat["messages"][at:at] = turn
    return chat


_ROLE_BY_SPEAKER = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}


def _role_of(turn: Row) -> str | None:
    return _ROLE_BY_SPEAKER.get(str(_get_first(turn, "from", "role") or "").casefold())


def _from_sharegpt(row: Row) -> Row:
    """Convert ``conversations``: turns with ``from`` and ``value``, or with role and content."""
    turns = _get_first(row, "conversations", "conversation", "messages")
    if not isinstance(turns, list):
        raise ConversionError("conversations is not a list")
    messages = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise ConversionError("a turn is not an object")
        role = _role_of(turn)
        if role is None:
            raise ConversionError("a speaker that has no role in a chat")
        text = _to_text(_get_first(turn, "value", "content", "text"), "value")
        messages.append({"role": role, "content": text})
    system = _get_first(row, "system")
    if isinstance(system, str) and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": system})
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # turns after the last answer are never trained on
    if not messages:
        raise ConversionError("no answer")
    return {"messages": messages}


def _from_question_answer(row: Row) -> Row:
    """Convert ``question`` and ``answer``; a ``context`` is put before the question."""
    question, context = _get_first(row, "question"), _get_first(row, "context")
    if isinstance(context, str) and isinstance(question, str):
        question = f"{context}\n\n{question}"
    answer = _get_first(row, "answer", "answers")
    return _make_chat(question, answer, ("question", "answer"), _get_first(row, "system"))


def _from_classification(row: Row) -> Row:
    """Convert a text and the name of its class. A number means nothing to a language model."""
    label = _get_first(row, "label_text", "label", "class", "category")
    if not isinstance(label, str) or label.strip().lstrip("-").isdigit():
        raise ConversionError("the label is a number: give the word that the model should answer")
    text = _get_first(row, "text", "sentence", "content")
    return _make_chat(text, label, ("text", "label"), _get_first(row, "system"))


def _from_dpo(row: Row) -> Row:
    """Convert the chosen side of a preference pair, in OpenAI's or TRL's format."""
    source, chosen = _get_first(row, "input"), _get_first(row, "preferred_output", "chosen")
    if isinstance(source, dict) and isinstance(source.get("messages"), list):
        if not isinstance(chosen, list):
            raise ConversionError("preferred_output is not a list of messages")
        return {"messages": [*source["messages"], *chosen], **_get_tools(source)}
    prompt = _get_first(row, "prompt", "question", "instruction")
    if isinstance(chosen, list):
        before = prompt if isinstance(prompt, list) else []
        if isinstance(prompt, str) and (not chosen or chosen[0].get("role") == "assistant"):
            before = [{"role": "user", "content": prompt}]
        return {"messages": [*before, *chosen], **_get_tools(row)}
    return _make_chat(prompt, chosen, ("prompt", "chosen"), _get_first(row, "system"))


def _from_batch(row: Row) -> Row:
    """Convert a line of a batch or logged request that includes its response."""
    body = row.get("body") or row.get("request")
    answer = row.get("response") or row.get("output")
    if isinstance(answer, dict):
        answer = answer.get("body", answer)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        answer = choices[0].get("message") if choices else None
    if not isinstance(body, dict) or not isinstance(answer, dict):
        raise ConversionError("a request without its answer: there is nothing to train on")
    return {"messages": [*body.get("messages", ()), answer], **_get_tools(body)}


def _from_messages(row: Row) -> Row:
    """Remove what does not belong to a chat row, and convert functions to tools."""
    source = _get_first(row, "messages")
    if not isinstance(source, list):
        raise ConversionError("messages is not a list")
    if source and all(isinstance(m, dict) and "from" in m and "role" not in m for m in source):
        return _from_sharegpt(row)
    messages = _functions_to_tools([dict(m) if isinstance(m, dict) else m for m in source])
    options = {key: row[key] for key in ("parallel_tool_calls",) if key in row}
    return {"messages": messages, **_get_tools(row), **options}


def _get_tools(row: Row) -> Row:
    if isinstance(row.get("tools"), list):
        return {"tools": row["tools"]}
    functions = row.get("functions")
    if isinstance(functions, list) and functions:
        return {"tools": [{"type": "function", "function": function} for function in functions]}
    return {}


def _functions_to_tools(messages: list[Any]) -> list[Any]:
    """Convert ``function_call`` and role ``function`` to ``tool_calls`` and role ``tool``, in place."""
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        call = message.pop("function_call", None)
        if isinstance(call, dict):
            open_calls.append(f"call_{number}")
            message["tool_calls"] = [{"id": open_calls[-1], "type": "function", "function": call}]
            if message.get("content") is None:
                message.pop("content", None)
        elif message.get("role") == "function":
            if not open_calls:
                raise ConversionError("a function result without a call")
            message["role"], message["tool_call_id"] = "tool", open_calls.pop(0)
            message.pop("name", None)
    return messages


ROW_FORMATS: dict[str, Callable[[Row], Row]] = {
    "messages": _from_messages,
    "prompt-completion": _from_prompt_completion,
    "text-ground-truth": _from_text_ground_truth,
    "alpaca": _from_alpaca,
    "sharegpt": _from_sharegpt,
    "question-answer": _from_question_answer,
    "classification": _from_classification,
    "dpo": _from_dpo,
    "batch": _from_batch,
}
"""The function that converts a row, by the name of its format."""


def omitted_parts(name: str, row: Row, chat: Row) -> Iterator[str]:
    """Yield a description of each part of a row that is not in the converted row."""
    turns = _get_first(row, "conversations", "conversation") if name == "sharegpt" else None
    converted = sum(message["role"] != "system" for message in chat["messages"])
    if turns and converted < sum(_role_of(turn) != "system" for turn in turns):
        yield "turns after the last answer"
    if name == "dpo":
        yield "the answer that was not chosen"
    if name == "messages":
        known = {"messages", "tools", "functions", "parallel_tool_calls"}
        yield from (f"key {key[:30]}" for key in row if key not in known)


def detect_row_format(row: Row) -> str | None:
    """Return the name of a row's format by its keys, or None."""
    from maas_client.dataset.rules.other_formats import detect_format

    if _get_first(row, "messages") is not None:
        return "messages"
    code = detect_format(row)
    name = code.lower().replace("_", "-") if code else ""
    return name if name in ROW_FORMATS else None


def rename_keys(row: Row, names: Sequence[tuple[str, str]]) -> Row:
    """Return a row with its keys renamed by pairs ``(theirs, ours)``."""
    by_name = dict(names)
    return {by_name.get(key, key): value for key, value in row.items()}


def parse_cells(row: Row) -> Row:
    """Return a table row whose cells with JSON lists and objects are parsed."""
    parsed: Row = {}
    for key, cell in row.items():
        text = cell.strip() if isinstance(cell, str) else ""
        parsed[key] = cell
        if text[:1] in ("[", "{") and text[-1:] in ("]", "}"):
            try:
                parsed[key] = json.loads(text)
            except ValueError:
                parsed[key] = cell
    return parsed
