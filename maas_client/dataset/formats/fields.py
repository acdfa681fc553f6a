"""The members of a row in another format, read by name, so that what was not read can be reported."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from maas_client.dataset.issues import is_format_word, quote_if_safe

Row = dict[str, Any]

QUESTION_NAMES = (
    "question", "query", "problem", "chat_input", "user_question", "user_query", "user_input", "message",
    "inputs", "text_input", "question_text", "question_stem", "sql_prompt",
)  # fmt: skip
"""Names of a question, besides ``prompt``, ``instruction`` and ``input``."""
ANSWER_NAMES = (
    "answer", "answers", "answer_key", "response", "completion", "output", "solution", "outputs", "chat_output",
    "target", "targets", "ground_truth", "truth", "correct_answer", "reference_answer", "reference_response",
    "expected_answer", "expected_output", "expected_response", "expected", "ideal", "ideal_answer", "gold",
    "gold_answer", "golden_answer", "std_answer", "standard_answer", "model_answer", "model_response",
    "model_output", "final_answer", "best_answer", "generation", "reply", "sql",
)  # fmt: skip
"""Names of the answer to a question. A row with two different answers is not converted."""
RESPONSE_NAMES = (
    "response",
    "completion",
    "answer",
    "output",
    "outputs",
    "expected_output",
    "ideal",
)
"""Names of the answer to a chat, beside its messages. A reference for a grader is none."""
PREFERENCE_NAMES = (
    ("preferred_output", "non_preferred_output"),
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("chosen_messages", "rejected_messages"),
    ("chosen_conversations", "rejected_conversations"),
    ("chosen_answer", "rejected_answer"),
    ("chosen_output", "rejected_output"),
    ("response_chosen", "response_rejected"),
    ("answer_chosen", "answer_rejected"),
    ("output_chosen", "output_rejected"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "non_preferred"),
    ("preferred", "rejected"),
    ("y_w", "y_l"),
)
"""Names of the preferred and of the other answer."""
TOOL_NAMES = (
    "tools",
    "functions",
    "tool_definitions",
    "function_definitions",
    "available_tools",
    "toolConfig",
    "available_functions",
    "tools_available",
    "tools_list",
    "tool_list",
    "tool_schemas",
    "tool_specs",
    "function_list",
    "function_schemas",
    "apis",
    "api_list",
)
MEDIA_NAMES = frozenset(
    f"{kind}{suffix}"
    for kind in ("image", "audio", "video")
    for suffix in ("", "s", "url", "urls", "path", "paths", "file", "files", "bytes")
) | {"file"}
_MEANINGFUL_NAMES = """
analysis args arguments attachments background chain_of_thought chat chat_history choices code context
contexts conversation conversations correct_answers cot demonstrations distractor distractors document
documents entities evidence examples explanation facts feedback few_shot function function_call hint history
hypothesis incorrect_answers input instruction instructions knowledge label labels long_answer messages
options passage persona premise prompt rationale raw_answer raw_output raw_response reasoning
reasoning_content reasoning_steps reasoning_trace reference references response_format responses schema
chat_template_kwargs corrected definition inputs_pretokenized personality reflection role_description
scenario targets_pretokenized task_definition task_description user_profile scratchpad short_answer
slots sql steps suffix summary support supporting_facts system system_instruction system_message
system_prompt table text think thinking thought thoughts tool tool_calls tool_choice wrong_answers
"""
_SEPARATORS = re.compile(r"[\s_.-]+")


class ConversionError(ValueError):
    """A row cannot be converted. The message contains none of its text."""


class UnwantedAnswerError(ConversionError):
    """The row says that its answer must not be learned, so it is left out."""


@lru_cache(maxsize=4096)
def normalize_key(key: str) -> str:
    """Return a key without case and separators: ``System Prompt`` and ``system_prompt`` are the same.

    ``__expected`` and the like are names of a tool's own and stay as they are.
    """
    return key if key.startswith("__") else _SEPARATORS.sub("", key.casefold())


MEANINGFUL_NAMES = frozenset(
    map(
        normalize_key,
        (
            *_MEANINGFUL_NAMES.split(),
            *QUESTION_NAMES,
            *ANSWER_NAMES,
            *TOOL_NAMES,
            *(name for names in PREFERENCE_NAMES for name in names),
        ),
    )
)
"""Normalized names of members that carry meaning."""


def has_meaning(name: str) -> bool:
    """Return whether a member carries meaning, so that a row is not converted without it.

    ``name`` is normalized; a number at its end does not matter (``answer2``).
    """
    return name in MEDIA_NAMES or name.rstrip("0123456789") in MEANINGFUL_NAMES


def is_text_key(key: str, value: Any) -> bool:
    """Return whether a key that no table names is that of an answer, a context, options, turns or tools.

    The last word of the key decides: ``generated_solution``, ``retrievedDocs``. A number, and a file name in
    place of a document, carry no meaning.
    """
    kind = _text_kind(key)
    if not kind or isinstance(value, bool | int | float):
        return False
    if isinstance(value, str) and (not value.strip().isalpha() or kind == "source"):
        return " " in value.strip() or "\n" in value.strip()
    return True


@lru_cache(maxsize=4096)
def _text_kind(key: str) -> str:
    """Return what the last word of a column's name says that it holds: text, source (of a text), or nothing."""
    if not _COLUMN_NAME.fullmatch(key):
        return ""
    words = _WORD.findall(key)
    while len(words) > 1 and (len(words[-1]) == 1 or words[-1].isdigit()):
        words.pop()  # answer_b, Response2
    last = words[-1].casefold() if words else ""
    if last in _SOURCE_WORDS:
        return "source"
    return "text" if last in _TEXT_WORDS else ""


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_TEXT_NOUNS = """
answer answers solution solutions response responses completion completions output outputs reply replies
choices options alternatives history messages turns dialogue dialog conversation conversations tools functions
apis instruction instructions
"""
_SOURCE_NOUNS = """
context contexts passage passages paragraph paragraphs article articles story document documents docs
"""
_TEXT_WORDS, _SOURCE_WORDS = frozenset(_TEXT_NOUNS.split()), frozenset(_SOURCE_NOUNS.split())


def is_empty(value: Any) -> bool:
    """Return whether a value says nothing: null, blank text, an empty list or object."""
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def rename_keys(row: Row, names: Sequence[tuple[str, str]]) -> Row:
    """Return a row with its keys renamed by pairs ``(theirs, ours)``.

    Raises ``ConversionError`` if two keys with a value would have the same name.
    """
    by_name = {normalize_key(theirs): ours for theirs, ours in names}
    renamed = dict[str, Any]()
    for key, value in row.items():
        name = by_name.get(normalize_key(key), key) if names else key
        if is_empty(renamed.get(name)):
            renamed[name] = value
        elif not is_empty(value):
            raise ConversionError(f"two keys are named {describe_key(name)}")
    return renamed


class Fields:
    """The members of a row, by normalized name, and which of them were read.

    Args:
        row: The row.
        ignored: Keys whose loss is accepted; they are never reported as an error.
    """

    def __init__(self, row: Row, ignored: Iterable[str] = ()) -> None:
        self.row = row
        self.notes: list[Note] = []
        """What was left out of the conversion on purpose, in words."""
        self._ignored = {normalize_key(key) for key in ignored}
        self._keys: dict[str, str] = {}
        self._read: set[str] = set()
        for key in row:
            name = normalize_key(key)
            if name in self._keys and not is_empty(row[key]):
                if not is_empty(row[self._keys[name]]):
                    raise ConversionError(f"two keys are named {describe_key(key)}")
                self._keys[name] = key
            self._keys.setdefault(name, key)

    def of(self, value: Row) -> Fields:
        """Return the members of an object within the row, with the same ignored keys and notes."""
        inner = Fields(value)
        inner._ignored, inner.notes = self._ignored, self.notes
        return inner

    def get(self, *names: str) -> Any:
        """Return the first non-empty member with one of these names, or None; it counts as read."""
        for name in map(normalize_key, names):
            key = self._keys.get(name)
            if key is not None and not is_empty(self.row[key]) and name not in self._ignored:
                self._read.add(key)
                return self.row[key]
        return None

    def has(self, *names: str) -> bool:
        """Return whether one of these members is present and not empty."""
        return any(
            (key := self._keys.get(normalize_key(name))) is not None and not is_empty(self.row[key])
            for name in names
        )

    def key_of(self, *names: str) -> str:
        """Return the key that ``get`` reads, or the first name if none of the members is present."""
        for name in names:
            if self.has(name):
                return self._keys[normalize_key(name)].strip()
        return names[0]

    def mark_read(self, *names: str) -> None:
        """Count members as read that the conversion does not need."""
        self._read.update(
            self._keys[name] for name in map(normalize_key, names) if name in self._keys
        )

    def hoist(self, name: str) -> None:
        """Replace an object by its members, which must not contradict members of the row."""
        inner = self.get(name)
        if not isinstance(inner, dict):
            raise ConversionError(f"{name} is not an object")
        for key, value in inner.items():
            existing = self._keys.get(normalize_key(key))
            row_value = None if existing in (None, *self._read) else self.row.get(str(existing))
            if not is_empty(row_value) and row_value != value:
                raise ConversionError(f"{describe_key(key)} is in the row and in {name}")
            self.row = {**self.row, key: value}
            self._keys[normalize_key(key)] = key

    def read_texts(self) -> list[str]:
        """Return the texts of the members that were read."""
        values = (self.row[key] for key in self._read)
        return [value.strip() for value in values if isinstance(value, str) and value.strip()]

    def unread(self) -> list[tuple[str, str]]:
        """Return the normalized names and the keys of the non-empty members that were not read."""
        return [
            (name, key)
            for name, key in self._keys.items()
            if key not in self._read and not is_empty(self.row[key])
        ]

    def is_ignored(self, name: str) -> bool:
        """Return whether the loss of a member is accepted; ``name`` is normalized."""
        return name in self._ignored


HIDDEN_KEY = "(not shown)"
"""What stands for a key that may be text of the row."""


def describe_key(key: str) -> str:
    """Return a key in a form that can be shown, or a description if it may be text of the row."""
    is_known = has_meaning(normalize_key(key)) or is_format_word(key)
    return key.strip() if is_known else HIDDEN_KEY


class KeyNote(NamedTuple):
    """A key that is not converted; ``KeyCounts`` decides how it is described."""

    key: str
    place: str = ""
    """The object that has the key, if it is not the row."""


Note = str | KeyNote
"""What was left out of a row."""


class KeyCounts:
    """Counts in how many rows a key is, and names the keys that cannot be text of a row.

    These are words of data formats, and the keys that most rows have: they are columns.
    """

    def __init__(self) -> None:
        self._rows: Counter[KeyNote] = Counter()

    def add(self, note: KeyNote) -> None:
        """Count a row with a key."""
        if note not in self._rows:
            can_be_named = describe_key(note.key) != HIDDEN_KEY or _COLUMN_NAME.fullmatch(note.key)
            if not can_be_named or len(self._rows) >= _MAX_COUNTED_KEYS:
                note = KeyNote(HIDDEN_KEY, note.place)
        self._rows[note] += 1

    def describe(self, note: KeyNote, rows: int) -> str:
        """Return a key of a file with so many rows, or a description if it may be text of a row."""
        count = self._rows[note]
        is_column = count >= _MIN_COLUMN_ROWS and 2 * count >= rows
        return note.key if is_column else describe_key(note.key)

    def described(self, rows: int) -> Iterator[tuple[str, str, int]]:
        """Yield the description, the place and the number of rows of all counted keys."""
        for note, count in self._rows.items():
            yield self.describe(note, rows), note.place, count


_MIN_COLUMN_ROWS = 3
_MAX_COUNTED_KEYS = 1000
_COLUMN_NAME = re.compile(r"(?=.{1,32}\Z)[A-Za-z$][A-Za-z0-9]*(?:[_.-][A-Za-z0-9]+)*")


def to_text(value: Any, name: str) -> str:
    """Return a value as text; numbers, lists and objects as JSON.

    Raises:
        ConversionError: The value is missing or empty.
    """
    if is_empty(value):
        raise ConversionError(f"{name} is missing or empty")
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n\n".join(item for item in value if item.strip())
    return json.dumps(value, ensure_ascii=False)


def to_answer(value: Any, name: str, fields: Fields) -> str:
    """Return the one answer that a value holds. Several accepted answers are counted as left out."""
    if _are_candidates(value):
        raise ConversionError(f"{name} is a list of several answers, and one answer is needed")
    if isinstance(value, dict) and "aliases" in value and isinstance(value.get("value"), str):
        fields.notes.append("accepted answers after the first")  # TriviaQA
        value = value["value"]
    if isinstance(value, dict) and isinstance(texts := value.get("text"), list):
        value = list(dict.fromkeys(text for text in texts if isinstance(text, str)))
        if len(value) > 1:
            fields.notes.append("accepted answers after the first")
        value = value[:1]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        if len(value) > 1 and name != "answers":
            raise ConversionError(f"{name} is a list of several texts, and one answer is needed")
        if len(value) > 1:
            fields.notes.append("accepted answers after the first")
        value = value[0]
    return to_text(value, name)


_CANDIDATE_NAMES = ("answer", "text", "response", "content", "completion", "output")
_RANK_NAMES = {
    "rank",
    "score",
    "pm_score",
    "rating",
    "votes",
    "upvotes",
    "downvotes",
    "selected",
    "is_best",
}


def _are_candidates(value: Any) -> bool:
    """Return whether a value is a list of answers with their ranks or scores (Nectar, Stack Exchange)."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict)
            and any(isinstance(item.get(name), str) for name in _CANDIDATE_NAMES)
            and bool(item.keys() & _RANK_NAMES)
            for item in value
        )
    )


def describe_word(value: Any) -> str:
    """Return a short word of a row in quotes, or its type if it may be text of the row."""
    return quote_if_safe(value) or "(not shown)"
