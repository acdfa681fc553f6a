"""Layouts of public data sets and tools: each is converted as a whole, or refused with what would be lost."""
# ruff: noqa: E501 - tables

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main
from maas_client.dataset import validate
from maas_client.dataset.edit.convert import convert
from maas_client.dataset.edit.fix import fix
from maas_client.errors import DatasetError
from tests.unit.dataset.chats import CHAT, EARLIER, FUNCTION, SYSTEM, TOOL, TURNS, A, Q

LATER = "And on Sunday it stays in port."


def tool_call(number: int, port: int) -> dict[str, Any]:
    function = {"name": "tide", "arguments": json.dumps({"port": port})}
    return {"id": f"call_{number}", "type": "function", "function": function}


def call_text(port: int) -> str:
    return json.dumps({"name": "tide", "arguments": {"port": port}})


TWO_CALLS = [
    CHAT[0],
    {"role": "assistant", "tool_calls": [tool_call(1, 4), tool_call(2, 5)]},
    {"role": "tool", "tool_call_id": "call_1", "content": "2 m"},
    {"role": "tool", "tool_call_id": "call_2", "content": "3 m"},
    CHAT[1],
]


def question(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}, CHAT[1]]


CONVERTED: dict[str, tuple[Any, Any]] = {
    "Gemini's tuning": ({"text_input": Q, "output": A}, CHAT),
    "Metharme": ({"prompt": Q, "generation": A}, CHAT),
    "a query and its schema": ({"sql_prompt": Q, "sql_context": "CREATE TABLE t", "sql": A}, question(f"CREATE TABLE t\n\n{Q}")),
    "an article and a question": ({"article": "The port.", "question": Q, "answer": A}, question(f"The port.\n\n{Q}")),
    "Natural Instructions": ({"Definition": "Answer.", "Input": Q, "Output": A}, question(f"Answer.\n\n{Q}")),
    "options in a text": ({"question": Q, "candidates": "A. four B. five", "answer": A}, question(f"{Q}\n\nA. four B. five")),
    "options of another name": ({"question": Q, "answer_choices": ["four", "five"], "answer": A}, question(f"{Q}\n\nA. four\nB. five")),
    "TriviaQA": ({"question": Q, "answer": {"value": A, "aliases": [A, "Pier 4"]}}, CHAT),
    "one class in a list": ({"text": Q, "label": [A]}, CHAT),
    "an item of an evaluation": ({"item": {"question": Q, "answer": A}}, CHAT),
    "Langfuse": ({"input": {"messages": CHAT[:1]}, "expectedOutput": CHAT[1]}, CHAT),
    "texts of two speakers": ({"dialog": [Q, A]}, CHAT),
    "a history in a text": ({"question": Q, "answer": A, "chat_history": "User: Hello?\nAssistant: Ahoy."}, [*EARLIER, *CHAT]),
    "a history of another name": ({"question": Q, "answer": A, "dialogue_history": EARLIER}, [*EARLIER, *CHAT]),
    "a sender and a text": ({"messages": [{"sender": "user", "text": Q}, {"sender": "assistant", "text": A}]}, CHAT),
    "utterances": ({"turns": [{"speaker": "customer", "utterance": Q}, {"speaker": "agent", "utterance": A}]}, CHAT),
    "roles of support": ({"messages": [{"role": "customer", "content": Q}, {"role": "agent", "content": A}]}, CHAT),
    "messages with values": ({"messages": [{"role": "user", "value": Q}, {"role": "assistant", "value": A}]}, CHAT),
    "a human or not": ({"conversation": [{"message": Q, "is_human": True}, {"message": A, "is_human": False}]}, CHAT),
    "Claude's export": ({"name": "Ferry", "chat_messages": [
        {"sender": "human", "text": Q, "content": [{"type": "text", "text": Q}], "files": []},
        {"sender": "assistant", "text": A, "content": [{"type": "text", "text": A}], "files": []}]}, [
        {**message, "content": [{"type": "text", "text": message["content"]}]} for message in CHAT]),
    "LangSmith": ({
        "inputs": {"messages": [[{"lc": 1, "id": ["langchain", "HumanMessage"], "kwargs": {"content": Q}}]]},
        "outputs": {"generations": [[{"text": A, "message": {"lc": 1, "id": ["langchain", "AIMessage"], "kwargs": {"content": A}}}]]},
    }, CHAT),
    "text of DeepSeek": ({"text": f"<｜begin▁of▁sentence｜>Be brief.<｜User｜>{Q}<｜Assistant｜>{A}<｜end▁of▁sentence｜>"}, [SYSTEM, *CHAT]),
    "text of Command R": ({"text": f"<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>{Q}<|END_OF_TURN_TOKEN|>"
                                   f"<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{A}<|END_OF_TURN_TOKEN|>"}, CHAT),
    "a dialogue in a text": ({"dialogue": f"User: {Q}\nAssistant: {A}"}, CHAT),
    "a conversation in a text": ({"conversation": f"Human: {Q}\n\nAssistant: {A}"}, CHAT),
    "a chat in a text": ({"chat": f"Human: {Q}\n\nAssistant: {A}"}, CHAT),
    "q and a": ({"Q": Q, "A": A}, CHAT),
    "a human and an AI": ({"human": Q, "ai": A}, CHAT),
    "results with names": ({"tools": [TOOL], "messages": [CHAT[0], {**TWO_CALLS[1]}, {"role": "tool", "name": "tide", "content": "2 m"},
                            {"role": "tool", "name": "tide", "content": "3 m"}, CHAT[1]]},
                           [*TWO_CALLS[:2], *({"role": "tool", "name": "tide", "content": m["content"], "tool_call_id": m["tool_call_id"]} for m in TWO_CALLS[2:4]), CHAT[1]]),
    "two calls of ShareGPT": ({"tools": [TOOL], "conversations": [
        TURNS[0], {"from": "function_call", "value": call_text(4)}, {"from": "function_call", "value": call_text(5)},
        {"from": "observation", "value": "2 m"}, {"from": "observation", "value": "3 m"}, TURNS[1]]}, TWO_CALLS),
    "two calls of ms-swift": ({"tools": json.dumps([TOOL]), "messages": [
        CHAT[0], {"role": "tool_call", "content": call_text(4)}, {"role": "tool_call", "content": call_text(5)},
        {"role": "tool_response", "content": "2 m"}, {"role": "tool_response", "content": "3 m"}, CHAT[1]]}, TWO_CALLS),
    "two results of Hermes": ({"tools": [TOOL], "conversations": [
        TURNS[0], {"from": "gpt", "value": f"<tool_call>{call_text(4)}</tool_call>\n<tool_call>{call_text(5)}</tool_call>"},
        {"from": "tool", "value": "<tool_response>2 m</tool_response>\n<tool_response>3 m</tool_response>"}, TURNS[1]]}, TWO_CALLS),
    "chosen_answer": ({"prompt": Q, "chosen_answer": A, "rejected_answer": LATER}, CHAT),
    "chosen_answer of a chat": ({"messages": CHAT[:1], "chosen_answer": A, "rejected_answer": LATER}, CHAT),
    "the rejected response of ms-swift": ({"messages": CHAT, "rejected_response": LATER}, CHAT),
    "the rejected messages of ms-swift": ({"messages": CHAT, "rejected_messages": [CHAT[0], {"role": "assistant", "content": LATER}]}, CHAT),
    "y_w and y_l": ({"prompt": Q, "y_w": A, "y_l": LATER}, CHAT),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_layout_is_converted(name: str, tmp_path: Path) -> None:
    row, messages = CONVERTED[name]
    out = tmp_path / "out.jsonl"
    convert([row], out)
    assert json.loads(out.read_text(encoding="utf-8"))["messages"] == messages
    assert not validate(out, target="local").errors


@pytest.mark.parametrize(
    "key", ["tools", "available_functions", "apis", "tool_list", "toolSchemas"]
)
@pytest.mark.parametrize(
    "tools",
    [[TOOL], json.dumps([FUNCTION]), [json.dumps(TOOL)], {"tide": {**FUNCTION, "name": "tide"}}],
    ids=["a list", "JSON text", "a list of JSON texts", "an object"],
)
def test_tools_of_any_name_are_converted(key: str, tools: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for rows in ({"messages": CHAT}, {"conversations": TURNS}):
        convert([{**rows, key: tools}], out)
        assert json.loads(out.read_text(encoding="utf-8"))["tools"] == [TOOL]


REFUSED: dict[str, tuple[Any, str]] = {
    "an answer beside its check": ({"problem": Q, "generated_solution": A, "expected_answer": "4"}, "the key generated_solution"),
    "a reference with the same words": ({"question": Q, "answer": A, "humanRefB": LATER, "gpt4_answer": LATER}, "the key gpt4_answer"),
    "a second answer": ({"question": Q, "answer": A, "response_b": LATER}, "the key response_b"),
    "a corrected answer": ({"instruction": Q, "output": A, "reflection": LATER}, "the key reflection"),
    "retrieved documents": ({"question": Q, "answer": A, "retrieved_docs": [LATER]}, "the key retrieved_docs"),
    "a system prompt inside": ({"messages": CHAT, "chat_template_kwargs": {"custom_instructions": "Be brief."}}, "the key chat_template_kwargs"),
    "tokens beside their texts": ({"inputs": [1], "inputs_pretokenized": Q, "targets": [2], "targets_pretokenized": A}, "the key inputs_pretokenized"),
    "ranked answers": ({"prompt": Q, "answers": [{"answer": A, "rank": 1}, {"answer": LATER, "rank": 2}]}, "answers is a list of several answers"),
    "answers with votes": ({"question": Q, "answers": [{"text": A, "pm_score": 1, "selected": True}]}, "answers is a list of several answers"),
    "accepted answers": ({"input": CHAT[:1], "ideal": [A, LATER]}, "ideal is a list of several texts"),
    "an incomplete answer": (
        {"request": {"messages": CHAT[:1]}, "response": {"choices": [{"message": CHAT[1], "finish_reason": "length"}]}},
        "finish_reason is length",
    ),
    "several classes": ({"text": Q, "label": ["port", "time"]}, "the label is a list"),
    "a message of a chat": ({"conversation_id": 1, "role": "user", "content": Q}, "a single message"),
    "an unknown role": ({"messages": [CHAT[0], {"role": "narrator", "content": A}]}, "unknown speaker 'narrator'"),
    "an unknown speaker": ({"conversations": [{"from": "student", "value": Q}, {"from": "teacher", "value": A}]}, "unknown speaker 'student'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_layout_is_refused_with_what_would_be_lost(name: str, tmp_path: Path) -> None:
    row, message = REFUSED[name]
    with pytest.raises(DatasetError, match=message) as error:
        convert([row], tmp_path / "out.jsonl")
    assert Q not in str(error.value)
    assert LATER not in str(error.value)


@pytest.mark.parametrize(
    "row",
    [
        {"context_length": 7, "num_responses": "4", "response_id": "x1", "source_document": "port.pdf"},
        {"has_context": True, "answer_start": [1], "original_question": Q, "original_answer": A},
        {"answers_count": 2, "response_model": "gpt-4 turbo", "instruct_reward": 0.5},
    ],
)  # fmt: skip
def test_metadata_that_sounds_like_text_is_listed(row: Any, tmp_path: Path) -> None:
    result = convert([{"question": Q, "answer": A, **row}] * 3, tmp_path / "out.jsonl")
    assert {note.removeprefix("key ") for note in result.omitted} == set(row)
    assert not validate([{"messages": CHAT, **row}], target="local").warnings


def test_answer_beside_messages_is_reported_unless_they_repeat_it() -> None:
    rows = [{"messages": CHAT, "generated_solution": text} for text in (A, f"{Q}\n{A}", LATER)]
    warnings = validate(rows, target="local").warnings
    assert [w.line for w in warnings if w.code == "CHAT_ROW_KEY"] == [3]


def test_texts_beside_messages_are_reported_as_convert_refuses_them() -> None:
    rows = [{"messages": CHAT, "retrieved_docs": [LATER]}, {"messages": CHAT, "apis": [FUNCTION]}]
    warnings = validate(rows, target="local").warnings
    assert [(w.code, w.line) for w in warnings if w.code == "CHAT_ROW_KEY"] == [
        ("CHAT_ROW_KEY", 1),
        ("CHAT_ROW_KEY", 2),
    ]


@pytest.mark.parametrize("row", [{"label": False}, {"weight": 0}, {"rating": "bad"}])
def test_hint_for_an_unwanted_row_leaves_it_out(row: Any, tmp_path: Path) -> None:
    [warning] = validate([{"messages": CHAT, **row}], target="local").warnings
    assert "maas-client datasets convert FILE OUT.jsonl" in warning.hint
    result = convert([{"messages": CHAT, **row}, {"messages": CHAT}], tmp_path / "out.jsonl")
    assert (result.rows, result.unwanted, result.rows_read) == (1, 1, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("keep", False),
        ("include", "no"),
        ("hallucinated", True),
        ("nsfw", True),
        ("spam", 1),
        ("rating", "bad"),
        ("quality", "low"),
        ("label", "FALSCH"),
        ("label", "FAUX"),
        ("sample_weight", 0.0),
    ],
)
def test_row_that_says_that_it_is_unwanted_is_left_out(
    key: str, value: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": Q, "completion": A, key: value}, {"prompt": Q, "completion": A}]
    result = convert(rows, tmp_path / "out.jsonl")
    assert (result.rows, result.unwanted) == (1, 1)
    with pytest.raises(DatasetError, match=f"ignore_keys=\\['{key}'\\]"):
        convert(rows[:1], tmp_path / "out.jsonl")
    assert convert(rows[:1], tmp_path / "out.jsonl", ignore_keys=[key]).rows == 1


@pytest.mark.parametrize("key", ["supervised", "is_target", "no_grad", "frozen", "context_only"])
def test_further_masks_become_weight_0(key: str, tmp_path: Path) -> None:
    value = key in ("no_grad", "frozen", "context_only")
    row = {"messages": [CHAT[0], {**CHAT[1], key: value}, *CHAT]}
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps(row) + "\n")
    for write in (convert, fix):
        write(source, out)
        assert json.loads(out.read_text())["messages"][1] == {**CHAT[1], "weight": 0}


def test_keys_that_no_row_has_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("Frage,Antwort\na,b\n")
    columns = ["--column", "frage=prompt", "--column", "Answer=completion", "--ignore-key", "note"]
    assert main(["datasets", "convert", str(source), str(out), *columns]) == 3
    assert "has no column 'Answer'" in capsys.readouterr().err
    columns[3] = "antwort=completion"
    assert main(["datasets", "convert", str(source), str(out), *columns]) == 0
    assert "no row has the key note" in capsys.readouterr().err
    rows = [{"messages": [CHAT[0], {**CHAT[1], "thinking": "Hm."}]}]
    assert convert(rows, out, ignore_keys=["Thinking"]).unused_keys == []


def test_key_that_no_row_has_is_named_in_an_error(tmp_path: Path) -> None:
    rows = [{"question": Q, "answer": A, "rationale": LATER}]
    with pytest.raises(DatasetError, match="no row has the key rational"):
        convert(rows, tmp_path / "out.jsonl", ignore_keys=["rational"])


def test_row_without_a_cell_is_named_by_what_is_missing(tmp_path: Path) -> None:
    rows = [{"prompt": Q, "completion": A}, {"completion": A}]
    with pytest.raises(DatasetError, match=r"row 2 \(prompt-completion: prompt is missing"):
        convert(rows, tmp_path / "out.jsonl")


ROW = {"instruction": Q, "output": A}
FILES = {
    "rows as JSON text": "\n".join([json.dumps(json.dumps(ROW))] * 3),
    "an array of JSON texts": json.dumps([json.dumps(ROW)] * 3),
    "Excel's line with the separator": f"sep=;\r\nprompt;completion\r\n{Q};{A}\r\n{Q};{A}\r\n{Q};{A}\r\n",
    "empty lines of Excel": f'prompt,completion\n{Q},"{A}"\n,\n{Q},"{A}"\n{Q},"{A}"\n,\n,\n',
    "NUL bytes at the end": "\n".join([json.dumps(ROW)] * 3) + "\n" + "\0" * 99,
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_file_is_converted(name: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text(FILES[name], newline="")
    assert convert(source, out).rows == 3
    assert json.loads(out.read_text().splitlines()[0])["messages"] == CHAT
    assert not [
        p for p in validate(source).errors if p.code.startswith("JSON") and "NUL" not in name
    ]


def test_rows_as_json_text_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(FILES["rows as JSON text"])
    problem = next(p for p in validate(source).errors if p.code == "CHAT_NOT_OBJECT")
    assert "the row is JSON text" in str(problem)
    assert "datasets convert" in problem.hint
    source.write_text(json.dumps([json.dumps({"messages": CHAT})] * 3))
    assert fix(source, out).ok
    assert json.loads(out.read_text().splitlines()[2]) == {"messages": CHAT}


def test_fix_names_what_is_beside_the_rows(tmp_path: Path) -> None:
    source, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"train": [{"messages": CHAT}], "test": [{"messages": EARLIER}]}))
    assert "left out what is beside the rows of the file" in fix(source, out).repairs


HINTED: dict[str, tuple[Any, str]] = {
    "content of Bedrock": ({"messages": [{**m, "content": [{"text": m["content"]}]} for m in CHAT]}, "CHAT_PART"),
    "content of Anthropic": (
        {"messages": [CHAT[0], {"role": "assistant", "content": [{"type": "output_text", "text": A}]}]},
        "CHAT_PART_UNKNOWN",
    ),
    "tools of Anthropic": ({"messages": CHAT, "tools": [{"name": "tide", "input_schema": {"type": "object"}}]}, "TOOL_DEFINITION"),
    "roles of ms-swift": (
        {"messages": [CHAT[0], {"role": "tool_call", "content": call_text(4)}, {"role": "tool_response", "content": "2"}, CHAT[1]],
         "tools": [TOOL]},
        "CHAT_ROLE_UNKNOWN",
    ),
    "rows in UTF-16": ({"prompt": Q, "completion": A}, "FILE_UTF16"),
}  # fmt: skip


@pytest.mark.parametrize("name", HINTED)
def test_command_of_a_hint_succeeds(name: str, tmp_path: Path) -> None:
    row, code = HINTED[name]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(json.dumps(row).encode("utf-16" if "UTF-16" in name else "utf-8"))
    hints = {problem.hint for problem in validate(source).errors if problem.code == code}
    assert hints
    for hint in hints:
        assert hint.endswith("onvert it: maas-client datasets convert FILE OUT.jsonl")
    convert(source, out)
    assert not validate(out, target="local").errors


def test_tools_by_name_are_listed_by_fix(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    tools = {"tide": {"description": "Height.", "parameters": FUNCTION["parameters"]}}
    source.write_text(json.dumps({"messages": CHAT, "tools": tools}))
    assert fix(source, out).ok
    assert json.loads(out.read_text())["tools"] == [TOOL]


def test_keys_of_an_unknown_row_are_hidden(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown keys: 1 not shown"):
        convert([{"mary_miller_history": 1}], tmp_path / "out.jsonl")
