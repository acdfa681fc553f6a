"""The conversion of each row format to a chat row, without guessing what is missing.

A converter reads the members that it uses through ``Fields``; the members that it did not read are
rejected or reported by ``table.convert_row``.
"""

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
    to_answer,
    to_text,
)
from maas_client.dataset.formats.messages import (
    ROLE_BY_SPEAKER,
    SYSTEM_NAMES,
    MessageBuilder,
    build_messages,
    content_of,
    history_messages,
    join_system,
    make_message,
    parse_json_text,
    parse_transcript,
    system_messages,
    take_weight,
    tools_of,
)
from maas_client.dataset.formats.multiple_choice import options_text, read_options

_CONTEXT_NAMES = (
    "context",
    "contexts",
    "passage",
    "document",
    "documents",
    "background",
    "knowledge",
    "evidence",
    "schema",
    "table",
)


def _make_chat(
    fields: Fields,
    question: list[Row],
    answer: list[Row],
    *,
    system_names: tuple[str, ...] = SYSTEM_NAMES,
) -> Row:
    """Return a chat row with the system message, the earlier turns, the question, the answer and the tools."""
    builder = MessageBuilder(fields)
    builder.messages = join_system(
        system_messages(fields, system_names), [*history_messages(fields), *question, *answer]
    )
    options = {}
    if (parallel := fields.get("parallel_tool_calls")) is not None:
        options["parallel_tool_calls"] = parallel
    return {"messages": builder.finish(), **tools_of(fields), **options}


def _question(fields: Fields, value: Any, name: str, *, context_first: bool = True) -> Row:
    """Return the user message: the question with its context before it and its options after it."""
    question = to_text(value, name)
    contexts = []
    for context_name in _CONTEXT_NAMES:
        context = fields.get(context_name)
        if context is not None and (text := to_text(context, context_name)) not in question:
            contexts.append(text)
    options = options_text(fields)
    parts = [*contexts, question] if context_first else [question, *contexts]
    return make_message("user", "\n\n".join([*parts, options] if options else parts))


def _answer(fields: Fields, value: Any, name: str) -> Row:
    options = read_options(fields)
    option_texts = {str(part) for option in options for part in option}
    if options and str(value).strip().isdigit() and str(value).strip() not in option_texts:
        raise ConversionError(f"{name} is the number of an option: give its letter or its text")
    return make_message("assistant", to_answer(value, name, fields))


def from_prompt_completion(fields: Fields) -> Row:
    """Convert ``prompt`` and ``completion`` or ``response``; both may be lists of messages."""
    prompt = fields.get("prompt", "input_text", "user", "human", "source")
    if prompt is None:
        prompt = fields.get("context")
    completion = fields.get(
        "completion", "response", "output_text", "output", "assistant", "target"
    )
    if _is_turns(prompt) or _is_turns(completion):
        turns = _to_turns(fields, prompt, "prompt", "user")
        return _make_chat(fields, turns, _to_turns(fields, completion, "completion", "assistant"))
    if isinstance(completion, str):
        completion = completion.removeprefix(" ")  # the legacy format requires a leading space
    transcript = parse_transcript(prompt) if isinstance(prompt, str) and "\n" in prompt else None
    if transcript and transcript[-1]["role"] == "user" and prompt.rstrip().endswith("Assistant:"):
        question = transcript
    else:
        question = [_question(fields, prompt, "prompt")]
    return _make_chat(fields, question, [_answer(fields, completion, "completion")])


def _is_turns(value: Any) -> bool:
    """Return whether a value is a message or a list of messages, or holds such a list."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"] if len(value) == 1 else None
    value = value if isinstance(value, list) else [value]
    return bool(value) and all(
        isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value
    )


def _to_turns(fields: Fields, value: Any, name: str, role: str) -> list[Row]:
    """Return a question or an answer that may be a list of messages."""
    if _is_turns(value):
        if isinstance(value, dict) and "messages" in value:
            value = value["messages"]
        return _build_chat_messages(value, fields, name)
    if isinstance(value, list) and any(map(_is_turns, value)):
        raise ConversionError(f"{name} is a list of messages and of other objects")
    if role == "assistant":
        return [_answer(fields, value, name)]
    return [_question(fields, value, name)]


def from_text_ground_truth(fields: Fields) -> Row:
    """Convert ``text`` and ``ground_truth`` (older Azure ML pipelines), or a document and its summary."""
    text = fields.get("text", "document", "article", "dialogue")
    answer = fields.get("ground_truth", "summary", "highlights")
    return _make_chat(
        fields, [_question(fields, text, "text")], [_answer(fields, answer, "ground_truth")]
    )


def from_alpaca(fields: Fields) -> Row:
    """Convert ``instruction``, optional ``input``, and ``output``."""
    instruction, source = fields.get("instruction"), fields.get("input")
    names: tuple[str, ...] = SYSTEM_NAMES
    answer = fields.get("output", "response", "completion")
    if instruction is None and (_is_turns(source) or _is_turns(answer)):  # OpenAI's Responses
        question = _to_turns(fields, source, "input", "user")
        return _make_chat(fields, question, _to_turns(fields, answer, "output", "assistant"))
    if instruction is None and source is not None and not fields.has("system"):
        instruction = fields.get("instructions")
        names = SYSTEM_NAMES[:-1]
    if instruction is None:
        text = source
    elif source is None:
        text = instruction
    else:
        text = f"{to_text(instruction, 'instruction')}\n\n{to_text(source, 'input')}"
    message = _question(fields, text, "instruction", context_first=False)
    return _make_chat(fields, [message], [_answer(fields, answer, "output")], system_names=names)


def from_sharegpt(fields: Fields) -> Row:
    """Convert ``conversations``: turns with ``from`` and ``value``, with role and content, or pairs."""
    turns = fields.get("conversations", "conversation", "messages")
    return _make_chat(fields, build_messages(turns, fields, "conversations"), [])


def from_kto(fields: Fields) -> Row:
    """Convert a row with a label that says whether its answer is wanted; the label is checked later."""
    if fields.has("conversations"):
        return from_sharegpt(fields)
    return from_prompt_completion(fields)


def from_question_answer(fields: Fields) -> Row:
    """Convert ``question`` and ``answer``."""
    question = fields.get("question", "query", "problem", "inputs")
    answer = fields.get("answer", "answers", "answer_key", "response", "solution", "outputs")
    if answer is None:
        answer = fields.get("ground_truth")
    name = "answers" if fields.has("answers") and not fields.has("answer") else "answer"
    return _make_chat(
        fields,
        _to_turns(fields, question, "question", "user"),
        _to_turns(fields, answer, name, "assistant"),
    )


def from_classification(fields: Fields) -> Row:
    """Convert a text and the name of its class. A number means nothing to a language model."""
    label = fields.get("label_text", "label", "class", "category")
    if not isinstance(label, str) or label.strip().lstrip("-").isdigit():
        raise ConversionError("the label is a number: give the word that the model should answer")
    if fields.has("label_text", "category", "class"):
        fields.mark_read("label")  # the number of the same class
    first = fields.get("text", "sentence", "content", "sentence1", "premise")
    second = fields.get("sentence2", "hypothesis")
    parts = [to_text(first, "text")] + (
        [to_text(second, "sentence2")] if second is not None else []
    )
    return _make_chat(
        fields, [_question(fields, "\n\n".join(parts), "text")], [_answer(fields, label, "label")]
    )


def from_text(fields: Fields) -> Row:
    """Convert a text with marked turns."""
    text = fields.get("text", "content")
    messages = parse_transcript(text) if isinstance(text, str) else None
    if not messages:
        raise ConversionError("plain text has no question and no answer")
    return _make_chat(fields, messages, [])


UNCHOSEN_NOTE = "the answer that was not chosen"
SCORE_NAMES = ("score_chosen", "score_rejected", "chosen_score", "rejected_score")


def from_dpo(fields: Fields) -> Row:
    """Convert the chosen side of a preference pair."""
    if isinstance(source := fields.row.get("input"), dict) and "messages" in source:  # OpenAI
        fields.hoist("input")
    chosen = fields.get(
        "preferred_output", "chosen", "chosen_response", "response_chosen", "accepted"
    )
    rejected = ("non_preferred_output", "rejected", "rejected_response", "response_rejected")
    fields.mark_read(*rejected, *SCORE_NAMES)
    fields.notes.append(UNCHOSEN_NOTE)
    if isinstance(chosen, list) and not _is_turns(chosen):
        raise ConversionError("chosen is a list of texts, not of messages")
    if isinstance(chosen, str) and chosen.strip()[:2] in ("[{", "{'", '{"'):
        chosen = _parse_turns(chosen)
    answer = _build_chat_messages(chosen, fields, "chosen") if _is_turns(chosen) else None
    if answer is None and isinstance(chosen, str) and not _has_question(fields):
        answer = parse_transcript(chosen)
    if answer and answer[0]["role"] != "assistant":  # the whole conversation
        return _from_whole_conversation(fields, answer)
    question = _preference_question(fields)
    if answer is None:
        answer = [_answer(fields, chosen, "chosen")]
    return _make_chat(fields, question, answer)


_QUESTION_NAMES = ("input", "messages", "conversations", "conversation", "prompt", "question",
                   "instruction", "query", "context")  # fmt: skip


def _has_question(fields: Fields) -> bool:
    return fields.has(*_QUESTION_NAMES)


def _parse_turns(text: str) -> Any:
    """Return the turns in a text that is their JSON, or the text itself."""
    try:
        value = parse_json_text(text, "chosen")
    except ConversionError:
        return text
    return value if _is_turns(value) else text


def _from_whole_conversation(fields: Fields, messages: list[Row]) -> Row:
    """Return a chosen conversation with its question. A question beside it must be part of it."""
    contents = [message.get("content") for message in messages]
    for name in ("prompt", "question", "instruction"):
        value = fields.get(name)
        if isinstance(value, str) and not any(isinstance(c, str) and value in c for c in contents):
            raise ConversionError(f"{name} is not part of the chosen conversation")
        if value is not None and not isinstance(value, str):
            before = build_messages(value, fields, name)
            if messages[: len(before)] != before:
                messages = [*before, *messages]
    for name in ("messages", "conversations"):
        if fields.has(name):
            before = _build_chat_messages(fields.get(name), fields, name)
            if messages[: len(before)] != before:
                raise ConversionError(f"{name} is not part of the chosen conversation")
    return _make_chat(fields, messages, [])


def _preference_question(fields: Fields) -> list[Row]:
    """Return the messages before the chosen answer."""
    for name in ("messages", "conversations", "conversation"):
        if fields.has(name):
            messages = _build_chat_messages(fields.get(name), fields, name)
            if messages and messages[-1].get("role") == "assistant":
                raise ConversionError(f"{name} ends with an answer, and chosen is another one")
            return messages
    prompt = fields.get("prompt", "question", "instruction", "query")
    if _is_turns(prompt):
        return _build_chat_messages(prompt, fields, "prompt")
    if (source := fields.get("input")) is not None:
        text = to_text(source, "input")
        prompt = text if prompt is None else f"{to_text(prompt, 'prompt')}\n\n{text}"
    if isinstance(prompt, str) and prompt.rstrip().endswith("Assistant:"):
        transcript = parse_transcript(prompt)
        if transcript and transcript[-1]["role"] == "user":
            return transcript
    return [_question(fields, prompt, "prompt")]


def from_batch(fields: Fields) -> Row:
    """Convert a line of a batch or logged request that includes its response."""
    body, answer = fields.get("body", "request"), fields.get("response", "output")
    if isinstance(answer, dict):
        answer = answer.get("body", answer)
    message = _first_choice(answer, fields)
    if not isinstance(body, dict):
        raise ConversionError("a request without its messages")
    request = fields.of(body.get("body", body) if isinstance(body.get("body"), dict) else body)
    source = request.get("messages", "input")
    has_answer = message is not None
    question: list[Row] = []
    if isinstance(source, str):
        question = [make_message("user", source)]
    elif source is not None:
        question = _build_chat_messages(source, request, "messages")
        has_answer = has_answer or (answer is None and question[-1].get("role") == "assistant")
    if not has_answer:
        raise ConversionError("a request without its answer: there is nothing to train on")
    answers = _build_chat_messages([message], request, "response") if message else []
    chat = _make_chat(request, question, answers)
    for name, key in request.unread():
        is_default = request.row[key] in _REQUEST_DEFAULTS.get(name, ())
        if name in _REQUEST_DEFAULTS and not is_default and not request.is_ignored(name):
            raise ConversionError(f"the key {key} of the request cannot be converted")
        fields.notes.append("settings of the request")
    return chat


_REQUEST_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "responseformat": ({"type": "text"},),
    "toolchoice": ("auto",),
    "text": ({"format": {"type": "text"}},),
}
"""Settings of a request that decide what an answer looks like, with the values that are the default."""


def _first_choice(answer: Any, fields: Fields) -> Row | None:
    """Return the first answer of a response of chat completions or of the Responses API."""
    if not isinstance(answer, dict):
        return None
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        if len(choices) > 1:
            fields.notes.append("answers after the first")
        message = choices[0].get("message")
        return message if isinstance(message, dict) else None
    output = answer.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "message":
            return {"role": "assistant", "content": item.get("content")}
    return None


def from_messages(fields: Fields) -> Row:
    """Convert what chats of other tools have beside or inside their messages."""
    messages = _build_chat_messages(fields.get("messages"), fields, "messages")
    return _make_chat(fields, messages, [])


def _build_chat_messages(value: Any, fields: Fields, name: str) -> list[Row]:
    """Return messages that have roles, with functions, content blocks and masks of other tools converted."""
    source = parse_json_text(value, name)
    if isinstance(source, dict):
        source = [source]
    if not isinstance(source, list):
        raise ConversionError(f"{name} is not a list")
    source = [parse_json_text(item, "a message") for item in source]
    if any(isinstance(message, dict) and "parts" in message for message in source):
        return _build_gemini_messages(source, fields)
    if any(isinstance(message, dict) and "role" not in message for message in source):
        return build_messages(source, fields, name)
    messages: list[Row] = []
    open_calls: list[str] = []
    for number, message in enumerate(source):
        if not isinstance(message, dict):
            raise ConversionError("a message is not an object")
        messages += _convert_message(dict(message), number, open_calls, fields)
    return messages


def from_gemini(fields: Fields) -> Row:
    """Convert ``contents``: turns with a role and parts."""
    config = fields.get("generationConfig", "config")
    for key in config if isinstance(config, dict) else ():
        if normalize_key(key) in ("responseschema", "responsejsonschema"):
            raise ConversionError(f"the key {key} cannot be converted")
    if config is not None:
        fields.notes.append("settings of the request")
    source = fields.get("contents")
    source = [source] if isinstance(source, dict) else source
    if not isinstance(source, list):
        raise ConversionError("contents is not a list")
    return _make_chat(fields, _build_gemini_messages(source, fields), [])


def _build_gemini_messages(contents: list[Any], fields: Fields) -> list[Row]:
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
    message = {key: v for key, v in message.items() if key in _KEPT_KEYS or v not in (None, [])}
    if isinstance(message.get("content"), list):
        return _convert_blocks(message, fields)
    return [message]


_BLOCK_KEYS = {
    "tool_use": ("type", "id", "name", "input"),
    "tool_result": ("type", "tool_use_id", "content"),
}


def _convert_blocks(message: Row, fields: Fields) -> list[Row]:
    """Return a message with Anthropic's content blocks as messages with calls and results."""
    texts, calls, results = [], [], []
    for block in message["content"]:
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
            content = block.get("content")
            content = "" if is_empty(content) else content_of(content, "a tool result")
            results.append(
                {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}
            )
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
