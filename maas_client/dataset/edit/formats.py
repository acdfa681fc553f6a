"""Rows of other tasks as chat rows. Each form is one function; none guesses what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Row = dict[str, Any]


class ConversionError(ValueError):
    """Why a row cannot be converted, in words that hold none of its text."""


def _pick(row: Row, *names: str) -> Any:
    """Return the first member of these names, whatever its case, or None."""
    lowered = {key.strip().casefold(): value for key, value in row.items() if key is not None}
    return next((lowered[name] for name in names if lowered.get(name) not in (None, "")), None)


def _text(value: Any, what: str) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and isinstance(value.get("text"), list) and value["text"]:
        value = value["text"][0]  # SQuAD's answers
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ConversionError(f"{what} is missing or empty")
    return value


def _chat(question: Any, answer: Any, names: tuple[str, str], system: Any = None) -> Row:
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    return {
        "messages": [
            *first,
            {"role": "user", "content": _text(question, names[0])},
            {"role": "assistant", "content": _text(answer, names[1])},
        ]
    }


def prompt_completion(row: Row) -> Row:
    """``prompt`` and ``completion`` or ``response``; a list of messages may stand for either."""
    prompt = _pick(row, "prompt", "context", "input_text")
    completion = _pick(row, "completion", "response", "output_text")
    if isinstance(prompt, list) and isinstance(completion, list):
        return {"messages": [*prompt, *completion], **_tools(row)}
    if isinstance(completion, str):
        completion = completion.removeprefix(" ")  # the legacy format wants one in front
    return _chat(prompt, completion, ("prompt", "completion"), _pick(row, "system"))


def text_ground_truth(row: Row) -> Row:
    """``text`` and ``ground_truth``, as Azure ML's older pipelines have it, or a summary."""
    return _chat(
        _pick(row, "text", "document"),
        _pick(row, "ground_truth", "summary"),
        ("text", "ground_truth"),
        _pick(row, "system"),
    )


def alpaca(row: Row) -> Row:
    """``instruction``, perhaps ``input``, and ``output``; earlier turns in ``history``."""
    instruction, given = _pick(row, "instruction"), _pick(row, "input", "context")
    if instruction is None:
        question = given
    else:
        question = f"{instruction}\n\n{given}" if isinstance(given, str) else instruction
    chat = _chat(
        question,
        _pick(row, "output", "response"),
        ("instruction", "output"),
        _pick(row, "system"),
    )
    for past in reversed(_pick(row, "history") or []):
        if not isinstance(past, list) or len(past) != 2:
            raise ConversionError("history is no list of pairs")
        turn = _chat(past[0], past[1], ("history", "history"))["messages"]
        at = 1 if chat["messages"][0]["role"] == "system" else 0
        chat["messages"][at:at] = turn
    return chat


_SPEAKERS = {
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


def _speaker(turn: Row) -> str | None:
    return _SPEAKERS.get(str(_pick(turn, "from", "role") or "").casefold())


def sharegpt(row: Row) -> Row:
    """``conversations`` of turns with ``from`` and ``value`` (or role and content)."""
    turns = _pick(row, "conversations", "conversation", "messages")
    if not isinstance(turns, list):
        raise ConversionError("conversations is no list")
    messages = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise ConversionError("a turn is no object")
        speaker = _speaker(turn)
        if speaker is None:
            raise ConversionError("a speaker that has no role in a chat")
        text = _text(_pick(turn, "value", "content", "text"), "value")
        messages.append({"role": speaker, "content": text})
    system = _pick(row, "system")
    if isinstance(system, str) and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": system})
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # turns after the last answer teach nothing
    if not messages:
        raise ConversionError("no answer in it")
    return {"messages": messages}


def question_answer(row: Row) -> Row:
    """``question`` and ``answer``; a ``context`` stands before the question."""
    question, context = _pick(row, "question"), _pick(row, "context")
    if isinstance(context, str) and isinstance(question, str):
        question = f"{context}\n\n{question}"
    answer = _pick(row, "answer", "answers")
    return _chat(question, answer, ("question", "answer"), _pick(row, "system"))


def classification(row: Row) -> Row:
    """A text and the word for its class; a bare number says nothing to a language model."""
    label = _pick(row, "label_text", "label", "class", "category")
    if not isinstance(label, str) or label.strip().lstrip("-").isdigit():
        raise ConversionError("the label is a number: give the word that the model is to answer")
    text = _pick(row, "text", "sentence", "content")
    return _chat(text, label, ("text", "label"), _pick(row, "system"))


def dpo(row: Row) -> Row:
    """A preference pair: the chosen side. Both OpenAI's form and that of TRL."""
    given, chosen = _pick(row, "input"), _pick(row, "preferred_output", "chosen")
    if isinstance(given, dict) and isinstance(given.get("messages"), list):
        if not isinstance(chosen, list):
            raise ConversionError("preferred_output is no list of messages")
        return {"messages": [*given["messages"], *chosen], **_tools(given)}
    prompt = _pick(row, "prompt", "question", "instruction")
    if isinstance(chosen, list):
        before = prompt if isinstance(prompt, list) else []
        if isinstance(prompt, str) and (not chosen or chosen[0].get("role") == "assistant"):
            before = [{"role": "user", "content": prompt}]
        return {"messages": [*before, *chosen], **_tools(row)}
    return _chat(prompt, chosen, ("prompt", "chosen"), _pick(row, "system"))


def batch(row: Row) -> Row:
    """A line of a batch or logged request, if the answer is in it."""
    body = row.get("body") or row.get("request")
    answer = row.get("response") or row.get("output")
    if isinstance(answer, dict):
        answer = answer.get("body", answer)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        answer = choices[0].get("message") if choices else None
    if not isinstance(body, dict) or not isinstance(answer, dict):
        raise ConversionError("a request without its answer: there is nothing to learn from")
    return {"messages": [*body.get("messages", ()), answer], **_tools(body)}


def messages(row: Row) -> Row:
    """A chat row: what is not part of one is left out, functions become tools."""
    given = _pick(row, "messages")
    if not isinstance(given, list):
        raise ConversionError("messages is no list")
    if given and all(isinstance(m, dict) and "from" in m and "role" not in m for m in given):
        return sharegpt(row)
    turned = _functions_to_tools([dict(m) if isinstance(m, dict) else m for m in given])
    rest = {key: row[key] for key in ("parallel_tool_calls",) if key in row}
    return {"messages": turned, **_tools(row), **rest}


def _tools(row: Row) -> Row:
    if isinstance(row.get("tools"), list):
        return {"tools": row["tools"]}
    functions = row.get("functions")
    if isinstance(functions, list) and functions:
        return {"tools": [{"type": "function", "function": each} for each in functions]}
    return {}


def _functions_to_tools(turns: list[Any]) -> list[Any]:
    """Turn ``function_call`` and role ``function`` into ``tool_calls`` and role ``tool``."""
    waiting: list[str] = []
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            continue
        call = turn.pop("function_call", None)
        if isinstance(call, dict):
            waiting.append(f"call_{number}")
            turn["tool_calls"] = [{"id": waiting[-1], "type": "function", "function": call}]
            if turn.get("content") is None:
                turn.pop("content", None)
        elif turn.get("role") == "function":
            if not waiting:
                raise ConversionError("a function's result that no call asked for")
            turn["role"], turn["tool_call_id"] = "tool", waiting.pop(0)
            turn.pop("name", None)
    return turns


ROW_FORMATS: dict[str, Callable[[Row], Row]] = {
    "messages": messages,
    "prompt-completion": prompt_completion,
    "text-ground-truth": text_ground_truth,
    "alpaca": alpaca,
    "sharegpt": sharegpt,
    "question-answer": question_answer,
    "classification": classification,
    "dpo": dpo,
    "batch": batch,
}


def omitted_parts(name: str, row: Row, chat: Row) -> Iterator[str]:
    """Yield what of a row is not in the chat row it became."""
    turns = _pick(row, "conversations", "conversation") if name == "sharegpt" else None
    spoken = sum(message["role"] != "system" for message in chat["messages"])
    if turns and spoken < sum(_speaker(turn) != "system" for turn in turns):
        yield "turns after the last answer"
    if name == "dpo":
        yield "the answer that was not chosen"
    if name == "messages":
        known = {"messages", "tools", "functions", "parallel_tool_calls"}
        yield from (f"key {key[:30]}" for key in row if key not in known)


def detect_row_format(row: Row) -> str | None:
    """Return the form of a row by its keys, or None."""
    from maas_client.dataset.rules.other_formats import detect_format

    if _pick(row, "messages") is not None:
        return "messages"
    shape = detect_format(row)
    name = shape.lower().replace("_", "-") if shape else ""
    return name if name in ROW_FORMATS else None


def rename_keys(row: Row, names: Sequence[tuple[str, str]]) -> Row:
    """Return a row whose members are renamed ``(theirs, ours)``."""
    by_name = dict(names)
    return {by_name.get(key, key): value for key, value in row.items()}


def parse_cells(row: Row) -> Row:
    """Return a CSV row with cells that hold JSON lists and objects read as such."""
    read: Row = {}
    for key, cell in row.items():
        text = cell.strip() if isinstance(cell, str) else ""
        read[key] = cell
        if text[:1] in ("[", "{") and text[-1:] in ("]", "}"):
            try:
                read[key] = json.loads(text)
            except ValueError:
                read[key] = cell
    return read
