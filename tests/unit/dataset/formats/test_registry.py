"""One table of formats: what ``validate`` recognises, ``convert`` converts without losing anything."""
# ruff: noqa: E501 - tables

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main
from maas_client.dataset import validate
from maas_client.dataset.edit.convert import ConversionResult, convert
from maas_client.dataset.edit.fix import fix
from maas_client.dataset.edit.json_stream import iter_json_elements
from maas_client.dataset.formats import FORMAT_BY_NAME, FORMATS, detect_any_format
from maas_client.dataset.rules.wrapping import find_wrapping
from maas_client.errors import DatasetError
from tests.fuzz import conversion
from tests.shared_data import SHARED, needs_shared_data
from tests.unit.dataset.chats import CHAT, EARLIER, FUNCTION, SYSTEM, TOOL, TURNS, A, Q

CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"port": 4}'}}
GEMINI = [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [{"text": A}]}]
CALL_MESSAGE = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.fixture
def run_convert(tmp_path: Path) -> Any:
    def run(*rows: Any, **options: Any) -> tuple[ConversionResult, list[Any]]:
        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        result = convert(source, out, **options)
        return result, [json.loads(line) for line in out.read_bytes().splitlines()]

    return run


@pytest.mark.parametrize("name", FORMAT_BY_NAME)
def test_every_recognised_format_is_converted_to_a_valid_file(name: str, tmp_path: Path) -> None:
    row_format = FORMAT_BY_NAME[name]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(f"{row_format.example}\n" * 2, encoding="utf-8")
    assert detect_any_format(json.loads(row_format.example)) == row_format
    reported = {problem.code for problem in validate(source, target="local").errors}
    assert row_format.code is None or row_format.code in reported
    convert(source, out)
    report = validate(out, target="local")
    codes = {problem.code for problem in report.errors}
    assert report.files[0].examples == 2, codes


def test_page_of_formats_has_the_rows_of_the_table() -> None:
    page = (Path(__file__).parents[4] / "docs" / "reference" / "formats.md").read_text(
        encoding="utf-8"
    )
    rows = [
        tuple(line.strip("| \n").split(" | ")) for line in page.splitlines() if line[:3] == "| `"
    ]
    expected = [
        (f"`{f.name}`", f"`{f.code}`" if f.code else "-", f"`{f.example}`", f.result)
        for f in FORMAT_BY_NAME.values()
    ]
    assert rows == [tuple(cell.replace("|", "\\|") for cell in row) for row in expected]


CONVERTED: dict[str, tuple[Any, Any]] = {
    "choices as a list": (
        {"question": Q, "choices": ["pier four", "the mole"], "answer": "A"},
        [{"role": "user", "content": f"{Q}\n\nA. pier four\nB. the mole"}, {"role": "assistant", "content": "A"}],
    ),
    "choices with labels": (
        {"question": Q, "options": {"label": ["1", "2"], "text": ["four", "five"]}, "answer": "1"},
        None,
    ),
    "choices in columns": (
        {"question": Q, "A": "four", "B": "five", "answer": "B"},
        [{"role": "user", "content": f"{Q}\n\nA. four\nB. five"}, {"role": "assistant", "content": "B"}],
    ),
    "history of promptflow": (
        {"question": Q, "answer": A, "chat_history": [
            {"inputs": {"question": "Hello?"}, "outputs": {"answer": "Ahoy."}}]},
        [*EARLIER, *CHAT],
    ),
    "history of messages": ({"query": Q, "response": A, "history": EARLIER}, [*EARLIER, *CHAT]),
    "run of promptflow": ({"inputs": {"question": Q}, "outputs": {"answer": A}}, CHAT),
    "run of promptflow in columns": ({"inputs.question": Q, "outputs.answer": A}, CHAT),
    "numbers as the input": (
        {"instruction": "Sort.", "input": [3, 1], "output": "1, 3"},
        [{"role": "user", "content": "Sort.\n\n[3, 1]"}, {"role": "assistant", "content": "1, 3"}],
    ),
    "an object as the answer": (
        {"instruction": "Extract.", "output": {"city": "Köln"}},
        [{"role": "user", "content": "Extract."}, {"role": "assistant", "content": '{"city": "Köln"}'}],
    ),
    "system_prompt": ({"prompt": Q, "completion": A, "system_prompt": "Be brief."}, [SYSTEM, *CHAT]),
    "System Prompt": ({"Question": Q, "Answer": A, "System Prompt": "Be brief."}, [SYSTEM, *CHAT]),
    "instructions": ({"prompt": Q, "completion": A, "instructions": "Be brief."}, [SYSTEM, *CHAT]),
    "system beside messages": ({"system": "Be brief.", "messages": CHAT}, [SYSTEM, *CHAT]),
    "system as blocks": ({"system": [{"type": "text", "text": "Be brief."}], "messages": CHAT}, [SYSTEM, *CHAT]),
    "context of a prompt": (
        {"prompt": Q, "completion": A, "context": "Harbour plan."},
        [{"role": "user", "content": f"Harbour plan.\n\n{Q}"}, CHAT[1]],
    ),
    "contexts of a question": (
        {"question": Q, "answer": A, "contexts": ["One.", "Two."]},
        [{"role": "user", "content": f"One.\n\nTwo.\n\n{Q}"}, CHAT[1]],
    ),
    "turns with weights": (
        {"conversations": [*({**t, "weight": 0} for t in TURNS), *TURNS]},
        [CHAT[0], {**CHAT[1], "weight": 0}, *CHAT],
    ),
    "turns with a mask": (
        {"conversations": [TURNS[0], {**TURNS[1], "train": False}, *TURNS]},
        [CHAT[0], {**CHAT[1], "weight": 0}, *CHAT],
    ),
    "messages with a mask": (
        {"messages": [CHAT[0], {**CHAT[1], "mask": True}, CHAT[0], {**CHAT[1], "loss": True}]},
        [CHAT[0], {**CHAT[1], "weight": 0}, CHAT[0], {**CHAT[1], "weight": 1}],
    ),
    "pairs": ({"conversation": [{"human": Q, "assistant": A}] * 2}, [*CHAT, *CHAT]),
    "dpo of conversations": (
        {"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": {"from": "gpt", "value": "No."}},
        CHAT,
    ),
    "dpo of messages": (
        {"messages": CHAT[:1], "chosen": CALL_MESSAGE, "rejected": CHAT[1], "tools": [TOOL]},
        [CHAT[0], CALL_MESSAGE],
    ),
    "dpo of a whole conversation": ({"prompt": Q, "chosen": CHAT, "rejected": CHAT}, CHAT),
    "dpo with system and question": (
        {"system": "Be brief.", "question": Q, "chosen": A, "rejected": "No."},
        [SYSTEM, *CHAT],
    ),
    "dpo of transcripts": (
        {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: No."},
        CHAT,
    ),
    "wanted answer": ({"prompt": Q, "completion": A, "label": True}, CHAT),
    "text of a chat template": (
        {"text": f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n{A}<|im_end|>"},
        CHAT,
    ),
    "text of guanaco": ({"text": f"### Human: {Q}### Assistant: {A}"}, CHAT),
    "text of Llama": ({"text": f"<s>[INST] {Q} [/INST] {A} </s><s>[INST] {Q} [/INST] {A} </s>"}, [*CHAT, *CHAT]),
    "options with labels": (
        {"question": Q, "choices": {"text": ["four", "five"], "label": ["A", "B"]}, "answerKey": "A"},
        [{"role": "user", "content": f"{Q}\n\nA. four\nB. five"}, {"role": "assistant", "content": "A"}],
    ),
    "a developer message": ({"developer_message": "Be brief.", "prompt": Q, "completion": A}, [SYSTEM, *CHAT]),
    "options as text": (
        {"question": Q, "options": "A) four B) five", "answer": "A"},
        [{"role": "user", "content": f"{Q}\n\nA) four B) five"}, {"role": "assistant", "content": "A"}],
    ),
    "dpo with the chosen messages": ({"messages": CHAT, "chosen": CHAT, "rejected": CHAT[:1]}, CHAT),
    "text of Alpaca": ({"text": f"### Instruction:\n{Q}\n\n### Response:\n{A}"}, CHAT),
    "control token at the end": ({"prompt": Q, "completion": f"{A}<|endoftext|>"}, CHAT),
    "bare list": (CHAT, CHAT),
    "messages as JSON text": ({"messages": json.dumps(CHAT)}, CHAT),
    "messages as a list of JSON texts": ({"messages": [*map(json.dumps, CHAT)]}, CHAT),
    "contents of Gemini": (
        {"system_instruction": {"parts": [{"text": "Be brief."}]}, "contents": GEMINI},
        [SYSTEM, *CHAT],
    ),
    "messages of Gemini": ({"messages": GEMINI}, CHAT),
    "parts as texts": ({"contents": [{"parts": Q}, {"role": "model", "parts": [A]}]}, CHAT),
    "a request that ends with its answer": ({"custom_id": "", "body": {"messages": CHAT, "tool_choice": "auto"}}, CHAT),
    "input and output of Responses": (
        {"input": CHAT[:1], "instructions": "Be brief.", "output": [{"role": "assistant", "content": A}]},
        [SYSTEM, *CHAT],
    ),
    "messages within a prompt": ({"prompt": {"messages": CHAT[:1]}, "completion": A}, CHAT),
    "an array of rows on a line": ([{"prompt": Q, "completion": A}], CHAT),
    "a run of LangSmith": ({"inputs": {"messages": CHAT[:1]}, "outputs": {"output": A}}, CHAT),
    "a run with messages in columns": ({"inputs.messages": CHAT[:1], "outputs.response": A}, CHAT),
    "a run within a run": ({"inputs": {"input": {"question": Q}}, "outputs": {"output": {"answer": A}}}, CHAT),
    "turns within a run": ({"inputs": {"dialog": CHAT}, "outputs": {}}, CHAT),
    "an item of Langfuse": ({"input": {"question": Q}, "expected_output": {"answer": A}}, CHAT),
    "an answer beside messages": ({"messages": CHAT[:1], "response": A}, CHAT),
    "a chat flow": ({"chat_input": Q, "chat_output": A, "chat_history": []}, CHAT),
    "a history with ground truths": (
        {"question": Q, "answer": A, "chat_history": [{"inputs": {"question": "Hello?"}, "outputs": {"ground_truth": "Ahoy."}}]},
        [*EARLIER, *CHAT],
    ),
    "messages within a conversation": ({"conversation": {"messages": CHAT}}, CHAT),
    "turns under another key": ({"dialog": CHAT}, CHAT),
    "texts of two speakers": ({"data": [Q, A, Q, A]}, [*CHAT, *CHAT]),
    "a list for each key": ({"conversations": {"from": ["human", "gpt"], "value": [Q, A]}}, CHAT),
    "messages of LangChain": (
        {"messages": [{"type": "human", "data": {"content": Q}}, {"type": "ai", "data": {"content": A}}]},
        CHAT,
    ),
    "authors and context of PaLM": (
        {"context": "Be brief.", "messages": [{"author": "user", "content": Q}, {"author": "bot", "content": A}]},
        [SYSTEM, *CHAT],
    ),
    "parts with a value": (
        {"chosen_messages": [{**m, "content": [{"type": "text", "value": m["content"]}], "loss_weight": 1} for m in CHAT],
         "rejected_messages": CHAT[:1]},
        [{**CHAT[0], "content": [{"type": "text", "text": Q}]},
         {**CHAT[1], "content": [{"type": "text", "text": A}], "weight": 1}],
    ),
    "an ideal answer": ({"input": CHAT[:1], "ideal": A}, CHAT),
    "prompt and response of two speakers": ({"user_prompt": Q, "assistant_response": A}, CHAT),
    "a preamble": ({"prompt": Q, "completion": A, "preamble": "Be brief."}, [SYSTEM, *CHAT]),
    "an intent": ({"query": Q, "intent": "ferry"}, [CHAT[0], {"role": "assistant", "content": "ferry"}]),
    "NeMo, which masks the user": ({"mask": "User", "system": "Be brief.", "conversations": TURNS}, [SYSTEM, *CHAT]),
    "text of Llama 2 with a system text": (
        {"text": f"<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{Q} [/INST] {A} </s>"},
        [SYSTEM, *CHAT],
    ),
    "text of Phi-4": ({"text": f"<|im_start|>user<|im_sep|>{Q}<|im_end|><|im_start|>assistant<|im_sep|>{A}<|im_end|>"}, CHAT),
    "text of Vicuna": ({"text": f"Be brief. USER: {Q} ASSISTANT: {A}</s>USER: {Q} ASSISTANT: {A}</s>"}, [SYSTEM, *CHAT, *CHAT]),
    "text with human and bot": ({"text": f"<human>: {Q}\n<bot>: {A}"}, CHAT),
    "text of NeMo": ({"text": f"<extra_id_0>System\nBe brief.\n<extra_id_1>User\n{Q}\n<extra_id_1>Assistant\n{A}\n"}, [SYSTEM, *CHAT]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_fields_with_meaning_are_converted(name: str, run_convert: Any) -> None:
    row, messages = CONVERTED[name]
    result, [chat] = run_convert(row)
    assert messages is None or chat["messages"] == messages
    assert result.ok
    assert not [note for note in result.omitted if note.startswith("key")]


@pytest.mark.parametrize(
    "row",
    [
        {"query": Q, "answers": json.dumps([{"name": "tide", "arguments": {"port": 4}}]), "tools": json.dumps([FUNCTION])},
        {"messages": [{"role": "user", "content": [{"text": Q}]}, {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "c1", "name": "tide", "input": {"port": 4}}}]}],
         "toolConfig": {"tools": [{"toolSpec": {"name": "tide", "description": "Height.",
                                                "inputSchema": {"json": FUNCTION["parameters"]}}}]}},
        {"query": CHAT[:1], "tool_definitions": [FUNCTION], "response": [{"role": "assistant", "content": [
            {"type": "tool_call", "tool_call_id": "c1", "name": "tide", "arguments": {"port": 4}}]}]},
        {"input": CHAT[:1],
         "output": [{"type": "function_call", "call_id": "c1", "name": "tide", "arguments": '{"port": 4}'}],
         "tools": [{"type": "function", **FUNCTION}]},
    ],
    ids=["xLAM", "Bedrock", "Azure's evaluation", "Responses"],
)  # fmt: skip
def test_calls_of_other_tools_become_tool_calls(row: Any, run_convert: Any) -> None:
    _, [chat] = run_convert(row)
    call = chat["messages"][1]["tool_calls"][0]
    assert call["function"] == CALL["function"]
    assert chat["tools"] == [TOOL]


def test_results_of_bedrock_and_azure_answer_their_calls(run_convert: Any) -> None:
    use = {"toolUse": {"toolUseId": "c1", "name": "tide", "input": {"port": 4}}}
    bedrock = {"toolResult": {"toolUseId": "c1", "content": [{"json": {"metres": 2}}]}}
    azure = {"type": "tool_result", "tool_result": {"metres": 2}}
    rows = [
        {"messages": [*CHAT[:1], {"role": "assistant", "content": [use]}, result, CHAT[1]]}
        for result in (
            {"role": "user", "content": [bedrock]},
            {"role": "tool", "tool_call_id": "c1", "content": [azure]},
        )
    ]
    _, chats = run_convert(*rows)
    results = [chat["messages"][2] for chat in chats]
    text = '{"metres": 2}'
    assert results == [
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": text}]},
        {"role": "tool", "tool_call_id": "c1", "content": text},
    ]


def test_first_row_in_no_known_format_is_named_in_a_long_file(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"1,500 of 1,500 .*the first is row 1 \(unknown keys: ward_id\)"
    ):
        convert([{"ward_id": n} for n in range(1500)], tmp_path / "out.jsonl")


def test_calls_and_results_of_sharegpt_become_tool_calls(run_convert: Any) -> None:
    turns = [
        TURNS[0],
        {"from": "gpt", "value": "I look."},
        {"from": "function_call", "value": '{"name": "tide", "arguments": {"port": 4}}'},
        {"from": "observation", "value": '{"height": 2}'},
        TURNS[1],
    ]
    _, [chat] = run_convert({"conversations": turns, "tools": json.dumps([FUNCTION])})
    assert chat["tools"] == [TOOL]
    call = {**CALL, "id": "call_1"}
    assert chat["messages"] == [
        CHAT[0],
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"height": 2}'},
        CHAT[1],
    ]


def test_blocks_of_anthropic_become_tool_calls(run_convert: Any) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": Q}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "tide", "input": {"port": 4}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "2"}]},
        CHAT[1],
    ]  # fmt: skip
    tool = {"name": "tide", "description": "Height.", "input_schema": FUNCTION["parameters"]}
    _, [chat] = run_convert({"system": "Be brief.", "messages": messages, "tools": [tool]})
    assert chat["tools"] == [TOOL]
    assert [m["role"] for m in chat["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert chat["messages"][2]["tool_calls"] == [CALL]


def test_calls_and_responses_of_gemini_become_tool_calls(run_convert: Any) -> None:
    calls = [{"name": "tide", "args": {"port": 4}}, {"name": "wind", "args": {}}]
    results = [{"name": "wind", "response": {"knots": 9}}, {"name": "tide", "response": {"m": 2}}]
    contents = [
        GEMINI[0],
        {"role": "model", "parts": [{"text": "I look."}, *({"functionCall": c} for c in calls)]},
        {"role": "user", "parts": [{"functionResponse": r} for r in results]},
        GEMINI[1],
    ]
    wind = {**FUNCTION, "name": "wind"}
    tools = [{"functionDeclarations": [FUNCTION, wind]}]
    _, [chat] = run_convert({"contents": contents, "tools": tools})
    assert chat["tools"] == [TOOL, {"type": "function", "function": wind}]
    made, *answers = chat["messages"][1:-1]
    assert made["content"] == "I look."
    assert [call["function"]["name"] for call in made["tool_calls"]] == ["tide", "wind"]
    assert [(m["tool_call_id"], m["content"]) for m in answers] == [
        ("call_2", '{"knots": 9}'),
        ("call_1", '{"m": 2}'),
    ]


GLAIVE_SYSTEM = (
    "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    + json.dumps(FUNCTION, indent=4)
    + "\n"
    + json.dumps({**FUNCTION, "name": "wind"})
)
GLAIVE_CALL = """<functioncall> {"name": "tide", "arguments": '{"port": "St. John\\'s"}'}"""


def test_text_of_glaive_becomes_messages_calls_and_tools(run_convert: Any) -> None:
    chat = (
        f"USER: {Q}\n\n\nASSISTANT: I look. {GLAIVE_CALL.replace(chr(92), '')} <|endoftext|>\n\n\n"
        f'FUNCTION RESPONSE: {{"m": 2}}\n\n\nASSISTANT: {A} <|endoftext|>\n\n\n'
        f"USER: Thanks\n\n\nASSISTANT: Gladly. <|endoftext|>"
    )
    result, [row] = run_convert({"system": GLAIVE_SYSTEM, "chat": chat})
    system, question, call, response, answer, *_ = row["messages"]
    assert system["content"].endswith("Use them if required")
    assert (question["content"], answer["content"]) == (Q, A)
    assert call["content"] == "I look."
    assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"port": "St. John's"}
    assert response == {"role": "tool", "tool_call_id": "call_1", "content": '{"m": 2}'}
    assert [tool["function"]["name"] for tool in row["tools"]] == ["tide", "wind"]
    assert result.omitted == {"control token at the end of an answer": 1}


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"contents": [{"parts": [{"text": Q}, {"inlineData": {"data": "AA"}}]}, GEMINI[1]]}, "inlineData"),
        ({"conversations": [{**TURNS[0], "image": "a.png"}, TURNS[1]]}, "image"),
        ({"body": {"messages": CHAT, "tool_choice": "required"}, "custom_id": "1"}, "tool_choice"),
    ],
)  # fmt: skip
def test_key_inside_a_row_is_named_and_ignored_on_request(
    row: Any, key: str, run_convert: Any
) -> None:
    with pytest.raises(DatasetError, match=f"the key {key}") as error:
        run_convert(row)
    assert f"ignore_keys=['{key}']" in str(error.value)
    _, [chat] = run_convert(row, ignore_keys=[key])
    assert chat["messages"] == CHAT


REJECTED: dict[str, tuple[Any, str]] = {
    "a key with meaning": ({"prompt": Q, "completion": A, "rationale": "Because."}, "the key rationale"),
    "a reference for a grader": ({"messages": CHAT[:1], "reference_answer": A, "target": 89}, "no answer"),
    "the path of an image": ({"prompt": Q, "completion": A, "image_path": "a.png"}, "the key image_path"),
    "facts": ({"question": Q, "answer": A, "facts": ["x"]}, "the key facts"),
    "an assertion of promptfoo": ({"question": Q, "__expected": A}, "unknown keys"),
    "an image": ({"prompt": Q, "completion": A, "images": ["a.png"]}, "the key images"),
    "a weight between": ({"prompt": Q, "completion": A, "weight": 0.5}, "weight of the row is not clearly 0 or 1"),
    "a turn's weight": ({"conversations": [TURNS[0], {**TURNS[1], "weight": 0.5}]}, "weight of a turn"),
    "a contradiction": ({"conversations": [TURNS[0], {**TURNS[1], "weight": 0, "loss": True}]}, "contradict"),
    "an unclear label": ({"messages": CHAT, "label": "ferries"}, "label does not say"),
    "tools that are no JSON": ({"conversations": TURNS, "tools": "tide"}, "tools is a text that is not JSON"),
    "the number of an option": ({"question": Q, "choices": ["x", "y"], "answer": 1}, "number of an option"),
    "several answers": ({"instruction": Q, "output": [A, "No."]}, "list of several texts"),
    "a misspelt speaker": ({"conversations": [{**TURNS[0], "from": "hummany"}, TURNS[1]]}, "'hummany'"),
    "messages without role": ({"messages": [{"q": Q, "a": A}]}, "no speaker"),
    "a list of chosen texts": ({"prompt": Q, "chosen": [A], "rejected": ["No."]}, "chosen is a list of texts"),
    "a result without a call": ({"conversations": [{"from": "observation", "value": "2"}]}, "without a call"),
    "broken arguments": ({"conversations": [TURNS[0], {"from": "function_call", "value": "{"}]}, "not JSON"),
    "plain text": ({"text": "Once upon a time."}, "no question and no answer"),
    "a request": ({"custom_id": "1", "body": {"messages": CHAT[:1]}}, "without its answer"),
    "a question without an answer": ({"messages": CHAT[:1]}, "no answer"),
    "an image of Anthropic": ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}, CHAT[1]]}, "'image'"),
    "a list of no answers": ({"question": Q, "answers": {"text": [], "answer_start": []}}, "answers is missing"),
    "a schema of Gemini": ({"contents": GEMINI, "generationConfig": {"responseSchema": {}}}, "responseSchema"),
    "messages and other objects": ({"input": CHAT[:1], "output": [CHAT[1], {"type": "reasoning"}]}, "and of other objects"),
    "a broken call of Glaive": ({"chat": f"USER: {Q}\n\nASSISTANT: <functioncall> {{'name': tide"}, "a call is a text that is not JSON"),
    "a response of Glaive without a call": ({"chat": f"USER: {Q}\n\nFUNCTION RESPONSE: 2\n\nASSISTANT: {A}"}, "without a call"),
    "broken functions of Glaive": ({"system": "Use the functions -\n{", "chat": f"USER: {Q}\nASSISTANT: {A}"}, "functions in system"),
    "a chat text without speakers": ({"chat": f"{Q} {A}"}, "chat does not begin with"),
    "two answers": ({"question": Q, "answer": A, "correct_answer": "No."}, "the key correct_answer"),
    "arguments of an answer": ({"question": Q, "answer": A, "args": {"port": 4}}, "the key args"),
    "a function": ({"question": Q, "model_answer": A, "function": {"name": "tide"}}, "the key function"),
    "masks of all messages": ({"messages": CHAT, "train_mask": [0, 1]}, "the key train_mask"),
    "weights of all messages": ({"messages": CHAT, "weights": [0, 1]}, "the key weights"),
    "a mask for the history": ({"conversations": TURNS, "mask_history": True}, "the key mask_history"),
    "a mask of answers": ({"conversations": TURNS, "mask": "Assistant"}, "the key mask"),
    "a mask of letters": (
        {"messages": [CHAT[0], {**CHAT[1], "train_detail": [{"end_offset": 2, "train": False}]}]},
        "train_detail of a turn",
    ),
    "a label of a message": ({"messages": [CHAT[0], {**CHAT[1], "labels": -100}]}, "labels does not say"),
    "reasoning of LLaMA-Factory": (
        {"messages": [CHAT[0], {"role": "assistant", "content": [{"type": "reasoning", "value": "?"}]}]},
        "'reasoning'",
    ),
    "an answer of a control token": ({"prompt": Q, "completion": "</s>"}, "only a control token"),
}  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_row_that_would_lose_something_is_rejected_by_name(name: str, run_convert: Any) -> None:
    row, message = REJECTED[name]
    with pytest.raises(DatasetError, match=message) as error:
        run_convert({"messages": CHAT}, row)
    assert "row 2" in str(error.value)
    assert A not in str(error.value)
    result, rows = run_convert({"messages": CHAT}, row, skip_invalid=True)
    assert (len(rows), result.rejected.total()) == (1, 1)


def test_key_is_left_out_only_on_request(run_convert: Any) -> None:
    row = {"prompt": Q, "completion": A, "rationale": "Because.", "id": 7, "source": "web"}
    result, _ = run_convert(row, ignore_keys=["rationale"])
    assert result.omitted == {"key rationale": 1, "key id": 1, "key source": 1}


@pytest.mark.parametrize("label", [False, 0, "bad", "rejected"])
def test_unwanted_answer_is_never_written(label: Any, run_convert: Any) -> None:
    row = {"prompt": Q, "completion": "No.", "label": label}
    result, rows = run_convert({"prompt": Q, "completion": A, "label": True}, row)
    assert [chat["messages"] for chat in rows] == [CHAT]
    assert result.omitted == {"row whose answer is unwanted: label marks the answer as unwanted": 1}
    with pytest.raises(DatasetError, match="none of 1 rows can be trained on"):
        run_convert(row)


def test_control_tokens_are_counted(run_convert: Any) -> None:
    result, _ = run_convert({"prompt": Q, "completion": f"{A} <|im_end|></s>"})
    assert result.omitted == {"control token at the end of an answer": 1}


def test_repeated_text_is_not_a_loss(run_convert: Any) -> None:
    text = f"Below is a task.\n\n### Instruction:\n{Q}\n\n### Response:\n{A}"
    result, _ = run_convert({"instruction": Q, "output": A, "text": text})
    assert result.omitted == {"key text": 1}
    text = f"### Instruction:\n{Q}\n\n### Input:\nNoon.\n\n{A}"
    result, _ = run_convert({"instruction": Q, "input": "Noon.", "output": A, "text": text})
    assert result.omitted == {"key text": 1}


def test_packed_files_and_rows_are_converted(tmp_path: Path) -> None:
    import gzip

    source, out = tmp_path / "in.json.gz", tmp_path / "out.jsonl"
    source.write_bytes(gzip.compress(json.dumps([{"prompt": Q, "completion": A}] * 2).encode()))
    result = convert(source, out)
    assert (result.rows, result.file_format) == (2, "a JSON array (gzip)")
    assert convert([{"question": Q, "answer": A}], out).rows == 1
    with pytest.raises(DatasetError, match=r"^<rows>: 1 of 1 rows .* row 1"):
        convert([{"question": Q, "answer": ""}], out)


def test_no_text_of_a_row_is_in_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (
        '"Patient Doe asks when, please","From two to five"\n"Patient Roe asks, again","At ten"\n'
    )
    keys = '{"What is the code of Mr Doe?": "1234"}\n'
    for text in (
        table,
        keys,
        '["Patient Doe"]\n',
        '{"prompt": "Patient Doe", "completion": 1, "input": 2}\n',
    ):
        source = tmp_path / "in.csv"
        source.write_text(text, encoding="utf-8")
        assert main(["datasets", "convert", str(source), str(tmp_path / "out.jsonl")]) == 3
        main(["validate", str(source)])
        main(["validate", str(source), "--fix", str(tmp_path / "fixed.jsonl")])
        output = capsys.readouterr()
        assert not re.search("Doe|Roe|please|1234", output.out + output.err)
    source.write_text(table, encoding="utf-8")
    with pytest.raises(DatasetError, match="the table has no header that is known"):
        convert(source, tmp_path / "out.jsonl")
    assert [p.code for p in validate(source, target="local").errors] == ["FILE_CSV"]


@pytest.mark.parametrize(
    ("code", "rows", "text"),
    [
        ("FILE_JSON_ARRAY", 1, json.dumps([CHAT])),
        ("FILE_JSON_ARRAY", 2, json.dumps([CHAT, CHAT], indent=1)),
        ("FILE_PRETTY_PRINTED", 1, json.dumps({"messages": CHAT}).replace("[", "[\n")),
        ("FILE_CSV", 1, 'messages\n"{}"\n'.format(json.dumps(CHAT).replace('"', '""'))),
        ("FILE_CSV", 1, f'id,messages\n1,"{CHAT}"\n'),
        ("FILE_CSV", 1, "\n\nprompt,completion\nx,y\n"),
        ("FILE_CSV", 1, "prompt;completion\nx, y and z;a\n"),
        ("FILE_CSV", 1, ",prompt,completion\n0,x,a\n"),
        ("FILE_CSV", 2, "prompt,completion\rx,a\ry,b\r"),
        ("FILE_CSV", 1, 'prompt,completion\n"Format this:\n{""a"":1}\n[2]",b\n'),
        (
            "FILE_JSON_ARRAY",
            2,
            json.dumps({"version": 1, "data": [{"messages": CHAT}] * 2, "n": 2}),
        ),
        ("FILE_UTF16", 1, "prompt,completion\na,ö\n".encode("utf-16-be")),
    ],
)
def test_unusual_file_is_recognised_and_converted(
    code: str, rows: int, text: str | bytes, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert [p.code for p in validate(source, target="local").errors] == [code]
    assert convert(source, tmp_path / "out.jsonl").rows == rows


PAIRS = [{"question": f"{Q} {n}", "answer": A} for n in range(3)]
CHATS = [{"messages": CHAT}, {"messages": [*CHAT, *CHAT]}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({key: {str(n): row[key] for n, row in enumerate(PAIRS)} for key in PAIRS[0]}, PAIRS),
        ({str(n): row for n, row in enumerate(PAIRS)}, PAIRS),
        ({f"faq-{n}": row for n, row in enumerate(PAIRS)}, PAIRS),
        ({"columns": [*PAIRS[0]], "index": [0, 1, 2], "data": [[*row.values()] for row in PAIRS]}, PAIRS),
        ({"schema": {"fields": []}, "data": PAIRS}, PAIRS),
        ({key: [row[key] for row in PAIRS] for key in PAIRS[0]}, PAIRS),
        ({"messages": [row["messages"] for row in CHATS]}, CHATS),
        ({"messages": {str(n): row["messages"] for n, row in enumerate(CHATS)}}, CHATS),
        ({"conversations": CHATS}, CHATS),
        ({"examples": PAIRS}, PAIRS),
    ],
    ids=["columns", "index", "ids", "split", "table", "lists", "lists of chats", "columns of chats", "conversations",
         "examples"],
)  # fmt: skip
def test_rows_inside_of_one_value_are_converted(
    value: Any, rows: Any, indent: int | None, tmp_path: Path
) -> None:
    source, out, expected = (tmp_path / name for name in ("in.json", "out.jsonl", "expected.jsonl"))
    source.write_text(json.dumps(value, indent=indent), encoding="utf-8")
    convert(source, out)
    convert(rows, expected)
    assert out.read_text() == expected.read_text()


@pytest.mark.parametrize(
    "key", ["rejected", "non_preferred_output", "Bad", "is_harmful", "thumbs down"]
)
def test_unwanted_rows_are_not_unwrapped(key: str, run_convert: Any) -> None:
    for row in (
        {key: CHATS[0]},
        {"other": CHATS[0], key: CHATS[0]},
        {"x": PAIRS[0], key: PAIRS[0]},
    ):
        assert find_wrapping(row) is None
        with pytest.raises(DatasetError, match="cannot be converted"):
            run_convert(row)


def test_row_with_a_list_of_objects_stays_a_row(run_convert: Any) -> None:
    row = {"instruction": Q, "output": A, "data": [{"x": 1}]}
    result, chats = run_convert(row, row)
    assert [chat["messages"] for chat in chats] == [CHAT, CHAT]
    assert result.omitted == {"key data": 2}


def test_table_of_markdown_is_converted(tmp_path: Path) -> None:
    source, out = tmp_path / "in.md", tmp_path / "out.jsonl"
    source.write_text(f"| question | answer |\n|---|:---:|\n| {Q} | {A} |\n", encoding="utf-8")
    assert convert(source, out).rows == 1
    assert json.loads(out.read_text())["messages"] == CHAT


def test_line_before_the_rows_is_rejected_alone(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("// exported\n" + f"{json.dumps(PAIRS[0])}\n" * 3, encoding="utf-8")
    result = convert(source, out, skip_invalid=True)
    assert (result.rows, result.rejected_rows) == (3, [(1, "not JSON")])


def viewer_rows(*rows: Any, truncated: Sequence[str] = ()) -> list[Any]:
    return [
        {"row_idx": n, "row": row, "truncated_cells": [*truncated]} for n, row in enumerate(rows)
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_file_of_the_dataset_viewer_is_unwrapped(indent: int | None, tmp_path: Path) -> None:
    source, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    features = [
        {"feature_idx": 0, "name": "messages", "type": [{"role": {"_type": "Value"}, "x": [[]]}]}
    ]
    whole = {"features": features, "rows": viewer_rows({"messages": CHAT}, {"prompt": Q, "completion": A}),
             "num_rows_total": 2, "partial": False}  # fmt: skip
    source.write_text(json.dumps(whole, indent=indent), encoding="utf-8")
    assert convert(source, out).rows == 2
    assert validate(out, target="local").files[0].examples == 2


def test_truncated_cells_of_the_dataset_viewer_are_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cut off the cells messages, \(not shown\)"):
        convert(
            viewer_rows({"messages": CHAT}, truncated=["messages", "Doe"]), tmp_path / "out.jsonl"
        )


def test_rows_of_the_dataset_viewer_are_unwrapped_by_fix(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = viewer_rows({"messages": CHAT}, {"messages": CHAT[:1] + CHAT[1:]})
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    problems = [p for p in validate(source, target="local").errors if p.code == "CHAT_NO_MESSAGES"]
    assert ["dataset viewer" in problem.message for problem in problems] == [True, True]
    fix(source, out)
    assert validate(out, target="local").files[0].examples == 2


@pytest.mark.parametrize("rows", ["a,b\nc\n", "a,b\nc,d,e\n", "a,b,c\nd,e\n"])
def test_table_with_an_uneven_row_is_a_table(rows: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(f"prompt,completion\n{rows}", encoding="utf-8")
    assert [p.code for p in validate(source, target="local").errors] == ["FILE_CSV"]
    with pytest.raises(DatasetError, match=r"missing or empty|more cells than columns"):
        convert(source, out)
    assert convert(source, out, skip_invalid=True).rows == 1


LONG = "word " * 20_000
"""Longer than the part of a file by which it is recognised."""


@pytest.mark.parametrize("count", [2, 50, 3000])
@pytest.mark.parametrize(
    ("code", "write"),
    [
        ("FILE_JSON_ARRAY", lambda rows: json.dumps(rows)),
        ("FILE_JSON_ARRAY", lambda rows: json.dumps({"version": "1", "data": rows})),
        ("FILE_JSON_ARRAY", lambda rows: json.dumps(rows, indent=2)),
        ("FILE_JSON_ARRAY", lambda rows: "[" + ",\n".join(map(json.dumps, rows)) + "]"),
        ("FILE_PRETTY_PRINTED", lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows)),
    ],
)
def test_json_file_is_recognised_at_any_size(
    code: str, write: Any, count: int, tmp_path: Path
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{Q} {n}"}, CHAT[1]]} for n in range(count)]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(write(rows), encoding="utf-8")
    assert [p.code for p in validate(source, target="local").errors] == [code]
    assert convert(source, out).rows == count
    assert [json.loads(line) for line in out.read_bytes().splitlines()] == rows
    assert fix(source, out).rows == count
    assert [json.loads(line) for line in out.read_bytes().splitlines()] == rows


@pytest.mark.parametrize(
    ("code", "rows", "text"),
    [
        ("FILE_CSV", 1, f"prompt,completion\n{LONG},b\n"),
        ("FILE_CSV", 2, f'prompt,completion\n"two\nlines",b\n"{LONG}",d\n'),
        ("FILE_CSV", 1, f'prompt,completion\n"first line\n{LONG}\nlast line",b\n'),
        ("FILE_JSON_ARRAY", 2, json.dumps([{"prompt": LONG, "completion": "b"}] * 2)),
        ("FILE_JSON_ARRAY", 1, json.dumps([{"prompt": LONG, "completion": "b"}], indent=1)),
        ("FILE_PRETTY_PRINTED", 1, json.dumps({"prompt": LONG, "completion": "b"}, indent=1)),
    ],
)
def test_file_with_a_long_first_row_is_recognised(
    code: str, rows: int, text: str, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(text, encoding="utf-8")
    assert [p.code for p in validate(source, target="local").errors] == [code]
    assert convert(source, tmp_path / "out.jsonl").rows == (
        2 if text.count('"completion"') == 2 or "d\n" in text[-3:] else 1
    )


def test_long_list_of_messages_on_one_line_is_not_a_file_of_rows(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        json.dumps([{"role": "user", "content": LONG}, CHAT[1]]) + "\n", encoding="utf-8"
    )
    assert "FILE_JSON_ARRAY" not in {p.code for p in validate(source, target="local").errors}


class _Pieces:
    """A text file that is read one character at a time."""

    def __init__(self, text: str) -> None:
        self.rest = text

    def read(self, size: int) -> str:
        piece, self.rest = self.rest[:1], self.rest[1:]
        return piece


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ('[{"a": "]},[{"}, [1, 2], "x,y", 3]', ['{"a": "]},[{"}', "[1, 2]", '"x,y"', "3"]),
        ('{"a": "\\""}\n{"b": [{}]} ', ['{"a": "\\""}', '{"b": [{}]}']),
        ('{"data": [{"a": 1}, {"b": 2}], "version": 1}', ['{"a": 1}', '{"b": 2}']),
        ("[1] [2]", ["1", "2"]),
        ("", []),
    ],
)
def test_text_is_split_wherever_it_is_read_in_parts(text: str, elements: list[str]) -> None:
    import io

    assert list(iter_json_elements(io.StringIO(text))) == elements
    if "data" not in text:
        assert list(iter_json_elements(_Pieces(text))) == elements  # type: ignore[arg-type] # has read


def test_convert_reads_a_large_array_in_constant_memory(tmp_path: Path) -> None:
    import tracemalloc

    row = json.dumps({"prompt": "a" * 10_000, "completion": "b"})
    source = tmp_path / "in.json"
    source.write_text("[" + ",".join([row] * 2_000) + "]", encoding="utf-8")
    tracemalloc.start()
    assert convert(source, tmp_path / "out.jsonl").rows == 2_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_random_rows_raise_only_errors_of_the_library() -> None:
    """``python -m tests.fuzz.conversion`` runs the same check on many more rows."""
    counts = conversion.run(300, seed=7)
    assert counts["convert: DatasetError"] > 0


SHARED_CASES = {
    "H01": ("23-mcq.jsonl", "A. Gust"),
    "H02": ("23c-qa-history.jsonl", "At nine."),
    "H03": ("14b-sharegpt-weight.jsonl", '"weight": 0'),
    "H04": ("05c-sharegpt-tools-plain.jsonl", '"tools": [{"type": "function"'),
    "H05": ("22-dpo-sharegpt.jsonl", "Wren 0."),
    "H06": ("05-sharegpt-function.jsonl", '"tool_calls"'),
    "H06 misspelt": ("06-sharegpt-typo-role.jsonl", DatasetError("hummany.*|row 1.*hummany")),
    "H09": ("21-array-one-line.json", "train 699"),
    "H10": ("25-messages-no-role.json", DatasetError("row 1")),
    "H10 dpo": ("33b-dpo-strings.jsonl", DatasetError("row 1")),
    "H16": ("32-headerless.csv", DatasetError("no header that is known")),
    "H18": ("23b-alpaca-nontext-input.jsonl", "[3, 1, 2]"),
    "H19": ("35-csv-system-label.csv", DatasetError("label marks the answer as unwanted")),
    "H19 system": ("35b-system_prompt.jsonl", '{"role": "system", "content": "Be terse."}'),
    "H20": ("29b-dpo-messages.jsonl", '"tool_calls"'),
    "H17 table": ("19-excel-de.csv", "Gleis 0; Süd"),
}


@needs_shared_data
@pytest.mark.parametrize("name", SHARED_CASES)
def test_shared_case(name: str, tmp_path: Path) -> None:
    file, expected = SHARED_CASES[name]
    source, out = SHARED / "cases" / file, tmp_path / "out.jsonl"
    if isinstance(expected, DatasetError):
        with pytest.raises(DatasetError, match=expected.message) as error:
            convert(source, out)
        assert not re.search("Patient|Name bird|Tide at", str(error.value))
        return
    convert(source, out)
    assert expected in out.read_text(encoding="utf-8")
    report = validate(out, target="local")
    assert not [p for p in report.errors if not p.code.startswith("SERVICE_")]


UNCHANGED_CASES = {
    "01-call-then-assistant.jsonl": {"TOOL_RESULT_MISSING": 12},
    "02-bare-quotes.jsonl": {"JSON_SYNTAX": 2},
    "03-powershell-utf16.jsonl": {"FILE_UTF16": 1},
    "03b-utf8-bom-crlf.jsonl": {},
    "07-args-broken.jsonl": {"TOOL_ARGUMENTS_JSON": 1},
    "08-args-twice.jsonl": {"TOOL_ARGUMENTS_TWICE": 1},
    "11-line-separators.jsonl": {},
    "21-array-one-line.json": {"FILE_JSON_ARRAY": 1},
    "29b-dpo-messages.jsonl": {"CHAT_SHAPE_DPO": 12},
    "32-headerless.csv": {"FILE_CSV": 1},
}


@needs_shared_data
@pytest.mark.parametrize("file", UNCHANGED_CASES)
def test_shared_case_has_its_errors(file: str) -> None:
    report = validate(SHARED / "cases" / file, target="local", content=False)
    codes = Counter(p.code for p in report.errors if not p.code.startswith("SERVICE_"))
    assert codes == UNCHANGED_CASES[file]


def test_codes_of_formats_are_distinct() -> None:
    assert len({row_format.code for row_format in FORMATS}) == len(FORMATS)


def test_keys_that_most_rows_have_are_named_wherever_they_are(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    turns = [
        {"conversations": [{**TURNS[0], "mood_x": n}, {**TURNS[1], f"doe{n}": 1}]} for n in range(4)
    ]
    assert convert(turns, out).omitted == {
        "key mood_x of a turn": 4,
        "key (not shown) of a turn": 4,
    }
    chats = [{"messages": CHAT, "ward_id": n, f"doe{n}": 1} for n in range(4)]
    notes = validate(chats, target="local").files[0].stats["notes"]
    assert notes == ["keys beside messages and tools are ignored: 'ward_id', (not shown)"]
    with pytest.raises(DatasetError, match=r"unknown keys: ward_id and 1 not shown\)"):
        convert([{"ward_id": n, f"doe{n}": 1} for n in range(4)], out)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("is_correct", False),
        ("accepted", "no"),
        ("is_harmful", True),
        ("is_incorrect", 1),
        ("thumbs_up", False),
        ("deleted", True),
        ("feedback", "thumbs_down"),
        ("quality", "bad"),
        ("quality", "thumbs down"),
        ("status", "rejected"),
        ("safe", "no"),
    ],
)
def test_answer_that_is_marked_as_wrong_is_not_learned(
    key: str, value: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": Q, "completion": A, key: value}, {"prompt": Q, "completion": A}]
    result = convert(rows, tmp_path / "out.jsonl")
    assert (result.rows, result.unwanted) == (1, 1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_train", False),
        ("no_train", True),
        ("calculate_loss", 0),
        ("ignore", True),
        ("loss_scale", 0.0),
        ("lossWeight", 0),
        ("trainOnTurn", False),
        ("label", False),
        ("is_correct", "no"),
        ("flagged", True),
        ("quality", "bad"),
        ("status", "rejected"),
        ("verdict", "thumbs_down"),
    ],
)
def test_masks_of_other_tools_become_weight_0(key: str, value: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for turns in (CHAT, TURNS):
        rows = [{"messages": [turns[0], {**turns[1], key: value}, *turns]}]
        convert(rows, out)
        assert json.loads(out.read_text())["messages"][1] == {**CHAT[1], "weight": 0}
