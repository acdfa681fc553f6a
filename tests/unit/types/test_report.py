"""The report types: short representations, a table for notebooks, and the error that carries a report."""

from __future__ import annotations

import pytest

from maas_client.errors import DatasetError
from maas_client.types.report import FileReport, Problem, ValidationReport


def problem(code: str, severity: str, line: int) -> Problem:
    return Problem(
        code=code,
        severity=severity,  # type: ignore[arg-type] # a Literal
        line=line,
        column=min(line, 1),
        offset=0,
        pointer="",
        message="content is empty",
        hint="Fill it.",
    )


EMPTY = problem("CHAT_CONTENT_EMPTY", "error", 3)
FILE = FileReport(
    path="<b>.jsonl",
    bytes=900,
    sha256="0" * 64,
    lines=14,
    examples=12,
    ok=False,
    counts={"CHAT_CONTENT_EMPTY": 7, "FILE_CHANGED": 1, "QUALITY_NUL": 2},
    problems=(
        problem("FILE_CHANGED", "error", 0),
        EMPTY,
        problem("QUALITY_NUL", "warning", 4),
    ),
    stats={"tokens": {"histogram": list(range(500))}},
)
REPORT = ValidationReport(ok=False, files=(FILE, FILE, FILE))


def test_repr_fits_two_lines() -> None:
    assert repr(EMPTY) == (
        "Problem(code='CHAT_CONTENT_EMPTY', severity='error', line=3, column=1, "
        "message='content is empty')"
    )
    assert repr(FILE) == (
        "FileReport(path='<b>.jsonl', ok=False, examples=12, lines=14, errors=8, warnings=2)"
    )
    assert repr(REPORT) == (
        "ValidationReport(ok=False, errors=24, warnings=6, files=['<b>.jsonl', '<b>.jsonl'], "
        "more_files=1)"
    )


def test_print_shows_the_verdict_and_each_code_once_errors_of_lines_first() -> None:
    assert str(FILE) == (
        "<b>.jsonl: NOT VALID; 12 of 14 lines can be trained on; errors: 8, warnings: 2\n"
        "  error CHAT_CONTENT_EMPTY, line 3 and 6 more: content is empty. Fill it.\n"
        "  error FILE_CHANGED: content is empty. Fill it.\n"
        "  warning QUALITY_NUL, line 4 and 1 more: content is empty. Fill it."
    )
    assert str(REPORT) == "\n".join([str(FILE)] * 3)
    hidden = FILE.model_copy(update={"path": "a\x1b[2J.jsonl"})
    assert "\x1b" not in str(hidden)


def test_html_lists_files_and_problems_and_escapes_names() -> None:
    html = REPORT._repr_html_()
    assert html.count("CHAT_CONTENT_EMPTY") == 3
    assert html.index("FILE_CHANGED") < html.index("QUALITY_NUL"), "errors come first"
    assert "<b>" not in html
    many = FILE.model_copy(update={"problems": (EMPTY,) * 25})
    assert "5 more problems" in ValidationReport(ok=False, files=(many,))._repr_html_()


def test_invalid_report_raises_with_the_first_problem_of_a_line() -> None:
    with pytest.raises(DatasetError) as caught:
        REPORT.raise_if_invalid()
    assert str(caught.value).startswith(
        "<b>.jsonl, line 3: content is empty [CHAT_CONTENT_EMPTY] (and 23 more)"
    )
    assert caught.value.report is REPORT
    ValidationReport(ok=True, files=()).raise_if_invalid()
