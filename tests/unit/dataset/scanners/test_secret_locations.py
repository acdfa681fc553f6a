"""The location of a secret or personal data is exact, whatever precedes it in its string."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maas_client.cli import _report
from maas_client.dataset import validate
from maas_client.dataset.parsing.json_scan import byte_offset
from maas_client.types.report import Problem
from tests.unit.dataset.corpus import VALID_LINES, file

TOKEN = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3gH5"
BEFORE = {
    "nothing": "",
    "plain": "the token is ",
    "a line feed": "line\nfeed ",
    "accents": "\u00e9t\u00e9 \u00fc ",
    "quotes": 'she said "so" ',
    "backslashes": "C:\\new\\uber ",
    "an emoji": "\U0001f642 \U0001f468\u200d\U0001f469 ",
    "beyond": "日本 \u2028 \x7f ",
    "controls": "\t\b\f\r\0 ",
    "slashes": "a/b ",
    "all": '\n\u00e9"\U0001f642\\ ' * 50,
}
PERSONAL = {
    "PII_EMAIL": "jane.roe+x@corp.example",
    "PII_PHONE": "+49 30 123456",
    "PII_CARD": "4539 1488 0343 6467",
    "PII_IBAN": "GB82 WEST 1234 5698 7654 32",
    "PII_SSN": "123-45-6789",
    "PII_IP": "2001:db8::1:1",
}


def row(text: str, *, ascii_only: bool, escaped_slash: bool = False) -> bytes:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "It is done."}]
    line = json.dumps({"messages": messages}, ensure_ascii=ascii_only)
    return (line.replace("/", "\\/") if escaped_slash else line).encode()


def validate_lines(tmp_path: Path, *lines: bytes, bom: bytes = b"") -> tuple[list[Problem], bytes]:
    path = tmp_path / "rows.jsonl"
    data = bom + file(*VALID_LINES, *lines)
    path.write_bytes(data)
    return list(validate(path).files[0].problems), data


def assert_located_at(problem: Problem, data: bytes, text: str) -> None:
    """Check that line, column and offset are those of the first ``text`` in the file."""
    at = data.index(text.encode())
    begin = data.rfind(b"\n", 0, at) + 1
    assert problem.offset == at
    assert problem.line == data.count(b"\n", 0, at) + 1
    assert problem.column == len(data[begin:at].decode("utf-8-sig" if not begin else "utf-8")) + 1


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("before", BEFORE)
def test_secret_is_located_exactly(tmp_path: Path, before: str, ascii_only: bool) -> None:
    text = f"{BEFORE[before]}{TOKEN}, \u00e9"
    line = row(text, ascii_only=ascii_only, escaped_slash=before == "slashes")
    problems, data = validate_lines(tmp_path, line)
    [secret] = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert secret.pointer == "/messages/0/content"
    assert_located_at(secret, data, TOKEN)
    assert not any(TOKEN[4:12] in repr(problem) for problem in problems)


@pytest.mark.parametrize("code", PERSONAL)
@pytest.mark.parametrize("before", BEFORE)
def test_personal_data_is_reported_once_at_the_first_occurrence(
    tmp_path: Path, before: str, code: str
) -> None:
    text = f"{BEFORE[before]}{PERSONAL[code]} \u00e9"
    lines = [row(text, ascii_only=True), row(f"again {PERSONAL[code]}", ascii_only=True)]
    problems, data = validate_lines(tmp_path, *lines)
    [personal] = [p for p in problems if p.code == code]
    assert "in 2 rows, first here" in personal.message
    assert personal.pointer == "/messages/0/content"
    assert_located_at(personal, data, PERSONAL[code])


def test_byte_order_mark_does_not_shift_locations(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    data = b"\xef\xbb\xbf" + file(row(f"\u00e9 {TOKEN}", ascii_only=False), *VALID_LINES)
    path.write_bytes(data)
    [secret] = [p for p in validate(path).files[0].problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert_located_at(secret, data, TOKEN)


def test_secret_in_tool_arguments_is_located_exactly(tmp_path: Path) -> None:
    arguments = json.dumps({"q": "\u00e9\n", "token": TOKEN})
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "ask"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        {"role": "assistant", "content": "It is done."},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    problems, data = validate_lines(
        tmp_path, json.dumps({"messages": messages, "tools": tools}).encode()
    )
    [secret] = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert secret.pointer == "/messages/1/tool_calls/0/function/arguments"
    assert_located_at(secret, data, TOKEN)


def test_first_of_several_secrets_is_located_and_all_are_counted(tmp_path: Path) -> None:
    tokens = [TOKEN[:-1] + end for end in "xyz"]
    problems, data = validate_lines(tmp_path, row("\n and ".join(tokens), ascii_only=True))
    [secret] = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert "the first of 3 in this text" in secret.message
    assert_located_at(secret, data, tokens[0])


def test_many_secrets_in_one_row_are_located_quickly(tmp_path: Path) -> None:
    import time

    texts = [f"{TOKEN[:-4]}{n:04} {'and ' * 9}" for n in range(2000)]
    messages = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)]
    rows = [json.dumps({"messages": messages}).encode(), row(" ".join(texts) * 10, ascii_only=True)]
    start = time.process_time()
    problems, data = validate_lines(tmp_path, *rows)
    assert time.process_time() - start < 15, "locating each separately takes a minute"
    secrets = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert len(secrets) > 1000
    for at in (0, 1, 777):
        assert_located_at(secrets[at], data, texts[at])


def test_name_of_a_setting_is_not_part_of_the_secret(tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2
    problems, data = validate_lines(tmp_path, row(f"\u00e9 api-key: {key}", ascii_only=True))
    [secret] = [p for p in problems if p.code == "SECRET_AZURE_KEY"]
    assert_located_at(secret, data, key)


def test_offset_beyond_the_text_is_its_closing_quote() -> None:
    assert byte_offset(b'"a\\u00e9"', 0, 2) == 8
    assert byte_offset(b'"a\\u00e9"', 0, 9) == 8
    assert byte_offset(b'"\\ud83d\\ude00b"', 0, 1) == 13
    assert byte_offset('  "éb"'.encode(), 2, 1) == 5


def test_terminal_report_marks_a_secret_without_printing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = tmp_path / "rows.jsonl"
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 400
    text = f"\u00e9 my key: {TOKEN} and"
    path.write_bytes(
        file(
            *VALID_LINES,
            row(text, ascii_only=True),
            row(pem, ascii_only=True),
            row("mail jane.roe@corp.example", ascii_only=True),
            row(f"TODO {TOKEN}", ascii_only=True).replace(
                b"It is done.", b"TODO " + TOKEN.encode()
            ),
        )
    )
    _report.print_report(validate(path))
    output = capsys.readouterr().out
    lines = output.splitlines()
    at = next(n for n, line in enumerate(lines) if "SECRET_GITHUB_TOKEN" in line)
    assert "my key: ••••" in lines[at + 1]
    assert lines[at + 2].index("^") == lines[at + 1].index("•")
    assert not any(part in output for part in (TOKEN[:12], "QIBADANB", "jane.roe", "corp.example"))
