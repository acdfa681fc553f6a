"""The conversion of each row format to a chat row, without guessing what is missing.

A converter reads the members that it uses through ``Fields``; the members that it did not read are
rejected or reported by ``registry.convert_row``.
"""

from __future__ import annotations

from typing import Any

from maas_client.dataset.formats.content_blocks import build_chat_messages, build_gemini_messages
from maas_client.dataset.formats.fields import (
    ANSWER_NAMES,
    PREFERENCE_NAMES,
    QUESTION_NAMES,
    RESPONSE_NAMES,
    TOOL_NAMES,
    ConversionError,
    Fields,
    Row,
    normalize_key,
    to_answer,
    to_text,
)
from maas_client.dataset.formats.messages import (
    ARGUMENT_NAMES,
    ROLE_BY_SPEAKER,
    SYSTEM_NAMES,
    MessageBuilder,
    build_messages,
    history_messages,
    join_system,
    make_message,
    parse_json_text,
    system_messages,
    tools_of,
)
from maas_client.dataset.formats.multiple_choice import options_text, read_options
from maas_client.dataset.formats.transcripts import parse_transcript

_CONTEXT_NAMES = (
    "context",
    "contexts",
    "passage",
    "passages",
    "paragraph",
    "article",
    "story",
    "excerpt",
    "source_text",
    "sql_context",
    "document",
    "documents",
    "background",
    "knowledge",
    "evidence",
    "schema",
    "table",
)


_USER_NAMES = ("user", "human", "q", "user_prompt", "user_message")
_ASSISTANT_NAMES = (
    "assistant",
    "gpt",
    "ai",
    "bot",
    "bot_response",
    "assistant_response",
    "assistant_message",
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
    if (calls := _called_functions(fields, value)) is not None:
        builder = MessageBuilder(fields)
        builder.add({"role": "assistant", "content": None, "tool_calls": calls})
        return builder.messages[0]
    options = read_options(fields)
    option_texts = {str(part) for option in options for part in option}
    if options and str(value).strip().isdigit() and str(value).strip() not in option_texts:
        raise ConversionError(f"{name} is the number of an option: give its letter or its text")
    return make_message("assistant", to_answer(value, name, fields))


def _called_functions(fields: Fields, value: Any) -> list[Row] | None:
    """Return the calls that an answer of a row with tools consists of, or None."""
    try:
        calls = parse_json_text(value, "") if fields.has(*TOOL_NAMES) else None
    except ConversionError:
        return None
    is_calls = isinstance(calls, list) and all(
        isinstance(call, dict) and "name" in call and len(call.keys() & {*ARGUMENT_NAMES}) == 1
        for call in calls
    )
    return calls if is_calls and calls else None


def from_prompt_completion(fields: Fields) -> Row:
    """Convert ``prompt`` and ``completion`` or ``response``; both may be lists of messages."""
    prompt = fields.get("prompt", "input_text", *_USER_NAMES, "source")
    if prompt is None:
        prompt = fields.get("context")
    names = ("completion", "response", "output_text", *_ASSISTANT_NAMES, *ANSWER_NAMES, "a")
    completion, name = fields.get(*names), fields.key_of(*names)
    if _is_turns(prompt) or _is_turns(completion):
        turns = _to_turns(fields, prompt, "prompt", "user")
        return _make_chat(fields, turns, _to_turns(fields, completion, name, "assistant"))
    if isinstance(completion, str):
        completion = completion.removeprefix(" ")  # the legacy format requires a leading space
    transcript = parse_transcript(prompt) if isinstance(prompt, str) and "\n" in prompt else None
    if transcript and transcript[-1]["role"] == "user" and prompt.rstrip().endswith("Assistant:"):
        question = transcript
    else:
        question = [_question(fields, prompt, "prompt")]
    return _make_chat(fields, question, [_answer(fields, completion, name)])


def _is_turns(value: Any) -> bool:
    """Return whether a value is a message or a list of messages, or holds such a list."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"] if len(value) == 1 else None
    value = value if isinstance(value, list) else [value]
    names = {"role", "from", "lc"}
    return any(isinstance(turn, dict) and turn.keys() & names for turn in value) and all(
        isinstance(turn, dict)
        and (turn.keys() & names or str(turn.get("type")).startswith("function_call"))
        for turn in value
    )


def _are_texts(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, str) and item.strip() for item in value)


def _to_turns(fields: Fields, value: Any, name: str, role: str) -> list[Row]:
    """Return a question or an answer that may be a list of messages."""
    if _is_turns(value):
        if isinstance(value, dict) and "messages" in value:
            value = value["messages"]
        return build_chat_messages(value, fields, name)
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
    if instruction is None and not _is_turns(source):
        instruction = fields.get("task_definition", "definition", "task_description")
    names: tuple[str, ...] = SYSTEM_NAMES
    answer_names = ("output", "response", "completion", *ANSWER_NAMES)
    answer, answer_key = fields.get(*answer_names), fields.key_of(*answer_names)
    if instruction is None and (_is_turns(source) or _is_turns(answer)):  # OpenAI's Responses
        question = _to_turns(fields, source, "input", "user")
        return _make_chat(fields, question, _to_turns(fields, answer, answer_key, "assistant"))
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
    return _make_chat(fields, [message], [_answer(fields, answer, answer_key)], system_names=names)


def from_sharegpt(fields: Fields) -> Row:
    """Convert ``conversations``: turns with ``from`` and ``value``, with role and content, or pairs."""
    turns = fields.get("conversations", "conversation", "messages")
    if isinstance(turns, str) and (transcript := parse_transcript(turns)):
        return _make_chat(fields, transcript, [])
    if isinstance(turns, dict) and isinstance(turns.get("messages"), list) and len(turns) == 1:
        return _make_chat(fields, build_chat_messages(turns["messages"], fields, "messages"), [])
    if ROLE_BY_SPEAKER.get(str(fields.row.get("mask")).casefold()) == "user":  # NeMo
        fields.mark_read("mask")
    if isinstance(turns, list) and _are_texts(turns) and len(turns) % 2 == 0:  # UltraChat
        pairs = zip(turns[::2], turns[1::2], strict=True)
        turns = [{"human": question, "assistant": answer} for question, answer in pairs]
    return _make_chat(fields, build_messages(turns, fields, "conversations"), [])


def from_kto(fields: Fields) -> Row:
    """Convert a row with a label that says whether its answer is wanted; the label is checked later."""
    if fields.has("conversations"):
        return from_sharegpt(fields)
    return from_prompt_completion(fields)


def from_question_answer(fields: Fields) -> Row:
    """Convert ``question`` and ``answer``."""
    question, question_key = fields.get(*QUESTION_NAMES), fields.key_of(*QUESTION_NAMES)
    answer, answer_key = fields.get(*ANSWER_NAMES), fields.key_of(*ANSWER_NAMES)
    return _make_chat(
        fields,
        _to_turns(fields, question, question_key, "user"),
        _to_turns(fields, answer, answer_key, "assistant"),
    )


def from_classification(fields: Fields) -> Row:
    """Convert a text and the name of its class. A number means nothing to a language model."""
    label = fields.get("label_text", "label", *CLASS_NAMES)
    if isinstance(label, list) and label:
        if len(label) > 1 or not isinstance(label[0], str):
            raise ConversionError("the label is a list: give the word that the model should answer")
        label = label[0]
    if not isinstance(label, str) or label.strip().lstrip("-").isdigit():
        raise ConversionError("the label is a number: give the word that the model should answer")
    if fields.has("label_text", *CLASS_NAMES):
        fields.mark_read("label")  # the number of the same class
    first = fields.get("text", "sentence", "content", "sentence1", "premise", *CLASSIFIED_NAMES)
    second = fields.get("sentence2", "hypothesis")
    parts = [to_text(first, "text")] + (
        [to_text(second, "sentence2")] if second is not None else []
    )
    return _make_chat(
        fields, [_question(fields, "\n\n".join(parts), "text")], [_answer(fields, label, "label")]
    )


CLASS_NAMES = ("category", "class", "intent", "sentiment", "emotion", "topic")
CLASSIFIED_NAMES = ("utterance", "review", "query", "tweet", "headline")


def from_text(fields: Fields) -> Row:
    """Convert a text with marked turns."""
    text = fields.get("text", "content", "dialogue", "dialog", "transcript")
    messages = parse_transcript(text) if isinstance(text, str) else None
    if not messages and fields.has("role", "from", "speaker", "sender", "author", "user"):
        raise ConversionError(
            "the row is a single message: put all messages of a conversation into one row"
        )
    if not messages:
        raise ConversionError("plain text has no question and no answer")
    return _make_chat(fields, messages, [])


UNCHOSEN_NOTE = "the answer that was not chosen"
SCORE_NAMES = ("score_chosen", "score_rejected", "chosen_score", "rejected_score")


def from_dpo(fields: Fields) -> Row:
    """Convert the chosen side of a preference pair."""
    if isinstance(source := fields.row.get("input"), dict) and "messages" in source:  # OpenAI
        fields.hoist("input")
    chosen = fields.get(*(names[0] for names in PREFERENCE_NAMES))
    fields.mark_read(*(names[1] for names in PREFERENCE_NAMES), *SCORE_NAMES)
    fields.notes.append(UNCHOSEN_NOTE)
    if isinstance(chosen, list) and not _is_turns(chosen):
        raise ConversionError("chosen is a list of texts, not of messages")
    if isinstance(chosen, str) and chosen.strip()[:2] in ("[{", "{'", '{"'):
        chosen = _parse_turns(chosen)
    answer = build_chat_messages(chosen, fields, "chosen") if _is_turns(chosen) else None
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
            before = build_chat_messages(fields.get(name), fields, name)
            if messages[: len(before)] != before:
                raise ConversionError(f"{name} is not part of the chosen conversation")
    return _make_chat(fields, messages, [])


def _preference_question(fields: Fields) -> list[Row]:
    """Return the messages before the chosen answer."""
    for name in ("messages", "conversations", "conversation"):
        if fields.has(name):
            messages = build_chat_messages(fields.get(name), fields, name)
            if messages and messages[-1].get("role") == "assistant":
                raise ConversionError(f"{name} ends with an answer, and chosen is another one")
            return messages
    prompt = fields.get("prompt", "question", "instruction", "query")
    if _is_turns(prompt):
        return build_chat_messages(prompt, fields, "prompt")
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
    message = _first_answer(answer, fields)
    if not isinstance(body, dict):
        raise ConversionError("a request without its messages")
    request = fields.of(body.get("body", body) if isinstance(body.get("body"), dict) else body)
    source = request.get("messages", "input")
    has_answer = message is not None
    question: list[Row] = []
    if isinstance(source, str):
        question = [make_message("user", source)]
    elif source is not None:
        question = build_chat_messages(source, request, "messages")
        ends_with_answer = bool(question) and question[-1].get("role") == "assistant"
        has_answer = has_answer or (answer is None and ends_with_answer)
    if not has_answer:
        raise ConversionError("a request without its answer: there is nothing to train on")
    answers = build_chat_messages(message, request, "response") if message else []
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


def _first_answer(answer: Any, fields: Fields) -> list[Any] | None:
    """Return the messages of the first answer of a response of chat completions or of the Responses API."""
    if not isinstance(answer, dict):
        return None
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        if len(choices) > 1:
            fields.notes.append("answers after the first")
        message = choices[0].get("message")
        if (reason := choices[0].get("finish_reason")) in ("length", "content_filter"):
            raise ConversionError(f"the answer is incomplete: its finish_reason is {reason}")
        return [message] if isinstance(message, dict) else None
    output = answer.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    fields.notes += [
        "reasoning of the response" for item in items if item.get("type") == "reasoning"
    ]
    return [item for item in items if item.get("type") in ("message", "function_call")] or None


def from_messages(fields: Fields) -> Row:
    """Convert what chats of other tools have beside or inside their messages."""
    source = fields.get("messages")
    messages = build_chat_messages(source, fields, "messages")
    answer: list[Row] = []
    if messages and messages[-1].get("role") in ("user", "tool"):
        value = fields.get(*RESPONSE_NAMES)
        if value is None and _is_generations(fields.row.get("generations")):  # LangSmith
            [[generation, *_], *_] = fields.get("generations")
            value = generation.get("message") or generation.get("text")
        answer = [] if value is None else _to_turns(fields, value, "answer", "assistant")
    is_palm = isinstance(source, list) and any("author" in m for m in source if isinstance(m, dict))
    names = (*SYSTEM_NAMES, "context") if is_palm else SYSTEM_NAMES
    return _make_chat(fields, messages, answer, system_names=names)


def _is_generations(value: Any) -> bool:
    """Return whether a value has one answer of LangChain for one chat."""
    inner = value[0] if isinstance(value, list) and len(value) == 1 else None
    return isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], dict)


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
    return _make_chat(fields, build_gemini_messages(source, fields), [])
