"""A data file is validated once; every later reader uses the result of that pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset.block_validator import BlockValidator
from maas_client.dataset.rows import read_rows, read_validated_rows, validate_file_once
from maas_client.local.resources import validation_cache
from maas_client.local.state.files import FileStore

MODEL = "Phi-3-mini-4k-instruct"
ROW = {
    "messages": [
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": "A city. 🦆"},
    ]
}
TOOLS = {**ROW, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
GOOD = json.dumps(ROW, ensure_ascii=False).encode()
LINES = [
    b"\xef\xbb\xbf" + GOOD,
    b"",
    GOOD + b"\r",
    b"{",
    json.dumps(TOOLS).encode(),
    b'{"messages": 5}',
    b'{"a": 1, "a": 2}',
    GOOD.replace(b'"user"', b'"user", "weight": 123456789012345678901234567890'),
    json.dumps({**ROW, "other": [1.5, 1e300, None]}).encode(),
    *[GOOD] * 700,
    b"",
    GOOD,
]


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    validation_cache._results.clear()
    yield
    validation_cache._results.clear()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of lines of every block that is validated."""
    seen: list[int] = []
    validate = BlockValidator.validate

    def count(self: BlockValidator, block: Any) -> Any:
        seen.append(len(block.lines))
        return validate(self, block)

    monkeypatch.setattr(BlockValidator, "validate", count)
    return seen


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"\n".join(LINES))
    return str(file)


@pytest.mark.parametrize("model", [None, MODEL, "Phi-4-mini-instruct"])
def test_checked_rows_are_the_rows_of_read_rows(path: str, model: str | None) -> None:
    expected = [(line.number, row) for line, row in read_rows(path, model=model)]
    checked = validate_file_once(path, model=model)
    assert list(read_validated_rows(path, checked.valid_lines)) == expected
    assert checked.report.examples == len(expected) > 700


def test_a_file_without_valid_rows_yields_nothing(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"{\n")
    assert list(read_validated_rows(file, validate_file_once(file).valid_lines)) == []


def test_check_and_reads_take_one_pass(path: str, passes: list[int]) -> None:
    report = validation_cache.check_file(path, MODEL).report
    assert len(list(validation_cache.read_valid_rows(path, MODEL))) == report.examples
    validation_cache.check_file(path, MODEL)
    assert sum(passes) == len(LINES)


def test_another_process_uses_the_stored_result(
    path: str, tmp_path: Path, passes: list[int]
) -> None:
    folder = tmp_path / "checks"
    folder.mkdir()
    first = validation_cache.check_file(path, MODEL, str(folder))
    validation_cache._results.clear()
    assert validation_cache.check_file(path, MODEL, str(folder)) == first
    assert sum(passes) == len(LINES)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"report": {}, "valid_lines": [[1, 2]]}'])
def test_a_damaged_result_is_not_used(path: str, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "checks"
    folder.mkdir()
    first = validation_cache.check_file(path, MODEL, str(folder))
    validation_cache._results.clear()
    (stored,) = folder.iterdir()
    stored.write_bytes(content)
    assert validation_cache.check_file(path, MODEL, str(folder)) == first


def test_a_changed_file_and_another_model_are_checked_again(path: str, passes: list[int]) -> None:
    before = validation_cache.check_file(path, MODEL)
    validation_cache.check_file(path, "Phi-4-mini-instruct")
    assert sum(passes) == 2 * len(LINES)
    with open(path, "ab") as file:
        file.write(b"\n" + GOOD)
    assert validation_cache.check_file(path, MODEL).report.examples == before.report.examples + 1


def test_a_check_without_a_model_serves_the_models_that_cannot_change_it(
    path: str, tmp_path: Path, passes: list[int]
) -> None:
    folder = tmp_path / "checks"
    folder.mkdir()
    validation_cache.check_file(path, None, str(folder))
    validation_cache._results.clear()
    checked = validation_cache.check_file(path, "Phi-4-mini-instruct", str(folder))
    assert sum(passes) == len(LINES)
    assert checked == validate_file_once(path, model="Phi-4-mini-instruct")
    passes.clear()
    assert validation_cache.check_file(path, MODEL, str(folder)) == validate_file_once(
        path, model=MODEL
    )
    assert sum(passes) == 2 * len(LINES), "the file uses tools, which the model does not support"


def test_results_in_memory_are_limited(tmp_path: Path) -> None:
    for index in range(validation_cache._MAX_RESULTS + 3):
        file = tmp_path / f"{index}.jsonl"
        file.write_bytes(GOOD)
        validation_cache.check_file(str(file), None)
    assert len(validation_cache._results) == validation_cache._MAX_RESULTS


def test_results_are_deleted_with_their_content(tmp_path: Path) -> None:
    files = FileStore(tmp_path)
    contents = ["a" * 32, "b" * 32, "c" * 32]
    for content in contents:
        files.content_path(content).write_bytes(GOOD)
        path = str(files.content_path(content))
        validation_cache.check_file(path, MODEL, str(files.checks_folder))
    files.remove([contents[0]])
    files.collect_garbage({contents[1]})
    assert [entry.name[:32] for entry in files.checks_folder.iterdir()] == [contents[1]]
