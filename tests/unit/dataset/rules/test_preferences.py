"""Rows of preferences: what is refused and where, and that the JSON Schema agrees."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset import validate
from maas_client.dataset.edit.convert import convert
from maas_client.errors import ConfigError, DatasetError
from tests.unit.dataset.rules.test_schemas import validator

ROW: dict[str, Any] = {
    "input": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ]
    },
    "preferred_output": [{"role": "assistant", "content": "Hello."}],
    "non_preferred_output": [{"role": "assistant", "content": "What do you want?"}],
}
ASSISTANT = {"role": "assistant", "content": "Hello."}
REMOVED = object()


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    row = copy.deepcopy(ROW)
    target: Any = row
    for step in path[:-1]:
        target = target[step]
    if value is REMOVED:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return row


def write(path: Path, *rows: Any) -> Path:
    filler = [changed(("input", "messages", 1, "content"), f"Question {n}") for n in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in (*filler, *rows)))
    return path


def test_valid_rows(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    with_tools = {
        "input": {
            "messages": [
                {"role": "user", "content": "Where is it?"},
                {"role": "assistant", "content": "What?"},
                {"role": "user", "content": "My parcel."},
            ],
            "tools": [
                {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
            ],
        },
        "preferred_output": [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "here"},
            {"role": "assistant", "content": "Here."},
        ],
        "non_preferred_output": [{"role": "assistant", "content": "No idea."}],
    }
    path = write(tmp_path / "train.jsonl", ROW, with_tools, {**ROW, "id": 7})
    report = validate(path, method="dpo")
    assert report.ok, report.errors
    assert report.target == "foundry"
    assert report.files[0].examples == 13
    assert report.files[0].stats["tokens"]["total"] > 100
    assert {problem.code for problem in report.warnings} == {"SERVICE_FEW_ROWS"}
    assert validator("preference").is_valid(with_tools)


@pytest.mark.parametrize(
    ("path", "value", "code", "pointer"),
    [
        (("non_preferred_output",), REMOVED, "CHAT_PREFERENCE_MISSING", ""),
        (("preferred_output",), REMOVED, "CHAT_PREFERENCE_MISSING", ""),
        (("input",), REMOVED, "CHAT_PREFERENCE_MISSING", ""),
        (("non_preferred_output",), [], "CHAT_PREFERENCE_EMPTY", "/non_preferred_output"),
        (("non_preferred_output",), "No.", "CHAT_PREFERENCE_TYPE", "/non_preferred_output"),
        (("preferred_output",), None, "CHAT_PREFERENCE_TYPE", "/preferred_output"),
        (("input",), [], "CHAT_PREFERENCE_TYPE", "/input"),
        (("input", "messages"), REMOVED, "CHAT_PREFERENCE_TYPE", "/input"),
        (("input", "messages"), [], "CHAT_MESSAGES_EMPTY", "/input/messages"),
        (
            ("preferred_output", 0, "role"), "user",
            "CHAT_PREFERENCE_ROLE", "/preferred_output/0/role",
        ),
        (
            ("non_preferred_output", 0, "content"), "",
            "CHAT_CONTENT_EMPTY", "/non_preferred_output/0/content",
        ),
        (
            ("input", "messages", 1, "content"), 7,
            "CHAT_CONTENT_TYPE", "/input/messages/1/content",
        ),
        (
            ("input", "messages", 1, "role"), "human",
            "CHAT_ROLE_UNKNOWN", "/input/messages/1/role",
        ),
        (("preferred_output", 0), "Hello.", "CHAT_MESSAGE_TYPE", "/preferred_output/0"),
        (("messages",), [ASSISTANT], "CHAT_PREFERENCE_TYPE", "/messages"),
        (("tools",), [{"type": "function"}], "CHAT_PREFERENCE_TYPE", "/tools"),
        (("parallel_tool_calls",), False, "CHAT_PREFERENCE_TYPE", "/parallel_tool_calls"),
        (
            ("preferred_output", 0, "weight"), 0,
            "CHAT_NOTHING_LEARNED", "/preferred_output/0/weight",
        ),
        (
            ("non_preferred_output", 0, "weight"), 0,
            "CHAT_NOTHING_LEARNED", "/non_preferred_output/0/weight",
        ),
    ],
)  # fmt: skip
def test_invalid_rows_are_refused_at_their_place(
    path: tuple[Any, ...], value: Any, code: str, pointer: str, tmp_path: Path
) -> None:
    row = changed(path, value)
    report = validate(write(tmp_path / "train.jsonl", row), method="DPO", content=False)
    errors = [problem for problem in report.errors if problem.code.startswith("CHAT_")]
    assert [(problem.code, problem.pointer, problem.line) for problem in errors] == [
        (code, pointer, 11)
    ]
    if code != "CHAT_ROLE_UNKNOWN":
        assert not validator("preference").is_valid(row)


def test_equal_answers_and_an_input_that_ends_with_an_answer_are_refused(tmp_path: Path) -> None:
    same = changed(("non_preferred_output",), ROW["preferred_output"])
    ended = changed(("input", "messages"), [*ROW["input"]["messages"], ASSISTANT])
    report = validate(write(tmp_path / "train.jsonl", same, ended), method="DPO", content=False)
    problems = [(p.code, p.line) for p in report.errors if p.code.startswith("CHAT_")]
    assert problems == [("CHAT_PREFERENCE_SAME", 11), ("CHAT_PREFERENCE_INPUT_END", 12)]


def test_other_rows_are_named(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}, ASSISTANT]}
    typo = {("non_prefered_output" if k.startswith("non") else k): v for k, v in ROW.items()}
    trl = {"prompt": "Hi", "chosen": "Hello.", "rejected": "What?"}
    path = write(tmp_path / "train.jsonl", chat, typo, trl, [1])
    problems = {p.line: p for p in validate(path, method="DPO", content=False).errors if p.line}
    assert {line: problem.code for line, problem in problems.items()} == {
        11: "CHAT_PREFERENCE_MISSING",
        12: "CHAT_PREFERENCE_MISSING",
        13: "CHAT_SHAPE_DPO",
        14: "CHAT_NOT_OBJECT",
    }
    assert "a chat with one answer" in problems[11].message
    assert problems[12].pointer == "/non_prefered_output"
    assert "--to preference" in problems[13].hint


def test_preferences_are_no_chats(tmp_path: Path) -> None:
    report = validate(write(tmp_path / "train.jsonl"), content=False)
    assert {p.code for p in report.errors if p.line} == {"CHAT_SHAPE_DPO"}
    assert "method DPO" in next(p for p in report.errors if p.line).hint


def test_secrets_and_long_answers_are_located(tmp_path: Path) -> None:
    key = "AKIA" + "IOSFODNN7EXAMPL2"
    row = changed(("non_preferred_output", 0, "content"), f"Use {key} for it.")
    long = changed(("preferred_output", 0, "content"), "word " * 40_000)
    path = write(tmp_path / "train.jsonl", row, long)
    report = validate(path, method="DPO", target="local", model="Phi-4")
    found = {(problem.code, problem.pointer) for problem in report.files[0].problems}
    assert ("SECRET_AWS_KEY", "/non_preferred_output/0/content") in found, found
    assert ("SERVICE_TRUNCATED", "/preferred_output") in found


QUESTION = {"role": "user", "content": "How much is the Gust?"}
BETTER = {"role": "assistant", "content": "49 euros."}
WORSE = {"role": "assistant", "content": "No idea."}
PREFERENCES: dict[str, dict[str, Any]] = {
    "Azure's own": {
        "input": {"messages": [QUESTION]},
        "preferred_output": [BETTER],
        "non_preferred_output": [WORSE],
    },
    "texts": {"prompt": QUESTION["content"], "chosen": "49 euros.", "rejected": "No idea."},
    "responses": {
        "question": QUESTION["content"],
        "chosen_response": "49 euros.",
        "rejected_response": "No idea.",
    },
    "responses, suffixed": {
        "prompt": QUESTION["content"],
        "response_chosen": "49 euros.",
        "response_rejected": "No idea.",
    },
    "accepted": {
        "instruction": QUESTION["content"],
        "accepted": "49 euros.",
        "rejected": "No idea.",
    },
    "messages of TRL": {"prompt": [QUESTION], "chosen": [BETTER], "rejected": [WORSE]},
    "whole conversations": {"chosen": [QUESTION, BETTER], "rejected": [QUESTION, WORSE]},
    "whole conversations with their question": {
        "prompt": QUESTION["content"],
        "chosen": [QUESTION, BETTER],
        "rejected": [QUESTION, WORSE],
        "score_chosen": 4.5,
        "score_rejected": 1.0,
    },
    "whole conversation as messages": {
        "messages": [QUESTION, BETTER],
        "chosen": [QUESTION, BETTER],
        "rejected": [QUESTION, WORSE],
    },
    "question in messages": {"messages": [QUESTION], "chosen": BETTER, "rejected": WORSE},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": QUESTION["content"]}],
        "chosen": {"from": "gpt", "value": "49 euros."},
        "rejected": {"from": "gpt", "value": "No idea."},
    },
    "marked turns": {
        "chosen": "\n\nHuman: How much is the Gust?\n\nAssistant: 49 euros.",
        "rejected": "\n\nHuman: How much is the Gust?\n\nAssistant: No idea.",
    },
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_every_notation_of_preferences_is_converted(name: str, tmp_path: Path) -> None:
    source, out = tmp_path / "pairs.jsonl", tmp_path / "preferences.jsonl"
    source.write_text(json.dumps(PREFERENCES[name]) + "\n")
    result = convert(source, out, to="preference")
    assert json.loads(out.read_text()) == PREFERENCES["Azure's own"]
    assert result.row_formats == {"dpo": 1}
    assert any("score" in note for note in result.omitted) == ("score_chosen" in PREFERENCES[name])


def test_conversion_keeps_system_messages_and_tools(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    called = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "49"},
    ]
    row = {
        "system": "Be brief.",
        "messages": [QUESTION],
        "tools": [tool],
        "chosen": [*called, BETTER],
        "rejected": [*called, WORSE],
    }
    source, out = tmp_path / "pairs.jsonl", tmp_path / "preferences.jsonl"
    source.write_text(json.dumps(row) + "\n")
    convert(source, out, to="preference")
    written = json.loads(out.read_text())
    assert written["input"]["tools"] == [tool]
    assert [m["role"] for m in written["input"]["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert (written["preferred_output"], written["non_preferred_output"]) == ([BETTER], [WORSE])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "Hello.", "rejected": "Hello."}, "both answers are equal"),
        ({"prompt": "Hi", "chosen": "Hello.", "rejected": ""}, "missing or empty"),
        ({"prompt": "Hi", "completion": "Hello."}, "the row has one answer"),
        ({"messages": [QUESTION, BETTER]}, "the row has one answer"),
        (
            {"chosen": [QUESTION, BETTER], "rejected": [{**QUESTION, "content": "Hi"}, WORSE]},
            "differ before them",
        ),
        ({"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "rationale": "x"}, "rationale"),
    ],
)
def test_rows_without_two_answers_are_rejected(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "pairs.jsonl", tmp_path / "preferences.jsonl"
    rows = [PREFERENCES["texts"], row]
    source.write_text("".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(DatasetError, match=rf"row 2 .*{reason}"):
        convert(source, out, to="preference")
    assert not out.exists()
    result = convert(source, out, to="preference", skip_invalid=True)
    assert (result.rows, result.rejected.total()) == (1, 1)


def test_azure_ml_tunes_by_no_preferences() -> None:
    with pytest.raises(ConfigError, match="Azure ML tunes no model by preferences"):
        validate("x.jsonl", method="DPO", target="azureml")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("RFT", "unknown method"),
        ("", "unknown method"),
        (3, "method= must be a text, not of type int"),
    ],
)
def test_unknown_method_is_refused(method: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate("x.jsonl", method=method)
