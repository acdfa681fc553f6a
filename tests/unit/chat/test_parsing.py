"""Parse completions into content and tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_client.chat import TEMPLATES, parse_completion, render

PHI4_MINI = TEMPLATES["phi4-mini"]


def test_plain_text_is_content() -> None:
    assert parse_completion("  Hello\n", PHI4_MINI) == ("  Hello\n", [])


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_completion_ends_at_the_end_of_turn(name: str) -> None:
    template = TEMPLATES[name]
    assert parse_completion(f"Hi{template.end_of_turn} and more", template) == ("Hi", [])


@pytest.mark.parametrize(
    "text",
    [
        '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}]<|/tool_call|>',
        '<|tool_call|>{"name": "f", "arguments": {"a": 1}}<|/tool_call|>',
        '<|tool_call|>[{"name": "f", "parameters": {"a": 1}}]',
        'functools[{"name": "f", "arguments": {"a": 1}}]',
        '<|tool_call|>[{"name": "f", "arguments": "{\\"a\\": 1}"}]<|/tool_call|><|end|>',
    ],
)
def test_tool_call_formats(text: str) -> None:
    content, calls = parse_completion(text, PHI4_MINI)
    assert content == ""
    assert [call["function"] for call in calls] == [{"name": "f", "arguments": '{"a": 1}'}]


@pytest.mark.parametrize(
    "text",
    ["<|tool_call|>[{broken<|/tool_call|>", "<|tool_call|>[]<|/tool_call|>", "functools[1]"],
)
def test_invalid_tool_call_stays_text(text: str) -> None:
    assert parse_completion(text, PHI4_MINI) == (text, [])


def test_template_without_tools_parses_no_calls() -> None:
    text = '<tool_call>{"name": "f"}</tool_call>'
    assert parse_completion(text, TEMPLATES["phi3"]) == (text, [])


_arguments = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=3)


@pytest.mark.parametrize("name", ["phi4-mini", "smollm2"])
@given(
    call_arguments=st.lists(_arguments, min_size=1, max_size=3),
    content=st.sampled_from(["", "Sure."]),
)
def test_rendered_tool_calls_parse_back(
    name: str, call_arguments: list[dict[str, Any]], content: str
) -> None:
    template = TEMPLATES[name]
    calls = [
        {"type": "function", "function": {"name": f"f{at}", "arguments": json.dumps(arguments)}}
        for at, arguments in enumerate(call_arguments)
    ]
    row = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": content, "tool_calls": calls},
    ]
    text = "".join(part.text for part in render(row, None, template) if part.in_loss)
    parsed_content, parsed = parse_completion(text, template)
    assert parsed_content == content
    assert [call["function"]["name"] for call in parsed] == [
        call["function"]["name"] for call in calls
    ]
    assert [json.loads(call["function"]["arguments"]) for call in parsed] == call_arguments
    assert len({call["id"] for call in parsed}) == len(parsed)
