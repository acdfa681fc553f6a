"""The JSON Schemas are valid, accept valid rows, and are found wherever the package is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset.formats import detect_other_format
from tests.unit.dataset.corpus import ANSWER, USER, call, load_schema, message_with_calls

NAMES = sorted(
    path.name.removesuffix(".schema.json")
    for path in (Path(__file__).parents[4] / "schemas").glob("*_line.*")
)
CHOSEN = {"input": {"messages": [USER]}, "preferred_output": [ANSWER]}
GOOD: dict[str, list[Any]] = {
    "prompt_completion": [{"prompt": "Hi", "completion": "Hello."}],
    "alpaca": [
        {"instruction": "Say hi", "output": "Hi"},
        {"instruction": "Add", "input": "1 2", "output": "3", "history": [["a", "b"]]},
    ],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}
    ],
    "preference": [
        {**CHOSEN, "non_preferred_output": [ANSWER]},
        {**CHOSEN, "non_preferred_output": [message_with_calls(call())]},
    ],
    "chat": [{"messages": [USER, ANSWER]}],
}
BAD: dict[str, list[Any]] = {
    "prompt_completion": [{"prompt": "Hi"}, {"prompt": "Hi", "completion": " "}, []],
    "alpaca": [{"instruction": "Say hi"}, {"instruction": "x", "output": 1}],
    "sharegpt": [{"conversations": [{"from": "human", "value": "Hi"}]}, {"conversations": {}}],
    "preference": [{**CHOSEN}, {**CHOSEN, "non_preferred_output": [USER]}],
    "chat": [{"messages": []}, {"messages": [USER]}],
}
SHAPES = {"prompt_completion": "PROMPT_COMPLETION", "alpaca": "ALPACA", "sharegpt": "SHAREGPT"}


def validator(name: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    schemas = [load_schema(name) for name in NAMES]
    registry: Any = Registry().with_resources(
        [(each["$id"], Resource.from_contents(each)) for each in schemas]
    )
    return Draft202012Validator(load_schema(f"{name}_line"), registry=registry)


@pytest.mark.parametrize("name", [*NAMES, "report"])
def test_every_schema_is_valid(name: str) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(load_schema(name))
    assert load_schema(name)["description"]
    assert load_schema(name)["$id"].endswith(f"/{name}.schema.json")


def test_every_format_has_examples() -> None:
    assert {f"{name}_line" for name in GOOD} == set(NAMES)


@pytest.mark.parametrize("name", GOOD)
def test_schema_accepts_valid_rows_and_rejects_invalid_ones(name: str) -> None:
    schema = validator(name)
    for row in GOOD[name]:
        schema.validate(row)
    for row in BAD[name]:
        assert not schema.is_valid(row), row


@pytest.mark.parametrize("name", SHAPES)
def test_format_is_detected_by_its_keys(name: str) -> None:
    formats = {row_format.code for row in GOOD[name] if (row_format := detect_other_format(row))}
    assert formats == {f"CHAT_SHAPE_{SHAPES[name]}"}
