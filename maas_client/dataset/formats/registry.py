"""The table of row formats: how each is recognised, what ``validate`` calls it, and its conversion.

``validate`` and ``convert`` use the same table, so a format that one recognises the other converts, or it
says why it cannot. ``docs/reference/formats.md`` is checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from maas_client.dataset.formats import converters
from maas_client.dataset.formats.fields import (
    ANSWER_NAMES,
    PREFERENCE_NAMES,
    QUESTION_NAMES,
    ConversionError,
    Fields,
    KeyNote,
    Note,
    Row,
    UnwantedAnswerError,
    describe_key,
    has_meaning,
    is_empty,
    is_text_key,
    normalize_key,
)
from maas_client.dataset.formats.glaive import from_glaive
from maas_client.dataset.formats.labels import (
    holds_unwanted,
    is_mask_key,
    is_row_weight,
    is_wanted,
    take_weight,
)
from maas_client.dataset.formats.messages import is_turn, strip_end_tokens
from maas_client.dataset.formats.multiple_choice import OPTION_NAME


def _keys(*alternatives: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(map(normalize_key, names.split())) for names in alternatives)


def _pairs(*questions: str) -> tuple[frozenset[str], ...]:
    """Return the keys of each question with each answer."""
    return _keys(*(f"{question} {answer}" for question in questions for answer in ANSWER_NAMES))


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A format of rows.

    Attributes:
        name: The name that ``convert`` takes.
        title: What it is called in messages and pages.
        keys: The keys that a row of the format has: one of these sets, in normalized spelling.
        convert: The conversion to a chat row.
        example: A row of this format, as JSON.
        result: What becomes of it, for the page.
    """

    name: str
    title: str
    keys: tuple[frozenset[str], ...]
    convert: Callable[[Fields], Row]
    example: str
    result: str

    @property
    def code(self) -> str | None:
        """The code that ``validate`` reports for such a row; None for chats."""
        return (
            None if self.name == "messages" else f"CHAT_SHAPE_{self.name.upper().replace('-', '_')}"
        )


FORMATS: tuple[RowFormat, ...] = (
    RowFormat(
        "batch",
        "a batch or fine-tuning request",
        _keys("custom_id body", "custom_id response", "body response", "request response",
              "training_file model"),
        converters.from_batch,
        '{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "Hi"}]}, "response": {"body": '
        '{"choices": [{"message": {"role": "assistant", "content": "Hello."}}]}}}',
        "The request's messages and tools, then the answer. A request without its answer is rejected.",
    ),
    RowFormat(
        "dpo",
        "preferences: a chosen and a rejected answer",
        _keys(*map(" ".join, PREFERENCE_NAMES)),
        converters.from_dpo,
        '{"prompt": "Hi", "chosen": "Hello.", "rejected": "What?"}',
        "The question (`prompt`, `input`, `conversations` or `messages`) and the chosen answer. The rejected "
        "answer is left out and counted.",
    ),
    RowFormat(
        "kto",
        "KTO: an answer and whether it is wanted",
        _keys("prompt completion label", "prompt completion kto_tag", "prompt response label",
              "conversations label", "conversations kto_tag"),
        converters.from_kto,
        '{"prompt": "Hi", "completion": "Hello.", "label": true}',
        "Rows whose label marks the answer as wanted. The others are left out and counted.",
    ),
    RowFormat(
        "sharegpt",
        "ShareGPT: conversations with from and value",
        _keys("conversations", "conversation"),
        converters.from_sharegpt,
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}',
        "One message for each turn. `function_call` and `observation` become tool calls and their results, a "
        "pair of `human` and `assistant` two messages.",
    ),
    RowFormat(
        "gemini",
        "Gemini: contents with role and parts",
        _keys("contents"),
        converters.from_gemini,
        '{"contents": [{"role": "user", "parts": [{"text": "Hi"}]}, '
        '{"role": "model", "parts": [{"text": "Hello."}]}]}',
        "`systemInstruction` becomes the first message, function calls and responses become tool calls and "
        "their results. Images and other media are rejected.",
    ),
    RowFormat(
        "glaive",
        "Glaive function calling: system and chat as marked text",
        _keys("system chat", "chat"),
        from_glaive,
        '{"system": "SYSTEM: Answer briefly.", "chat": "USER: Hi\\n\\nASSISTANT: Hello. <|endoftext|>"}',
        "One message for each `USER:`, `ASSISTANT:` and `FUNCTION RESPONSE:`. `<functioncall>` becomes a tool "
        "call, and the functions after the system text become tools.",
    ),
    RowFormat(
        "text-ground-truth",
        "text and ground truth",
        _keys("text ground_truth", "text summary", "document summary", "article summary",
              "article highlights", "dialogue summary"),
        converters.from_text_ground_truth,
        '{"text": "Summarise ...", "ground_truth": "..."}',
        "The text is the question.",
    ),
    RowFormat(
        "prompt-completion",
        "prompt and completion",
        _pairs("prompt")
        + _keys("context completion", "input_text output_text", "source target", "user assistant", "user bot",
                "human assistant", "human gpt", "human ai", "q a", "prompt output_text",
                "user_message bot_response", "user_prompt assistant_response",
                "user_message assistant_message", "user_message assistant_response"),
        converters.from_prompt_completion,
        '{"prompt": "Hi", "completion": "Hello."}',
        "The prompt is the question; both may be lists of messages.",
    ),
    RowFormat(
        "alpaca",
        "Alpaca: instruction, input and output",
        _pairs("instruction", "input"),
        converters.from_alpaca,
        '{"instruction": "Translate", "input": "Hallo", "output": "Hello"}',
        "Instruction and input, with a blank line between them, are the question. `history` holds earlier "
        "turns.",
    ),
    RowFormat(
        "question-answer",
        "questions and answers",
        _pairs(*QUESTION_NAMES),
        converters.from_question_answer,
        '{"question": "What is LoRA?", "answer": "..."}',
        "`context` is put before the question, `choices` after it; `chat_history` holds earlier turns.",
    ),
    RowFormat(
        "classification",
        "classification: a text and a label",
        _keys("text label", "sentence label", "text label_text", "sentence1 sentence2", "premise hypothesis",
              *(f"{text} {name}" for text in ("text", "sentence", *converters.CLASSIFIED_NAMES)
                for name in converters.CLASS_NAMES)),
        converters.from_classification,
        '{"text": "Great product", "label": "positive"}',
        "The name of the class is the answer. A number is rejected: it means nothing to a language model.",
    ),
    RowFormat(
        "text",
        "plain text",
        _keys("text", "content", "dialogue", "dialog", "transcript"),
        converters.from_text,
        '{"text": "### Human: Hi\\n### Assistant: Hello."}',
        "A text with marked turns (`### Human:`, `<|im_start|>user`, ...). Other text has no question and no "
        "answer and is rejected.",
    ),
)  # fmt: skip
"""In this order: the first format whose keys a row has is the row's format."""

MESSAGES = RowFormat(
    "messages",
    "chats: messages with role and content",
    _keys("messages"),
    converters.from_messages,
    '{"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}, '
    '{"role": "assistant", "content": "Hello."}]}',
    "`system` beside the messages becomes the first message, loss masks of other tools become `weight`, "
    "functions become tools.",
)
FORMAT_BY_NAME = {row_format.name: row_format for row_format in (MESSAGES, *FORMATS)}


_OUTPUT_KEYS = (
    "outputs",
    "output",
    "expected_output",
    "expectedOutput",
    "expected",
    "reference_outputs",
)
_TURN_LIST_KEYS = frozenset(
    ("dialog", "dialogue", "turns", "items", "chats", "msgs", "message", "data", "utterances",
     "transcript", "chat_messages", "chat_log")
)  # fmt: skip
"""Keys of a conversation, if their value is a list of turns."""
_TEXT_LIST_KEYS = ("data", "dialog", "turns")
"""Of these, keys of a list of texts of two speakers in turn."""


def flatten_row(row: Row) -> Row:
    """Return a row without what tools put around or before its members, at most a few in one another.

    Runs of promptflow, LangSmith and Langfuse have ``inputs`` and ``outputs``, which are replaced by their
    members. A list of turns gets the key ``conversations``.
    """
    for _ in range(4):
        row = _flatten_once(row)
    return row


def _flatten_once(row: Row) -> Row:
    """Return a row without its outermost wrapping, or the row itself."""
    for key in row.keys() & _TURN_LIST_KEYS:
        if not row.keys() & {"messages", "conversations", "conversation"} and _are_turns(
            key, row[key]
        ):
            return {("conversations" if name == key else name): v for name, v in row.items()}
    if (pair := _split_preference(row)) is not None:
        return pair
    first = "inputs" if "inputs" in row else "input"
    inputs = row.get(first)
    second, outputs = next(((key, row[key]) for key in _OUTPUT_KEYS if key in row), ("", None))
    if (
        isinstance(inputs, dict)
        and isinstance(outputs, dict)
        and not inputs.keys() & outputs.keys()
    ):
        others = {key: value for key, value in row.items() if key not in (first, second)}
        if is_turn(outputs):
            return {**others, **inputs, second: outputs} if second not in inputs else row
        if not others.keys() & (inputs.keys() | outputs.keys()):
            return {**others, **inputs, **outputs}
    prefixes = ("inputs.", "outputs.")
    if any(key.startswith(prefixes) for key in row):
        flat = {key.partition(".")[2] if key.startswith(prefixes) else key: key for key in row}
        if len(flat) == len(row):
            return {name: row[key] for name, key in flat.items()}
    if len(row) == 1:
        [(key, inner)] = row.items()
        if isinstance(inner, dict) and not holds_unwanted(key) and detect_any_format(inner):
            return inner  # an item of OpenAI's evaluation
    return row


def _split_preference(row: Row) -> Row | None:
    """Return a chat with the answer that was not chosen beside it (ms-swift) as a preference, or None."""
    messages, rejected = row.get("messages"), row.get("rejected_response")
    if not isinstance(messages, list) or not messages or not is_turn(messages[-1]):
        return None
    if messages[-1].get("role") != "assistant" or any(key.startswith("chosen") for key in row):
        return None
    others = {key: value for key, value in row.items() if key != "messages"}
    if isinstance(row.get("rejected_messages"), list):
        return {**others, "chosen_messages": messages}
    if not rejected or not isinstance(rejected, str | dict):
        return None
    return {**others, "messages": messages[:-1], "chosen_response": messages[-1]}


def _are_turns(key: str, value: Any) -> bool:
    """Return whether a value is a list of turns, or of texts of two speakers in turn (UltraChat)."""
    if not isinstance(value, list) or len(value) < 2:
        return False
    if (
        key in _TEXT_LIST_KEYS
        and len(value) % 2 == 0
        and all(isinstance(text, str) for text in value)
    ):
        return True
    return all(map(is_turn, value))


def detect_other_format(row: Row) -> RowFormat | None:
    """Return the format whose keys a row has, other than ``messages``, or None."""
    row = flatten_row(row)
    names = {normalize_key(key): key for key in row}
    filled = (name for name, key in names.items() if not is_empty(row[key]))
    return _find_format(frozenset(names), frozenset(filled))


@lru_cache(maxsize=1024)
def _find_format(names: frozenset[str], filled: frozenset[str]) -> RowFormat | None:
    """Return the format of rows with these keys, preferably of those that are not empty."""
    candidates = [
        (row_format, keys) for row_format in FORMATS for keys in row_format.keys if keys <= names
    ]
    complete = (row_format for row_format, keys in candidates if keys <= filled)
    return next(complete, candidates[0][0] if candidates else None)


def is_preference_row(row: Row) -> bool:
    """Return whether a row with ``messages`` holds only the question: the answers are beside it."""
    messages = row.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    has_answer = isinstance(last, dict) and last.get("role") == "assistant"
    row_format = None if has_answer else detect_other_format(row)
    return row_format is not None and row_format.name == "dpo"


def _has_whole_conversation(row: Row) -> bool:
    """Return whether the messages of a row are also its chosen conversation."""
    return "rejected" in row and row.get("chosen") == row.get("messages")


def detect_any_format(row: Row) -> RowFormat | None:
    """Return the format of a row, ``messages`` included, or None."""
    row = flatten_row(row)
    if any(normalize_key(key) == "messages" and not is_empty(row[key]) for key in row):
        is_dpo = is_preference_row(row) or _has_whole_conversation(row)
        return FORMAT_BY_NAME["dpo"] if is_dpo else MESSAGES
    return detect_other_format(row)


def convert_row(
    row_format: RowFormat, row: Row, ignored: Iterable[str] = ()
) -> tuple[Row, list[Note]]:
    """Return a row as a chat row, and descriptions of what was left out of it.

    Raises:
        UnwantedAnswerError: The row says that its answer must not be learned.
        ConversionError: The row cannot be converted without losing something that carries meaning.
    """
    fields = Fields(flatten_row(row), ignored)
    chat = row_format.convert(fields)
    _check_row_weight(fields)
    _check_label(fields)
    strip_end_tokens(chat["messages"], fields)
    fields.notes += _check_unread(fields, chat)
    return chat, list(dict.fromkeys(fields.notes))


def convert_pair(
    row_format: RowFormat, row: Row, ignored: Iterable[str] = ()
) -> tuple[Row, Row, list[Note]]:
    """Return a preference as the chat with each of its answers, and descriptions of what was left out.

    Raises:
        ConversionError: The row is no preference, or cannot be converted without losing something.
    """
    if row_format.name != "dpo":
        raise ConversionError("the row has one answer, and a preference has two")
    row = flatten_row(row)
    if _has_whole_conversation(row):
        row = {key: value for key, value in row.items() if key != "messages"}
    keys = {normalize_key(key): key for key in row}
    swapped = dict(row)
    for first, second in (tuple(map(normalize_key, names)) for names in PREFERENCE_NAMES):
        if first in keys and second in keys:
            if is_empty(row[keys[second]]):
                raise ConversionError(f"{keys[second].strip()} is missing or empty")
            swapped[keys[first]], swapped[keys[second]] = row[keys[second]], row[keys[first]]
            break
    preferred, notes = convert_row(row_format, row, ignored)
    other, _ = convert_row(row_format, swapped, ignored)
    notes = [note for note in notes if note != converters.UNCHOSEN_NOTE]
    notes += [
        KeyNote(key)
        for name, key in keys.items()
        if name in map(normalize_key, converters.SCORE_NAMES)
    ]
    return preferred, other, notes


def _check_label(fields: Fields) -> None:
    """Raise if the row's label says that its answer is unwanted, or says neither."""
    for name, key in fields.unread():
        if fields.is_ignored(name):
            continue
        wanted = is_wanted(key, fields.row[key])
        if wanted is False:
            raise UnwantedAnswerError(f"{key.strip()} marks the answer as unwanted")
        if wanted:
            fields.mark_read(name)


def _check_row_weight(fields: Fields) -> None:
    """Raise if the weight of a whole row is 0, or is not 0 or 1."""
    for name, key in fields.unread():
        if is_row_weight(name) and not fields.is_ignored(name):
            if take_weight({"weight": fields.row[key]}, "the row") == 0:
                raise UnwantedAnswerError(f"{key.strip()} is 0")
            fields.mark_read(name)


def _check_unread(fields: Fields, chat: Row) -> Iterator[Note]:
    """Yield a description of each member that is not in the chat row. Raises for one with meaning."""
    contents = [m["content"] for m in chat["messages"] if isinstance(m.get("content"), str)]
    read = fields.read_texts()
    for name, key in fields.unread():
        value = fields.row[key]
        is_column = is_mask_key(key) or is_text_key(key.strip(), value)
        matters = is_column or has_meaning(name) or OPTION_NAME.fullmatch(name) is not None
        if matters and not fields.is_ignored(name) and not is_repeated(value, contents, read):
            shown = key.strip() if is_column else describe_key(key)
            raise ConversionError(f"the key {shown} cannot be converted")
        yield KeyNote(key)


def is_repeated(value: Any, contents: list[str], read: Sequence[str] = ()) -> bool:
    """Return whether a text is part of the converted messages, or contains the last two or all that was read.

    A text that contains them is the row in a prompt template.
    """
    if not isinstance(value, str):
        return False
    if len(read) >= 2 and all(text in value for text in read):
        return True
    text = value.strip()
    if (
        text in contents
        or text in read
        or (len(text) >= 20 and any(text in content for content in contents))
    ):
        return True
    return len(contents) >= 2 and all(content.strip() in text for content in contents[-2:])
