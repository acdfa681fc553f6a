"""The HTML report is one well-formed page without external resources or unescaped text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset import validate
from maas_client.dataset.html_report import render_html
from maas_client.types.report import FileReport, Problem, ValidationReport

VOID = {"meta", "br", "rect", "path"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader


@pytest.fixture
def page(tmp_path: Path) -> str:
    def row(question: str, answer: str) -> str:
        messages = [("user", question), ("assistant", answer)]
        return json.dumps({"messages": [{"role": r, "content": c} for r, c in messages]})

    lines = [row(f"question {i}", f"This is answer {i}.") for i in range(60)]
    lines += [
        row("word " * 6000, "ok."),
        lines[0],
        '{"messages": [',
        row("a@b.de", "I'm sorry, but I can't help with that."),
    ]
    path = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return render_html(validate(path, model="Phi-3-mini-4k-instruct"))


def test_page_is_well_formed_and_complete(page: str) -> None:
    reader = read(page)
    assert not reader.open
    for text in (
        "invalid",
        "JSON_CUT_SHORT",
        "QUALITY_DUPLICATE",
        "PII_EMAIL",
        "SERVICE_TRUNCATED",
        "rows to train on",
        "Tokens per row",
    ):
        assert text in reader.text, text
    assert any(tag == "svg" for tag, _ in reader.tags)


def test_page_has_no_scripts_or_external_resources(page: str) -> None:
    reader = read(page)
    assert not {tag for tag, _ in reader.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "form",
    }
    for _, attributes in reader.tags:
        assert not {"src", "href", "onload", "onerror", "action"} & set(attributes)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_all_text_is_escaped(page: str) -> None:
    assert "<img" not in page
    assert "&lt;img src=x" in page
    evil = "<script>alert('1')</script>\"&"
    problem = Problem(
        code=evil,
        severity="error",
        line=1,
        column=1,
        offset=0,
        pointer=evil,
        message=evil,
        hint=evil,
    )
    stats: dict[str, Any] = {
        "notes": [evil],
        "service": {
            "target": evil,
            "limits": [{"name": evil, "value": evil, "unit": evil, "source": evil}],
        },
        "secrets": {evil: 1},
        "tokens": {
            "counted_by": evil,
            "exact": True,
            "total": 1,
            "learned": 1,
            "per_row": {"min": evil},
        },
    }
    file = FileReport(
        path=evil,
        bytes=1,
        sha256=evil,
        lines=1,
        examples=1,
        ok=False,
        counts={evil: 1},
        problems=(problem,),
        stats=stats,
    )
    page = render_html(ValidationReport(ok=False, files=(file,)), title=evil)
    assert "<script" not in page
    assert not read(page).open


def test_report_of_an_empty_file_is_a_page(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    assert not read(render_html(validate(tmp_path / "a.jsonl"))).open
