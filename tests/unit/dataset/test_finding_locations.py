"""Where a secret or personal data stands: at its own byte, whatever its string holds before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maas_client.cli import _report
from maas_client.dataset import validate
from maas_client.dataset.parsing.json_scan import byte_offset
from maas_client.types.report import Problem
from tests.unit.dataset.corpus import TWELVE, file

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
    talk = [{"role": "user", "content": text}, {"role": "assistant", "content": "It is done."}]
    line = json.dumps({"messages": talk}, ensure_ascii=ascii_only)
    return (line.replace("/", "\\/") if escaped_slash else line).encode()


def checked(tmp_path: Path, *lines: bytes, bom: bytes = b"") -> tuple[list[Problem], bytes]:
    path = tmp_path / "rows.jsonl"
    data = bom + file(*TWELVE, *lines)
    path.write_bytes(data)
    return list(validate(path).files[0].problems), data


def placed_at(problem: Problem, data: bytes, text: str) -> None:
    """Hold that line, column and offset are all those of ``text`` in the file."""
    at = data.index(text.encode())
    begin = data.rfind(b"\n", 0, at) + 1
    assert problem.offset == at
    assert problem.line == data.count(b"\n", 0, at) + 1
    assert problem.column == len(data[begin:at].decode("utf-8-sig" if not begin else "utf-8")) + 1


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("before", BEFORE)
def test_a_secret_is_told_at_its_own_byte(tmp_path: Path, before: str, ascii_only: bool) -> None:
    text = f"{BEFORE[before]}{TOKEN}, \u00e9"
    line = row(text, ascii_only=ascii_only, escaped_slash=before == "slashes")
    problems, data = checked(tmp_path, line)
    [secret] = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert secret.pointer == "/messages/0/content"
    placed_at(secret, data, TOKEN)
    assert not any(TOKEN[4:12] in repr(problem) for problem in problems)


@pytest.mark.parametrize("code", PERSONAL)
@pytest.mark.parametrize("before", BEFORE)
def test_personal_data_is_told_once_at_the_first(tmp_path: Path, before: str, code: str) -> None:
    text = f"{BEFORE[before]}{PERSONAL[code]} \u00e9"
    lines = [row(text, ascii_only=True), row(f"again {PERSONAL[code]}", ascii_only=True)]
    problems, data = checked(tmp_path, *lines)
    [personal] = [p for p in problems if p.code == code]
    assert "in 2 rows, first here" in personal.message
    assert personal.pointer == "/messages/0/content"
    placed_at(personal, data, PERSONAL[code])


def test_a_mark_at_the_start_of_the_file_shifts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    data = b"\xef\xbb\xbf" + file(row(f"\u00e9 {TOKEN}", ascii_only=False), *TWELVE)
    path.write_bytes(data)
    [secret] = [p for p in validate(path).files[0].problems if p.code == "SECRET_GITHUB_TOKEN"]
    placed_at(secret, data, TOKEN)


def test_a_secret_in_the_arguments_of_a_call(tmp_path: Path) -> None:
    said = json.dumps({"q": "\u00e9\n", "token": TOKEN})
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": said}}
    talk = [
        {"role": "user", "content": "ask"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        {"role": "assistant", "content": "It is done."},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    problems, data = checked(tmp_path, json.dumps({"messages": talk, "tools": tools}).encode())
    [secret] = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert secret.pointer == "/messages/1/tool_calls/0/function/arguments"
    placed_at(secret, data, TOKEN)


def test_of_several_in_one_text_the_first_is_placed_and_all_are_counted(tmp_path: Path) -> None:
    others = [TOKEN[:-1] + end for end in "xyz"]
    problems, data = checked(tmp_path, row("\n and ".join(others), ascii_only=True))
    [secret] = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert "the first of 3 in this text" in secret.message
    placed_at(secret, data, others[0])


def test_many_secrets_in_one_row_take_seconds_at_most(tmp_path: Path) -> None:
    import time

    texts = [f"{TOKEN[:-4]}{n:04} {'and ' * 9}" for n in range(2000)]
    talk = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)]
    rows = [json.dumps({"messages": talk}).encode(), row(" ".join(texts) * 10, ascii_only=True)]
    began = time.process_time()
    problems, data = checked(tmp_path, *rows)
    assert time.process_time() - began < 15, "it took a minute when each was looked up by itself"
    secrets = [p for p in problems if p.code == "SECRET_GITHUB_TOKEN"]
    assert len(secrets) > 1000
    for at in (0, 1, 777):
        placed_at(secrets[at], data, texts[at])


def test_what_a_setting_is_called_is_no_part_of_the_secret(tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2
    problems, data = checked(tmp_path, row(f"\u00e9 api-key: {key}", ascii_only=True))
    [secret] = [p for p in problems if p.code == "SECRET_AZURE_KEY"]
    placed_at(secret, data, key)


def test_a_place_beyond_the_text_is_its_closing_quote() -> None:
    assert byte_offset(b'"a\\u00e9"', 0, 2) == 8
    assert byte_offset(b'"a\\u00e9"', 0, 9) == 8
    assert byte_offset(b'"\\ud83d\\ude00b"', 0, 1) == 13
    assert byte_offset('  "éb"'.encode(), 2, 1) == 5


def test_the_terminal_shows_where_a_secret_is_and_not_the_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = tmp_path / "rows.jsonl"
    pem = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 400
    text = f"\u00e9 my key: {TOKEN} and"
    path.write_bytes(
        file(
            *TWELVE,
            row(text, ascii_only=True),
            row(pem, ascii_only=True),
            row("mail jane.roe@corp.example", ascii_only=True),
            row(f"TODO {TOKEN}", ascii_only=True).replace(
                b"It is done.", b"TODO " + TOKEN.encode()
            ),
        )
    )
    _report.print_report(validate(path))
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    at = next(n for n, line in enumerate(lines) if "SECRET_GITHUB_TOKEN" in line)
    assert "my key: ••••" in lines[at + 1]
    assert lines[at + 2].index("^") == lines[at + 1].index("•")
    assert not any(part in shown for part in (TOKEN[:12], "QIBADANB", "jane.roe", "corp.example"))
