"""Rows that say the right thing in another form: ``validate`` names the form, ``--fix`` rewrites the row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset import validate
from maas_client.dataset.edit.convert import convert
from maas_client.dataset.edit.fix import fix
from maas_client.dataset.edit.repair import repair_row
from maas_client.dataset.formats.labels import weight_for
from tests.shared_data import shared_file
from tests.unit.dataset.corpus import call, message_with_calls, result_message, tool

Row = dict[str, Any]
USER: Row = {"role": "user", "content": "What is the weather?"}
TEXT: Row = {"role": "assistant", "content": "I will look."}
ANSWER: Row = {"role": "assistant", "content": "It is 21 degrees."}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", False),
        ("train", 0),
        ("train_on_turn", "false"),
        ("loss_weight", 0.0),
        ("loss_mask", 0),
        ("mask", True),
        ("masked", 1),
        ("Train-On-Turn", False),
        ("trainOnTurn", False),
        ("loss_scale", 0),
        ("Weight", 0),
        ("skip", True),
    ],
)
def test_masked_message_gets_weight_0_and_is_never_trained_on(
    write_jsonl: Callable[..., Path], tmp_path: Path, key: str, value: Any
) -> None:
    wrong = {"role": "assistant", "content": "A wrong guess.", key: value}
    path = write_jsonl([{"messages": [USER, wrong, USER, ANSWER]}])
    [problem] = [p for p in validate(path).warnings if p.code == "CHAT_KEY_UNKNOWN"]
    assert problem.hint.startswith('Write "weight": 0')
    result = fix(path, tmp_path / "out.jsonl")
    assert result.ok
    row = json.loads((tmp_path / "out.jsonl").read_bytes())
    assert row["messages"][1] == {"role": "assistant", "content": "A wrong guess.", "weight": 0}


@pytest.mark.parametrize(
    ("key", "value", "weight"),
    [
        ("loss", True, 1),
        ("mask", False, 1),
        ("mask", 0, None),
        ("mask", 1, None),
        ("masked", 0, 1),
        ("loss_weight", 0.5, None),
        ("train", [1, 2], None),
        ("loss", None, None),
        ("train_detail", False, None),
        ("prompt_loss_weight", 0, None),
    ],
)
def test_mask_whose_meaning_is_not_certain_has_no_weight(
    key: str, value: Any, weight: int | None
) -> None:
    assert weight_for(key, value) == weight


def test_uncertain_and_contradicting_masks_stay_as_they_are() -> None:
    for mask in ({"mask": 1}, {"loss": False, "weight": 1}, {"loss": False, "train": True}):
        row = {"messages": [USER, {**ANSWER, **mask}]}
        assert repair_row(row) == (row, [])
    trained_user = {"messages": [{**USER, "train": True}, ANSWER]}
    assert repair_row(trained_user) == (trained_user, [])


def test_row_that_is_masked_completely_is_listed_instead_of_fixed(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_jsonl([{"messages": [USER, {**ANSWER, "loss": False}]}])
    result = fix(path, tmp_path / "out.jsonl")
    assert not result.ok
    assert result.unfixed_lines[0].codes == ("CHAT_NOTHING_LEARNED",)


@pytest.mark.parametrize(
    "system", ["Be brief.", [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]]
)
@pytest.mark.parametrize("key", ["system", "system_prompt", "System", "instructions"])
def test_system_prompt_beside_messages_is_put_first(
    write_jsonl: Callable[..., Path], tmp_path: Path, key: str, system: Any
) -> None:
    path = write_jsonl([{key: system, "messages": [USER, ANSWER], "id": 3}])
    report = validate(path)
    assert report.files[0].counts["CHAT_SYSTEM_OUTSIDE"] == 1
    assert fix(path, tmp_path / "out.jsonl").ok
    row = json.loads((tmp_path / "out.jsonl").read_bytes())
    content = system if isinstance(system, str) else "Be\n\nbrief."
    assert row == {"messages": [{"role": "system", "content": content}, USER, ANSWER], "id": 3}
    assert "CHAT_SYSTEM_OUTSIDE" not in validate(tmp_path / "out.jsonl").files[0].counts


def test_second_system_prompt_is_not_guessed(
    write_jsonl: Callable[..., Path], tmp_path: Path
) -> None:
    row = {"system": "Rhyme.", "messages": [{"role": "system", "content": "Hi."}, USER, ANSWER]}
    path = write_jsonl([row])
    assert fix(path, tmp_path / "out.jsonl").rows == 1
    assert json.loads((tmp_path / "out.jsonl").read_bytes()) == row
    same = {"system": "Hi.", "messages": row["messages"]}
    assert repair_row(same)[0] == {"messages": row["messages"]}


def test_keys_with_meaning_are_named_and_metadata_is_not(write_jsonl: Callable[..., Path]) -> None:
    keys = {
        "score": 0.1,
        "label": False,
        "context": "A text",
        "id": 1,
        "source": "x",
        "rating": None,
        "weights": [0, 1],
        "flagged": True,
        "is_correct": True,
        "status": "ok",
        "quality": "bad",
    }
    report = validate(write_jsonl([{"messages": [USER, ANSWER], **keys}]))
    named = [p.pointer for p in report.warnings if p.code == "CHAT_ROW_KEY"]
    assert named == ["/score", "/label", "/context", "/weights", "/flagged", "/quality"]


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"messages": [USER], "answer": "21"}, "datasets convert"),
        ({"messages": [USER, ANSWER, USER], "response": "21"}, "datasets convert"),
        ({"inputs": {"messages": [USER]}, "outputs": {"output": "21"}}, "datasets convert"),
        ({"messages": [{"author": "user", "content": "Hi"}, ANSWER]}, "datasets convert"),
        ({"messages": [USER, {**ANSWER, "label": False}]}, '"weight": 0'),
        ({"messages": [USER, {**ANSWER, "quality": "bad"}]}, '"weight": 0'),
        ({"messages": [USER, {**ANSWER, "reasoning_content": "?"}]}, "write it into content"),
    ],
)
def test_hint_loses_nothing(row: Row, hint: str, write_jsonl: Callable[..., Path]) -> None:
    assert any(hint in problem.hint for problem in validate(write_jsonl([row])).files[0].problems)


def _text(value: Any) -> str:
    return json.dumps(value)


CHAT: Row = {"messages": [USER, ANSWER]}


@pytest.mark.parametrize(
    "wrapped",
    [
        CHAT["messages"],
        [CHAT],
        [CHAT["messages"]],
        {"messages": [CHAT["messages"]]},
        {"messages": CHAT},
        {"messages": _text(CHAT["messages"])},
        {"messages": [_text(message) for message in CHAT["messages"]]},
        _text(CHAT),
        _text(CHAT["messages"]),
        {"messages": _text(_text(CHAT["messages"]))},
    ],
)
def test_wrapping_is_named_and_removed(
    write_jsonl: Callable[..., Path], tmp_path: Path, wrapped: Any
) -> None:
    path = write_jsonl([CHAT, wrapped])
    problems = [p for p in validate(path).errors if p.line == 2]
    assert len(problems) == 1
    assert "--fix" in problems[0].hint
    assert fix(path, tmp_path / "out.jsonl").ok
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert list(map(json.loads, lines)) == [CHAT, CHAT]


def test_text_that_is_no_conversation_is_no_wrapping() -> None:
    for value in (
        "Hi",
        [],
        [1],
        ["user", "Hi"],
        {"messages": "Hi"},
        {"messages": '[{"role": "user", "role": "assistant"}]'},
        {"messages": "[" * 5000},
    ):
        assert repair_row(value)[0] == value


def test_tools_as_json_text_become_a_list(write_jsonl: Callable[..., Path], tmp_path: Path) -> None:
    row = {"messages": [USER, message_with_calls(call())], "tools": [tool()]}
    path = write_jsonl([{**row, "tools": _text(row["tools"])}])
    [problem] = validate(path, ignore=["SERVICE_*"]).errors
    assert (problem.code, problem.pointer) == ("TOOL_LIST", "/tools")
    assert "--fix" in problem.hint
    assert fix(path, tmp_path / "out.jsonl").ok
    assert json.loads((tmp_path / "out.jsonl").read_bytes()) == row


RESULTS = [result_message(), result_message("call_2")]
SPLIT_TURNS = [
    ([TEXT, message_with_calls(call())], {**TEXT, "tool_calls": [call()]}, RESULTS[:1]),
    (
        [message_with_calls(call()), message_with_calls(call("call_2"))],
        {"role": "assistant", "content": None, "tool_calls": [call(), call("call_2")]},
        RESULTS,
    ),
    (
        [TEXT, message_with_calls(call()), message_with_calls(call("call_2"), content="And then?")],
        {
            "role": "assistant",
            "content": "I will look.\n\nAnd then?",
            "tool_calls": [call(), call("call_2")],
        },
        RESULTS,
    ),
    ([message_with_calls(call()), TEXT], {**TEXT, "tool_calls": [call()]}, RESULTS[:1]),
]


@pytest.mark.parametrize(("messages", "joined", "results"), SPLIT_TURNS)
def test_turn_in_two_messages_is_joined(
    write_jsonl: Callable[..., Path],
    tmp_path: Path,
    messages: list[Row],
    joined: Row,
    results: list[Row],
) -> None:
    path = write_jsonl([{"messages": [USER, *messages, *results, ANSWER], "tools": [tool()]}])
    errors = validate(path, ignore=["SERVICE_*"]).errors
    assert {p.code for p in errors} == {"CHAT_ALTERNATION"}
    assert "into one message" in errors[0].hint
    assert fix(path, tmp_path / "out.jsonl").ok
    row = json.loads((tmp_path / "out.jsonl").read_bytes())
    assert row == {"messages": [USER, joined, *results, ANSWER], "tools": [tool()]}


@pytest.mark.parametrize(
    "messages",
    [
        [TEXT, ANSWER],
        [message_with_calls(call()), ANSWER],
        [{**TEXT, "weight": 0}, message_with_calls(call())],
        [{**TEXT, "name": "ann"}, message_with_calls(call())],
    ],
)
def test_turn_that_may_lack_a_message_is_not_joined(messages: list[Row]) -> None:
    row = {"messages": [USER, *messages], "tools": [tool()]}
    assert repair_row(row) == (row, [])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("13-top-level-system", "CHAT_SYSTEM_OUTSIDE"),
        ("14-foreign-mask-keys", "CHAT_KEY_UNKNOWN"),
        ("20-bare-lists", "CHAT_NOT_OBJECT"),
        ("01b-assistant-text-then-call", "CHAT_ALTERNATION"),
    ],
)
def test_shared_case_is_named_and_fixed(tmp_path: Path, name: str, code: str) -> None:
    path = shared_file(f"cases/{name}.jsonl")
    before = validate(path).files[0]
    assert before.counts[code] >= before.lines
    result = fix(path, tmp_path / "out.jsonl")
    assert (result.ok, result.unfixed_count) == (True, 0)
    after = validate(tmp_path / "out.jsonl").files[0]
    assert (after.ok, after.examples) == (True, before.lines)
    assert code not in after.counts


TOOL: Row = {"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}
FUNCTION: Row = {"name": "t", "arguments": "{}"}
CALL: Row = {"id": "call_1", "type": "function", "function": FUNCTION}
RESULT: Row = {"role": "tool", "tool_call_id": "call_1", "content": "21"}


def with_calls(calls: Any, result: Row = RESULT, tools: Any = None) -> Row:
    call = {"role": "assistant", "content": None, "tool_calls": calls}
    return {"messages": [USER, call, result, ANSWER], "tools": tools or [TOOL]}


@pytest.mark.parametrize(
    ("row", "repaired"),
    [
        (with_calls([CALL], tools=TOOL), with_calls([CALL])),
        (with_calls([CALL], tools=[_text(TOOL)]), with_calls([CALL])),
        (with_calls([CALL], tools=_text([TOOL["function"]])), with_calls([CALL])),
        (with_calls(_text([CALL])), with_calls([CALL])),
        (with_calls(CALL), with_calls([CALL])),
        (with_calls([{"id": "call_1", "function": FUNCTION}]), with_calls([CALL])),
        (with_calls([FUNCTION], {"role": "tool", "content": "21"}), with_calls([CALL])),
        (with_calls([{**CALL, "function": {"name": "t", "arguments": None}}]), with_calls([CALL])),
        (with_calls([CALL], {**RESULT, "content": 21}), with_calls([CALL])),
        (with_calls([CALL], {**RESULT, "content": None}), with_calls([CALL], {**RESULT, "content": ""})),
        (with_calls([CALL], {**RESULT, "content": {"c": [21]}}),
         with_calls([CALL], {**RESULT, "content": '{"c": [21]}'})),
        ({"messages": [USER, {**ANSWER, "tool_calls": []}]}, {"messages": [USER, ANSWER]}),
        ({"messages": [{**USER, "role": "Human"}, {**ANSWER, "role": "gpt"}]}, {"messages": [USER, ANSWER]}),
        ({"messages": [{**USER, "content": {"type": "text", "text": "x"}}, ANSWER]},
         {"messages": [{**USER, "content": [{"type": "text", "text": "x"}]}, ANSWER]}),
        ({"messages": [{**USER, "content": ["x", "y"]}, ANSWER]},
         {"messages": [{**USER, "content": [{"type": "text", "text": text} for text in "xy"]}, ANSWER]}),
        ({"example": {"messages": [USER, ANSWER]}}, {"messages": [USER, ANSWER]}),
        ({"messages": {"role": ["user", "assistant"], "content": [USER["content"], ANSWER["content"]]}},
         {"messages": [USER, ANSWER]}),
    ],
)  # fmt: skip
def test_notation_is_corrected_without_loss(
    row: Row, repaired: Row, tmp_path: Path, write_jsonl: Callable[..., Path]
) -> None:
    path, fixed, converted = write_jsonl([row]), tmp_path / "fixed.jsonl", tmp_path / "out.jsonl"
    assert validate(path, target="local").files[0].examples == 0
    assert fix(path, fixed).ok
    assert json.loads(fixed.read_bytes()) == repaired
    convert(path, converted)
    assert validate(converted, target="local").files[0].examples == 1


@pytest.mark.parametrize(
    "row",
    [
        with_calls([FUNCTION, FUNCTION], {"role": "tool", "content": "21"}),
        {"messages": [{**USER, "content": {"parts": ["x"]}}, ANSWER]},
        {"messages": [{**USER, "content": [None]}, ANSWER]},
        with_calls("call the tool"),
    ],
)
def test_notation_that_is_not_clear_is_not_corrected(row: Row) -> None:
    messages = repair_row(row)[0]["messages"]
    kept = [(m.get("content"), m.get("tool_call_id")) for m in messages]
    assert kept == [(m.get("content"), m.get("tool_call_id")) for m in row["messages"]]
    assert all(
        "id" not in call for call in messages[1].get("tool_calls") or () if isinstance(call, dict)
    )
