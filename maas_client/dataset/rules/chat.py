"""The rules for a row that is valid JSON: every fault, in the order of the row.

``schemas/chat_line.schema.json`` says the same for any language, as far as a schema can; a test
holds the two together. The order of roles, calls and results, and the model's template are beyond
a schema and live here alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from maas_client.chat import find_mismatches
from maas_client.dataset.issues import Issue, KeyPath, json_type, quote_if_safe
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.rules.other_formats import is_sharegpt_turn, missing_messages_issue
from maas_client.dataset.rules.tools import call_issues, definition_issues, result_issues

ROLES = ("system", "user", "assistant", "tool")
MESSAGE_KEYS = frozenset(
    ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "function_call")
)
UNSUPPORTED_PARTS = {
    "image_url": "an image",
    "input_audio": "a sound",
    "file": "a file",
    "audio": "a sound",
}
_WORD_CHARS = 40
"""Of a role or key that is no known one, as far as it is looked at."""
_MEANT = {
    "human": "user",
    "bot": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "developer": "system",
    "observation": "tool",
    "ipython": "tool",
}


def row_issues(row: Any, context: RuleContext) -> list[Issue]:
    """Return every fault of a row. Codes that the target does not report are among them."""
    if not isinstance(row, dict):
        return [Issue("CHAT_NOT_OBJECT", (), json_type(row))]
    if "messages" not in row:
        return [missing_messages_issue(row)]
    messages = row["messages"]
    if not isinstance(messages, list):
        return [Issue("CHAT_MESSAGES_TYPE", ("messages",), json_type(messages))]
    if not messages:
        return [Issue("CHAT_MESSAGES_EMPTY", ("messages",))]
    if isinstance(messages[0], dict) and is_sharegpt_turn(messages[0]):
        return [Issue("CHAT_SHAPE_SHAREGPT", ("messages", 0))]
    faults = [f for at, message in enumerate(messages) for f in _message(at, message, context)]
    faults += definition_issues(row)
    if not any(f.code in _NO_ORDER for f in faults):
        faults += _order(messages)
        faults += result_issues(messages)
    if not faults and context.template is not None:
        faults += _template(messages, row.get("tools"), context)
    return faults


_NO_ORDER = frozenset(
    (
        "CHAT_MESSAGE_TYPE",
        "CHAT_ROLE_MISSING",
        "CHAT_ROLE_TYPE",
        "CHAT_ROLE_UNKNOWN",
        "TOOL_FUNCTIONS_DEPRECATED",
    )
)
"""Who speaks is not known, so nothing is said about turns."""


def _message(at: int, message: Any, book: RuleContext) -> Iterator[Issue]:
    here: KeyPath = ("messages", at)
    if not isinstance(message, dict):
        yield Issue("CHAT_MESSAGE_TYPE", here, json_type(message))
        return
    yield from _role(message, here)
    yield from _keys(message, here)
    yield from _content(message, here, book)
    yield from call_issues(message, here)


def _role(message: dict[str, Any], here: KeyPath) -> Iterator[Issue]:
    if "role" not in message:
        near = _near(message, "role")
        yield Issue("CHAT_ROLE_MISSING", here if near is None else (*here, near), in_key=bool(near))
    elif not isinstance(role := message["role"], str):
        yield Issue("CHAT_ROLE_TYPE", (*here, "role"), json_type(role))
    elif role == "function":
        yield Issue("TOOL_FUNCTIONS_DEPRECATED", (*here, "role"))
    elif role not in ROLES:
        yield Issue("CHAT_ROLE_UNKNOWN", (*here, "role"), _meant_role(role[:_WORD_CHARS]))


@lru_cache(maxsize=256)
def _meant_role(role: str) -> str:
    plain = role.strip().casefold()
    close = difflib.get_close_matches(plain, ROLES, n=1, cutoff=0.7)
    meant = plain if plain in ROLES else _MEANT.get(plain) or next(iter(close), None)
    return (quote_if_safe(role) + (f" (is {meant} meant?)" if meant else "")).strip()


@lru_cache(maxsize=256)
def _meant_key(key: str) -> str:
    close = difflib.get_close_matches(key.casefold(), MESSAGE_KEYS, n=1, cutoff=0.75)
    return (quote_if_safe(key) + (f" (is {close[0]} meant?)" if close else "")).strip()


def _near(message: dict[str, Any], wanted: str) -> str | None:
    """Return a key that is most likely a misspelt ``wanted``."""
    unknown = [key[:_WORD_CHARS] for key in message if key not in MESSAGE_KEYS]
    return next(iter(difflib.get_close_matches(wanted, unknown, n=1, cutoff=0.7)), None)


def _keys(message: dict[str, Any], here: KeyPath) -> Iterator[Issue]:
    for key in message:
        if key not in MESSAGE_KEYS:
            yield Issue(
                "CHAT_KEY_UNKNOWN", (*here, key), _meant_key(key[:_WORD_CHARS]), in_key=True
            )
    if message.get("function_call") is not None:
        yield Issue("TOOL_FUNCTIONS_DEPRECATED", (*here, "function_call"), in_key=True)
    if not isinstance(message.get("name"), str | None):
        yield Issue("CHAT_NAME", (*here, "name"), json_type(message["name"]))
    weight = message.get("weight")
    if weight is not None:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
            yield Issue("CHAT_WEIGHT", (*here, "weight"))
        elif message.get("role") != "assistant":
            yield Issue("CHAT_WEIGHT_ROLE", (*here, "weight"), in_key=True)


def _content(message: dict[str, Any], here: KeyPath, book: RuleContext) -> Iterator[Issue]:
    place = (*here, "content")
    content = message.get("content")
    calls = message.get("role") == "assistant" and message.get("tool_calls") is not None
    if content is None:
        if calls or message.get("function_call") is not None:
            return
        near = _near(message, "content")
        where = place if "content" in message else here if near is None else (*here, near)
        said = "null" if "content" in message else ""
        yield Issue("CHAT_CONTENT_MISSING", where, said, in_key=bool(near and where[-1] == near))
    elif isinstance(content, str):
        if not content:
            if not calls and message.get("role") != "tool":
                yield Issue("CHAT_CONTENT_EMPTY", place)
        elif content.isspace():
            if not calls and message.get("role") != "tool":
                yield Issue("CHAT_CONTENT_BLANK", place)
        else:
            yield from _text(content, place, book)
    elif isinstance(content, list):
        yield from _parts(content, place, book)
    else:
        yield Issue("CHAT_CONTENT_TYPE", place, json_type(content))


def _parts(parts: list[Any], place: KeyPath, book: RuleContext) -> Iterator[Issue]:
    if not parts:
        yield Issue("CHAT_CONTENT_EMPTY", place)
    for at, part in enumerate(parts):
        here = (*place, at)
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            yield Issue(
                "CHAT_PART", here, json_type(part) if not isinstance(part, dict) else "no type"
            )
        elif part["type"] in UNSUPPORTED_PARTS:
            yield Issue("CHAT_PART_MODALITY", here, UNSUPPORTED_PARTS[part["type"]])
        elif part["type"] != "text":
            yield Issue("CHAT_PART_UNKNOWN", (*here, "type"), quote_if_safe(part["type"]))
        elif not isinstance(part.get("text"), str):
            yield Issue("CHAT_PART", here, "no text")
        elif not part["text"] or part["text"].isspace():
            yield Issue("CHAT_CONTENT_BLANK", (*here, "text"))
        else:
            yield from _text(part["text"], (*here, "text"), book)


def _text(text: str, place: KeyPath, book: RuleContext) -> Iterator[Issue]:
    own = book.template_tokens.search(text)
    if own:
        yield Issue("CHAT_CONTROL_TOKEN", place, own[0])
    elif book.other_template_tokens and (foreign := book.other_template_tokens.search(text)):
        yield Issue("CHAT_FOREIGN_TOKEN", place, foreign[0])


def _order(messages: list[dict[str, Any]]) -> Iterator[Issue]:
    """Say what is wrong with the turns; all roles are known ones."""
    roles = [message["role"] for message in messages]
    before = ""
    for at, role in enumerate(roles):
        place: KeyPath = ("messages", at, "role")
        if role == "system":
            if at:
                yield Issue("CHAT_SYSTEM_POSITION", place)
            continue
        if role == before and (role == "user" or _speaks_twice(messages, at)):
            yield Issue("CHAT_ALTERNATION", place, role)
        if role == "assistant" and not before and "user" in roles:
            yield Issue("CHAT_ASSISTANT_FIRST", place)
        before = role
    if "user" not in roles:
        yield Issue("CHAT_NO_USER", ("messages",))
    if "assistant" not in roles:
        yield Issue("CHAT_NO_ASSISTANT", ("messages",))
    elif roles[-1] in ("user", "tool"):
        yield Issue("CHAT_LAST_ROLE", ("messages", len(roles) - 1, "role"), roles[-1])
    answers = [message for message in messages if message["role"] == "assistant"]
    if answers and all(message.get("weight") == 0 for message in answers):
        yield Issue(
            "CHAT_NOTHING_LEARNED", ("messages", len(messages) - 1 - _back(roles), "weight")
        )


def _back(roles: list[str]) -> int:
    return roles[::-1].index("assistant")


def _speaks_twice(messages: list[dict[str, Any]], at: int) -> bool:
    """Return whether an assistant's message follows one that called no tools."""
    return messages[at]["role"] == "assistant" and not messages[at - 1].get("tool_calls")


def _template(messages: list[dict[str, Any]], tools: Any, book: RuleContext) -> Iterator[Issue]:
    """Say what the model's template would drop or move; the row is right in itself."""
    assert book.template is not None
    for misfit in find_mismatches(messages, tools or None, book.template):
        name = "CHAT_SYSTEM_MERGED" if misfit.is_merged else "CHAT_ROLE_UNSUPPORTED"
        yield Issue(
            name, _from_pointer(misfit.pointer), misfit.message, in_key=misfit.pointer == "/tools"
        )


def _from_pointer(text: str) -> KeyPath:
    """Return a JSON pointer as a path; steps that are digits become indices."""
    steps = text.split("/")[1:]
    plain = (step.replace("~1", "/").replace("~0", "~") for step in steps)
    return tuple(int(step) if step.isascii() and step.isdigit() else step for step in plain)
