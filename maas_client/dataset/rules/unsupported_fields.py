"""Keys of other tools that change what a row means, and that no target reads.

Beside ``messages``: a system prompt, a label, a score. In a message: loss masks, which say as ``weight``
does whether a message is trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from maas_client.dataset.formats.fields import DEFECT_NAMES, VERDICT_NAMES
from maas_client.dataset.formats.messages import SYSTEM_NAMES, normalize_mask_key, weight_for
from maas_client.dataset.issues import Issue, KeyPath

Row = dict[str, Any]

_SYSTEM_KEYS = frozenset(name.replace("_", "") for name in SYSTEM_NAMES)
"""Keys beside ``messages`` whose text is the system message, without underscores."""
_MEANINGFUL_KEYS = frozenset(
    [
        *VERDICT_NAMES,
        *DEFECT_NAMES,
        "label",
        "labels",
        "score",
        "scores",
        "rating",
        "reward",
        "rewards",
        "weight",
        "weights",
        "sample_weight",
        "loss_weight",
        "loss",
        "train",
        "mask",
        "preference",
        "chosen",
        "rejected",
        "completion",
        "response",
        "answer",
        "answers",
        "output",
        "context",
        "contexts",
        "documents",
        "history",
        "chat_history",
        "choices",
        "options",
        "tool_choice",
        "response_format",
        "thinking",
        "reasoning",
        "reasoning_content",
        "images",
        "image",
        "audio",
        "audios",
        "videos",
        "prefix",
        "suffix",
    ]
)
"""Further keys beside ``messages`` with something that the row's author wants to be used."""
_FIX = "maas-client validate FILE --fix OUT.jsonl"


def is_system_key(key: str) -> bool:
    """Return whether other formats have the system message under this key, beside the messages."""
    return normalize_mask_key(key).replace("_", "") in _SYSTEM_KEYS


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
        name = normalize_mask_key(key)
        if value in (None, "", []) or _is_message_text(value, row["messages"]):
            continue
        if is_system_key(key):
            yield Issue("CHAT_SYSTEM_OUTSIDE", (key,), in_key=True)
        elif name in _MEANINGFUL_KEYS:
            yield Issue("CHAT_ROW_KEY", (key,), f"'{name}'", in_key=True)


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
    detail = f"'{normalize_mask_key(key)}', a loss mask of another tool"
    return Issue("CHAT_KEY_UNKNOWN", (*path, key), detail, in_key=True, hint=hint)


def _is_message_text(value: Any, messages: list[Row]) -> bool:
    """Return whether a message has this text too, so that nothing is lost."""
    return isinstance(value, str) and any(
        isinstance(message, dict) and message.get("content") == value for message in messages
    )
