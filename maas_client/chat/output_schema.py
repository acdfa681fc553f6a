"""JSON schemas of structured answers: of ``response_format``, and of the arguments of tool calls.

A schema is accepted only if every keyword in it is honoured; one that is not is refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]

_MAX_DEPTH = 64
_MAX_SUBSCHEMAS = 5_000
"""Checking so many takes about a second."""
_MAX_MINIMUM = 10_000
"""The largest ``minLength`` or ``minItems`` for which an answer is written."""
_MAX_TYPES = 7
_MAX_MATCH_STEPS = 1_000_000
"""The most steps for which a pattern is compared with a text: Python's ``re`` has no limit of its own."""
_SHORT_TEXT = 12
"""A pattern that may need too many steps for a text of this length is refused."""
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS = ("properties", "$defs", "definitions")
_SUBSCHEMAS = ("items", "additionalProperties")
_ASSERTIONS = frozenset(
    {
        "$ref", "type", "enum", "const", "required", "minItems", "maxItems", "minLength", "maxLength",
        "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        *_SUBSCHEMA_LISTS, *_SUBSCHEMA_MAPS, *_SUBSCHEMAS,
    }
)  # fmt: skip
_ANNOTATIONS = frozenset(
    {
        "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
        "discriminator", "nullable", "$schema", "$id", "$comment", "strict",
    }
)  # fmt: skip
FORMATS: Mapping[str, str] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "pip@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
"""The supported values of ``format``, each with an example."""
STRICT_EXCLUDED_KEYWORDS = frozenset(
    {
        "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "multipleOf", "minItems",
        "maxItems",
    }
)  # fmt: skip
"""What Azure's OpenAI models do not accept with ``strict`` (docs/azure-http.md section 5.2)."""
JSON_OBJECT: Schema = {"type": "object"}
"""The schema of the response format ``json_object``."""


class OutputSchemaError(ValueError):
    """A schema that is invalid, or that uses what the local server does not implement."""

    def __init__(self, message: str, *, is_unsupported: bool) -> None:
        super().__init__(message)
        self.is_unsupported = is_unsupported


def check_schema(
    schema: Any, *, strict: bool, excluded_keywords: frozenset[str] = frozenset()
) -> None:
    """Check a schema for answers. Raises ``OutputSchemaError``.

    Args:
        schema: The schema.
        strict: Whether OpenAI's rules for ``strict`` apply: the root is an object, every property is
            required, and ``additionalProperties`` is false.
        excluded_keywords: Keywords that the model's service does not accept.
    """
    with refuse_unexpected():
        _check(schema, strict=strict, excluded_keywords=excluded_keywords)


@contextmanager
def refuse_unexpected() -> Iterator[None]:
    """Turn any other error into ``OutputSchemaError``: the schema is foreign, and so may fail anywhere."""
    try:
        yield
    except OutputSchemaError:
        raise
    except UnicodeEncodeError:
        raise _invalid("has text that is not valid Unicode", "") from None
    except Exception as error:
        raise _unsupported(f"what cannot be processed ({type(error).__name__})", "") from error


def _check(schema: Any, *, strict: bool, excluded_keywords: frozenset[str]) -> None:
    from jsonschema import Draft202012Validator, SchemaError

    json.dumps(schema, ensure_ascii=False).encode()
    if schema is False:
        raise _invalid("is false, which no answer fits", "")
    for number, (pointer, subschema) in enumerate(_walk(schema, "", 0)):
        if number >= _MAX_SUBSCHEMAS:
            raise _unsupported(f"more than {_MAX_SUBSCHEMAS:,} subschemas", pointer)
        if isinstance(subschema, Mapping) and (names := excluded_keywords & subschema.keys()):
            raise _invalid(f"must not use {min(names)} when strict is true", pointer)
        _check_keywords(pointer, subschema, schema)
        if isinstance(subschema, Mapping):
            resolve(subschema, schema)
        if strict and subschema is not True:
            _check_strict(pointer, subschema)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise _invalid(f"is no JSON schema: {error.message[:200]}", error.json_path) from None
    if strict and (
        not isinstance(schema, Mapping) or resolve(schema, schema).get("type") != "object"
    ):
        raise _invalid("must have type object at its root when strict is true", "")


def _walk(schema: Any, pointer: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield every subschema with its JSON pointer."""
    if depth > _MAX_DEPTH:
        raise _unsupported(f"more than {_MAX_DEPTH} levels of nesting", pointer)
    yield pointer, schema
    if not isinstance(schema, Mapping):
        return
    for name in _SUBSCHEMAS:
        if name in schema:
            yield from _walk(schema[name], f"{pointer}/{name}", depth + 1)
    for name in _SUBSCHEMA_LISTS:
        children = schema.get(name)
        for index, child in enumerate(children if isinstance(children, Sequence) else ()):
            yield from _walk(child, f"{pointer}/{name}/{index}", depth + 1)
    for name in _SUBSCHEMA_MAPS:
        named = schema.get(name)
        for key, child in (named if isinstance(named, Mapping) else {}).items():
            yield from _walk(child, f"{pointer}/{name}/{key}", depth + 1)


def _check_keywords(pointer: str, schema: Any, root: Any) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise _invalid("must be an object", pointer)
    for name in schema:
        if name not in _ASSERTIONS and name not in _ANNOTATIONS and not name.startswith("x-"):
            raise _unsupported(f"the keyword {name[:60]}", pointer)
    if pointer and "$id" in schema:
        raise _unsupported("the keyword $id below its root", pointer)
    names = schema.get("required", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid("must have a list of names as required", pointer)
    if isinstance(schema.get("type"), list) and len(schema["type"]) > _MAX_TYPES:
        raise _invalid(f"must not have more than {_MAX_TYPES} types", pointer)
    if not isinstance(schema.get("format", ""), str):
        raise _invalid("must have a string as format", pointer)
    if "format" in schema and schema["format"] not in FORMATS:
        raise _unsupported(f"the format {str(schema['format'])[:60]}", pointer)
    for name in ("minLength", "minItems"):
        if isinstance(schema.get(name), int | float) and schema[name] > _MAX_MINIMUM:
            raise _unsupported(f"{name} above {_MAX_MINIMUM}", pointer)
    if isinstance(schema.get("pattern"), str):
        try:
            re.compile(schema["pattern"])
        except re.error as error:
            raise _invalid(f"has an invalid pattern: {error}", pointer) from None
        if _match_steps(schema["pattern"], _SHORT_TEXT) > _MAX_MATCH_STEPS:
            raise _unsupported(
                f"the pattern {schema['pattern'][:60]!r}, which may take too long to compare",
                pointer,
            )
    if schema.get("nullable"):
        raise _unsupported("the keyword nullable", pointer)
    if "$ref" in schema:
        _find(schema["$ref"], root)


def matches(pattern: str, text: str) -> bool:
    """Return whether a pattern is found in a text; False where that may take too long."""
    return _match_steps(pattern, len(text)) <= _MAX_MATCH_STEPS and bool(re.search(pattern, text))


def _match_steps(pattern: str, length: int) -> float:
    """Return an upper bound of the ways in which a pattern can be tried on a text of this length."""
    # The only parser of Python's patterns. It is private, but the same in Python 3.11 to 3.14, and any change
    # of it would refuse patterns (``refuse_unexpected``), not accept one.
    parsed = import_module("re._parser").parse(pattern)
    items = list(parsed)
    is_multiline = parsed.state.flags & re.MULTILINE
    is_anchored = not is_multiline and bool(items) and str(items[0]) == "(AT, AT_BEGINNING)"
    return _ways(items, length) * (1 if is_anchored else length + 1)


def _ways(items: Any, length: int) -> float:
    """Return an upper bound of the ways in which the items of a parsed pattern can match."""
    ways = 1.0
    for operator, value in items:
        match str(operator):
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, body = value
                ways *= _repeat_ways(int(low), min(int(high), max(int(low), length)), body, length)
            case "SUBPATTERN" | "ASSERT" | "ASSERT_NOT":
                ways *= _ways(value[-1], length)
            case "ATOMIC_GROUP":
                ways *= _ways(value, length)
            case "BRANCH":
                ways *= sum(_ways(option, length) for option in value[1])
            case "GROUPREF_EXISTS":
                return math.inf
    return ways


def _repeat_ways(low: int, high: int, body: Any, length: int) -> float:
    inner = _ways(body, length)
    if body.getwidth()[0] == 0:  # an empty body can be repeated without an end of the text
        inner *= max(low, 1)
    if inner > 1 and not _starts_with_separator(body):
        try:
            inner **= high
        except OverflowError:
            return math.inf
    return (high - low + 1) * inner


def _starts_with_separator(body: Any) -> bool:
    """Return whether a text has one division into repeats of this body, as with ``(-\\w+)*``.

    It has if the body starts with a punctuation mark that cannot occur in its rest, which has at most one
    repeat.
    """
    items = list(body)
    if len(items) == 1 and str(items[0][0]) == "SUBPATTERN":
        return _starts_with_separator(items[0][1][-1])
    if not items or str(items[0][0]) != "LITERAL" or chr(items[0][1]) not in "-.,:/ ;":
        return False
    repeats = [value for operator, value in items[1:] if str(operator) == "MAX_REPEAT"]
    if len(repeats) > 1:
        return False
    rest = [item for item in items[1:] if str(item[0]) != "MAX_REPEAT"]
    if any(len(repeat[2]) != 1 for repeat in repeats):
        return False
    rest += [item for repeat in repeats for item in repeat[2]]
    return all(_excludes(item, items[0][1]) for item in rest)


def _excludes(item: Any, character: int) -> bool:
    operator, value = item
    if str(operator) == "LITERAL":
        return bool(value != character)
    return str(operator) == "IN" and all(
        (str(kind) == "LITERAL" and part != character)
        or (str(kind) == "RANGE" and not part[0] <= character <= part[1])
        or str(part) in ("CATEGORY_DIGIT", "CATEGORY_WORD")
        for kind, part in value
    )


def _check_strict(pointer: str, schema: Any) -> None:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(schema, Mapping) or (schema.get("type") != "object" and properties is None):
        return
    if schema.get("additionalProperties") is not False:
        raise _invalid("must set additionalProperties to false when strict is true", pointer)
    if missing := sorted(set(properties or ()) - set(schema.get("required") or ())):
        raise _invalid(f"must list {missing[0]!r} in required when strict is true", pointer)


def resolve(schema: Schema, root: Any) -> Schema:
    """Return the schema without ``$ref``: what it points to, with the keywords beside it."""
    for _ in range(_MAX_DEPTH):
        if "$ref" not in schema:
            return schema
        target = _find(schema["$ref"], root)
        others = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**(target if isinstance(target, Mapping) else {}), **others}
    raise _invalid("has a $ref that points to itself", "")


def _find(reference: Any, root: Any) -> Any:
    """Return what a ``$ref`` of the form ``#/…`` points to."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _unsupported(f"the $ref {str(reference)[:60]!r}, which is not in the schema", "")
    value = root
    for part in reference.split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise _invalid(f"has a $ref to {reference[:60]!r}, which does not exist", "")
    return value


def calls_schema(
    functions: Sequence[Mapping[str, Any]], *, max_calls: int | None
) -> dict[str, Any]:
    """Return the schema of a list of calls, each with ``name`` and ``arguments``.

    Args:
        functions: The functions that may be called, with ``name`` and ``parameters``.
        max_calls: The maximum number of calls; None: no maximum.
    """
    definitions = {
        f"f{n}": _move_references(arguments_schema(f), f"f{n}") for n, f in enumerate(functions)
    }
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "arguments": {"$ref": f"#/$defs/f{number}"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for number, function in enumerate(functions)
    ]
    limits = {} if max_calls is None else {"maxItems": max_calls}
    items = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {"type": "array", "items": items, "minItems": 1, **limits, "$defs": definitions}


def answer_or_calls_schema(answer: Schema, calls: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer that is either of two, the second from ``calls_schema``."""
    definitions = {**calls["$defs"], "answer": _move_references(answer, "answer")}
    list_of_calls = {name: value for name, value in calls.items() if name != "$defs"}
    return {"anyOf": [{"$ref": "#/$defs/answer"}, list_of_calls], "$defs": definitions}


def arguments_schema(function: Mapping[str, Any]) -> Schema:
    """Return the schema of a function's arguments; a function without parameters takes none."""
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and parameters:
        return {"type": "object", **parameters}
    return {"type": "object", "properties": {}, "additionalProperties": False}


def _move_references(schema: Any, name: str) -> Any:
    """Return a schema with its references as they are below ``$defs/name`` of another schema."""
    if isinstance(schema, Mapping):
        return {
            key: f"#/$defs/{name}{value[1:]}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _move_references(value, name)
            for key, value in schema.items()
        }
    return [_move_references(item, name) for item in schema] if isinstance(schema, list) else schema


def _invalid(problem: str, pointer: str) -> OutputSchemaError:
    place = f" (at {pointer[:200]})" if pointer else ""
    return OutputSchemaError(f"{problem}{place}", is_unsupported=False)


def _unsupported(feature: str, pointer: str) -> OutputSchemaError:
    place = f" (at {pointer[:200]})" if pointer else ""
    return OutputSchemaError(f"uses {feature}{place}", is_unsupported=True)
