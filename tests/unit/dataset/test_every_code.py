"""Every broken line and file of the corpus gets its code, location and hint, and no other code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import _report
from maas_client.dataset import validate
from maas_client.dataset.codes import get_code
from maas_client.dataset.edit.convert import convert
from maas_client.dataset.issues import quote_if_safe
from maas_client.errors import MaasError
from maas_client.types.report import FileReport
from tests.unit.dataset.corpus import (
    BROKEN_FILES,
    BROKEN_LINES,
    VALID_FILES,
    BrokenFile,
    BrokenLine,
    file,
    valid_line,
)

LINE = 7
"""The line number of the broken line."""
FORMAT = ("FILE_", "JSON_", "CHAT_", "TOOL_")


def check(tmp_path: Path, data: bytes, suffix: str = ".jsonl", **how: str | None) -> FileReport:
    path = tmp_path / f"train{suffix}"
    path.write_bytes(data)
    return validate(path, **how).files[0]  # type: ignore[arg-type] # str for a Literal


def among_good(fault: BrokenLine) -> tuple[bytes, int]:
    """Return a file with the broken line in it, and where that line starts."""
    before = file(*[valid_line(n) for n in range(LINE - 1)])
    return before + fault.line + b"\n" + file(*[valid_line(n) for n in range(20, 30)]), len(before)


@pytest.mark.parametrize("fault", BROKEN_LINES, ids=lambda fault: fault.name)
def test_broken_line_gets_its_code_and_location(tmp_path: Path, fault: BrokenLine) -> None:
    data, start = among_good(fault)
    report = check(tmp_path, data, target=fault.target, model=fault.model)
    problems = [p for p in report.problems if p.code == fault.code]
    assert problems, [(p.code, p.line, p.message) for p in report.problems]
    problem = problems[0] if fault.code != "CHAT_SYSTEM_MERGED" else problems[-1]
    if fault.code == "CHAT_SYSTEM_MERGED":
        assert report.counts[fault.code] == LINE + 10
        return
    assert (problem.line, problem.severity) == (LINE, fault.severity)
    assert problem.offset == start + fault.offset
    assert problem.column == len(fault.line[: fault.offset].decode("utf-8", "replace")) + 1
    assert problem.pointer == fault.pointer
    assert problem.message
    assert problem.hint
    assert report.ok is (fault.severity == "warning")


@pytest.mark.parametrize("fault", BROKEN_LINES, ids=lambda fault: fault.name)
def test_one_problem_is_reported_once(tmp_path: Path, fault: BrokenLine) -> None:
    data, _ = among_good(fault)
    report = check(tmp_path, data, target=fault.target, model=fault.model)
    errors = {p.code for p in report.problems if p.severity == "error"}
    assert errors <= {fault.code}
    assert {p.line for p in report.problems if p.severity == "error"} <= {LINE}


def test_corpus_has_at_least_a_hundred_cases() -> None:
    assert len({fault.name for fault in (*BROKEN_LINES, *BROKEN_FILES)}) >= 150
    tested = {fault.code for fault in (*BROKEN_LINES, *BROKEN_FILES)}
    assert len(tested) >= 75


@pytest.mark.parametrize("fault", BROKEN_FILES, ids=lambda fault: fault.name)
def test_broken_file_gets_its_code(tmp_path: Path, fault: BrokenFile) -> None:
    report = check(tmp_path, fault.data, fault.suffix, target=fault.target)
    problems = [p for p in report.problems if p.code == fault.code]
    assert len(problems) == 1, [(p.code, p.line, p.message) for p in report.problems]
    assert (problems[0].line, problems[0].severity) == (0, fault.severity)
    assert problems[0].hint
    if fault.code.startswith("FILE_"):
        assert {code for code in report.counts if not code.startswith("SERVICE_")} == {fault.code}


@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
@pytest.mark.parametrize("name", VALID_FILES)
def test_valid_data_has_no_problems(tmp_path: Path, name: str, target: str) -> None:
    report = check(tmp_path, VALID_FILES[name], target=target)
    problems = [p for p in report.problems if p.severity == "error" or p.code.startswith(FORMAT)]
    assert problems == []
    assert report.ok
    assert report.examples == 12


def test_every_problem_has_a_message_and_a_hint(tmp_path: Path) -> None:
    for fault in BROKEN_LINES:
        code = get_code(fault.code)
        assert code.explanation, fault.code
        assert code.example, fault.code


def test_report_contains_no_text_of_a_row(tmp_path: Path) -> None:
    secret = "geheimnisvoll7"
    for fault in BROKEN_LINES:
        line = fault.line.replace(b"Hi", secret.encode()).replace(b"Sehr", secret.encode())
        line = line.replace(b"Ulm", secret.encode())
        report = check(tmp_path, line + b"\n", target=fault.target, model=fault.model)
        assert secret not in report.model_dump_json(), fault.name


NAME = "marymiller"
TURN = {"role": "user", "content": "Hi"}
REPLY = {"role": "assistant", "content": "Hi"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {
    "id": NAME,
    "type": "function",
    "function": {"name": NAME, "arguments": json.dumps({NAME: 1})},
}
ROWS_WITH_NAME: list[Any] = [
    {"messages": [{**TURN, "role": NAME}, REPLY]},
    {"messages": [{**TURN, NAME: 1}, REPLY]},
    {"messages": [{NAME: "user", "content": "Hi"}, REPLY]},
    {"messages": [{**TURN, "content": [{"type": NAME}]}, REPLY]},
    {"messages": [{**TURN, "content": [{"type": "text", "text": "x", NAME: 1}]}, REPLY]},
    {"messages": [{**TURN, "name": {NAME: 1}}, REPLY]},
    {"messages": [TURN, {**REPLY, "weight": NAME}]},
    {"messages": [TURN, {**REPLY, "tool_calls": [CALL]}], "tools": [FUNCTION]},
    {"messages": [TURN, {"role": "tool", "tool_call_id": NAME, "content": "x"}, REPLY]},
    {"messages": [TURN, REPLY], NAME: 1},
    {"messages": [TURN, REPLY], "tool_choice": NAME},
    {"messages": {NAME: [TURN]}},
    {NAME: "Hi", "b": "c"},
    {"conversations": [{"from": NAME, "value": "x"}, {"from": "gpt", "value": "y"}]},
    {"conversations": [{"from": "human", "value": "x", NAME: 1}, {"from": "gpt", "value": "y"}]},
    {"prompt": "x", "completion": "y", NAME: "z"},
    {"instruction": "x", "input": "", "output": "y", NAME: "z"},
    {"prompt": "x", "chosen": "y", "rejected": "z", NAME: "z"},
    [NAME],
    NAME,
]


@pytest.mark.parametrize("row", ROWS_WITH_NAME, ids=lambda row: json.dumps(row)[:60])
def test_no_output_repeats_a_value_or_a_key_that_may_be_text(tmp_path: Path, row: Any) -> None:
    """A name stands where a role, a key or a type belongs: reports, JSON and exceptions do not show it."""
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 2)
    for target in ("azureml", "foundry"):
        report = validate(path, target=target)  # type: ignore[arg-type]
        text = "\n".join([*_report.text_lines(report), str(report.summary())])
        assert NAME not in report.model_dump_json() + text
    try:
        result = repr(convert(path, tmp_path / "out.jsonl"))
    except MaasError as error:
        result = f"{error!r} {error} {error.hint} {error.__cause__!r} {error.__context__!r}"
    assert NAME not in result


@pytest.mark.parametrize(
    "word", ["usr", "asistant", "system ", "contnet", "hummany", "rol", "User"]
)
def test_misspelt_words_of_a_format_are_shown(word: str) -> None:
    assert (quote_if_safe(word) == f"'{word}'") == (word != "usr")


@pytest.mark.parametrize(
    "word",
    ["Lange", "Tom", "Rolf", "Marie", "Peter", "Simon", "mary miller", "a" * 25, "", "\x1b[2J", "user\n",
     "rôle", "marymiller@example.com", "user; drop", 5, None],
)  # fmt: skip
def test_other_words_are_not_shown(word: object) -> None:
    assert quote_if_safe(word) == ""
