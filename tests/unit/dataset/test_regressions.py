"""Data sets that ``validate`` once reported wrongly or printed unsafely."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from maas_client.cli import _report
from maas_client.dataset import validate
from maas_client.types.report import FileReport, Problem
from tests.unit.dataset.corpus import VALID_LINES, file

TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3gH5"
USER: dict[str, object] = {"role": "user", "content": "What is it?"}
ANSWER: dict[str, object] = {"role": "assistant", "content": "It is done."}


def row(*messages: dict[str, object], **members: object) -> bytes:
    return json.dumps({"messages": list(messages) or [USER, ANSWER], **members}).encode()


def validate_lines(tmp_path: Path, *lines: bytes) -> FileReport:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(file(*VALID_LINES, *lines))
    return validate(path).files[0]


def get_only(report: FileReport, code: str) -> Problem:
    [problem] = [p for p in report.problems if p.code == code]
    return problem


TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"properties": {TOKEN: {"type": "strng"}}}},
}


@pytest.mark.parametrize(
    "line",
    [
        row(metadata={TOKEN: 1}),
        row({**USER, TOKEN: 1}, ANSWER),
        row({**USER, f"\u00e9\n{TOKEN}\U0001f642": 1}, ANSWER),
        row(tools=[TOOL]),
        row(USER, ANSWER | {TOKEN: {"deep": [{TOKEN: 1}]}}).replace(
            b'"deep"', b'"' + b"k" * 90 + b'"'
        ),
    ],
)
def test_secret_in_a_key_is_never_printed(
    tmp_path: Path, line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(file(*VALID_LINES, line))
    report = validate(path)
    _report.print_report(report)
    for output in (report.model_dump_json(), *_report.text_lines(report), capsys.readouterr().out):
        assert not any(TOKEN[at : at + 10] in output for at in range(4, len(TOKEN) - 10))


@pytest.mark.parametrize("before", ["", "my key ", "\u00e9\n\U0001f642 "])
def test_secret_in_a_key_is_located_exactly(tmp_path: Path, before: str) -> None:
    report = validate_lines(tmp_path, row({**USER, before + TOKEN: 1}, ANSWER))
    secret = get_only(report, "SECRET_GITHUB_TOKEN")
    data = (tmp_path / "rows.jsonl").read_bytes()
    assert secret.offset == data.index(TOKEN.encode())
    assert "in a key" in secret.message
    assert secret.pointer == "/messages/0", "the key may be text, so the pointer ends before it"


def test_key_with_control_characters_is_printed_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(file(*VALID_LINES, row({**USER, "\x1b[2J\x9b\x07": 1}, ANSWER)))
    _report.print_report(validate(path))
    output = capsys.readouterr().out
    assert "CHAT_KEY_UNKNOWN" in output
    assert not any(c in output for c in "\x1b\x9b\x07")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as data:
        data.write(b'{"bad')
    os.utime(path, ns=(1, 1))  # differs even on a file system with a coarse clock


def _replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)


def _append(path: Path) -> None:
    with path.open("ab") as data:
        data.write(row() + b"\n")


def _truncate(path: Path) -> None:
    os.truncate(path, 100)


@pytest.mark.parametrize("change", [_overwrite, _replace, _append, _truncate])
def test_file_that_changes_during_the_check_is_reported(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(file(*VALID_LINES) * 300)
    pending = [change]

    def on_progress(done: int, total: int) -> None:
        if pending:
            pending.pop()(path)

    report = validate(path, progress=on_progress).files[0]
    assert not pending
    assert not report.ok
    assert report.counts["FILE_CHANGED"] == 1


def test_url_is_reported_as_a_url() -> None:
    problem = get_only(validate("https://example.com/rows.jsonl").files[0], "FILE_NOT_FOUND")
    assert "a URL, not a path" in problem.message


@pytest.mark.parametrize(
    ("line", "code", "column", "message"),
    [
        (b'{"messages": +1}', "JSON_SYNTAX", 14, "begins with a digit or a minus"),
        (b'{"messages": .5}', "JSON_SYNTAX", 14, "begins with a digit or a minus"),
        ("{\u00a0}".encode(), "JSON_SYNTAX", 2, "found U+00A0"),
        ("\u200b{}".encode(), "JSON_SYNTAX", 1, "found U+200B"),
        (row() + b"\x0c", "JSON_TRAILING_DATA", len(row()) + 1, "found U+000C"),
        (b"x" * (17 << 20), "JSON_LINE_TOO_LONG", 1, "16 MiB"),
    ],
)
def test_syntax_error_names_the_unexpected_character(
    tmp_path: Path, line: bytes, code: str, column: int, message: str
) -> None:
    problem = get_only(validate_lines(tmp_path, line), code)
    assert (problem.line, problem.column) == (13, column)
    assert message in problem.message


def test_second_result_of_a_call_differs_from_a_result_without_a_call(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    call_message = {"role": "assistant", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    repeated = get_only(
        validate_lines(tmp_path, row(USER, call_message, result, result, ANSWER, tools=tools)),
        "TOOL_RESULT_ORPHAN",
    )
    assert repeated.pointer == "/messages/3/tool_call_id"
    assert "has a result already" in repeated.message
    unknown_result = result | {"tool_call_id": "c2"}
    orphan = get_only(
        validate_lines(
            tmp_path, row(USER, call_message, result, unknown_result, ANSWER, tools=tools)
        ),
        "TOOL_RESULT_ORPHAN",
    )
    assert "has a result already" not in orphan.message


def test_unknown_json_schema_type_is_reported(tmp_path: Path) -> None:
    parameters = {"properties": {"x": {"type": "strng"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    problem = get_only(validate_lines(tmp_path, row(tools=[tool])), "TOOL_PARAMETERS")
    assert problem.pointer == "/tools/0/function/parameters/properties/x/type"
    assert "JSON Schema has no such type" in problem.message


def test_thousands_of_problems_after_a_long_text_are_located_in_one_pass(tmp_path: Path) -> None:
    import time

    long = {"role": "user", "content": "\u00e9" * 4_000_000}
    messages = [long, *({"role": f"x{n}"} for n in range(3000))]
    line = json.dumps({"messages": messages}, ensure_ascii=False).encode()
    start = time.process_time()
    report = validate_lines(tmp_path, line)
    assert time.process_time() - start < 10, "locating each from the start of the line takes 30 s"
    problems = [p for p in report.problems if p.code == "CHAT_ROLE_UNKNOWN"]
    assert len(problems) > 500
    text = line.decode()
    for n in (0, 1, 500):
        assert problems[n].column == text.index(f'"x{n}"') + 1
