"""The output of ``maas-client validate``: a summary of one screen, and every problem with ``--all``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main
from maas_client.cli._report import summary_lines
from maas_client.dataset import validate
from maas_client.dataset.codes import all_codes
from maas_client.dataset.rules.service import describe_prediction
from maas_client.types import FileReport, Problem
from tests.unit.dataset.corpus import VALID_LINES, answer, file
from tests.unit.dataset.test_sources import TOOL_ROW

Output = pytest.CaptureFixture[str]


def rows(*extra: bytes) -> bytes:
    questions = [json.loads(line) for line in VALID_LINES] * 5
    for number, row in enumerate(questions):
        row["messages"][-2]["content"] = f"Question {number} about {number * 7919 % 1009}?"
    return file(*(json.dumps(row).encode() for row in questions), *extra)


def write(tmp_path: Path, *extra: bytes) -> str:
    path = tmp_path / "train.jsonl"
    path.write_bytes(rows(*extra))
    return str(path)


def make_report(*problems: tuple[str, str, int], count: int = 1, **fields: Any) -> FileReport:
    listed = tuple(
        Problem(
            code=code,
            severity=severity,  # type: ignore[arg-type]
            line=line,
            column=1,
            offset=0,
            pointer="",
            message=all_codes()[code].message,
            hint=all_codes()[code].hint,
        )
        for code, severity, line in problems
    )
    counts: dict[str, int] = {}
    for problem in listed:
        counts[problem.code] = counts.get(problem.code, 0) + count
    values: dict[str, Any] = {
        "path": "train.jsonl",
        "bytes": 10,
        "sha256": "0" * 64,
        "lines": 100,
        "examples": 90,
        "ok": not any(problem.severity == "error" for problem in listed),
        "counts": counts,
        "problems": listed,
    }
    return FileReport(**values | fields)


def lines_of(report: FileReport, *, figures: bool = False) -> list[str]:
    return [text for _, text in summary_lines(report, figures=figures)]


@pytest.fixture(autouse=True)
def _not_on_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


def test_five_kinds_of_mistakes_take_one_screen(tmp_path: Path, capsys: Output) -> None:
    mistakes = (
        b"{'messages': []}",
        b'{"messages": [',
        answer("").replace(b'"system"', b'"bot"'),
        b'{"prompt": "Hi", "completion": "Hello"}',
        answer("Mail me: jane.doe@contoso.com"),
    )
    assert main(["validate", write(tmp_path, *mistakes * 40)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    severities = [line.split()[0] for line in lines if re.match(r"(error|warning) [A-Z]", line)]
    assert severities == sorted(severities)
    assert len(severities) >= 5
    assert "NOT VALID" in " ".join(lines[-3:])


@pytest.mark.parametrize("first", range(0, 110, 5))
def test_any_five_codes_fit_with_their_longest_texts(first: int) -> None:
    codes = sorted(all_codes())[first : first + 5]
    problems = [(code, "error", line) for code in codes for line in range(10, 80)]
    lines = lines_of(make_report(*problems, path="folder/" * 30 + "train.jsonl"), figures=True)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert [line.split()[1].rstrip(":") for line in lines if line.startswith("error")] == codes


def test_every_code_is_named_even_if_there_are_many() -> None:
    codes = sorted(all_codes())[:40]
    lines = lines_of(make_report(*((code, "warning", 1) for code in codes)))
    assert [line.split()[1].rstrip(":") for line in lines if line.startswith("warning")] == codes


def test_errors_come_first_then_the_order_of_the_file() -> None:
    report = make_report(
        ("QUALITY_REFUSAL", "warning", 1),
        ("SERVICE_TOO_FEW_ROWS", "error", 0),
        ("CHAT_ROLE_UNKNOWN", "error", 9),
        ("CHAT_WEIGHT", "error", 4),
    )
    headings = [line for line in lines_of(report) if line.startswith(("error", "warning"))]
    assert headings == [
        "error CHAT_WEIGHT: line 4",
        "error CHAT_ROLE_UNKNOWN: line 9",
        "error SERVICE_TOO_FEW_ROWS",
        "warning QUALITY_REFUSAL: line 1",
    ]


def test_problems_of_one_code_in_one_row_are_one_place(tmp_path: Path, capsys: Output) -> None:
    path = write(tmp_path, json.dumps(TOOL_ROW).encode())
    assert main(["validate", path, "--model", "Phi-3-mini"]) == 3
    out = capsys.readouterr().out
    assert "error CHAT_ROLE_UNSUPPORTED: 3 times, line 61\n" in out
    assert out.count("Remove it, or tune a model") == 1
    assert main(["validate", path, "--model", "Phi-3-mini", "--all"]) == 3
    assert capsys.readouterr().out.count(f"{path}:61:") >= 3


def test_first_places_and_the_count_of_all() -> None:
    report = make_report(*(("CHAT_WEIGHT", "error", n) for n in range(1, 26)), count=20)
    assert lines_of(report)[0] == "error CHAT_WEIGHT: 500 times, lines 1, 2, 3, 4, 5, 6, 7, 8, ..."


def test_places_of_rows_say_row() -> None:
    data = [json.loads(line) for line in rows().splitlines()] + [{"messages": [{"role": "bot"}]}]
    report = validate(data).files[0]
    assert "error CHAT_ROLE_UNKNOWN: row 61" in lines_of(report)
    assert "<rows>: NOT VALID; 60 of 61 rows can be trained on" in "\n".join(lines_of(report))


def test_rows_with_secrets_are_not_counted_as_without_errors(tmp_path: Path) -> None:
    secret = answer("Authorization: Bearer " + "ghp_" + "a1B2c3D4e5F6" * 3)
    report = validate(write(tmp_path, secret, b"nonsense")).files[0]
    assert any(code.startswith("SECRET_") for code in report.counts)
    assert report.examples == 61
    text = " ".join(" ".join(lines_of(report)).split())
    messages = " ".join(problem.message for problem in report.problems)
    assert "61 left, 60 of them without errors" in messages
    assert "NOT VALID; 60 of 62 lines can be trained on" in text
    assert "60 without errors, 1 with some" in describe_prediction(report)
    only_secret = validate(write(tmp_path, secret)).files[0]
    assert "NOT VALID; 60 of 61 lines can be trained on" in " ".join(
        " ".join(lines_of(only_secret)).split()
    )


def test_an_error_of_the_file_alone_does_not_contradict_its_rows() -> None:
    report = make_report(("SERVICE_FILE_TOO_LARGE", "error", 0), lines=90)
    text = " ".join(" ".join(lines_of(report)).split())
    assert "NOT VALID; 90 of 90 lines have no errors of their own" in text


def test_each_code_has_the_first_sentence_of_its_hint_without_a_terminal() -> None:
    codes = sorted(all_codes())
    text = " ".join(
        " ".join(lines_of(make_report(*((code, "error", 1) for code in codes)))).split()
    )
    assert not [code for code in codes if all_codes()[code].hint.split(". ")[0] not in text]


def test_all_is_recommended_only_where_it_prints_more(tmp_path: Path) -> None:
    one = make_report(("JSON_SYNTAX", "error", 3))
    several = make_report(("JSON_SYNTAX", "error", 3), ("JSON_SYNTAX", "error", 4))
    texts = [
        "\n".join(text for _, text in summary_lines(report, figures=False))
        for report in (one, several)
    ]
    assert ["--all prints every problem" in text for text in texts] == [False, True]
    assert all("--explain CODE explains a code" in text for text in texts)


def test_billed_tokens_are_printed_without_a_terminal(tmp_path: Path) -> None:
    report = validate(write(tmp_path), target="azureml").files[0]
    billed = report.stats["billed_tokens"]["likely"]
    text = [text for _, text in summary_lines(report, figures=False)]
    assert f"about {billed:,} billed tokens (1 epoch)" in text


def test_a_valid_file_has_its_verdict_and_on_a_terminal_its_figures(tmp_path: Path) -> None:
    assert lines_of(make_report()) == [
        "train.jsonl: valid; 90 of 100 lines can be trained on, 10 bytes;",
        "  no errors, no warnings",
    ]
    figures = lines_of(validate(write(tmp_path)).files[0], figures=True)
    assert any("tokens per row" in line for line in figures)
    assert " valid;" in " ".join(figures[-3:])


def test_all_prints_errors_before_warnings_and_the_verdict_last(
    tmp_path: Path, capsys: Output
) -> None:
    path = write(tmp_path, answer("Mail me: jane.doe@contoso.com"), *[answer("")] * 40)
    assert main(["validate", path, "--all"]) == 3
    lines = capsys.readouterr().out.splitlines()
    severities = [match[1] for line in lines if (match := re.search(r": (error|warning) ", line))]
    assert severities == sorted(severities)
    assert severities.count("error") == 40
    assert lines[-1].startswith(f"{path}: NOT VALID")


def test_html_names_model_target_and_date(tmp_path: Path) -> None:
    from datetime import date

    from maas_client.dataset.html_report import render_html

    report = validate(write(tmp_path), model="Phi-4-mini-instruct", target="local")
    page = render_html(report, date=date(2026, 11, 29))
    assert "model: Phi-4-mini-instruct; target: local; date: 2026-11-29" in page
    assert "target: azureml" in render_html(validate(tmp_path / "train.jsonl"))
    assert str(date.today().year) in render_html(report)
