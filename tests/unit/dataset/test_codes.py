"""The table of codes is complete, consistent and documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maas_client.dataset import validate
from maas_client.dataset.codes import all_codes, resolve_codes
from maas_client.dataset.codes.markdown import index_to_markdown, to_markdown, write_pages
from maas_client.dataset.formats import FORMATS
from maas_client.errors import ConfigError
from tests.unit.dataset.corpus import BROKEN_FILES, BROKEN_LINES, VALID_LINES, answer, file

SOURCES = Path(__file__).parents[3] / "maas_client" / "dataset"
_NAME = re.compile(r'"((?:FILE|JSON|CHAT|TOOL|SERVICE|QUALITY|SECRET|PII)_[A-Z0-9_]+)"')


def sources() -> str:
    """Return the source of the data set package without the tables of codes."""
    paths = [path for path in SOURCES.rglob("*.py") if path.parent.name != "codes"]
    assert len(paths) > 20
    return "".join(path.read_text("utf-8") for path in paths)


def test_command_writes_a_page_per_code_and_removes_old_pages(tmp_path: Path) -> None:
    (tmp_path / "CHAT_REMOVED.md").write_text("old", encoding="utf-8")
    write_pages(tmp_path)
    pages = {f"{code.name}.md": to_markdown(code) for code in all_codes().values()}
    pages["README.md"] = index_to_markdown(all_codes().values())
    assert {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()} == pages


def test_page_contains_all_texts_of_a_code() -> None:
    code = all_codes()["CHAT_WEIGHT"]
    page = to_markdown(code)
    for text in (code.name, code.hint, code.explanation, code.example, code.fixed_example):
        assert text in page
    assert "azureml: error, foundry: error, local: error" in page


def test_every_code_in_the_sources_is_in_the_table() -> None:
    names = {name for name in _NAME.findall(sources()) if not name.endswith("_")}
    assert names - set(all_codes()) == set()


def test_every_code_of_the_table_is_used() -> None:
    text = sources()
    other_formats = {name for name in all_codes() if name.startswith("CHAT_SHAPE_")}
    secrets = {name for name in all_codes() if name.startswith("SECRET_")}
    unused = {name for name in all_codes() if f'"{name}"' not in text} - other_formats - secrets
    assert unused == set()
    assert other_formats == {row_format.code for row_format in FORMATS}
    assert all(f'"{name.removeprefix("SECRET_")}"' in text for name in secrets)


def test_corpus_covers_every_format_code() -> None:
    in_corpus = {fault.code for fault in (*BROKEN_LINES, *BROKEN_FILES)}
    format_codes = {
        name for name in all_codes() if name.startswith(("FILE_", "JSON_", "CHAT_", "TOOL_"))
    }
    tested_elsewhere = {
        "FILE_NOT_FOUND",
        "FILE_NOT_REGULAR",
        "FILE_UNREADABLE",
        "FILE_CHANGED",
        "JSON_LINE_TOO_LONG",
        "JSON_TOO_MANY_VALUES",
        *(name for name in format_codes if name.startswith("CHAT_PREFERENCE_")),
    }
    assert format_codes - in_corpus == tested_elsewhere


@pytest.mark.parametrize("name", all_codes())
def test_texts_are_complete(name: str) -> None:
    code = all_codes()[name]
    assert code.name == name
    assert code.message[-1] not in ".!"
    assert code.hint[-1] in ".)]}" or code.hint.endswith(("OUT.jsonl", "FOLDER/*.jsonl"))
    assert code.explanation
    assert code.example


def test_ignored_problems_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(file(*VALID_LINES, answer("")))
    report = validate(path, ignore=["chat_content_empty", "SERVICE_*", "QUALITY_*"])
    assert report.ok
    assert report.files[0].counts == {}
    assert report.files[0].stats["suppressed"] == {"CHAT_CONTENT_EMPTY": 1, "SERVICE_FEW_ROWS": 1}


def test_warn_lowers_an_error_to_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(file(*VALID_LINES, answer("")))
    report = validate(path, warn=["CHAT_CONTENT_EMPTY"])
    assert report.ok
    [problem] = [p for p in report.warnings if p.code == "CHAT_CONTENT_EMPTY"]
    assert problem.line == 13
    assert report.files[0].stats["lowered_to_warning"] == {"CHAT_CONTENT_EMPTY": 1}


def test_unknown_code_is_rejected_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="CHAT_CONTENT_EMPTY"):
        validate("x.jsonl", ignore=["CHAT_CONTENT_EMTPY"])
    with pytest.raises(ConfigError):
        resolve_codes(["*"])
    assert "SECRET_JWT" in resolve_codes(["SECRET_*"])
