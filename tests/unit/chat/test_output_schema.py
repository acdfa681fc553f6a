"""Schemas of answers: any schema is refused by name, or answered with a value that it accepts."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # noqa: TID253 - the check of the answer

from maas_client.chat.json_example import build_example, is_valid
from maas_client.chat.output_schema import OutputSchemaError, check_schema

_MAX_SECONDS = 5
_REFERENCES = st.sampled_from(
    ["#", "#/$defs/a", "#/$defs/b", "#/$defs/c%20d", "#/$defs/none", "x", "#/items", "#/anyOf/0"]
)
_NUMBERS = st.sampled_from([0, 1, 3, 2.0, 1e9, 1e308, 3000, -1, 1e-300, True, "1", None])
_PATTERNS = st.sampled_from(
    ["a", "^(a+)+$", "(a|aa)*$", "^a*a*a*a*a*a*b", "(", "(){1000000000}", "\ud800"]
)
_VALUES = st.sampled_from([None, True, 0, 1.5, "a", "\ud800", [], {}, ["a"], [1, "a"]])
_NAMES = st.sampled_from(["a", "b", "c d", "$ref", "\ud800"])


def _objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    children_or_values = children | _VALUES
    lists = st.lists(children, max_size=4) | _VALUES
    maps = st.dictionaries(_NAMES, children, max_size=3) | _VALUES
    types = st.sampled_from(["object", "array", "string", "integer", "number", "null"])
    return st.fixed_dictionaries(
        {},
        optional={
            "$ref": _REFERENCES | _VALUES,
            "$id": st.sampled_from(["z", "http://x.test/y", 1]),
            "type": types | st.lists(types, max_size=2) | _VALUES,
            "enum": st.lists(_VALUES, max_size=3) | _VALUES,
            "const": _VALUES,
            "required": st.lists(_NAMES, max_size=3) | _VALUES,
            "format": st.sampled_from(["date", "iri"]) | _VALUES,
            "pattern": _PATTERNS | _VALUES,
            **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), _NUMBERS),
            **dict.fromkeys(("minimum", "exclusiveMaximum", "multipleOf"), _NUMBERS),
            **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), lists),
            **dict.fromkeys(("properties", "$defs"), maps),
            **dict.fromkeys(("items", "additionalProperties"), children_or_values),
        },
    )


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.recursive(st.booleans() | st.builds(dict), _objects, max_leaves=12))
def test_any_schema_is_answered_or_refused_in_time(schema: Any) -> None:
    start = time.monotonic()
    with suppress(OutputSchemaError):
        check_schema(schema, strict=False)
        is_valid(schema, {"a": ["aaaaaaaaaaaaaaaaaaaaaaaaaaaa!"]})
        value = build_example(schema, "It is 3 aaaaaaaaaaaaaaaaaaaaaaaaaaaa!")
        assert Draft202012Validator(schema).is_valid(value)
    assert time.monotonic() - start < _MAX_SECONDS


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"p{number}": {"type": "string"} for number in range(20_000)}},
        {"anyOf": [{"const": number} for number in range(20_000)]},
    ],
    ids=["properties", "anyOf"],
)
def test_schema_with_too_many_parts_is_refused_by_name(schema: Any) -> None:
    start = time.process_time()
    with pytest.raises(OutputSchemaError, match="more than 5,000 subschemas"):
        check_schema(schema, strict=False)
    assert time.process_time() - start < 1
