"""``convert`` turns every known row format into valid chat rows, and rejects the rest with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main
from maas_client.dataset import validate
from maas_client.dataset.edit.convert import ConversionResult, convert
from maas_client.errors import ConfigError, DatasetError

Q, A = "Wie spät ist es?", "Es ist neun."
CHAT = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
FUNCTION = {"name": "time", "parameters": {"type": "object", "properties": {}}}
CALLED = {
    "messages": [
        {"role": "user", "content": Q},
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "time", "arguments": "{}"},
        },
        {"role": "function", "name": "time", "content": "9"},
        {"role": "assistant", "content": A},
    ],
    "functions": [FUNCTION],
}
ROWS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "prompt-completion": ({"prompt": Q, "completion": f" {A}"}, CHAT),
    "prompt and response": ({"Prompt": Q, "Response": A}, CHAT),
    "prompt and completion as messages": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, CHAT),
    "text-ground-truth": ({"text": Q, "ground_truth": A}, CHAT),
    "alpaca": (
        {"instruction": "Answer.", "input": Q, "output": A},
        [{"role": "user", "content": f"Answer.\n\n{Q}"}, CHAT[1]],
    ),
    "alpaca without input": ({"instruction": Q, "input": "", "output": A}, CHAT),
    "alpaca with history": (
        {"instruction": Q, "output": A, "history": [["Hallo", "Guten Tag"]]},
        [
            {"role": "user", "content": "Hallo"},
            {"role": "assistant", "content": "Guten Tag"},
            *CHAT,
        ],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]},
        CHAT,
    ),
    "sharegpt with system": (
        {
            "conversations": [
                {"from": "system", "value": "Kurz."},
                {"from": "human", "value": Q},
                {"from": "gpt", "value": A},
                {"from": "human", "value": "Danke"},
            ]
        },
        [{"role": "system", "content": "Kurz."}, *CHAT],
    ),
    "question-answer": ({"question": Q, "answer": A}, CHAT),
    "squad": (
        {"context": "9 Uhr", "question": Q, "answers": {"text": [A], "answer_start": [0]}},
        [{"role": "user", "content": f"9 Uhr\n\n{Q}"}, CHAT[1]],
    ),
    "classification": (
        {"text": Q, "label": "question"},
        [CHAT[0], {"role": "assistant", "content": "question"}],
    ),
    "dpo": ({"prompt": Q, "chosen": A, "rejected": "no"}, CHAT),
    "dpo with messages": ({"chosen": CHAT, "rejected": []}, CHAT),
    "dpo of openai": (
        {"input": {"messages": CHAT[:1]}, "preferred_output": CHAT[1:], "non_preferred_output": []},
        CHAT,
    ),
    "messages with other keys": ({"messages": CHAT, "prompt_id": "7"}, CHAT),
}


@pytest.fixture
def run_convert(tmp_path: Path) -> Callable[..., tuple[ConversionResult, list[Any]]]:
    def run(data: bytes | str, **options: Any) -> tuple[ConversionResult, list[Any]]:
        source, out = tmp_path / "in.file", tmp_path / "out.jsonl"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        result = convert(source, out, **options)
        return result, [json.loads(line) for line in out.read_bytes().splitlines()]

    return run


@pytest.mark.parametrize("name", ROWS)
def test_row_formats_are_detected_by_their_keys(
    name: str, run_convert: Any, tmp_path: Path
) -> None:
    row, messages = ROWS[name]
    result, rows = run_convert(json.dumps(row) + "\n")
    assert rows == [{"messages": messages}]
    assert result.ok
    codes = {p.code for p in validate(tmp_path / "out.jsonl", target="local").errors}
    assert all(code.startswith("SERVICE_") for code in codes), codes


def test_functions_are_converted_to_tools(run_convert: Any, tmp_path: Path) -> None:
    _, [row] = run_convert(json.dumps(CALLED))
    assert row["tools"] == [{"type": "function", "function": FUNCTION}]
    call = row["messages"][1]["tool_calls"][0]
    assert row["messages"][2] == {"role": "tool", "content": "9", "tool_call_id": call["id"]}
    codes = {p.code for p in validate(tmp_path / "out.jsonl", target="local").errors}
    assert all(code.startswith("SERVICE_") for code in codes), codes


@pytest.mark.parametrize(
    ("data", "file_format"),
    [
        (
            '[{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]',
            "a JSON array",
        ),
        (
            '{"data": [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]}',
            "a JSON array",
        ),
        (
            '{\n "prompt": "a",\n "completion": "b"}\n{\n "prompt": "c",\n "completion": "d"}',
            "pretty-printed JSON",
        ),
        ('prompt,completion\na,b\nc,"d"\n', "a table separated by commas"),
        ("\ufeffprompt;completion\r\na;b\r\nc;d\r\n", "a table separated by semicolons"),
        ("prompt\tcompletion\na\tb\nc\td\n", "a table separated by tabs"),
    ],
)
def test_file_format_is_detected_from_the_content(
    data: str, file_format: str, run_convert: Any
) -> None:
    result, rows = run_convert(data)
    assert result.file_format == file_format
    assert [[m["content"] for m in row["messages"]] for row in rows] == [["a", "b"], ["c", "d"]]


def test_cells_keep_line_feeds_quotes_and_non_ascii_text_in_any_encoding(run_convert: Any) -> None:
    text = 'prompt,completion\n"zwei\nZeilen, ""ja""",Größe\n'
    for codec in ("utf-8", "utf-16", "windows-1252"):
        _, [row] = run_convert(text.encode(codec))
        assert [m["content"] for m in row["messages"]] == ['zwei\nZeilen, "ja"', "Größe"]


def test_columns_format_and_system_message_can_be_given(run_convert: Any) -> None:
    _, [row] = run_convert(
        "Frage,Antwort\nx,y\n",
        columns=[("Frage", "prompt"), ("Antwort", "completion")],
        system="Kurz.",
    )
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
    _, [row] = run_convert(
        '{"text": "x", "ground_truth": "y", "label": "z"}',
        row_format="classification",
        ignore_keys=["ground_truth"],
    )
    assert row["messages"][1]["content"] == "z"


def test_column_to_rename_that_is_not_in_the_file_is_an_error(run_convert: Any) -> None:
    for table in (
        "Frage,Antwort\nx,y\n",
        '{"Frage": "x", "Antwort": "y"}',
        "prompt,completion\nx,y\n",
    ):
        with pytest.raises(DatasetError, match=r"has no column 'question'.* first"):
            run_convert(table, columns=[("question", "Frage")])
    run_convert(
        '{"Frage": "x", "completion": "y"}\n{"prompt": "x", "completion": "y"}',
        columns=[("Frage", "prompt")],
    )


def test_renamed_column_replaces_no_other(run_convert: Any) -> None:
    for table in (
        "Frage,prompt,completion\nx,y,z\n",
        '{"Frage": "x", "prompt": "y", "completion": "z"}',
    ):
        with pytest.raises(DatasetError, match="two keys are named prompt"):
            run_convert(table, columns=[("Frage", "prompt")])
    _, [row] = run_convert("Frage,prompt,completion\nx,,z\n", columns=[("Frage", "prompt")])
    assert row["messages"][0]["content"] == "x"


def test_omitted_parts_are_counted(run_convert: Any) -> None:
    result, _ = run_convert(json.dumps(ROWS["sharegpt with system"][0]))
    assert result.omitted == {"turns after the last answer": 1}
    result, _ = run_convert(json.dumps(ROWS["dpo"][0]))
    assert result.omitted == {"the answer that was not chosen": 1}
    result, _ = run_convert(json.dumps(ROWS["messages with other keys"][0]))
    assert result.omitted == {"key prompt_id": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            '{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": ""}\n',
            "1 of 2 rows .* row 2 .completion is missing",
        ),
        ('{"foo": 1, "bar": 2}\n', "unknown keys: 2 not shown"),
        ('{"text": "a", "label": 3}\n', "label is a number"),
        ('{"conversations": [{"from": "narrator", "value": "x"}]}\n', "unknown speaker 'narrator'"),
        ('{"custom_id": "1", "body": {"messages": []}}\n', "without its answer"),
        ('{"custom_id": "1", "body": {"messages": [[]]}}\n', "without its answer"),
        ("prompt,completion\na,b,c\n", "more cells than columns"),
        ('prompt,completion\na,b,c\na,b\nc,"d\n', "not a valid table after row 2: "),
        ('{"prompt": "a", "completion": "\\ud800"}\n', "half of a surrogate pair"),
    ],
)
def test_invalid_rows_are_rejected_with_a_reason(
    data: str, message: str, run_convert: Any, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=message.replace(" .c", " .*c")):
        run_convert(data)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "data", [b"", b"hello world\n", b"PK\x03\x04", b'a,b\n"x,y\n', b"[{]", b"\xff\xfe{"]
)
def test_files_without_rows_are_rejected(data: bytes, run_convert: Any, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DatasetError)):
        run_convert(data)
    assert not (tmp_path / "out.jsonl").exists()


def test_skip_invalid_writes_the_other_rows(run_convert: Any) -> None:
    result, rows = run_convert(
        '{"prompt": "a", "completion": "b"}\nnonsense\n{"foo": 1}\n', skip_invalid=True
    )
    assert len(rows) == 1
    assert result.rejected.total() == 2
    assert [number for number, _ in result.rejected_rows] == [2, 3]


def test_convert_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.csv"
    source.write_text("Frage,completion\na,b\n", encoding="utf-8")
    command = ["datasets", "convert", str(source), str(tmp_path / "b.jsonl")]
    command += ["--column", "Frage=prompt"]
    assert main(command) == 0
    output = capsys.readouterr()
    assert "1 chat line, from a table separated by commas (1 prompt-completion)" in output.out
    assert main([*command, "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["row_formats"] == fields["forms"] == {"prompt-completion": 1}


def test_unknown_columns_are_named_and_single_keys_are_not(tmp_path: Path) -> None:
    """A key that most rows have is a column; a key of one row may be text of the row."""
    rows = [{"prompt": f"{n}?", "completion": str(n), "persona_id": n} for n in range(12)]
    rows[3]["marymiller"] = rows[4]["What is her address?"] = 1
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = convert(path, tmp_path / "out.jsonl")
    assert result.omitted == {"key persona_id": 12, "key (not shown)": 2}
