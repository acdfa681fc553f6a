"""Preference rows: ``input`` with messages, ``preferred_output`` and ``non_preferred_output``.

The format of OpenAI and of Microsoft Foundry (docs/azure-http.md section 8). A row is two chats that share
their beginning; validation, token counts and training use these chats.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
ANSWER_KEYS = ("preferred_output", "non_preferred_output")
"""The answer to learn, and the one to unlearn."""


def preference_chats(row: Row) -> tuple[Row, Row]:
    """Return a valid row as two chats: with the preferred and with the non-preferred answer.

    Only the answers carry loss: assistant messages of the input have weight 0.
    """
    source = row["input"]
    question = [
        {**message, "weight": 0} if message["role"] == "assistant" else message
        for message in source["messages"]
    ]
    tools = {"tools": source["tools"]} if source.get("tools") else {}
    preferred, other = ({"messages": [*question, *row[key]], **tools} for key in ANSWER_KEYS)
    return preferred, other


def preference_messages(row: Row) -> list[Row]:
    """Return all messages of a valid row: of the input and of both answers."""
    return [*row["input"]["messages"], *(message for key in ANSWER_KEYS for message in row[key])]


def preference_row(preferred: Row, other: Row) -> Row | None:
    """Return the preference row of two chats that differ in their answers.

    Returns None if they do not begin with the same question, or if the answers are equal.
    """
    first, second = preferred["messages"], other["messages"]
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    while shared and "assistant" not in (_role(first, shared), _role(second, shared)):
        shared -= 1  # an answer begins with a message of the assistant
    answers = first[shared:], second[shared:]
    roles = {message["role"] for answer in answers for message in answer}
    starts = {_role(messages, shared) for messages in (first, second)}
    if not shared or starts != {"assistant"} or not roles <= {"assistant", "tool"}:
        return None
    source = {**preferred, "messages": first[:shared]}
    return {"input": source, ANSWER_KEYS[0]: answers[0], ANSWER_KEYS[1]: answers[1]}


def _role(messages: list[Row], index: int) -> str | None:
    return messages[index]["role"] if index < len(messages) else None
