"""Keys of other tools that change what a row means, and that no target reads.

Beside ``messages``: a system prompt, a label, a score. In a message: loss masks, which say as ``weight``
does whether a message is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from maas_client.dataset.formats.fields import (
    ANSWER_NAMES,
    PREFERENCE_NAMES,
    RESPONSE_NAMES,
    TOOL_NAMES,
    ConversionError,
    is_text_key,
    normalize_key,
)
from maas_client.dataset.formats.labels import (
    is_label_key,
    is_mask_key,
    is_remark_key,
    is_row_weight,
    is_wanted,
    weight_for,
)
from maas_client.dataset.formats.messages import SYSTEM_NAMES
from maas_client.dataset.formats.registry import is_repeated
from maas_client.dataset.issues import Issue, KeyPath

Row = dict[str, Any]

_SYSTEM_KEYS = frozenset(map(normalize_key, SYSTEM_NAMES))
_MEANINGFUL_NAMES = """
score scores rating reward rewards preference context contexts documents history chat_history choices options
tool_choice response_format thinking reasoning reasoning_content images image audio audios videos prefix suffix
"""
_MEANINGFUL_KEYS = frozenset(
    map(
        normalize_key,
        (
            *_MEANINGFUL_NAMES.split(),
            *ANSWER_NAMES,
            *(name for name in TOOL_NAMES if name not in ("tools", "functions")),
            *(name for names in PREFERENCE_NAMES for name in names),
        ),
    )
)
"""Keys beside ``messages``, besides labels and masks, with something that the row's author wants to be used."""
_READ_KEYS = frozenset(("messages", "tools", "functions"))
"""Keys that the rules read, or report themselves."""
_REASONING_KEYS = frozenset(
    map(normalize_key, ("reasoning", "reasoning_content", "thinking", "thought"))
)
_FIX = "maas-client validate FILE --fix OUT.jsonl"


def is_system_key(key: str) -> bool:
    """Return whether other formats have the system message under this key, beside the messages."""
    return normalize_key(key) in _SYSTEM_KEYS


def system_text(value: Any) -> str | None:
    """Return the text of a system message that is written as a string or as text parts, or None."""
    if isinstance(value, str):
        return value if value.strip() else None
    if not isinstance(value, list) or not value:
        return None
    parts = [part.get("text") if isinstance(part, dict) else part for part in value]
    texts = [text for text in parts if isinstance(text, str) and text]
    return "\n\n".join(texts) if len(texts) == len(parts) else None


def row_key_issues(row: Row) -> Iterator[Issue]:
    """Yield an issue for each key beside ``messages`` whose value would be lost."""
    if len(row) == 1:
        return
    for key, value in row.items():
        if key in _READ_KEYS:
            continue
        kind = _key_kind(key) or ("meaning" if is_text_key(key, value) else "")
        if not kind or value in (None, "", []) or _is_message_text(value, row["messages"]):
            continue
        if kind == "system":
            yield Issue("CHAT_SYSTEM_OUTSIDE", (key,), in_key=True)
            continue
        verdict = _verdict(key, value)
        if verdict is False or (verdict is None and kind != "remark"):
            hint = _UNWANTED_HINT if verdict is False or _is_unwanted(key, value) else ""
            yield Issue("CHAT_ROW_KEY", (key,), f"'{key.strip()}'", in_key=True, hint=hint)


@lru_cache(maxsize=1024)
def _key_kind(key: str) -> str:
    """Return what a key beside ``messages`` is: system, meaning, remark (it may be a label) or empty."""
    if is_system_key(key):
        return "system"
    if normalize_key(key) in _MEANINGFUL_KEYS or is_label_key(key) or is_mask_key(key):
        return "meaning"
    return "remark" if is_remark_key(key) else ""


_UNWANTED_HINT = (
    "The row says that its answer must not be learned. Leave such rows out; this does it: "
    "maas-client datasets convert FILE OUT.jsonl"
)


def _is_unwanted(key: str, value: Any) -> bool:
    """Return whether the weight of a whole row is 0."""
    return is_row_weight(key) and weight_for("weight", value) == 0


def _verdict(key: str, value: Any) -> bool | None:
    """Return whether a label says that the answer is wanted; None for no label, or an unclear one."""
    try:
        return is_wanted(key, value)
    except ConversionError:
        return None


def mask_issue(key: str, value: Any, message: Row, path: KeyPath) -> Issue:
    """Return the issue of a message with another tool's loss mask."""
    weight = weight_for(key, value)
    if message.get("role") != "assistant":
        hint = "Remove it: only assistant messages are trained on."
    elif weight == 0:
        hint = f'Write "weight": 0 in its place; this does it: {_FIX}'
    elif weight == 1:
        hint = f'Write "weight": 1 in its place; this does it: {_FIX}'
    else:
        hint = 'Write "weight": 0 in its place if the message must not be trained on, else "weight": 1.'
    detail = f"'{key.strip()}', a loss mask of another tool"
    return Issue("CHAT_KEY_UNKNOWN", (*path, key), detail, in_key=True, hint=hint)


def unknown_key_hint(key: str) -> str:
    """Return what to do about a key of a message whose meaning would be lost, or an empty text."""
    if is_label_key(key) or is_remark_key(key):
        return 'Write "weight": 0 if this answer must not be learned, then remove the key.'
    if normalize_key(key) in _REASONING_KEYS:
        return "No target trains on it: write it into content if it must be learned, or remove it."
    return ""


def has_answer_beside(row: Row) -> bool:
    """Return whether a row has an answer beside its messages."""
    return any(value and normalize_key(key) in _RESPONSE_KEYS for key, value in row.items())


_RESPONSE_KEYS = frozenset(map(normalize_key, RESPONSE_NAMES))


def _is_message_text(value: Any, messages: list[Row]) -> bool:
    """Return whether the messages have this text too, so that nothing is lost."""
    contents = [
        m["content"] for m in messages if isinstance(m, dict) and isinstance(m.get("content"), str)
    ]
    return is_repeated(value, contents)
