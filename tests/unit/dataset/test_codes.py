"""The table of codes: whole, consistent, documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maas_client.dataset import validate
from maas_client.dataset.codes import all_codes, resolve_codes
from maas_client.dataset.codes.markdown import index_to_markdown, to_markdown
from maas_client.errors import ConfigError
from tests.unit.dataset.corpus import FILE_FAULTS, LINE_FAULTS, TWELVE, answer, file

DOCS = Path(__file__).parents[3] / "docs" / "codes"
SOURCES = Path(__file__).parents[3] / "maas_client" / "dataset"
_GIVEN = re.compile(r'"((?:FILE|JSON|CHAT|TOOL|SERVICE|QUALITY|SECRET|PII)_[A-Z0-9_]+)"')


def test_every_page_is_the_one_the_table_makes() -> None:
    wanted = {f"{code.name}.md": to_markdown(code) for code in all_codes().values()}
    wanted["README.md"] = index_to_markdown(all_codes().values())
    held = {path.name: path.read_text("utf-8") for path in DOCS.glob("*.md")}
    assert held == wanted, "python -m maas_client.dataset.codes docs/codes"


def test_every_code_that_the_sources_name_is_in_the_table() -> None:
    named = {
        name
        for path in SOURCES.glob("*.py")
        for name in _GIVEN.findall(path.read_text("utf-8"))
        if not name.endswith("_")
    }
    assert named - set(all_codes()) == set()


def test_every_code_of_the_table_is_given_somewhere() -> None:
    sources = "".join(path.read_text("utf-8") for path in SOURCES.glob("*.py"))
    shapes = {name for name in all_codes() if name.startswith("CHAT_SHAPE_")}
    secrets = {name for name in all_codes() if name.startswith("SECRET_")}
    unused = {name for name in all_codes() if f'"{name}"' not in sources} - shapes - secrets
    assert unused == set()
    assert all(f'"{name.removeprefix("CHAT_SHAPE_")}"' in sources for name in shapes)
    assert all(f'"{name.removeprefix("SECRET_")}"' in sources for name in secrets)


def test_every_code_of_format_is_in_the_corpus() -> None:
    shown = {fault.code for fault in (*LINE_FAULTS, *FILE_FAULTS)}
    format_codes = {
        name for name in all_codes() if name.startswith(("FILE_", "JSON_", "CHAT_", "TOOL_"))
    }
    elsewhere = {
        "FILE_NOT_FOUND",
        "FILE_NOT_REGULAR",
        "FILE_UNREADABLE",
        "FILE_CHANGED",
        "JSON_LINE_TOO_LONG",
        "JSON_TOO_MANY_VALUES",
    }
    assert format_codes - shown == elsewhere


@pytest.mark.parametrize("name", all_codes())
def test_words_are_whole(name: str) -> None:
    code = all_codes()[name]
    assert code.name == name
    assert code.message[-1] not in ".!"
    assert code.hint[-1] in ".)]}" or code.hint.endswith(("OUT.jsonl", "FOLDER/*.jsonl"))
    assert code.explanation
    assert code.example


def test_what_is_ignored_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(file(*TWELVE, answer("")))
    report = validate(path, ignore=["chat_content_empty", "SERVICE_*", "QUALITY_*"])
    assert report.ok
    assert report.files[0].counts == {}
    assert report.files[0].stats["suppressed"] == {"CHAT_CONTENT_EMPTY": 1, "SERVICE_FEW_ROWS": 1}


def test_what_is_lowered_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(file(*TWELVE, answer("")))
    report = validate(path, warn=["CHAT_CONTENT_EMPTY"])
    assert report.ok
    [problem] = [p for p in report.warnings if p.code == "CHAT_CONTENT_EMPTY"]
    assert problem.line == 13
    assert report.files[0].stats["lowered_to_warning"] == {"CHAT_CONTENT_EMPTY": 1}


def test_an_unknown_code_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="CHAT_CONTENT_EMPTY"):
        validate("x.jsonl", ignore=["CHAT_CONTENT_EMTPY"])
    with pytest.raises(ConfigError):
        resolve_codes(["*"])
    assert "SECRET_JWT" in resolve_codes(["SECRET_*"])
