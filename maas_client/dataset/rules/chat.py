"""The rules for one line: strict JSON, the messages, their roles, contents and order, the model's template.

They are slower than the fast path, and decisive.

``schemas/chat_line.schema.json`` states the same rules for any language, as far as a JSON Schema can; a
test compares the two. The order of roles, calls and results, and the model's template cannot be expressed
in a schema and are only here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from maas_client.chat import find_mismatches
from maas_client.dataset.formats import detect_any_format, is_preference_row
from maas_client.dataset.formats.content_blocks import CONVERTED_PARTS
from maas_client.dataset.formats.labels import is_mask_key
from maas_client.dataset.formats.messages import ROLE_BY_SPEAKER
from maas_client.dataset.issues import Issue, KeyPath, json_type, quote_if_safe
from maas_client.dataset.parsing.json_scan import JsonDocument, JsonError
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES, Line
from maas_client.dataset.parsing.strict_json import parse_strict
from maas_client.dataset.rules.context import RuleContext
from maas_client.dataset.rules.preferences import preference_issues
from maas_client.dataset.rules.row_features import RowFeatures
from maas_client.dataset.rules.tools import call_issues, definition_issues, result_issues
from maas_client.dataset.rules.unsupported_fields import (
    has_answer_beside,
    mask_issue,
    row_key_issues,
    unknown_key_hint,
)
from maas_client.dataset.rules.wrapping import find_mergeable_messages, find_wrapping, parse_text

ROLES = ("system", "user", "assistant", "tool")
MESSAGE_KEYS = frozenset(
    ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "function_call")
)
UNSUPPORTED_PARTS = {
    "image_url": "an image",
    "input_audio": "audio",
    "file": "a file",
    "audio": "audio",
}
_FIX = "this does it: maas-client validate FILE --fix OUT.jsonl"
_UNWRAP = f'Write {{"messages": [...]}} around the messages themselves; {_FIX}'
_JOIN = f"Put content and tool_calls into one message; {_FIX}"
_CONVERT = "Convert it: maas-client datasets convert FILE OUT.jsonl"
_CONVERT_ANSWER = f"The answer is beside the messages. {_CONVERT}"
_SPEAKER_KEYS = frozenset(("author", "speaker", "from", "type"))
"""Keys that other formats have in place of ``role``."""
_MAX_WORD_CHARS = 40
"""Of an unknown role or key that are compared with the known ones."""
_UNKNOWN_SPEAKER = frozenset(
    (
        "CHAT_MESSAGE_TYPE",
        "CHAT_ROLE_MISSING",
        "CHAT_ROLE_TYPE",
        "CHAT_ROLE_UNKNOWN",
        "TOOL_FUNCTIONS_DEPRECATED",
    )
)
"""With one of these the role of a message is unknown, so the order of turns is not checked."""


def row_issues(row: Any, context: RuleContext) -> list[Issue]:
    """Return every issue of a row in order, including codes that the target does not report."""
    if context.method == "DPO":
        chat_context = replace(context, method="SFT")
        return preference_issues(row, lambda chat: row_issues(chat, chat_context))
    if not isinstance(row, dict):
        if (issue := _wrapping_issue(row, "CHAT_NOT_OBJECT")) is not None:
            return [issue]
        inner = parse_text(row) if isinstance(row, str) else None
        if isinstance(inner, dict) and detect_any_format(inner) is not None:
            return [Issue("CHAT_NOT_OBJECT", (), "the row is JSON text", hint=_CONVERT)]
        return [Issue("CHAT_NOT_OBJECT", (), json_type(row))]
    if "messages" not in row:
        return [_missing_messages_issue(row)]
    messages = row["messages"]
    if not isinstance(messages, list):
        issue = Issue("CHAT_MESSAGES_TYPE", ("messages",), json_type(messages))
        return [_wrapping_issue(row, "CHAT_MESSAGES_TYPE") or issue]
    if not messages:
        return [Issue("CHAT_MESSAGES_EMPTY", ("messages",))]
    if is_preference_row(row):
        return [Issue("CHAT_SHAPE_DPO", ("messages",))]
    if isinstance(messages[0], dict) and _is_sharegpt_turn(messages[0]):
        return [Issue("CHAT_SHAPE_SHAREGPT", ("messages", 0))]
    if not isinstance(messages[0], dict) and (
        wrapping := _wrapping_issue(row, "CHAT_MESSAGE_TYPE")
    ):
        return [wrapping]
    issues = [
        issue
        for index, message in enumerate(messages)
        for issue in _message_issues(index, message, context)
    ]
    issues += definition_issues(row)
    if not any(issue.code in _UNKNOWN_SPEAKER for issue in issues):
        split_turns = find_mergeable_messages(messages)
        issues += _order_issues(row, split_turns)
        issues += result_issues(messages, split_turns)
    if not issues and context.template is not None:
        issues += _template_issues(messages, row.get("tools"), context)
    issues += row_key_issues(row)
    return issues


def _wrapping_issue(value: Any, code: str) -> Issue | None:
    """Return the issue of a row that only has to be unwrapped."""
    if (wrapping := find_wrapping(value)) is None:
        return None
    path, description, _ = wrapping
    path = (*path, 0) if code == "CHAT_MESSAGE_TYPE" else path
    return Issue(code, path, description, hint=_UNWRAP)


def _missing_messages_issue(row: dict[str, Any]) -> Issue:
    """Return the most specific issue for a row without ``messages``."""
    if (issue := _wrapping_issue(row, "CHAT_NO_MESSAGES")) is not None:
        return issue
    row_format = detect_any_format(row)
    if row_format is not None:
        code = row_format.code
        return Issue(code) if code else Issue("CHAT_NO_MESSAGES", hint=_CONVERT)
    for key in row:
        if difflib.SequenceMatcher(None, key.casefold(), "messages").ratio() > 0.75:
            return Issue("CHAT_NO_MESSAGES", (key,), "did you mean this key?", in_key=True)
    return Issue("CHAT_NO_MESSAGES")


def _is_sharegpt_turn(message: dict[str, Any]) -> bool:
    return "from" in message and "value" in message and "role" not in message


def _message_issues(index: int, message: Any, context: RuleContext) -> Iterator[Issue]:
    path: KeyPath = ("messages", index)
    if not isinstance(message, dict):
        yield Issue("CHAT_MESSAGE_TYPE", path, json_type(message))
        return
    yield from _role_issues(message, path)
    yield from _key_issues(message, path)
    yield from _content_issues(message, path, context)
    yield from call_issues(message, path)


def _role_issues(message: dict[str, Any], path: KeyPath) -> Iterator[Issue]:
    if "role" not in message:
        typo = _similar_key(message, "role")
        hint = _CONVERT if typo is None and message.keys() & _SPEAKER_KEYS else ""
        path = path if typo is None else (*path, typo)
        yield Issue("CHAT_ROLE_MISSING", path, in_key=bool(typo), hint=hint)
    elif not isinstance(role := message["role"], str):
        yield Issue("CHAT_ROLE_TYPE", (*path, "role"), json_type(role))
    elif role == "function":
        yield Issue("TOOL_FUNCTIONS_DEPRECATED", (*path, "role"))
    elif role not in ROLES:
        standard_role = ROLE_BY_SPEAKER.get(role.strip().casefold())
        hint = _CONVERT if standard_role in ("call", "tool") else ""
        detail = _suggest_role(role[:_MAX_WORD_CHARS])
        yield Issue("CHAT_ROLE_UNKNOWN", (*path, "role"), detail, hint=hint)


@lru_cache(maxsize=256)
def _suggest_role(role: str) -> str:
    normalized = role.strip().casefold()
    similar = difflib.get_close_matches(normalized, ROLES, n=1, cutoff=0.7)
    suggestion = ROLE_BY_SPEAKER.get(normalized)
    if suggestion not in ROLES:
        suggestion = next(iter(similar), None)
    return (quote_if_safe(role) + (f" (did you mean {suggestion}?)" if suggestion else "")).strip()


@lru_cache(maxsize=256)
def _suggest_key(key: str) -> str:
    similar = difflib.get_close_matches(key.casefold(), MESSAGE_KEYS, n=1, cutoff=0.75)
    return (quote_if_safe(key) + (f" (did you mean {similar[0]}?)" if similar else "")).strip()


def _similar_key(message: dict[str, Any], expected: str) -> str | None:
    """Return an unknown key that is probably a misspelling of the expected one."""
    unknown = [key[:_MAX_WORD_CHARS] for key in message if key not in MESSAGE_KEYS]
    return next(iter(difflib.get_close_matches(expected, unknown, n=1, cutoff=0.7)), None)


def _key_issues(message: dict[str, Any], path: KeyPath) -> Iterator[Issue]:
    for key in message:
        if key in MESSAGE_KEYS:
            continue
        if is_mask_key(key):
            yield mask_issue(key, message[key], message, path)
        else:
            detail, hint = _suggest_key(key[:_MAX_WORD_CHARS]), unknown_key_hint(key)
            yield Issue("CHAT_KEY_UNKNOWN", (*path, key), detail, in_key=True, hint=hint)
    if message.get("function_call") is not None:
        yield Issue("TOOL_FUNCTIONS_DEPRECATED", (*path, "function_call"), in_key=True)
    if not isinstance(message.get("name"), str | None):
        yield Issue("CHAT_NAME", (*path, "name"), json_type(message["name"]))
    weight = message.get("weight")
    if weight is not None:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
            yield Issue("CHAT_WEIGHT", (*path, "weight"))
        elif message.get("role") != "assistant":
            yield Issue("CHAT_WEIGHT_ROLE", (*path, "weight"), in_key=True)


def _content_issues(
    message: dict[str, Any], path: KeyPath, context: RuleContext
) -> Iterator[Issue]:
    content_path = (*path, "content")
    content = message.get("content")
    has_calls = message.get("role") == "assistant" and message.get("tool_calls") is not None
    if content is None:
        if not has_calls and message.get("function_call") is None:
            yield _missing_content_issue(message, path)
    elif isinstance(content, str):
        if not content:
            if not has_calls and message.get("role") != "tool":
                yield Issue("CHAT_CONTENT_EMPTY", content_path)
        elif content.isspace():
            if not has_calls and message.get("role") != "tool":
                yield Issue("CHAT_CONTENT_BLANK", content_path)
        else:
            yield from _token_issues(content, content_path, context)
    elif isinstance(content, list):
        yield from _part_issues(content, content_path, context)
    else:
        yield Issue("CHAT_CONTENT_TYPE", content_path, json_type(content))


def _missing_content_issue(message: dict[str, Any], path: KeyPath) -> Issue:
    if "content" in message:
        return Issue("CHAT_CONTENT_MISSING", (*path, "content"), "null")
    typo = _similar_key(message, "content")
    if typo is not None:
        return Issue("CHAT_CONTENT_MISSING", (*path, typo), in_key=True)
    return Issue("CHAT_CONTENT_MISSING", path)


def _part_issues(parts: list[Any], path: KeyPath, context: RuleContext) -> Iterator[Issue]:
    if not parts:
        yield Issue("CHAT_CONTENT_EMPTY", path)
    for index, part in enumerate(parts):
        part_path = (*path, index)
        if not isinstance(part, dict):
            yield Issue("CHAT_PART", part_path, json_type(part))
        elif not isinstance(part.get("type"), str):
            hint = _CONVERT if part.keys() & CONVERTED_PARTS else ""
            yield Issue("CHAT_PART", part_path, "no type", hint=hint)
        elif part["type"] in UNSUPPORTED_PARTS:
            yield Issue("CHAT_PART_MODALITY", part_path, UNSUPPORTED_PARTS[part["type"]])
        elif part["type"] != "text":
            hint = _CONVERT if part["type"] in CONVERTED_PARTS else ""
            detail = quote_if_safe(part["type"])
            yield Issue("CHAT_PART_UNKNOWN", (*part_path, "type"), detail, hint=hint)
        elif not isinstance(part.get("text"), str):
            yield Issue("CHAT_PART", part_path, "no text")
        elif not part["text"] or part["text"].isspace():
            yield Issue("CHAT_CONTENT_BLANK", (*part_path, "text"))
        else:
            yield from _token_issues(part["text"], (*part_path, "text"), context)


def _token_issues(text: str, path: KeyPath, context: RuleContext) -> Iterator[Issue]:
    if token := context.template_tokens.search(text):
        yield Issue("CHAT_CONTROL_TOKEN", path, token[0])
    elif context.other_template_tokens and (token := context.other_template_tokens.search(text)):
        yield Issue("CHAT_FOREIGN_TOKEN", path, token[0])


def _order_issues(row: dict[str, Any], split_turns: list[int]) -> Iterator[Issue]:
    """Check the order of turns; all roles are known ones."""
    messages = row["messages"]
    roles = [message["role"] for message in messages]
    previous = ""
    for index, role in enumerate(roles):
        path: KeyPath = ("messages", index, "role")
        if role == "system":
            if index:
                yield Issue("CHAT_SYSTEM_POSITION", path)
            continue
        if index in split_turns:
            detail = "one turn of the assistant in two messages"
            yield Issue("CHAT_ALTERNATION", path, detail, hint=_JOIN)
        elif role == previous and (role == "user" or _answers_twice(messages, index)):
            yield Issue("CHAT_ALTERNATION", path, role)
        if role == "assistant" and not previous and "user" in roles:
            yield Issue("CHAT_ASSISTANT_FIRST", path)
        previous = role
    if "user" not in roles:
        yield Issue("CHAT_NO_USER", ("messages",))
    if "assistant" not in roles:
        yield Issue("CHAT_NO_ASSISTANT", ("messages",), hint=_answer_hint(row))
    elif roles[-1] in ("user", "tool"):
        path = ("messages", len(roles) - 1, "role")
        yield Issue("CHAT_LAST_ROLE", path, roles[-1], hint=_answer_hint(row))
    answers = [index for index, role in enumerate(roles) if role == "assistant"]
    if answers and all(messages[index].get("weight") == 0 for index in answers):
        yield Issue("CHAT_NOTHING_LEARNED", ("messages", answers[-1], "weight"))


def _answer_hint(row: dict[str, Any]) -> str:
    return _CONVERT_ANSWER if has_answer_beside(row) else ""


def _answers_twice(messages: list[dict[str, Any]], index: int) -> bool:
    """Return whether an assistant message follows one that called no tools."""
    return messages[index]["role"] == "assistant" and not messages[index - 1].get("tool_calls")


def _template_issues(
    messages: list[dict[str, Any]], tools: Any, context: RuleContext
) -> Iterator[Issue]:
    """Return what the model's template would drop or move; the row itself is valid."""
    assert context.template is not None
    for mismatch in find_mismatches(messages, tools or None, context.template):
        code = "CHAT_SYSTEM_MERGED" if mismatch.is_merged else "CHAT_ROLE_UNSUPPORTED"
        yield Issue(
            code,
            _parse_pointer(mismatch.pointer),
            mismatch.message,
            in_key=mismatch.pointer == "/tools",
        )


def _parse_pointer(pointer: str) -> KeyPath:
    """Return a JSON pointer as a path; steps of digits become indices."""
    steps = (step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])
    return tuple(int(step) if step.isascii() and step.isdigit() else step for step in steps)


_SPACE = b" \t\r"


@dataclass(slots=True)
class LineResult:
    """Everything found on one line. Blank and truncated lines have no document."""

    row: dict[str, Any] | None = None
    """The row; None unless it can be trained on."""
    json_errors: list[JsonError] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    document: JsonDocument | None = None
    is_blank: bool = False


class LineValidator:
    """Validates lines for one target and model."""

    def __init__(self, context: RuleContext, features: RowFeatures | None = None) -> None:
        """``features``: where to note what the rows use."""
        self.context = context
        self.features = features or RowFeatures()

    def validate(self, line: Line) -> LineResult:
        """Return everything that is wrong with a line, and its row if it is valid."""
        if line.truncated:
            return LineResult(
                json_errors=[JsonError("JSON_LINE_TOO_LONG", 1, f"{MAX_LINE_BYTES >> 20} MiB")]
            )
        if not line.data.strip(_SPACE):
            return LineResult(is_blank=True)
        document = parse_strict(line.data)
        result = LineResult(json_errors=document.errors, document=document)
        if document.aborted or document.has_duplicate_keys:
            return result
        result.issues = row_issues(document.value, self.context)
        self.features.add_row(document.value, has_issues=bool(result.issues))
        if not document.errors and not any(map(self.blocks_training, result.issues)):
            result.row = document.value
        return result

    def blocks_training(self, issue: Issue) -> bool:
        """Return whether an issue is an error at this target, so that its row is not trained on."""
        return self.context.severity(issue.code) == "error"
