"""The rules for tools: their definitions, the calls of the assistant, and the results of the calls."""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from maas_client.dataset.issues import Issue, KeyPath, json_type
from maas_client.dataset.parsing.json_scan import JsonDocument
from maas_client.dataset.parsing.strict_json import parse_strict
from maas_client.dataset.rules.wrapping import parse_tools

Row = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNBOUNDED_KEYWORDS = ('"$ref"', '"$dynamicRef"', '"$recursiveRef"', '"patternProperties"')
_PARSE_TOOLS = (
    "Write the list that is in the text; this does it: maas-client validate FILE --fix OUT.jsonl"
)
_MAX_SCHEMA_CHARS = 100_000
"""A longer schema is not checked."""


def definition_issues(row: Row) -> Iterator[Issue]:
    """Check ``tools`` and ``parallel_tool_calls``, and the calls against the definitions."""
    if row.get("functions") is not None:
        yield Issue("TOOL_FUNCTIONS_DEPRECATED", ("functions",), in_key=True)
    if not isinstance(row.get("parallel_tool_calls"), bool | None):
        detail = json_type(row["parallel_tool_calls"])
        yield Issue("TOOL_PARALLEL", ("parallel_tool_calls",), detail)
    tools = row.get("tools")
    if tools is not None and not isinstance(tools, list):
        if parse_tools(tools) is not None:
            yield Issue("TOOL_LIST", ("tools",), "JSON text", hint=_PARSE_TOOLS)
            return
        yield Issue("TOOL_LIST", ("tools",), json_type(tools))
        return
    definitions = _get_definitions(tools or [])
    yield from definitions.issues
    if definitions.is_complete:
        yield from _check_calls(row, definitions.schemas)


@dataclass(frozen=True, slots=True)
class _Definitions:
    """The tools of a row. Cached, because most rows of a file have the same ones."""

    issues: tuple[Issue, ...]
    schemas: dict[str, str]
    """By name: the schema of the arguments as JSON; empty if there is none."""
    is_complete: bool
    """False: some definitions are unclear, so calls are not compared with them."""


def _get_definitions(tools: list[Any]) -> _Definitions:
    key = marshal.dumps(tools, 2)  # the fastest way to compare nested values
    return _cached_definitions(key) if len(key) <= _MAX_SCHEMA_CHARS else _read_definitions(tools)


@lru_cache(maxsize=128)
def _cached_definitions(key: bytes) -> _Definitions:
    return _read_definitions(marshal.loads(key))  # noqa: S302 - these bytes were made by _get_definitions


def _read_definitions(tools: list[Any]) -> _Definitions:
    issues: list[Issue] = []
    schemas: dict[str, str] = {}
    for index, tool in enumerate(tools):
        issues += _check_definition(tool, ("tools", index))
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and isinstance(function, dict):
            if name in schemas:
                issues.append(Issue("TOOL_TWICE", ("tools", index, "function", "name")))
            parameters = function.get("parameters")
            schemas[name] = json.dumps(parameters, sort_keys=True) if parameters else ""
    unclear = {"TOOL_DEFINITION", "TOOL_PARAMETERS"}
    return _Definitions(tuple(issues), schemas, unclear.isdisjoint(issue.code for issue in issues))


_FOREIGN_KEYS = {"input_schema", "toolSpec", "functionDeclarations", "function_declarations"}
"""Keys of tools in the notations of Anthropic, Bedrock and Gemini."""
_CONVERT = "Convert it: maas-client datasets convert FILE OUT.jsonl"


def _check_definition(tool: Any, path: KeyPath) -> Iterator[Issue]:
    if not isinstance(tool, dict):
        yield Issue("TOOL_DEFINITION", path, json_type(tool))
        return
    if tool.get("type") != "function":
        type_path = (*path, "type") if "type" in tool else path
        hint = _CONVERT if tool.keys() & _FOREIGN_KEYS else ""
        yield Issue("TOOL_DEFINITION", type_path, 'its type is not "function"', hint=hint)
    function = tool.get("function")
    if not isinstance(function, dict):
        function_path = (*path, "function") if "function" in tool else path
        hint = _CONVERT if tool.keys() & _FOREIGN_KEYS else ""
        yield Issue("TOOL_DEFINITION", function_path, "it has no function", hint=hint)
        return
    path = (*path, "function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        name_path = (*path, "name") if "name" in function else path
        yield Issue("TOOL_DEFINITION", name_path, "it has no name")
    elif not _NAME.fullmatch(name):
        yield Issue("TOOL_NAME", (*path, "name"))
    if not isinstance(function.get("description"), str | None):
        yield Issue("TOOL_DEFINITION", (*path, "description"), "its description is not a string")
    parameters = function.get("parameters")
    if parameters is not None and (error := _find_schema_error(parameters)) is not None:
        error_path, reason = error
        yield Issue("TOOL_PARAMETERS", (*path, "parameters", *error_path), reason)


def _find_schema_error(parameters: Any) -> tuple[KeyPath, str] | None:
    """Return where and why ``parameters`` is not the JSON Schema of an object, or None."""
    if not isinstance(parameters, dict):
        return (), json_type(parameters)
    if parameters.get("type", "object") != "object":
        return ("type",), 'the type is not "object"'
    text = json.dumps(parameters, sort_keys=True)
    return _validate_schema(text) if len(text) <= _MAX_SCHEMA_CHARS else None


@lru_cache(maxsize=128)
def _validate_schema(text: str) -> tuple[KeyPath, str] | None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    error = best_match(validator.iter_errors(json.loads(text)))
    if error is None:
        return None
    path = tuple(error.absolute_path)
    if path[-1:] == ("type",) and error.validator == "anyOf":
        return path, "JSON Schema has no such type"
    return path, f"it breaks the {error.validator} rule of JSON Schema"


@lru_cache(maxsize=128)
def _schema_validator(text: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    def accept(*_: Any) -> Iterator[Any]:
        return iter(())

    validator = extend(Draft202012Validator, {"pattern": accept})  # type: ignore[no-untyped-call] # it has no types
    return validator(json.loads(text))


_PLAIN_TYPES: dict[str, frozenset[type]] = {
    "string": frozenset((str,)),
    "integer": frozenset((int,)),
    "number": frozenset((int, float)),
    "boolean": frozenset((bool,)),
}
_ANNOTATIONS = frozenset(("type", "description", "title", "default", "examples"))
"""Keywords that restrict no value beyond its type."""


@dataclass(frozen=True, slots=True)
class _SimpleSchema:
    """A schema as most tools have it: named arguments, each of a plain type."""

    required: tuple[str, ...]
    types: dict[str, frozenset[type]]

    def certainly_accepts(self, value: Row) -> bool:
        """Return whether the value is certainly valid; jsonschema decides about all others."""
        types = self.types
        return all(map(value.__contains__, self.required)) and all(
            name in types and type(inner) in types[name] for name, inner in value.items()
        )


@lru_cache(maxsize=128)
def _simple_schema(text: str) -> _SimpleSchema | None:
    """Return a tool's schema if it only has names, plain types and required names."""
    schema = json.loads(text)
    properties, required = schema.get("properties"), schema.get("required", [])
    supported_keywords = _ANNOTATIONS | {"properties", "required", "additionalProperties"}
    if (
        schema.get("type") != "object"
        or not isinstance(properties, dict)
        or schema.keys() - supported_keywords
    ):
        return None
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return None
    types = {
        name: _PLAIN_TYPES[inner["type"]]
        for name, inner in properties.items()
        if isinstance(inner, dict)
        and isinstance(inner.get("type"), str)
        and inner["type"] in _PLAIN_TYPES
        and not inner.keys() - _ANNOTATIONS
    }
    return _SimpleSchema(tuple(required), types)


def _check_calls(row: Row, schemas: dict[str, str]) -> Iterator[Issue]:
    """Compare the calls with the definitions."""
    is_reported = False
    for path, call in _iter_calls(row["messages"]):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
            continue
        if not schemas:
            if not is_reported:
                yield Issue("TOOL_NONE_DEFINED", (*path, "function", "name"))
            is_reported = True
        elif name not in schemas:
            yield Issue("TOOL_UNDEFINED", (*path, "function", "name"))
        else:
            yield from _check_arguments(function.get("arguments"), schemas[name], path)
    if row.get("parallel_tool_calls") is False:
        for index, message in enumerate(row["messages"]):
            calls = message.get("tool_calls") if isinstance(message, dict) else None
            if isinstance(calls, list) and len(calls) > 1:
                yield Issue(
                    "TOOL_PARALLEL_OFF", ("messages", index, "tool_calls"), f"{len(calls)} calls"
                )


def _iter_calls(messages: list[Any]) -> Iterator[tuple[KeyPath, Row]]:
    for index, message in enumerate(messages):
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call_index, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                yield ("messages", index, "tool_calls", call_index), call


def _check_arguments(arguments: Any, schema: str, path: KeyPath) -> Iterator[Issue]:
    if not schema or not isinstance(arguments, str):
        return
    document = _parse_arguments(arguments)
    if document.errors:
        return
    value = document.value
    if isinstance(value, dict):
        simple = _simple_schema(schema)
        if simple is not None and simple.certainly_accepts(value):
            return
        if reason := _first_mismatch(schema, value):
            yield Issue("TOOL_ARGUMENTS_MISMATCH", (*path, "function", "arguments"), reason)


@lru_cache(maxsize=16)
def _parse_arguments(arguments: str) -> JsonDocument:
    """Parse a call's arguments; cached because they are checked by themselves and with the tool."""
    return parse_strict(arguments.encode("utf-8", "surrogatepass"))


def _first_mismatch(schema: str, value: Row) -> str | None:
    """Return which keyword of the tool's schema the arguments violate; None if they are valid.

    The schema is data: it must not take unlimited time or read other files. So patterns are not applied,
    and a schema with references or patterns for names is not checked at all.
    """
    if len(schema) > _MAX_SCHEMA_CHARS or any(word in schema for word in _UNBOUNDED_KEYWORDS):
        return None
    try:
        error = next(_schema_validator(schema).iter_errors(value), None)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None  # an error in the schema is not an error of the row
    return f'they violate "{error.validator}" of the schema' if error else None


def call_issues(message: Row, path: KeyPath) -> Iterator[Issue]:
    """Check the calls of one message, and its fields as the result of a call."""
    if message.get("role") == "tool" and not isinstance(message.get("tool_call_id"), str):
        yield Issue(
            "TOOL_RESULT_ID", (*path, "tool_call_id") if "tool_call_id" in message else path
        )
    calls = message.get("tool_calls")
    if calls is None:
        return
    calls_path: KeyPath = (*path, "tool_calls")
    if message.get("role") in ("system", "user", "tool"):
        yield Issue("TOOL_CALLS_ROLE", calls_path, in_key=True)
    if not isinstance(calls, list) or not calls:
        yield Issue("TOOL_CALLS_LIST", calls_path, "empty" if calls == [] else json_type(calls))
        return
    ids: set[str] = set()
    for index, call in enumerate(calls):
        yield from _check_call(call, (*calls_path, index), ids)


def _check_call(call: Any, path: KeyPath, ids: set[str]) -> Iterator[Issue]:
    """Check one call; ``ids`` are those of the message's earlier calls."""
    if not isinstance(call, dict):
        yield Issue("TOOL_CALL", path, json_type(call))
        return
    call_id = call.get("id")
    if not isinstance(call_id, str) or not call_id:
        yield Issue("TOOL_CALL_ID", (*path, "id") if "id" in call else path)
    elif call_id in ids:
        yield Issue("TOOL_CALL_ID", (*path, "id"), "used twice in one message")
    else:
        ids.add(call_id)
    if call.get("type") != "function":
        type_path = (*path, "type") if "type" in call else path
        yield Issue("TOOL_CALL", type_path, 'its type is not "function"')
    function = call.get("function")
    if not isinstance(function, dict):
        function_path = (*path, "function") if "function" in call else path
        yield Issue("TOOL_CALL", function_path, "it has no function")
        return
    path = (*path, "function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        name_path = (*path, "name") if "name" in function else path
        yield Issue("TOOL_CALL", name_path, "it has no name")
    if "arguments" not in function:
        yield Issue("TOOL_ARGUMENTS_TYPE", path, "there are none")
    else:
        yield from _check_arguments_text(function["arguments"], (*path, "arguments"))


def _check_arguments_text(arguments: Any, path: KeyPath) -> Iterator[Issue]:
    if not isinstance(arguments, str):
        yield Issue("TOOL_ARGUMENTS_TYPE", path, json_type(arguments))
        return
    document = _parse_arguments(arguments)
    if document.errors:
        error = document.errors[0]
        is_empty = not arguments.strip()
        detail = "empty" if is_empty else f"{error.code} at byte {error.byte_column}"
        yield Issue("TOOL_ARGUMENTS_JSON", path, detail)
    elif isinstance(document.value, str):
        is_encoded_twice = not parse_strict(document.value.encode()).errors
        yield Issue("TOOL_ARGUMENTS_TWICE" if is_encoded_twice else "TOOL_ARGUMENTS_OBJECT", path)
    elif not isinstance(document.value, dict):
        yield Issue("TOOL_ARGUMENTS_OBJECT", path, json_type(document.value))


def result_issues(messages: list[Row], split_turns: Sequence[int] = ()) -> Iterator[Issue]:
    """Compare the calls with their results, turn by turn.

    ``split_turns``: indices of messages that continue the turn of the message before.
    """
    unanswered: dict[str, KeyPath] = {}
    answered: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str):  # call_issues reports it; it answers some call
                unanswered.pop(next(iter(unanswered), ""), None)
            elif unanswered.pop(call_id, None) is None:
                detail = "its call has a result already" if call_id in answered else ""
                yield Issue("TOOL_RESULT_ORPHAN", ("messages", index, "tool_call_id"), detail)
            else:
                answered.add(call_id)
            continue
        if index not in split_turns:
            for path in unanswered.values():
                yield Issue("TOOL_RESULT_MISSING", path)
            unanswered = {}
        calls = message.get("tool_calls")
        for call_index, call in enumerate(calls if isinstance(calls, list) else ()):
            call_id = call.get("id") if isinstance(call, dict) else None
            if isinstance(call_id, str) and message["role"] == "assistant":
                unanswered[call_id] = ("messages", index, "tool_calls", call_index)
    if messages[-1]["role"] == "tool":
        for path in unanswered.values():
            yield Issue("TOOL_RESULT_MISSING", path)
