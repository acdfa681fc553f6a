"""The rules for a preference row. Its two chats follow the rules of ``chat.py``.

``schemas/preference_line.schema.json`` states the same rules for any language, as far as a JSON Schema can.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

from maas_client.dataset.formats import detect_other_format
from maas_client.dataset.formats.preferences import ANSWER_KEYS
from maas_client.dataset.issues import Issue, KeyPath, json_type, quote_if_safe
from maas_client.dataset.rules.unsupported_fields import row_key_issues

_ROW_KEYS = ("input", *ANSWER_KEYS)
_CHAT_KEYS = ("messages", "tools", "parallel_tool_calls")
_ANSWER_ROLES = ("assistant", "tool")
_ABOUT_THE_WHOLE_CHAT = frozenset(("CHAT_NOTHING_LEARNED",))
ChatRules = Callable[[dict[str, Any]], list[Issue]]
"""``chat.row_issues`` for one target and model."""


def preference_issues(row: Any, chat_issues: ChatRules) -> list[Issue]:
    """Return every issue of a preference row in order."""
    if not isinstance(row, dict):
        return [Issue("CHAT_NOT_OBJECT", (), json_type(row))]
    missing = [key for key in _ROW_KEYS if key not in row]
    if missing:
        return list(_missing_key_issues(row, missing))
    issues = [*_input_issues(row["input"])]
    for key in ANSWER_KEYS:
        issues += _answer_issues(row[key], (key,))
    issues += _second_chat_issues(row)
    if issues:
        return issues
    seen: set[Issue] = set()
    for key in ANSWER_KEYS:
        chat = {**row["input"], "messages": [*row["input"]["messages"], *row[key]]}
        for issue in chat_issues(chat):
            located = issue._replace(path=_to_row_path(issue.path, row, key))
            if issue.code not in _ABOUT_THE_WHOLE_CHAT and located not in seen:
                seen.add(located)
                issues.append(located)
        issues += _unlearned_answer_issues(row[key], key)
    if row[ANSWER_KEYS[0]] == row[ANSWER_KEYS[1]]:
        issues.append(Issue("CHAT_PREFERENCE_SAME", (ANSWER_KEYS[1],)))
    rest = {key: value for key, value in row.items() if key not in _ROW_KEYS}
    issues += row_key_issues({"messages": row["input"]["messages"], **rest})
    return issues


def _missing_key_issues(row: dict[str, Any], missing: list[str]) -> Iterator[Issue]:
    found = detect_other_format(row)
    if len(missing) == len(_ROW_KEYS) and found is not None and found.name == "dpo":
        yield Issue("CHAT_SHAPE_DPO")
        return
    if "messages" in row and len(missing) == len(_ROW_KEYS):
        yield Issue("CHAT_PREFERENCE_MISSING", (), "the row is a chat with one answer")
        return
    if not row.keys() & set(ANSWER_KEYS) and found is not None and found.name == "dpo":
        yield Issue("CHAT_SHAPE_DPO")
        return
    for key in missing:
        near = difflib.get_close_matches(
            key, [k for k in row if k not in _ROW_KEYS], n=1, cutoff=0.8
        )
        if near:
            yield Issue(
                "CHAT_PREFERENCE_MISSING", (near[0],), f"{key}; did you mean this key?", True
            )
        else:
            yield Issue("CHAT_PREFERENCE_MISSING", (), key)


def _input_issues(source: Any) -> Iterator[Issue]:
    path: KeyPath = ("input",)
    if not isinstance(source, dict):
        yield Issue("CHAT_PREFERENCE_TYPE", path, f"{json_type(source)} instead of an object")
        return
    messages = source.get("messages")
    if not isinstance(messages, list):
        detail = json_type(messages) if "messages" in source else "missing"
        yield Issue("CHAT_PREFERENCE_TYPE", (*path, "messages") if "messages" in source else path,
                    f"messages is {detail} instead of a list")  # fmt: skip
        return
    if not messages:
        yield Issue("CHAT_MESSAGES_EMPTY", (*path, "messages"))
        return
    last = messages[-1]
    if isinstance(last, dict) and last.get("role") == "assistant":
        yield Issue("CHAT_PREFERENCE_INPUT_END", (*path, "messages", len(messages) - 1, "role"))


def _answer_issues(answer: Any, path: KeyPath) -> Iterator[Issue]:
    if not isinstance(answer, list):
        yield Issue(
            "CHAT_PREFERENCE_TYPE", path, f"{json_type(answer)} instead of a list of messages"
        )
    elif not answer:
        yield Issue("CHAT_PREFERENCE_EMPTY", path)
    else:
        for index, message in enumerate(answer):
            role = message.get("role") if isinstance(message, dict) else None
            if isinstance(role, str) and role not in _ANSWER_ROLES:
                yield Issue("CHAT_PREFERENCE_ROLE", (*path, index, "role"), quote_if_safe(role))
        first = answer[0]
        if isinstance(first, dict) and first.get("role") == "tool":
            yield Issue(
                "CHAT_PREFERENCE_ROLE", (*path, 0, "role"), "an answer begins with the assistant"
            )


def _second_chat_issues(row: dict[str, Any]) -> Iterator[Issue]:
    """Yield an issue for each key of a chat beside ``input``: only those in ``input`` are read."""
    for key in _CHAT_KEYS:
        if row.get(key) not in (None, "", []):
            hint = f"Remove {key}, or write it in input."
            yield Issue(
                "CHAT_PREFERENCE_TYPE",
                (key,),
                f"{key} beside input is not read",
                in_key=True,
                hint=hint,
            )


def _unlearned_answer_issues(answer: list[Any], key: str) -> Iterator[Issue]:
    """Yield an issue if no message of an answer is compared, because each has weight 0."""
    own = [i for i, m in enumerate(answer) if isinstance(m, dict) and m.get("role") == "assistant"]
    if own and all(answer[index].get("weight") == 0 for index in own):
        yield Issue(
            "CHAT_NOTHING_LEARNED",
            (key, own[-1], "weight"),
            "both answers of a preference are compared",
            hint="Remove the weight, or remove the row.",
        )


def _to_row_path(path: KeyPath, row: dict[str, Any], key: str) -> KeyPath:
    """Return the place in the row of a place in the chat of one of its answers."""
    if not path or path[0] != "messages" or len(path) == 1 or not isinstance(path[1], int):
        return ("input", *path)
    count = len(row["input"]["messages"])
    if path[1] < count:
        return ("input", *path)
    return (key, path[1] - count, *path[2:])
