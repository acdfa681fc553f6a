"""The rules for tools: definitions, calls, results."""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from maas_client.dataset.issues import Issue, KeyPath, json_type
from maas_client.dataset.parsing.json_scan import JsonDocument
from maas_client.dataset.parsing.strict_json import parse_strict

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Row = dict[str, Any]
_UNBOUNDED = ('"$ref"', '"$dynamicRef"', '"$recursiveRef"', '"patternProperties"')
_SCHEMA_CHARS = 100_000
"""A schema longer than this is taken as it is."""


def definition_issues(row: Row) -> Iterator[Issue]:
    """Say what is wrong with ``tools`` and ``parallel_tool_calls``, and calls against them."""
    if row.get("functions") is not None:
        yield Issue("TOOL_FUNCTIONS_DEPRECATED", ("functions",), in_key=True)
    if not isinstance(row.get("parallel_tool_calls"), bool | None):
        yield Issue(
            "TOOL_PARALLEL", ("parallel_tool_calls",), json_type(row["parallel_tool_calls"])
        )
    tools = row.get("tools")
    if tools is not None and not isinstance(tools, list):
        yield Issue("TOOL_LIST", ("tools",), json_type(tools))
        return
    known = _defined(tools or [])
    yield from known.faults
    if known.whole:
        yield from _uses(row, known.schemas)


@dataclass(frozen=True, slots=True)
class _Defined:
    """What a row's tools are. Most rows of a file have the same, so it is remembered."""

    faults: tuple[Issue, ...]
    schemas: dict[str, str]
    """By name: the schema of the arguments as JSON; empty if there is none."""
    whole: bool
    """False: it is not clear what is defined."""


def _defined(tools: list[Any]) -> _Defined:
    key = marshal.dumps(tools, 2)  # the quickest way to compare nested values
    return _look_up(key) if len(key) <= _SCHEMA_CHARS else _look_at(tools)


@lru_cache(maxsize=128)
def _look_up(key: bytes) -> _Defined:
    return _look_at(marshal.loads(key))  # noqa: S302 - our own bytes, from the line above


def _look_at(tools: list[Any]) -> _Defined:
    faults: list[Issue] = []
    schemas: dict[str, str] = {}
    for at, tool in enumerate(tools):
        faults += _definition(tool, ("tools", at))
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str) and isinstance(function, dict):
            if name in schemas:
                faults.append(Issue("TOOL_TWICE", ("tools", at, "function", "name")))
            parameters = function.get("parameters")
            schemas[name] = json.dumps(parameters, sort_keys=True) if parameters else ""
    unclear = {"TOOL_DEFINITION", "TOOL_PARAMETERS"}
    return _Defined(tuple(faults), schemas, unclear.isdisjoint(f.code for f in faults))


def _definition(tool: Any, here: KeyPath) -> Iterator[Issue]:
    if not isinstance(tool, dict):
        yield Issue("TOOL_DEFINITION", here, json_type(tool))
        return
    if tool.get("type") != "function":
        where = (*here, "type") if "type" in tool else here
        yield Issue("TOOL_DEFINITION", where, 'its type is not "function"')
    function = tool.get("function")
    if not isinstance(function, dict):
        where = (*here, "function") if "function" in tool else here
        yield Issue("TOOL_DEFINITION", where, "it has no function")
        return
    inner: KeyPath = (*here, "function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        yield Issue("TOOL_DEFINITION", (*inner, "name") if "name" in function else inner, "no name")
    elif not _NAME.fullmatch(name):
        yield Issue("TOOL_NAME", (*inner, "name"))
    if not isinstance(function.get("description"), str | None):
        yield Issue("TOOL_DEFINITION", (*inner, "description"), "its description is not a text")
    parameters = function.get("parameters")
    if parameters is not None:
        wrong = _not_a_schema(parameters)
        if wrong is not None:
            yield Issue("TOOL_PARAMETERS", (*inner, "parameters", *wrong[0]), wrong[1])


def _not_a_schema(parameters: Any) -> tuple[KeyPath, str] | None:
    """Return where and why ``parameters`` is no JSON Schema of an object, or None."""
    if not isinstance(parameters, dict):
        return (), json_type(parameters)
    if parameters.get("type", "object") != "object":
        return ("type",), 'the type is not "object"'
    text = json.dumps(parameters, sort_keys=True)
    return _schema_error(text) if len(text) <= _SCHEMA_CHARS else None


@lru_cache(maxsize=128)
def _schema_error(text: str) -> tuple[KeyPath, str] | None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    checker = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    error = best_match(checker.iter_errors(json.loads(text)))
    if error is None:
        return None
    path = tuple(error.absolute_path)
    if path[-1:] == ("type",) and error.validator == "anyOf":
        return path, "JSON Schema has no such type"
    return path, f"{error.validator} of JSON Schema is broken"


@lru_cache(maxsize=128)
def _validator(text: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    def passes(*_: Any) -> Iterator[Any]:
        return iter(())

    without = {"pattern": passes}
    made = extend(Draft202012Validator, without)  # type: ignore[no-untyped-call] # it has no types
    return made(json.loads(text))


_PLAIN_TYPES: dict[str, frozenset[type]] = {
    "string": frozenset((str,)),
    "integer": frozenset((int,)),
    "number": frozenset((int, float)),
    "boolean": frozenset((bool,)),
}
_SAYS_NOTHING = frozenset(("type", "description", "title", "default", "examples"))


@dataclass(frozen=True, slots=True)
class _Simple:
    """A schema as most tools have it: named arguments, each of a plain type."""

    required: tuple[str, ...]
    types: dict[str, frozenset[type]]

    def surely_takes(self, value: Row) -> bool:
        """Return whether the schema holds for sure; jsonschema has the last word on the rest."""
        types = self.types
        return all(map(value.__contains__, self.required)) and all(
            name in types and type(inner) in types[name] for name, inner in value.items()
        )


@lru_cache(maxsize=128)
def _simple(text: str) -> _Simple | None:
    """Return a tool's schema if it says no more than names, plain types and what is required."""
    schema = json.loads(text)
    properties, required = schema.get("properties"), schema.get("required", [])
    known = _SAYS_NOTHING | {"properties", "required", "additionalProperties"}
    if schema.get("type") != "object" or not isinstance(properties, dict) or schema.keys() - known:
        return None
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        return None
    types = {
        name: _PLAIN_TYPES[inner["type"]]
        for name, inner in properties.items()
        if isinstance(inner, dict)
        and isinstance(inner.get("type"), str)
        and inner["type"] in _PLAIN_TYPES
        and not inner.keys() - _SAYS_NOTHING
    }
    return _Simple(tuple(required), types)


def _uses(row: Row, schemas: dict[str, str]) -> Iterator[Issue]:
    """Compare the calls with what is defined."""
    told = False
    for path, call in _calls_of(row["messages"]):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
            continue
        if not schemas:
            if not told:
                yield Issue("TOOL_NONE_DEFINED", (*path, "function", "name"))
            told = True
        elif name not in schemas:
            yield Issue("TOOL_UNDEFINED", (*path, "function", "name"))
        else:
            yield from _fits(function.get("arguments"), schemas[name], path)
    if row.get("parallel_tool_calls") is False:
        for at, message in enumerate(row["messages"]):
            calls = message.get("tool_calls") if isinstance(message, dict) else None
            if isinstance(calls, list) and len(calls) > 1:
                yield Issue(
                    "TOOL_PARALLEL_OFF", ("messages", at, "tool_calls"), f"{len(calls)} calls"
                )


def _calls_of(messages: list[Any]) -> Iterator[tuple[KeyPath, Row]]:
    for at, message in enumerate(messages):
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for n, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                yield ("messages", at, "tool_calls", n), call


def _fits(arguments: Any, schema: str, path: KeyPath) -> Iterator[Issue]:
    if not schema or not isinstance(arguments, str):
        return
    document = _read(arguments)
    if document.errors:
        return
    value = document.value
    if isinstance(value, dict):
        simple = _simple(schema)
        if simple is not None and simple.surely_takes(value):
            return
        wrong = _first_misfit(schema, value)
        if wrong:
            yield Issue("TOOL_ARGUMENTS_MISMATCH", (*path, "function", "arguments"), wrong)


@lru_cache(maxsize=16)
def _read(arguments: str) -> JsonDocument:
    """Read a call's arguments: once to see what they are, once to compare them with the tool."""
    return parse_strict(arguments.encode("utf-8", "surrogatepass"))


def _first_misfit(schema: str, value: Row) -> str | None:
    """Return which keyword of the tool's schema the arguments break; None if all hold.

    The schema is data, and must not cost time without end or reach for other files: patterns are
    not applied, and one with references or patterns for names is not looked at.
    """
    if len(schema) > _SCHEMA_CHARS or any(word in schema for word in _UNBOUNDED):
        return None
    try:
        error = next(_validator(schema).iter_errors(value), None)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None  # what the schema's author got wrong is not the row's fault
    return f"the schema's {error.validator} does not hold" if error else None


def call_issues(message: Row, here: KeyPath) -> Iterator[Issue]:
    """Say what is wrong with the calls of one message, and with its place as a tool's result."""
    if message.get("role") == "tool" and not isinstance(message.get("tool_call_id"), str):
        where = (*here, "tool_call_id") if "tool_call_id" in message else here
        yield Issue("TOOL_RESULT_ID", where)
    calls = message.get("tool_calls")
    if calls is None:
        return
    place: KeyPath = (*here, "tool_calls")
    if message.get("role") in ("system", "user", "tool"):
        yield Issue("TOOL_CALLS_ROLE", place, in_key=True)
    if not isinstance(calls, list) or not calls:
        yield Issue("TOOL_CALLS_LIST", place, "empty" if calls == [] else json_type(calls))
        return
    ids: set[str] = set()
    for n, call in enumerate(calls):
        yield from _call(call, (*place, n), ids)


def _call(call: Any, here: KeyPath, ids: set[str]) -> Iterator[Issue]:
    if not isinstance(call, dict):
        yield Issue("TOOL_CALL", here, json_type(call))
        return
    own = call.get("id")
    if not isinstance(own, str) or not own:
        yield Issue("TOOL_CALL_ID", (*here, "id") if "id" in call else here)
    elif own in ids:
        yield Issue("TOOL_CALL_ID", (*here, "id"), "used twice in one message")
    else:
        ids.add(own)
    if call.get("type") != "function":
        yield Issue(
            "TOOL_CALL", (*here, "type") if "type" in call else here, "its type is not function"
        )
    function = call.get("function")
    if not isinstance(function, dict):
        yield Issue("TOOL_CALL", (*here, "function") if "function" in call else here, "no function")
        return
    inner: KeyPath = (*here, "function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        yield Issue("TOOL_CALL", (*inner, "name") if "name" in function else inner, "no name")
    if "arguments" not in function:
        yield Issue("TOOL_ARGUMENTS_TYPE", inner, "there are none")
    else:
        yield from _arguments(function["arguments"], (*inner, "arguments"))


def _arguments(arguments: Any, place: KeyPath) -> Iterator[Issue]:
    if not isinstance(arguments, str):
        yield Issue("TOOL_ARGUMENTS_TYPE", place, json_type(arguments))
        return
    document = _read(arguments)
    if document.errors:
        fault = document.errors[0]
        said = "empty" if not arguments.strip() else f"{fault.code} at byte {fault.byte_column}"
        yield Issue("TOOL_ARGUMENTS_JSON", place, said)
    elif isinstance(document.value, str):
        twice = not parse_strict(document.value.encode()).errors
        yield Issue("TOOL_ARGUMENTS_TWICE" if twice else "TOOL_ARGUMENTS_OBJECT", place, "")
    elif not isinstance(document.value, dict):
        yield Issue("TOOL_ARGUMENTS_OBJECT", place, json_type(document.value))


def result_issues(messages: list[Row]) -> Iterator[Issue]:
    """Compare calls with results, turn by turn."""
    waiting: dict[str, KeyPath] = {}
    answered: set[str] = set()
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            own = message.get("tool_call_id")
            if not isinstance(own, str):  # told already; it answers some call
                waiting.pop(next(iter(waiting), ""), None)
            elif waiting.pop(own, None) is None:
                said = "its call is answered already" if own in answered else ""
                yield Issue("TOOL_RESULT_ORPHAN", ("messages", at, "tool_call_id"), said)
            else:
                answered.add(own)
            continue
        for path in waiting.values():
            yield Issue("TOOL_RESULT_MISSING", path)
        waiting = {}
        calls = message.get("tool_calls")
        for n, call in enumerate(calls if isinstance(calls, list) else ()):
            own = call.get("id") if isinstance(call, dict) else None
            if isinstance(own, str) and message["role"] == "assistant":
                waiting[own] = ("messages", at, "tool_calls", n)
    if messages[-1]["role"] == "tool":
        for path in waiting.values():
            yield Issue("TOOL_RESULT_MISSING", path)
