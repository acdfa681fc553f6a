"""``maas-client validate``: its output on stdout and stderr, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maas_client.cli import main
from tests.unit.dataset.corpus import GOOD, VALID_LINES, answer, file


@pytest.fixture(autouse=True)
def _quiet_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("MAAS_DEBUG", raising=False)


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.jsonl"
    path.write_bytes(file(*VALID_LINES))
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad,1.jsonl"
    path.write_bytes(file(*VALID_LINES, answer(""), GOOD.replace(b"Sehr", b"\xffSehr")))
    return str(path)


Output = pytest.CaptureFixture[str]


def unwrapped(output: str) -> str:
    """Return an output with its wrapped lines joined."""
    return " ".join(output.split())


def test_json_output_has_the_fixed_keys(good: str, bad: str, capsys: Output) -> None:
    assert main(["validate", good, bad, "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is False
    assert [each["ok"] for each in printed["files"]] == [True, False]
    first = next(p for p in printed["files"][1]["problems"] if p["severity"] == "error")
    assert first["code"] == "CHAT_CONTENT_EMPTY"
    assert (first["line"], first["pointer"]) == (13, "/messages/2/content")
    assert set(first) == {
        *("code", "severity", "line", "column", "offset", "pointer", "message", "hint"),
    }


def test_valid_file_gives_exit_code_0(good: str, capsys: Output) -> None:
    assert main(["validate", good]) == 0
    # The summary shortens a path that is longer than a line.
    assert f"{Path(good).name}: valid; 12 of 12 lines can be trained on" in unwrapped(
        capsys.readouterr().out
    )


def test_all_prints_file_line_and_column_of_every_problem(bad: str, capsys: Output) -> None:
    assert main(["validate", bad, "--all"]) == 3
    out = capsys.readouterr().out
    assert f"{bad}:13:" in out
    assert "error CHAT_CONTENT_EMPTY content is empty. Add text" in out
    assert "NOT VALID" in out
    assert "unendlich" not in out, "the text of a row is printed on a terminal only"


def test_ignore_and_warn_change_the_exit_code(bad: str, capsys: Output) -> None:
    assert main(["validate", bad, "--ignore", "JSON_UTF8", "--warn", "CHAT_CONTENT_EMPTY"]) == 0
    assert "1 ignored" in unwrapped(capsys.readouterr().out)
    assert main(["validate", bad, "--ignore", "JSON_UFT8"]) in (1, 2)
    assert "JSON_UTF8" in capsys.readouterr().err


def test_github_actions_get_annotations(
    bad: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main(["validate", bad]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith(f"::error file={bad.replace(',', '%2C')},line=13,col=")
        and ",title=CHAT_CONTENT_EMPTY::content is empty. Add text" in line
        for line in lines
    )


def test_missing_file_is_reported(tmp_path: Path, capsys: Output) -> None:
    assert main(["validate", str(tmp_path / "none.jsonl")]) == 3
    assert "error FILE_NOT_FOUND\n  the file does not exist" in capsys.readouterr().out


def test_show_mask_prints_what_is_trained_on(good: str, capsys: Output) -> None:
    assert main(["validate", good, "--show-mask", "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert "⟦Es ist 0. 🙂<|end|>⟧" in out
    assert main(["validate", good, "--show-mask", "--json", "--model", "Phi-3-mini"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 3
    learned = [part["text"] for part in rows[1]["segments"] if part["learned"]]
    assert learned == ["Es ist 2. 🙂<|end|>\n"] or learned == ["Es ist 2. 🙂<|end|>"]


def test_show_mask_for_a_target_prints_the_report_too(tmp_path: Path, capsys: Output) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "No.", "loss": False},
        ]
    }
    path = tmp_path / "masked.jsonl"
    path.write_text(json.dumps(row) + "\n")
    command = ["validate", str(path), "--target", "local", "--show-mask"]
    assert main([*command, "--model", "Phi-4-mini-instruct"]) == 0
    mask, _, report = capsys.readouterr().out.partition("warning CHAT_KEY_UNKNOWN")
    assert "⟦No.<|end|>⟧" in mask
    assert '"weight": 0' in report


def test_terminal_output_has_the_line_and_a_caret(
    bad: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maas_client.cli import _report
    from maas_client.dataset import validate

    monkeypatch.setenv("COLUMNS", "160")
    _report.print_report(validate(bad))
    lines = capsys.readouterr().out.splitlines()
    at = next(n for n, line in enumerate(lines) if "CHAT_CONTENT_EMPTY" in line)
    assert '"content": ""' in lines[at + 1]
    caret = lines[at + 2].index("^")
    assert lines[at + 1][caret : caret + 2] == '""'


def test_control_characters_of_a_row_are_not_printed(tmp_path: Path, capsys: Output) -> None:
    from maas_client.cli import _report
    from maas_client.dataset import validate

    path = tmp_path / "evil.jsonl"
    path.write_bytes(file(*VALID_LINES, answer("\x1b[2J\x1b]0;x\x07").replace(b"\\u001b", b"\x1b")))
    _report.print_report(validate(path))
    assert "\x1b[2J" not in capsys.readouterr().out


def test_explain_prints_the_page_of_a_code_without_files(capsys: Output) -> None:
    assert main(["validate", "--explain", "chat_weight"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# CHAT_WEIGHT\n")
    assert "Write 0 (not trained on) or 1 (trained on), as a number." in page


def test_explain_prints_json_and_lists_groups(capsys: Output) -> None:
    assert main(["validate", "--explain", "TOOL_TWICE", "--json"]) == 0
    [code] = json.loads(capsys.readouterr().out)
    assert code["code"] == "TOOL_TWICE"
    assert code["severity"] == {"azureml": "error", "foundry": "error", "local": "error"}
    assert main(["validate", "--explain", "PII_*"]) == 0
    assert capsys.readouterr().out.count("| PII_") == 6
    assert main(["validate", "--explain", "all", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) > 100


def test_explain_suggests_the_nearest_code(capsys: Output) -> None:
    assert main(["validate", "--explain", "CHAT_WIEGHT"]) == 1
    assert "Did you mean CHAT_WEIGHT" in capsys.readouterr().err


def test_a_file_is_required_without_explain(capsys: Output) -> None:
    assert main(["validate"]) == 2
    assert "no file given" in capsys.readouterr().err
