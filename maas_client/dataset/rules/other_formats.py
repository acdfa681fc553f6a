"""Recognise rows in other formats (Alpaca, DPO, ShareGPT, ...) by their keys.

``maas-client datasets convert`` converts them to chats.
"""

from __future__ import annotations

import difflib
from typing import Any

from maas_client.dataset.issues import Issue

_KEYS_BY_FORMAT: tuple[tuple[str, tuple[frozenset[str], ...]], ...] = (
    (
        "BATCH",
        (frozenset({"custom_id", "body"}), frozenset({"training_file", "model"})),
    ),
    (
        "DPO",
        (
            frozenset({"preferred_output", "non_preferred_output"}),
            frozenset({"chosen", "rejected"}),
        ),
    ),
    ("SHAREGPT", (frozenset({"conversations"}), frozenset({"conversation"}))),
    (
        "TEXT_GROUND_TRUTH",
        (
            frozenset({"text", "ground_truth"}),
            frozenset({"text", "summary"}),
            frozenset({"document", "summary"}),
        ),
    ),
    (
        "PROMPT_COMPLETION",
        (
            frozenset({"prompt", "completion"}),
            frozenset({"prompt", "response"}),
            frozenset({"context", "completion"}),
            frozenset({"input_text", "output_text"}),
        ),
    ),
    (
        "ALPACA",
        (
            frozenset({"instruction", "output"}),
            frozenset({"instruction", "response"}),
            frozenset({"input", "output"}),
        ),
    ),
    (
        "QUESTION_ANSWER",
        (frozenset({"question", "answer"}), frozenset({"question", "answers"})),
    ),
    (
        "CLASSIFICATION",
        (
            frozenset({"text", "label"}),
            frozenset({"sentence", "label"}),
            frozenset({"text", "label_text"}),
            frozenset({"sentence1", "sentence2"}),
            frozenset({"premise", "hypothesis"}),
        ),
    ),
    ("TEXT", (frozenset({"text"}), frozenset({"content"}))),
)


def detect_format(row: dict[str, Any]) -> str | None:
    """Return the name of the format that has the row's keys (``ALPACA``, ``DPO``, ...), or None."""
    keys = {key.casefold() for key in row}
    for name, alternatives in _KEYS_BY_FORMAT:
        if any(alternative <= keys for alternative in alternatives):
            return name
    return None


def missing_messages_issue(row: dict[str, Any]) -> Issue:
    """Return the most specific issue for a row without ``messages``."""
    if name := detect_format(row):
        return Issue(f"CHAT_SHAPE_{name}")
    for key in row:
        if difflib.SequenceMatcher(None, key.casefold(), "messages").ratio() > 0.75:
            return Issue("CHAT_NO_MESSAGES", (key,), "did you mean this key?", in_key=True)
    return Issue("CHAT_NO_MESSAGES")


def is_sharegpt_turn(message: dict[str, Any]) -> bool:
    """Return whether a message is one of ShareGPT's, with ``from`` and ``value``."""
    return "from" in message and "value" in message and "role" not in message
